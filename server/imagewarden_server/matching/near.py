"""How near pictures that were checked lately are to a bank's entries, to one of them, or to one that is not there yet.

PDQ is compared anew, and so is the whole picture's embedding of BANNED and ALLOWED banks. What takes more than is kept
of a picture (local features, a logo's windows, a copy in a part of the picture) is as its own check measured it, of the
entries that were there then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from imagewarden_server.matching.fusion import fusion_for
from imagewarden_server.matching.ports import SearchIndex
from imagewarden_server.matching.types import (
    Bank,
    BankKind,
    Entry,
    NewEntry,
    SignalType,
    VectorSpace,
)
from imagewarden_server.matching.window import MEASURED, Kept

WEAK = (SignalType.SHA1, SignalType.MD5)
"""The digests that a check computes only where something in scope has such ones."""
PDQ_REACH = 64
"""PDQ hashes further away than this, or than twice the thresholds, are not looked for: they are far."""


@dataclass(frozen=True, slots=True)
class Near:
    """The nearest by one signal.

    Attributes:
        value: in the unit of the signal's threshold.
        entry: the key of the entry; None: one that is not there yet, or `hash` says it.
        hash: the key of the hash that was found.
    """

    value: float
    entry: int | None = None
    hash: int | None = None


Measured = Mapping[SignalType, Near | None]
"""The signals that a picture was compared by; None: nothing was found near."""


class Measure(Protocol):
    """Holds pictures against something; blocking."""

    @property
    def weak(self) -> bool:
        """Whether something may be recognised by SHA-1 or MD5 alone."""

    def same(self, kept: Kept) -> bool:
        """Whether one of the file's digests is there."""

    def near(self, kept: Kept) -> Measured:
        """The nearest by each signal."""


class BankMeasure:
    """Against all entries of a bank.

    Args:
        index: of all banks.
        bank: the bank.
        entries: the keys of its live entries among those that pictures were measured against.
        reach: PDQ hashes further away than this are not looked for.
    """

    def __init__(self, index: SearchIndex, bank: Bank, entries: NDArray[np.int64], reach: int) -> None:
        self._index = index
        self._bank = bank
        self._entries = entries
        self._reach = reach

        self.weak = any(index.hash_count([bank.key], type_) for type_ in WEAK if _compares(bank, type_))

    def same(self, kept: Kept) -> bool:
        """Whether an entry has one of the file's digests."""
        asked = [digest for digest in kept.digests if _compares(self._bank, digest.type)]
        return bool(self._index.find_digests([self._bank.key], asked))

    def near(self, kept: Kept) -> Measured:
        """The nearest entry by each signal."""
        found = dict(_measured(self._bank, kept, self._entries))
        if kept.hashes:
            hits = self._index.find_pdq([self._bank.key], kept.hashes, self._reach)
            best = min(hits, key=lambda hit: (hit.value, hit.key), default=None)
            found[SignalType.PDQ] = None if best is None else Near(best.value, hash=best.key)
        if kept.model and self._bank.kind is not BankKind.BRAND:
            scored = self._index.find_entries([self._bank.key], VectorSpace.COPY, kept.model, kept.vectors, 1)
            again = Near(scored[0].value, scored[0].entry) if scored else None
            found[SignalType.EMBEDDING] = _more(again, found.get(SignalType.EMBEDDING))
        return found


class EntryMeasure:
    """Against one entry of a bank, with its signals."""

    def __init__(self, index: SearchIndex, bank: Bank, entry: Entry) -> None:
        self._index = index
        self._bank = bank
        self._entry = entry
        self._digests = _Digests(bank, ((one.type, bytes.fromhex(one.hex)) for one in entry.signals if one.hex))
        self.weak = self._digests.weak
        self._keys = np.array([entry.key], np.int64)

    def same(self, kept: Kept) -> bool:
        """Whether it has one of the file's digests."""
        return self._digests.has(kept)

    def near(self, kept: Kept) -> Measured:
        """What each signal says of it."""
        key, banks = self._entry.key, [self._bank.key]
        found = dict(_measured(self._bank, kept, self._keys))
        if kept.hashes:
            hits = self._index.hash_distances([key], banks, kept.hashes)
            found[SignalType.PDQ] = Near(hits[0].value, key) if hits else None
        if kept.model and self._bank.kind is not BankKind.BRAND:
            scored = self._index.score_entries([key], banks, VectorSpace.COPY, kept.model, kept.vectors)
            again = Near(scored[0].value, key) if scored else None
            found[SignalType.EMBEDDING] = _more(again, found.get(SignalType.EMBEDDING))
        return found


class NewMeasure:
    """Against an entry that is not there yet: by its digests, its PDQ hashes and the vectors of its views."""

    def __init__(self, bank: Bank, entry: NewEntry) -> None:
        self._digests = _Digests(bank, ((one.type, one.value) for one in entry.hashes))
        self.weak = self._digests.weak
        hashes = [one.value for one in entry.hashes if one.type is SignalType.PDQ]
        self._hashes = np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 32)
        self._copies = [one for one in entry.vectors if one.space is VectorSpace.COPY]

    def same(self, kept: Kept) -> bool:
        """Whether it has one of the file's digests."""
        return self._digests.has(kept)

    def near(self, kept: Kept) -> Measured:
        """What each signal says of it."""
        found: dict[SignalType, Near | None] = {}
        if len(self._hashes) and kept.hashes:
            asked = np.frombuffer(b"".join(kept.hashes), np.uint8).reshape(-1, 32)
            bits = np.bitwise_count(asked[:, None] ^ self._hashes[None]).sum(2, dtype=np.int32)
            found[SignalType.PDQ] = Near(float(bits.min()))
        copies = [one for one in self._copies if one.model == kept.model]
        if copies:
            scores = [((kept.vectors @ one.vectors.T - one.mean) / one.deviation).max() for one in copies]
            found[SignalType.EMBEDDING] = Near(float(max(scores)))
        return found


class _Digests:
    """The digests of one entry that its bank compares."""

    def __init__(self, bank: Bank, signals: Iterable[tuple[SignalType, bytes]]) -> None:
        self._held = {
            (type_, value) for type_, value in signals if type_ in {SignalType.SHA256, *WEAK} and _compares(bank, type_)
        }
        types = {type_ for type_, _ in self._held}
        # SHA-256 says of a file all that the others could.
        self.weak = bool(types) and SignalType.SHA256 not in types

    def has(self, kept: Kept) -> bool:
        """Whether one of a file's is among them."""
        return any((digest.type, digest.value) in self._held for digest in kept.digests)


def _compares(bank: Bank, type_: SignalType) -> bool:
    return not bank.policy.thresholds[type_].disabled


def _more(one: Near | None, other: Near | None) -> Near | None:
    """The greater of two scores."""
    both = [near for near in (one, other) if near is not None]
    return max(both, key=lambda near: near.value, default=None)


def _measured(bank: Bank, kept: Kept, entries: NDArray[np.int64]) -> dict[SignalType, Near | None]:
    """What the picture's own check measured of entries of a bank."""
    if bank.key not in kept.banks:
        return {}
    mine = np.isin(kept.entries, entries)
    keys, values = kept.entries[mine], kept.values[mine]
    found: dict[SignalType, Near | None] = {}
    for column, signal in enumerate(MEASURED):
        if signal in kept.ran and signal is not SignalType.PDQ:
            found[signal] = _greatest(keys, values[:, column])
    if kept.ran & {SignalType.EMBEDDING, SignalType.LOCAL}:
        found[SignalType.COMBINED] = _greatest(keys, _fused(bank, values))
    return found


def _greatest(keys: NDArray[np.int64], values: NDArray[np.float32]) -> Near | None:
    if not len(values) or np.isnan(values).all():
        return None
    place = int(np.nanargmax(values))
    return Near(float(values[place]), int(keys[place]))


def _fused(bank: Bank, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The fused score of each row, of the signals that the bank compares."""
    off = [bank.policy.thresholds[signal].disabled for signal in MEASURED]

    def score(row: Sequence[float]) -> float:
        pdq, embedding, local = (
            None if missing or np.isnan(value) else float(value) for value, missing in zip(row, off, strict=True)
        )
        return fusion_for(bank.kind).score(pdq, embedding, local)

    return np.array([score(row) for row in values], np.float32)
