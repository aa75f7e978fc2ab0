"""CheckImage: the road of an image, from bytes to one explained verdict.

The cheap signals come first. A standing match that blocks ends the road, unless the caller asks for all. A stage that
could have matched and did not run is a reason to be undecided, never silence.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from imagewarden_server import media
from imagewarden_server.matching.content import ContentComparer
from imagewarden_server.matching.embedder import Embedder
from imagewarden_server.matching.flood import Floods
from imagewarden_server.matching.glance import Glance, glance
from imagewarden_server.matching.load import Turns
from imagewarden_server.matching.lookup import Lookup
from imagewarden_server.matching.pictures import Workers, digest_signals, require_bytes
from imagewarden_server.matching.policy import PDQ_MIN_QUALITY, decide
from imagewarden_server.matching.ports import Catalog, Decoder, SearchIndex, WouldWait
from imagewarden_server.matching.recent import Recent, RecentObserver, Recognised
from imagewarden_server.matching.revisions import Follower
from imagewarden_server.matching.types import Action, HashSignal, Match, SignalType, Undecided, UndecidedCode, Verdict
from imagewarden_server.matching.walk import CheckRequest, DeadlineInStage, Walk
from imagewarden_server.matching.window import Window
from imagewarden_server.media import Header, MediaProblem, PdqHash, Picture

_PIXEL_SIGNALS = (SignalType.PDQ, SignalType.EMBEDDING, SignalType.LOCAL)
_ALL_SIGNALS = (SignalType.SHA256, SignalType.SHA1, SignalType.MD5, *_PIXEL_SIGNALS)

# A check that must wait for a revision gives this share of its time to the wait, and looks with the rest.
_WAIT_SHARE = 0.5

# So many bytes are digested in a tenth of a millisecond.
_AT_ONCE_BYTES = 128 * 1024


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One explained verdict.

    Attributes:
        sha256: of the file.
        pdq: of the first frame; None where the picture was not decoded.
        model: the label of the model whose vectors were compared; empty where none was asked.
        timings: seconds a stage, in the order they ran.
    """

    verdict: Verdict
    action: Action
    matches: tuple[Match, ...]
    undecided: tuple[Undecided, ...]
    revision: int
    model: str
    sha256: bytes
    header: Header | None
    pdq: PdqHash | None
    timings: Mapping[str, float]


class Checker:
    """Checks pictures against the banks.

    Attributes:
        on_undecided: the action of an undecided check whose caller does not say.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        index: SearchIndex,
        follower: Follower,
        embedder: Embedder,
        workers: Workers,
        decoder: Decoder,
        turns: Turns,
        on_undecided: Action,
        observer: RecentObserver | None = None,
        floods: Floods | None = None,
        window: Window | None = None,
    ) -> None:
        self._index = index
        self._follower = follower
        self._workers = workers
        self._decoder = decoder
        self._turns = turns
        self.on_undecided = on_undecided
        self._floods = floods or Floods()
        self._window = Window(0) if window is None else window
        self._lookup = Lookup(catalog, index)
        self._embedder = embedder
        self._content = ContentComparer(self._lookup, embedder, workers)
        self._recent = Recent(lambda walk: workers.run(self._lookup.matches, walk.scope, walk.candidates), observer)

    async def check(self, request: CheckRequest) -> CheckResult:
        """Walk one picture down the road.

        Raises:
            InvalidField: the picture is empty.
            BankNotFound: a named bank does not exist.
            Overloaded: digests do not decide, and a look at the pixels would take too long.
        """
        require_bytes(request.image)
        behind = await self._reach(request)
        revision = self._index.revision
        known = self._known_file(request)
        if known is None:
            known = await self._workers.run(self._compare_digests, request)
        walk, sha256 = known
        if behind:
            walk.say(
                UndecidedCode.REVISION_BEHIND,
                f"the index is at change {revision} and had not reached the asked {request.at_least_revision} in time; "
                "ask again",
                _ALL_SIGNALS,
            )
        if not walk.decided:
            await self._recent.see(walk, self._known_by(walk, sha256, revision), lambda: self._look_in_turn(walk))
        with walk.stage("policy"):
            on_undecided = request.on_undecided or self.on_undecided
            verdict, action, matches = decide(walk.matches, walk.undecided, on_undecided)
            self._floods.see(matches, sha256)
            self._window.add(walk, sha256)
        return CheckResult(
            verdict=verdict,
            action=action,
            matches=tuple(matches[: request.max_matches]),
            undecided=tuple(walk.undecided),
            revision=revision,
            model=walk.model,
            sha256=sha256,
            header=walk.header,
            pdq=walk.pdq,
            timings=walk.timings,
        )

    def _known_file(self, request: CheckRequest) -> tuple[Walk, bytes] | None:
        """A small file whose SHA-256 blocks it, where nothing must be waited for; None: a worker has to look.

        On the event loop: it takes less time than to hand it to a thread does (ADR 16).
        """
        if len(request.image) > _AT_ONCE_BYTES:
            return None
        try:
            walk = Walk(request, self._lookup.scope(request.banks, request.visible, wait=False))
            sha256 = self._compare_sha256(walk, wait=False)
        except WouldWait:
            return None
        return (walk, sha256) if walk.decided else None

    def _compare_sha256(self, walk: Walk, *, wait: bool = True) -> bytes:
        with walk.stage("digest"):
            sha256 = media.sha256(walk.request.image)
            walk.scope = walk.scope.taking(sha256)
        with walk.stage("digest_search"):
            walk.exact = self._lookup.digests(walk.scope, (HashSignal(SignalType.SHA256, sha256),), wait=wait)
        return sha256

    def _compare_digests(self, request: CheckRequest) -> tuple[Walk, bytes]:
        """The first steps, on one thread: a known file's check is over in less time than threads take to hand it on.

        SHA-1 and MD5 take three times as long as SHA-256, and are asked where that does not decide alone.
        """
        walk = Walk(request, self._lookup.scope(request.banks, request.visible))
        sha256 = self._compare_sha256(walk)
        if not walk.decided and self._lookup.compares_weak_digests(walk.scope):
            with walk.stage("digest"):
                digests = digest_signals(media.digest(request.image))
            walk.weak = tuple(digest for digest in digests if digest.type is not SignalType.SHA256)
            with walk.stage("digest_search"):
                walk.exact = self._lookup.digests(walk.scope, digests)
        return walk, sha256

    async def _reach(self, request: CheckRequest) -> bool:
        """Wait for the asked revision; whether the index stayed behind it."""
        if request.at_least_revision is None or self._index.revision >= request.at_least_revision:
            return False
        until = time.monotonic() + (request.deadline - time.monotonic()) * _WAIT_SHARE
        return not await self._follower.reach(request.at_least_revision, until)

    def _known_by(self, walk: Walk, sha256: bytes, revision: int) -> Recognised | None:
        """By what a check of the same is known while nothing has changed; None where no model answers."""
        model, request = self._embedder.model, walk.request
        if model is None:
            return None
        asked = (request.banks, request.visible, request.exhaustive, request.thorough, request.max_matches)
        return Recognised(revision, model.label, sha256, asked)

    async def _look_in_turn(self, walk: Walk) -> None:
        """Look, unless too many others do. What is known by its digest never comes here, and is never refused."""
        with self._turns.turn(walk.until):
            await self._look_at_pixels(walk)

    async def _look_at_pixels(self, walk: Walk) -> None:
        """Decode and compare PDQ, then content, each only where something in scope has it."""
        try:
            seen = await walk.within(
                self._workers.look(
                    glance, self._lookup, walk.scope, walk.request.image, self._decoder, walk.request.deadline
                )
            )
        except DeadlineInStage:
            walk.out_of_time("decoding and the PDQ search", _PIXEL_SIGNALS)
            return
        walk.timings.add(seen.timings)
        if seen.problem is not None:
            over = seen.problem.problem is MediaProblem.OVER_LIMITS
            code = UndecidedCode.OVER_LIMITS if over else UndecidedCode.UNDECODABLE
            walk.passing = seen.problem.passing
            walk.say(code, f"{seen.problem.message}; only the digests were compared", _PIXEL_SIGNALS)
        if seen.picture is None:
            return
        self._note(walk, seen, seen.picture)
        if not walk.decided:
            await self._content.compare(walk)

    def _note(self, walk: Walk, seen: Glance, picture: Picture) -> None:
        """What the first look at the pixels gave."""
        walk.header, walk.frames, walk.pdq = picture.header, picture.frames, picture.frames[0].pdq
        walk.hashes, walk.hash_frames = seen.hashes, seen.hash_frames
        walk.candidates, walk.pictured = seen.candidates, list(seen.matches)
        if picture.header.frames > len(picture.frames):
            walk.say(
                UndecidedCode.OVER_LIMITS,
                f"{len(picture.frames)} of the {picture.header.frames} frames were compared; have a person look "
                "at the rest, or raise IMAGEWARDEN_MAX_FRAMES",
                _PIXEL_SIGNALS,
            )
        if seen.plainest is not None:
            walk.say(
                UndecidedCode.TOO_PLAIN,
                f"the picture has too little structure for PDQ (quality {seen.plainest} of 100, at least "
                f"{PDQ_MIN_QUALITY} is needed); have a person look, or compare by digest alone",
                (SignalType.PDQ,),
            )
