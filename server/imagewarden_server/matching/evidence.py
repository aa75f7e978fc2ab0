"""What the signals say of each entry that may be in the picture, and the one match that comes of it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from imagewarden_server.matching.fusion import fusion_for
from imagewarden_server.matching.policy import action_of
from imagewarden_server.matching.second_look import stronger
from imagewarden_server.matching.types import (
    Bank,
    BankKind,
    Box,
    Entry,
    Evidence,
    Match,
    SignalType,
    Threshold,
    Transform,
)

_PDQ_BITS = 256

# Which signal names the match where several reach their thresholds: the one that says most.
_ORDER = (SignalType.PDQ, SignalType.LOCAL, SignalType.EMBEDDING, SignalType.COMBINED)


@dataclass(frozen=True, slots=True)
class Found:
    """What one signal found of an entry.

    Attributes:
        value: in the unit of the signal's threshold.
        distance: as the API states it.
        frame: in which frame.
        region: where in it; None: all of it.
        transform: how the entry's picture lies in it, where the signal knows.
    """

    value: float
    distance: float = 0.0
    frame: int = 0
    region: Box | None = None
    transform: Transform | None = None


@dataclass(frozen=True, slots=True)
class Sighting:
    """What one signal found of one entry, by the entry's key."""

    entry: int
    signal: SignalType
    found: Found


@dataclass(slots=True)
class Candidate:
    """An entry that may be in the picture, with the best that each signal found of it.

    Attributes:
        found: over all frames.
        by_frame: the values of the frames.
    """

    found: dict[SignalType, Found] = field(default_factory=dict)
    by_frame: dict[SignalType, dict[int, float]] = field(default_factory=dict)

    def note(self, signal: SignalType, found: Found) -> None:
        """Keep what a signal found, where it is better than what it found before."""
        held = self.found.get(signal)
        if held is None or _better(signal, found.value, held.value):
            self.found[signal] = found
        frames = self.by_frame.setdefault(signal, {})
        if found.frame not in frames or _better(signal, found.value, frames[found.frame]):
            frames[found.frame] = found.value

    def frames(self, signal: SignalType, threshold: Threshold) -> frozenset[int]:
        """The frames in which a signal by itself recognises the entry."""
        values = self.by_frame.get(signal, {})
        return frozenset(frame for frame, value in values.items() if _reaches(signal, value, threshold))

    def value(self, signal: SignalType) -> float | None:
        """What a signal found, in the unit of its threshold; None where it found nothing."""
        held = self.found.get(signal)
        return None if held is None else held.value


class Candidates:
    """All entries that may be in the picture, by their keys.

    Attributes:
        frames: the numbers of the picture's frames that were looked at.
    """

    def __init__(self) -> None:
        self._by_key: dict[int, Candidate] = {}
        self.frames: frozenset[int] = frozenset()

    def __len__(self) -> int:
        """How many there are."""
        return len(self._by_key)

    def note(self, sightings: Iterable[Sighting]) -> None:
        """Keep what signals found of entries."""
        for one in sightings:
            self._by_key.setdefault(one.entry, Candidate()).note(one.signal, one.found)

    def strengthen(self, sightings: Iterable[Sighting]) -> None:
        """Add what a second look at logos says (`second_look`) to what local features say of them.

        Where no keypoints agree, the second look says where the logo is.
        """
        for one in sightings:
            candidate = self._by_key.setdefault(one.entry, Candidate())
            held = candidate.found.get(SignalType.LOCAL)
            if held is None:
                candidate.found[SignalType.LOCAL] = replace(one.found, value=stronger(0.0, one.found.value))
            elif held.frame == one.found.frame:
                candidate.found[SignalType.LOCAL] = replace(held, value=stronger(held.value, one.found.value))

    def keys(self) -> list[int]:
        """The keys of all entries."""
        return list(self._by_key)

    def values(self, signals: Sequence[SignalType], most: int) -> list[tuple[int, list[float]]]:
        """What signals found of at most so many entries, by key; NaN where one found nothing."""
        some = itertools.islice(self._by_key.items(), most)
        return [
            (key, [one.found[signal].value if signal in one.found else math.nan for signal in signals])
            for key, one in some
        ]

    def only(self, keys: Iterable[int]) -> Candidates:
        """Those of these keys alone."""
        chosen = Candidates()
        chosen.frames = self.frames
        chosen._by_key = {key: self._by_key[key] for key in keys if key in self._by_key}
        return chosen

    def lacking(self, signal: SignalType) -> list[int]:
        """The keys of the entries that a signal found nothing of."""
        return [key for key, one in self._by_key.items() if signal not in one.found]

    def places(self, signal: SignalType, most: int) -> dict[int, Found]:
        """Where a signal found entries in a part of the picture, by key: of those it found most of, the best first."""
        found = {key: self._by_key[key].found[signal] for key in self.best(signal, most)}
        return {key: one for key, one in found.items() if one.region is not None}

    def best(self, signal: SignalType, most: int) -> list[int]:
        """The keys of the entries that a signal found most of, the best first."""
        having = [(key, one.found[signal]) for key, one in self._by_key.items() if signal in one.found]
        sign = 1 if signal is SignalType.PDQ else -1
        return [key for key, found in sorted(having, key=lambda pair: (sign * pair[1].value, pair[0]))[:most]]

    def matches(self, entries: Mapping[int, tuple[Entry, Bank]]) -> list[Match]:
        """The entries that a signal of theirs recognises, a match each; those that `entries` does not have are gone."""
        made = (match_of(*entries[key], one) for key, one in self._by_key.items() if key in entries)
        matches = [match for match in made if match is not None]
        clearing = [
            match for match in matches if match.bank.kind is BankKind.ALLOWED and match.entry.quarantine is None
        ]
        covered = frozenset[int]().union(*(self._frames(match) for match in clearing))
        if self.frames <= covered:
            return matches
        # Of an animation some frame is none of the allowed pictures: it may be anything.
        return [replace(match, clears=False) if match.bank.kind is BankKind.ALLOWED else match for match in matches]

    def _frames(self, match: Match) -> frozenset[int]:
        """The frames in which the signal that names a match recognises the entry."""
        candidate, threshold = self._by_key[match.entry.key], match.bank.policy.thresholds[match.signal]
        return candidate.frames(match.signal, threshold) or frozenset({match.frame})


def match_of(entry: Entry, bank: Bank, candidate: Candidate) -> Match | None:
    """The match of one entry, named by the signal that says most; None where its bank's thresholds let nothing pass."""
    thresholds = bank.policy.thresholds
    evidence = _evidence(bank, candidate)
    reached = {one.signal: one for one in evidence if one.reached}
    signal = next((one for one in _ORDER if one in reached), None)
    if signal is None:
        return None
    at = candidate.found.get(signal) or _strongest(candidate)
    local = candidate.found.get(SignalType.LOCAL)
    # The geometric check says best where the entry is; a PDQ match is of the whole picture.
    placed = local if local is not None and SignalType.LOCAL in reached and signal is not SignalType.PDQ else at
    value = reached[signal].value
    return Match(
        entry=entry,
        bank=bank,
        signal=signal,
        score=1 - value / _PDQ_BITS if signal is SignalType.PDQ else value,
        distance=at.distance if signal is not SignalType.COMBINED else 0.0,
        threshold=thresholds[signal].value,
        action=action_of(entry, bank),
        region=placed.region,
        frame=placed.frame,
        evidence=evidence,
        transform=local.transform if local is not None and local.frame == placed.frame else None,
    )


def _evidence(bank: Bank, candidate: Candidate) -> tuple[Evidence, ...]:
    """What each compared signal found, and the fused score of all of them."""
    made = []
    for signal in (SignalType.PDQ, SignalType.EMBEDDING, SignalType.LOCAL):
        value = candidate.value(signal)
        threshold = bank.policy.thresholds[signal]
        if value is not None and not threshold.disabled:
            made.append(Evidence(signal, value, _reaches(signal, value, threshold)))
    threshold = bank.policy.thresholds[SignalType.COMBINED]
    if made and not threshold.disabled:
        values = {one.signal: one.value for one in made}
        fused = fusion_for(bank.kind).score(
            values.get(SignalType.PDQ), values.get(SignalType.EMBEDDING), values.get(SignalType.LOCAL)
        )
        made.append(Evidence(SignalType.COMBINED, fused, fused >= threshold.value))
    return tuple(made)


def _reaches(signal: SignalType, value: float, threshold: Threshold) -> bool:
    return value <= threshold.value if signal is SignalType.PDQ else value >= threshold.value


def _better(signal: SignalType, one: float, other: float) -> bool:
    return one < other if signal is SignalType.PDQ else one > other


def _strongest(candidate: Candidate) -> Found:
    """Where the entry is, for a match that no signal names alone."""
    order: Sequence[SignalType] = (SignalType.LOCAL, SignalType.EMBEDDING, SignalType.PDQ)
    return next(candidate.found[signal] for signal in order if signal in candidate.found)
