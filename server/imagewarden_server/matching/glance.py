"""The first look at a picture's pixels: decoded and compared by PDQ, on one thread.

Where PDQ decides, that is all that is done with the pixels; and what takes a few milliseconds in all is not handed from
thread to thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from imagewarden_server.matching.directory import Scope
from imagewarden_server.matching.evidence import Candidates
from imagewarden_server.matching.lookup import Lookup
from imagewarden_server.matching.pictures import pdq_usable
from imagewarden_server.matching.ports import Decoder
from imagewarden_server.matching.timings import Timings
from imagewarden_server.matching.types import Match
from imagewarden_server.media import MediaError, Picture


@dataclass(slots=True)
class Glance:
    """What the first look gave.

    Attributes:
        problem: why there are no pixels, where there are none; all else is empty then.
        plainest: the quality of the frame with the least structure, where that is too little for its PDQ to be compared
            with entries that could be recognised by it.
        hashes: the PDQ bits that were compared: eight turns of each usable frame.
        hash_frames: the frame number of each.
        candidates: the entries that PDQ found.
        matches: those among them that match.
        timings: how long the stages took.
    """

    problem: MediaError | None = None
    picture: Picture | None = None
    plainest: int | None = None
    hashes: list[bytes] = field(default_factory=list)
    hash_frames: list[int] = field(default_factory=list)
    candidates: Candidates = field(default_factory=Candidates)
    matches: Sequence[Match] = ()
    timings: Timings = field(default_factory=Timings)


def glance(lookup: Lookup, scope: Scope, image: bytes, decoder: Decoder, deadline: float) -> Glance:
    """Decode a picture, and compare its PDQ where any entry in scope has one; blocking.

    No decoder is waited for after the deadline, in monotonic seconds.
    """
    seen = Glance()
    with seen.timings.stage("decode"):
        try:
            seen.picture = picture = decoder.picture(image, deadline)
        except MediaError as error:
            seen.problem = error
            return seen
    seen.candidates.frames = frozenset(frame.index for frame in picture.frames)
    if not lookup.compares_pdq(scope):
        return seen
    usable = [frame for frame in picture.frames if pdq_usable(frame)]
    if len(usable) < len(picture.frames):
        seen.plainest = min(frame.pdq.quality for frame in picture.frames)
    if not usable:
        return seen
    seen.hashes = [bits for frame in usable for bits in frame.turned]
    seen.hash_frames = [frame.index for frame in usable for _ in frame.turned]
    with seen.timings.stage("pdq_search"):
        seen.candidates.note(lookup.pdq(scope, seen.hashes, seen.hash_frames))
        seen.matches = lookup.matches(scope, seen.candidates)
    return seen
