"""One check on its way: what was asked, what is found so far, what did not run, how long the stages took."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TypeVar

from imagewarden_server.matching.directory import Scope
from imagewarden_server.matching.evidence import Candidates
from imagewarden_server.matching.policy import blocks
from imagewarden_server.matching.timings import Timings
from imagewarden_server.matching.types import Action, HashSignal, Match, SignalType, Undecided, UndecidedCode, Vectors
from imagewarden_server.matching.visible import ALL_BANKS, Banks
from imagewarden_server.media import Frame, Header, PdqHash

T = TypeVar("T")

# Kept back from the caller's deadline for the verdict and the way home: seconds, and as a share of what is left.
_RESERVE_SECONDS = 0.05
_RESERVE_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class CheckRequest:
    """A picture to check.

    Attributes:
        banks: those to compare with; none: all of the visible ones.
        visible: those that the caller may see.
        deadline: monotonic seconds.
    """

    image: bytes
    banks: tuple[str, ...] = ()
    visible: Banks = ALL_BANKS
    max_matches: int = 10
    exhaustive: bool = False
    thorough: bool = False
    on_undecided: Action | None = None
    at_least_revision: int | None = None
    deadline: float = field(default_factory=lambda: time.monotonic() + 10.0)


class DeadlineInStage(Exception):
    """The check's time was up before a stage had ended."""


class Walk:
    """One check's state as it goes along the road.

    Attributes:
        scope: the banks that are compared; those of a part of the pictures are left out once the digest is known.
        exact: matches by digest.
        weak: SHA-1 and MD5, where something in scope can be recognised by them and SHA-256 did not decide.
        candidates: the entries that the picture's pixels may show.
        pdq: of the first frame.
        pictured: the matches among the candidates, as of the last look.
        suspected: the keys of the entries that the embedding finds likeliest.
        hashes: the PDQ bits that are compared: eight turns of each usable frame.
        hash_frames: the frame number of each.
        whole: the fingerprint of the model, and what it says of the whole picture as copies are compared: float32
            [looks, dimensions]; None where it was not asked for that.
        passing: whether the picture may be seen otherwise another time, though nothing changes.
    """

    def __init__(self, request: CheckRequest, scope: Scope) -> None:
        self.request = request
        self.scope = scope
        self.exact: list[Match] = []
        self.weak: tuple[HashSignal, ...] = ()
        self.candidates = Candidates()
        self.pictured: list[Match] = []
        self.undecided: list[Undecided] = []
        self.timings = Timings()
        self.header: Header | None = None
        self.pdq: PdqHash | None = None
        self.frames: tuple[Frame, ...] = ()
        self.hashes: list[bytes] = []
        self.hash_frames: list[int] = []
        self.suspected: list[int] = []
        self.model = ""
        self.whole: tuple[str, Vectors] | None = None
        self.passing = False
        left = request.deadline - time.monotonic()
        self.until = request.deadline - min(_RESERVE_SECONDS, max(left, 0.0) * _RESERVE_SHARE)

    @property
    def left(self) -> float:
        """Seconds that stages may still take."""
        return self.until - time.monotonic()

    @property
    def matches(self) -> list[Match]:
        """All matches so far."""
        return [*self.exact, *self.pictured]

    @property
    def decided(self) -> bool:
        """Whether the road may end here."""
        return not self.request.exhaustive and blocks(self.matches)

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Time a stage."""
        return self.timings.stage(name)

    async def within(self, work: Awaitable[T]) -> T:
        """Wait for a stage's work, no longer than the check has time; what runs on a thread ends by itself.

        Raises:
            DeadlineInStage: it took longer.
        """
        task = asyncio.ensure_future(work)
        done, _ = await asyncio.wait({task}, timeout=max(self.left, 0.0))
        if not done:
            task.cancel()
            raise DeadlineInStage
        return task.result()

    def say(self, code: UndecidedCode, message: str, signals: Sequence[SignalType]) -> None:
        """Note a reason to be undecided."""
        self.undecided.append(Undecided(code, message, tuple(signals)))

    def out_of_time(self, stage: str, signals: Sequence[SignalType]) -> None:
        """Note that a stage was cut by the deadline."""
        self.say(
            UndecidedCode.DEADLINE,
            f"the deadline left no room for {stage}; give the call more time, or fewer or smaller pictures at once",
            signals,
        )
