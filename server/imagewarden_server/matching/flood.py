"""Floods: entries that suddenly match far more different pictures than they did.

A junk entry (a blank page, a common frame) matches what everybody uploads. What tells it from a picture that spreads is
not how often it matches, but how many different files, beside what the entry itself matched before: so files are told
apart by their digests, and each entry is its own measure. An exact digest matches one file alone, and is never a flood.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from array import array
from bisect import bisect_left
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from imagewarden_server.matching.types import Match

SLOT_SECONDS = 300.0
"""What is counted is counted by slots of five minutes: the last two, one of them begun, are the last ten minutes."""
TIMES = 20
"""So many times as many pictures as in ten minutes of the hour before are a flood, from the bank's own number on."""
_EARLIER = 10
"""Slots before the last two: the rest of an hour."""
_LEAST_EARLIER = 2
"""Without so many slots of watching before the last two nothing is known to be sudden, as after a start."""
_ENTRIES = 8_192
"""So many entries are watched at most, those that matched last: about 2.5 kilobytes each, of those that match much."""
_SKETCH = 128


class Sketch:
    """About how many different values of 64 bits were added: by the least of them (Bar-Yossef et al., 2002).

    Up to 128 it is exact, and beyond with a standard error of 9%; it takes a kilobyte.
    """

    __slots__ = ("_least",)

    def __init__(self, least: Iterable[int] = ()) -> None:
        self._least = array("Q", least)

    def add(self, value: int) -> None:
        """Count a value, once."""
        place = bisect_left(self._least, value)
        if place == _SKETCH or (place < len(self._least) and self._least[place] == value):
            return
        self._least.insert(place, value)
        if len(self._least) > _SKETCH:
            self._least.pop()

    def count(self) -> int:
        """How many different values there were."""
        if len(self._least) < _SKETCH:
            return len(self._least)
        return round((_SKETCH - 1) * 2**64 / (self._least[-1] + 1))

    def __or__(self, other: Sketch) -> Sketch:
        """Both together."""
        return Sketch(sorted({*self._least, *other._least})[:_SKETCH])


@dataclass(slots=True)
class _Watched:
    """One entry's pictures.

    Attributes:
        slot: the number of the slot that `now` is of.
        earlier: the counts of the slots before `before`, the newest last.
        again: from so many pictures on it is a flood again: those of the last one do not count twice.
    """

    slot: int
    now: Sketch = field(default_factory=Sketch)
    before: Sketch = field(default_factory=Sketch)
    earlier: deque[int] = field(default_factory=lambda: deque(maxlen=_EARLIER))
    again: int = 0

    def reach(self, slot: int) -> None:
        """Go on to a slot."""
        for _ in range(min(slot - self.slot, _EARLIER + 2)):
            self.earlier.append(self.before.count())
            self.before, self.now = self.now, Sketch()
        self.slot = slot


class Floods:
    """Watches matches as they are found; of one event loop.

    Args:
        clock: monotonic seconds.
        most: how many entries are watched.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, most: int = _ENTRIES) -> None:
        self._clock = clock
        self._most = most
        # Nobody can choose pictures whose values are small, and so look like many.
        self._secret = secrets.token_bytes(16)
        self._start = self._slot()
        self._watched: OrderedDict[int, _Watched] = OrderedDict()
        self._found: dict[tuple[str, str], str] = {}

    def _slot(self) -> int:
        return int(self._clock() // SLOT_SECONDS)

    def see(self, matches: Iterable[Match], sha256: bytes) -> None:
        """Count a picture for the entries that matched it, but for those whose match was cleared."""
        value = int.from_bytes(hashlib.blake2b(sha256, digest_size=8, key=self._secret).digest(), "big")
        for match in matches:
            floor = match.bank.policy.quarantine_flood
            if floor and not match.cleared_by:
                watched = self._count(match.entry.key, value)
                if match.entry.quarantine is None and (said := self._flooded(watched, floor)):
                    self._found[match.entry.bank_id, match.entry.id] = said

    def take(self) -> dict[tuple[str, str], str]:
        """The entries that were flooded since this was last asked, by bank and entry, with the numbers."""
        found, self._found = self._found, {}
        return found

    def put_back(self, found: Mapping[tuple[str, str], str]) -> None:
        """Have entries taken again that nothing could be done about; what was found of them since stands."""
        self._found = {**found, **self._found}

    def _count(self, entry: int, value: int) -> _Watched:
        slot = self._slot()
        watched = self._watched.setdefault(entry, _Watched(slot))
        self._watched.move_to_end(entry)
        if len(self._watched) > self._most:
            self._watched.popitem(last=False)
        watched.reach(slot)
        watched.now.add(value)
        return watched

    def _flooded(self, watched: _Watched, floor: int) -> str:
        """What the flood is, in words; empty where there is none."""
        least = max(floor, watched.again)
        # Cheap, and enough nearly always: both slots together are no more than their sum.
        if watched.now.count() + watched.before.count() < least:
            return ""
        known = min(watched.slot - self._start - 2, _EARLIER)
        if known < _LEAST_EARLIER:
            return ""
        recent = (watched.now | watched.before).count()
        earlier = 2 * sum(list(watched.earlier)[-known:]) / known
        if recent < max(least, TIMES * earlier):
            return ""
        watched.again = 2 * recent
        return (
            f"matched {recent} different pictures in ten minutes, and {earlier:.3g} in ten minutes of the "
            f"{known * SLOT_SECONDS / 60:.0f} minutes before"
        )
