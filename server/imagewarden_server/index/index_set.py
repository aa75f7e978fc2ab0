"""All indexes of all banks behind one lock: implements `ports.SearchIndex`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from imagewarden_server.index.digests import DigestTable
from imagewarden_server.index.flat import FlatHammingIndex
from imagewarden_server.index.locking import ReadersWriterLock
from imagewarden_server.index.vectors import UsearchVectorIndex, VectorIndex
from imagewarden_server.matching.ports import Change, Hit, StoredHash, StoredVector
from imagewarden_server.matching.types import DIGEST_BYTES, HashSignal, SignalType, Vectors, VectorSpace


class RevisionGap(Exception):
    """Changes came that do not follow the index's revision."""


@dataclass(slots=True)
class BankIndexes:
    """The indexes of one bank: digests by type, PDQ, vectors by space and model."""

    digests: dict[SignalType, DigestTable] = field(default_factory=dict)
    pdq: FlatHammingIndex = field(default_factory=FlatHammingIndex)
    vectors: dict[tuple[VectorSpace, str], VectorIndex] = field(default_factory=dict)


class IndexSet:
    """Searches over banks; thread-safe: searches run beside each other, a change alone."""

    def __init__(self, revision: int = 0, banks: dict[int, BankIndexes] | None = None) -> None:
        self._lock = ReadersWriterLock()
        self._revision = revision
        self._banks: dict[int, BankIndexes] = banks or {}

    @property
    def revision(self) -> int:
        """The last change that is in force."""
        return self._revision

    def apply(self, changes: Iterable[Change]) -> None:
        """Bring changes into force, in order; those it has already are passed over.

        Raises:
            RevisionGap: a change is missing before one of these.
        """
        for change in changes:
            with self._lock.write():
                if change.revision <= self._revision:
                    continue
                if change.revision != self._revision + 1:
                    raise RevisionGap(f"change {change.revision} came after {self._revision}; rebuild the index")
                self._apply(change)
                self._revision = change.revision

    def _apply(self, change: Change) -> None:
        if change.removed_bank is not None:
            self._banks.pop(change.removed_bank, None)
        self._remove_hashes(change.removed_hashes)
        self._remove_vectors(change.removed_vectors)
        self._add_hashes(change.added_hashes)
        self._add_vectors(change.added_vectors)

    def load_rows(self, hashes: Iterable[list[StoredHash]], vectors: Iterable[list[StoredVector]]) -> None:
        """Fill an empty index from the catalogue's rows; it is not searched yet."""
        with self._lock.write():
            for hash_batch in hashes:
                self._add_hashes(hash_batch)
            for vector_batch in vectors:
                self._add_vectors(vector_batch)

    def _bank(self, key: int) -> BankIndexes:
        return self._banks.setdefault(key, BankIndexes())

    def _add_hashes(self, rows: Sequence[StoredHash]) -> None:
        pdq: dict[int, list[StoredHash]] = defaultdict(list)
        for row in rows:
            if row.type is SignalType.PDQ:
                pdq[row.bank].append(row)
            else:
                self._bank(row.bank).digests.setdefault(row.type, DigestTable()).add(row.key, row.value)
        for bank, group in pdq.items():
            self._bank(bank).pdq.add([row.key for row in group], [row.value for row in group])

    def _remove_hashes(self, rows: Sequence[StoredHash]) -> None:
        for row in rows:
            bank = self._banks.get(row.bank)
            if bank is None:
                continue
            if row.type is SignalType.PDQ:
                bank.pdq.remove([row.key])
            elif row.type in bank.digests:
                bank.digests[row.type].remove(row.key, row.value)

    def _add_vectors(self, rows: Sequence[StoredVector]) -> None:
        groups: dict[tuple[int, VectorSpace, str], list[StoredVector]] = defaultdict(list)
        for row in rows:
            groups[row.bank, row.space, row.model].append(row)
        for (bank, space, model), group in groups.items():
            held = self._bank(bank).vectors
            if (space, model) not in held:
                held[space, model] = UsearchVectorIndex(len(group[0].vector))
            index = held[space, model]
            # After a rebuild the changes that it had seen already come again: what is there is the same.
            fresh = [row for row in group if row.key not in index]
            if fresh:
                index.add([row.key for row in fresh], np.stack([row.vector for row in fresh]))

    def _remove_vectors(self, rows: Sequence[StoredVector]) -> None:
        groups: dict[tuple[int, VectorSpace, str], list[int]] = defaultdict(list)
        for row in rows:
            groups[row.bank, row.space, row.model].append(row.key)
        for (bank, space, model), keys in groups.items():
            held = self._banks.get(bank)
            index = held.vectors.get((space, model)) if held else None
            if held is None or index is None:
                continue
            index.remove(keys)
            if not len(index):
                del held.vectors[space, model]

    def find_digests(self, banks: Sequence[int], digests: Sequence[HashSignal]) -> list[Hit]:
        """Equal digests in the given banks; Hit.query is the place in `digests`."""
        hits: list[Hit] = []
        with self._lock.read():
            for bank in banks:
                tables = self._banks[bank].digests if bank in self._banks else {}
                for place, digest in enumerate(digests):
                    table = tables.get(digest.type)
                    if table is not None:
                        hits += [Hit(key, place, 0.0) for key in table.find(digest.value)]
        return hits

    def find_pdq(self, banks: Sequence[int], queries: Sequence[bytes], distance: int) -> list[Hit]:
        """All hashes of the given banks within `distance` bits of a query."""
        with self._lock.read():
            return [
                Hit(key, place, float(bits))
                for bank in banks
                if bank in self._banks
                for place, query in enumerate(queries)
                for key, bits in self._banks[bank].pdq.search(query, distance)
            ]

    def find_vectors(self, banks: Sequence[int], space: VectorSpace, model: str, queries: Vectors, k: int) -> list[Hit]:
        """The k nearest vectors of each bank to each query, by cosine similarity."""
        hits: list[Hit] = []
        with self._lock.read():
            for bank in banks:
                index = self._banks[bank].vectors.get((space, model)) if bank in self._banks else None
                if index is None:
                    continue
                keys, similarities = index.search(queries, k)
                hits += [
                    Hit(int(key), place, float(value))
                    for place in range(len(queries))
                    for key, value in zip(keys[place], similarities[place], strict=True)
                ]
        return hits

    def hash_count(self, banks: Sequence[int], type_: SignalType) -> int:
        """How many hashes of a type the given banks have."""
        with self._lock.read():
            held = [self._banks[bank] for bank in banks if bank in self._banks]
            if type_ in DIGEST_BYTES:
                return sum(len(bank.digests.get(type_, ())) for bank in held)
            return sum(len(bank.pdq) for bank in held)

    def vector_models(self, banks: Sequence[int], space: VectorSpace) -> dict[str, int]:
        """How many vectors of a space the given banks have, by model fingerprint."""
        counts: dict[str, int] = defaultdict(int)
        with self._lock.read():
            for bank in banks:
                for (held_space, model), index in (self._banks[bank].vectors if bank in self._banks else {}).items():
                    if held_space is space:
                        counts[model] += len(index)
        return dict(counts)

    @contextmanager
    def freeze(self) -> Iterator[tuple[int, Mapping[int, BankIndexes]]]:
        """The revision and the banks' indexes, held still while a snapshot reads them; searches go on."""
        with self._lock.read():
            yield self._revision, self._banks
