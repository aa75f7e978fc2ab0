"""From a picture's signals to matches: search the index in scope, apply each bank's threshold, name the entry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from imagewarden_server.matching.errors import BankNotFound
from imagewarden_server.matching.ports import Catalog, Hit, ModelInfo, SearchIndex
from imagewarden_server.matching.types import (
    Bank,
    BankKind,
    Box,
    Entry,
    HashSignal,
    Match,
    SignalType,
    Threshold,
    Vectors,
    VectorSpace,
)

# Several stored vectors may be of one entry (a logo has a view a size and ground): so many are asked for one answer.
_VIEWS_AN_ENTRY = 16
_MOST_HITS = 1_024
_PDQ_BITS = 256

Now = Callable[[], datetime]


def utc_now() -> datetime:
    """The time that entries expire by."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Scope:
    """The banks a check compares with."""

    banks: tuple[Bank, ...]

    @classmethod
    def of(cls, catalog: Catalog, names: Sequence[str]) -> Scope:
        """The named banks, or all; those that are not enabled are left out.

        Raises:
            BankNotFound: no such bank.
        """
        known = {bank.id: bank for bank in catalog.all_banks()}
        if names:
            for name in names:
                if name not in known:
                    raise BankNotFound(name)
            chosen: Iterable[Bank] = (known[name] for name in dict.fromkeys(names))
        else:
            chosen = known.values()
        return cls(tuple(bank for bank in chosen if bank.enabled))

    def comparing(self, signal: SignalType, kinds: frozenset[BankKind] = frozenset(BankKind)) -> dict[int, Threshold]:
        """The thresholds of the banks that compare a signal, by the bank's key."""
        thresholds = {}
        for bank in self.banks:
            threshold = bank.policy.thresholds[signal]
            if bank.kind in kinds and not threshold.disabled:
                thresholds[bank.key] = threshold
        return thresholds

    @property
    def by_key(self) -> dict[int, Bank]:
        """The banks by key."""
        return {bank.key: bank for bank in self.banks}


_COPY_KINDS = frozenset({BankKind.BANNED, BankKind.ALLOWED})
_LOGO_KINDS = frozenset({BankKind.BRAND})
_SPACE_KINDS = {VectorSpace.COPY: _COPY_KINDS, VectorSpace.LOGO: _LOGO_KINDS}


@dataclass(frozen=True, slots=True)
class VectorQueries:
    """The vectors to compare in one space, with where each stands in the picture.

    Attributes:
        vectors: float32 [n, dimensions], unit norm.
        frames: the frame number of each row.
        regions: the box of each row; None: the whole picture.
    """

    space: VectorSpace
    vectors: Vectors
    frames: Sequence[int]
    regions: Sequence[Box | None]


class Lookup:
    """Finds matches; blocking, to be run on a worker thread."""

    def __init__(self, catalog: Catalog, index: SearchIndex, now: Now = utc_now) -> None:
        self._catalog = catalog
        self._index = index
        self._now = now

    def compares_pdq(self, scope: Scope) -> bool:
        """Whether any entry in scope can be recognised by PDQ."""
        return self._index.hash_count(list(scope.comparing(SignalType.PDQ)), SignalType.PDQ) > 0

    def models(self, scope: Scope, space: VectorSpace) -> dict[str, int]:
        """How many vectors in scope a space has, by the model that made them."""
        banks = scope.comparing(SignalType.EMBEDDING, _SPACE_KINDS[space])
        return self._index.vector_models(list(banks), space)

    def digests(self, scope: Scope, digests: Sequence[HashSignal]) -> list[Match]:
        """Entries that have one of the digests: at most one match an entry, by its most exact digest."""
        compared = [(digest, scope.comparing(digest.type)) for digest in digests]
        hits = []
        for place, (digest, banks) in enumerate(compared):
            hits += [Hit(hit.key, place, hit.value) for hit in self._index.find_digests(list(banks), [digest])]
        entries = self._catalog.entries_by_hash_key([hit.key for hit in hits])
        return self._matches(scope, hits, entries, lambda hit: _digest_match(digests[hit.query].type))

    def pdq(self, scope: Scope, hashes: Sequence[bytes], frames: Sequence[int]) -> list[Match]:
        """Entries within the Hamming distance that their bank allows; `frames` numbers the hashes' frames."""
        thresholds = scope.comparing(SignalType.PDQ)
        hits: list[Hit] = []
        for distance in {threshold.value for threshold in thresholds.values()}:
            banks = [key for key, threshold in thresholds.items() if threshold.value == distance]
            hits += self._index.find_pdq(banks, hashes, int(distance))
        entries = self._catalog.entries_by_hash_key([hit.key for hit in hits])
        return self._matches(
            scope,
            sorted(hits, key=lambda hit: hit.value),
            entries,
            lambda hit: _Found(SignalType.PDQ, 1 - hit.value / _PDQ_BITS, hit.value, frames[hit.query], None),
        )

    def vectors(self, scope: Scope, model: ModelInfo, queries: VectorQueries, most: int) -> list[Match]:
        """Entries whose cosine similarity reaches their bank's threshold, by their best view and place."""
        thresholds = scope.comparing(SignalType.EMBEDDING, _SPACE_KINDS[queries.space])
        k = min(_MOST_HITS, most * _VIEWS_AN_ENTRY)
        floor = min((threshold.value for threshold in thresholds.values()), default=1.0)
        found = self._index.find_vectors(list(thresholds), queries.space, model.fingerprint, queries.vectors, k)
        hits = sorted((hit for hit in found if hit.value >= floor), key=lambda hit: -hit.value)
        entries = self._catalog.entries_by_vector_key([hit.key for hit in hits])
        return self._matches(
            scope,
            hits,
            entries,
            lambda hit: _Found(
                SignalType.EMBEDDING, hit.value, 1 - hit.value, queries.frames[hit.query], queries.regions[hit.query]
            ),
        )

    def similar(
        self, scope: Scope, model: ModelInfo, vector: NDArray[np.float32], k: int
    ) -> list[tuple[Entry, Bank, float]]:
        """The k entries nearest in meaning: entry, bank, cosine similarity, nearest first."""
        banks = {bank.key: bank for bank in scope.banks}
        hits = self._index.find_vectors(list(banks), VectorSpace.SEMANTIC, model.fingerprint, vector[None, :], k)
        entries = self._catalog.entries_by_vector_key([hit.key for hit in hits])
        by_id = {bank.id: bank for bank in scope.banks}
        best: dict[int, tuple[Entry, Bank, float]] = {}
        now = self._now()
        for hit in sorted(hits, key=lambda hit: -hit.value):
            entry = entries.get(hit.key)
            if entry is not None and entry.bank_id in by_id and entry.live(now):
                best.setdefault(entry.key, (entry, by_id[entry.bank_id], hit.value))
        return list(best.values())[:k]

    def _matches(
        self,
        scope: Scope,
        hits: Sequence[Hit],
        entries: dict[int, Entry],
        describe: Callable[[Hit], _Found],
    ) -> list[Match]:
        """One match an entry: its first hit that its bank's threshold lets through."""
        banks = {bank.id: bank for bank in scope.banks}
        now = self._now()
        matches: dict[int, Match] = {}
        for hit in hits:
            entry = entries.get(hit.key)
            # The catalogue has the last word: what it deleted or disabled since the index was asked is no match.
            if entry is None or entry.key in matches or entry.bank_id not in banks or not entry.live(now):
                continue
            bank = banks[entry.bank_id]
            found = describe(hit)
            threshold = bank.policy.thresholds[found.signal].value
            if found.signal is SignalType.EMBEDDING and found.score < threshold:
                continue
            matches[entry.key] = Match(
                entry=entry,
                bank=bank,
                signal=found.signal,
                score=found.score,
                distance=found.distance,
                threshold=threshold,
                action=bank.policy.action,
                region=found.region,
                frame=found.frame,
            )
        return list(matches.values())


@dataclass(frozen=True, slots=True)
class _Found:
    """What a hit says, in the API's units."""

    signal: SignalType
    score: float
    distance: float
    frame: int = 0
    region: Box | None = None


def _digest_match(signal: SignalType) -> _Found:
    return _Found(signal, 1.0, 0.0)
