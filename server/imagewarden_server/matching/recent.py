"""What recent checks saw: a picture that comes again, or many times at once, is looked at once while nothing changes.

A ban is a change: so it is in force at the next check, whatever was seen before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from imagewarden_server.matching.evidence import Candidates
from imagewarden_server.matching.types import Match, Undecided, UndecidedCode
from imagewarden_server.matching.walk import DeadlineInStage, Walk
from imagewarden_server.media import Header, PdqHash

MOST = 10_000
"""So many pictures are remembered at most: about two kilobytes each."""
_MOST_MATCHED = 20

# What is undecided for these reasons is so at each check of the picture; for others it may be another time.
_LASTING = frozenset({UndecidedCode.TOO_PLAIN, UndecidedCode.OVER_LIMITS, UndecidedCode.UNDECODABLE})


@dataclass(frozen=True, slots=True)
class Recognised:
    """By what a check is known to see the same as an earlier one: all that its answer depends on but the time of day.

    Attributes:
        revision: of the index: each change of a bank or an entry is one.
        model: the label of the model that answers.
        sha256: of the file.
        asked: what the request asks beside the picture.
    """

    revision: int
    model: str
    sha256: bytes
    asked: tuple[object, ...]


class RecentObserver(Protocol):
    """Who counts the looks that were not taken."""

    def look(self, how: str) -> None:
        """A picture was `remembered`, `shared` with a check under way, or `taken`: looked at."""


class _Silent:
    """Nobody counts."""

    def look(self, how: str) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a look saw: without pixels, and of the candidates only those that matched.

    Who waits for the look is told whatever it saw, but for one that lacked time: they may have more. It is kept for
    later where it lasts.
    """

    candidates: Candidates
    undecided: tuple[Undecided, ...]
    header: Header | None
    pdq: PdqHash | None
    model: str
    decided: bool


class Recent:
    """Remembers looks; of one event loop.

    Args:
        matches: the matches among a walk's candidates, as the catalogue has their entries now.
        observer: who counts.
        most: how many pictures are remembered.
    """

    def __init__(
        self,
        matches: Callable[[Walk], Awaitable[list[Match]]],
        observer: RecentObserver | None = None,
        most: int = MOST,
    ) -> None:
        self._matches = matches
        self._observer = observer or _Silent()
        self._most = most
        self._revision = -1
        self._seen: dict[Recognised, _Seen] = {}
        self._looking: dict[Recognised, asyncio.Future[_Seen | None]] = {}

    async def see(self, walk: Walk, known_by: Recognised | None, look: Callable[[], Awaitable[None]]) -> None:
        """Have a walk see the picture: by what an earlier look saw, or one that is under way, or by its own.

        Args:
            walk: the check; it must not have looked yet.
            known_by: None: looked at in any case.
            look: looks at the picture's pixels.
        """
        if known_by is None:
            await look()
            return
        while True:
            seen, how = self._seen.get(known_by), "remembered"
            if seen is None and (running := self._looking.get(known_by)) is not None:
                try:
                    with walk.stage("recall"):
                        seen, how = await walk.within(asyncio.shield(running)), "shared"
                except DeadlineInStage:
                    # The look says so of each of its stages; it is nobody else's, and the one under way goes on.
                    await look()
                    return
                if seen is None:
                    continue  # that check had less time: this one, or another that waits, looks itself
            if seen is None or not await self._recall(walk, seen):
                break
            self._observer.look(how)
            return
        await self._look(walk, known_by, look)

    async def _recall(self, walk: Walk, seen: _Seen) -> bool:
        """Have a walk see what was seen; whether that is all that there is to see for it."""
        with walk.stage("recall"):
            before = walk.candidates
            walk.candidates = seen.candidates
            walk.pictured = await self._matches(walk) if len(seen.candidates) else []
        if seen.decided and not walk.decided:
            # The match that ended the look has expired since: what it left out counts now.
            walk.candidates, walk.pictured = before, []
            return False
        walk.undecided += seen.undecided
        walk.header, walk.pdq, walk.model = seen.header, seen.pdq, seen.model
        return True

    async def _look(self, walk: Walk, known_by: Recognised, look: Callable[[], Awaitable[None]]) -> None:
        mine: asyncio.Future[_Seen | None] = asyncio.get_running_loop().create_future()
        self._looking[known_by] = mine
        said = len(walk.undecided)
        seen: _Seen | None = None
        try:
            await look()
            self._observer.look("taken")
            undecided = tuple(walk.undecided[said:])
            codes = {one.code for one in undecided}
            if UndecidedCode.DEADLINE not in codes:
                matched = walk.candidates.only(match.entry.key for match in walk.pictured)
                seen = _Seen(matched, undecided, walk.header, walk.pdq, walk.model, walk.decided)
                # Another model than the one that is known may have answered; and a crowd of copies is much to keep.
                if (
                    codes <= _LASTING
                    and not walk.passing
                    and walk.model in {"", known_by.model}
                    and len(matched) <= _MOST_MATCHED
                ):
                    self._remember(known_by, seen)
        finally:
            if self._looking.get(known_by) is mine:
                del self._looking[known_by]
            mine.set_result(seen)

    def _remember(self, known_by: Recognised, seen: _Seen) -> None:
        if known_by.revision < self._revision:
            return
        if known_by.revision > self._revision:
            # Revisions grow: what is known by an earlier one is asked for no more.
            self._seen, self._revision = {}, known_by.revision
        while len(self._seen) >= self._most:
            del self._seen[next(iter(self._seen))]
        self._seen[known_by] = seen
