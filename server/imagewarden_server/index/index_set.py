"""All indexes of all banks behind one lock: implements `ports.SearchIndex`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from imagewarden_server.index import digests as digest_tables
from imagewarden_server.index.digests import DigestTable
from imagewarden_server.index.errors import RevisionGap, WrongShape
from imagewarden_server.index.flat import FlatHammingIndex
from imagewarden_server.index.graph import UsearchVectorIndex
from imagewarden_server.index.locking import ReadersWriterLock
from imagewarden_server.index.parts import HashPart, IndexInfo, VectorPart
from imagewarden_server.index.vectors import check_vectors
from imagewarden_server.matching.ports import Change, Hit, StoredHash, StoredVector
from imagewarden_server.matching.types import DIGEST_BYTES, HASH_BYTES, HashSignal, SignalType, Vectors, VectorSpace

_Place = tuple[int, VectorSpace, str]
"""Which vectors are in one index: bank, space, model."""


@dataclass(slots=True)
class _BankIndexes:
    digests: dict[SignalType, DigestTable] = field(default_factory=dict)
    pdq: FlatHammingIndex = field(default_factory=FlatHammingIndex)
    vectors: dict[tuple[VectorSpace, str], UsearchVectorIndex] = field(default_factory=dict)


class IndexSet:
    """Searches over banks; thread-safe: searches run beside each other, a change alone."""

    def __init__(self, revision: int = 0) -> None:
        self._lock = ReadersWriterLock()
        self._revision = revision
        self._banks: dict[int, _BankIndexes] = {}

    @property
    def revision(self) -> int:
        """The last change that is in force."""
        return self._revision

    # ------------------------------------------------------------------------------------------------------ changes

    def apply(self, changes: Iterable[Change]) -> None:
        """Bring changes into force, in order; those it has already are passed over.

        What a change adds is passed over where it is there already, and what it removes where it is not: after a
        rebuild, or from a snapshot that was written beside changes, some come again.

        Raises:
            RevisionGap: a change is missing before one of these; those before it are in force.
            IndexRefused: a change has what would poison the index; nothing of it is in force.
        """
        for change in changes:
            with self._lock.write():
                if change.revision <= self._revision:
                    continue
                if change.revision != self._revision + 1:
                    raise RevisionGap(f"change {change.revision} came, and {self._revision + 1} was expected")
                _check_hashes(change.added_hashes)
                vectors = self._checked(change.added_vectors)
                if change.removed_bank is not None:
                    self._banks.pop(change.removed_bank, None)
                self._remove_hashes(change.removed_hashes)
                self._remove_vectors(change.removed_vectors)
                self._add_hashes(change.added_hashes)
                self._add_vectors(vectors)
                self._revision = change.revision

    def load_rows(self, hashes: Iterable[Sequence[StoredHash]], vectors: Iterable[Sequence[StoredVector]]) -> None:
        """Add the catalogue's rows to an index that is not searched yet.

        Raises:
            IndexRefused: a row would poison the index.
        """
        with self._lock.write():
            for hash_batch in hashes:
                _check_hashes(hash_batch)
                self._add_hashes(hash_batch)
            for vector_batch in vectors:
                self._add_vectors(self._checked(vector_batch))

    def _checked(self, rows: Sequence[StoredVector]) -> dict[_Place, dict[int, Vectors]]:
        """The vectors by place and key, each checked."""
        places: dict[_Place, dict[int, Vectors]] = defaultdict(dict)
        for row in rows:
            places[row.bank, row.space, row.model][row.key] = row.vector
        for (bank, space, model), group in places.items():
            first = next(iter(group.values()))
            held = self._banks[bank].vectors.get((space, model)) if bank in self._banks else None
            dimensions = held.dimensions if held is not None else len(first)
            for key, vector in group.items():
                if vector.shape != (dimensions,):
                    raise WrongShape(
                        f"vector {key} of model {model} has shape {vector.shape}, and ({dimensions},) was expected"
                    )
            check_vectors(np.stack(list(group.values())), len(group), dimensions)
        return places

    def _bank(self, key: int) -> _BankIndexes:
        return self._banks.setdefault(key, _BankIndexes())

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
        pdq: dict[int, list[int]] = defaultdict(list)
        for row in rows:
            bank = self._banks.get(row.bank)
            if row.type is SignalType.PDQ:
                pdq[row.bank].append(row.key)
            elif bank is not None and row.type in bank.digests:
                bank.digests[row.type].remove(row.key, row.value)
        for key, gone in pdq.items():
            if key in self._banks:
                self._banks[key].pdq.remove(gone)

    def _add_vectors(self, places: dict[_Place, dict[int, Vectors]]) -> None:
        for (bank, space, model), group in places.items():
            held = self._bank(bank).vectors
            if (space, model) not in held:
                held[space, model] = UsearchVectorIndex(len(next(iter(group.values()))))
            index = held[space, model]
            fresh = [key for key in group if key not in index]
            if fresh:
                index.add(fresh, np.stack([group[key] for key in fresh]))

    def _remove_vectors(self, rows: Sequence[StoredVector]) -> None:
        places: dict[_Place, list[int]] = defaultdict(list)
        for row in rows:
            places[row.bank, row.space, row.model].append(row.key)
        for (bank, space, model), keys in places.items():
            held = self._banks[bank].vectors if bank in self._banks else {}
            index = held.get((space, model))
            if index is None:
                continue
            index.remove(keys)
            if not len(index):
                del held[space, model]

    def compact(self) -> int:
        """Build anew the graphs of which more than half is removed, while searches and changes go on.

        Returns:
            How many were built.
        """
        with self._lock.read():
            worn = [
                (bank, place, index)
                for bank, held in self._banks.items()
                for place, index in held.vectors.items()
                if index.worn
            ]
        built = 0
        for bank, place, index in worn:
            with self._lock.read():
                keys, vectors = index.entries()
            fresh = UsearchVectorIndex.built(keys, vectors, index.dimensions)
            with self._lock.write():
                # The bank may be gone meanwhile, or have begun a new index.
                held = self._banks[bank].vectors if bank in self._banks else {}
                if held.get(place) is index:
                    fresh.follow(index)
                    held[place] = fresh
                    built += 1
        return built

    # ----------------------------------------------------------------------------------------------------- searches

    def find_digests(self, banks: Sequence[int], digests: Sequence[HashSignal]) -> list[Hit]:
        """Equal digests in the given banks; Hit.query is the place in `digests`."""
        hits: list[Hit] = []
        with self._lock.read():
            for bank in self._held(banks):
                for place, digest in enumerate(digests):
                    table = bank.digests.get(digest.type)
                    if table is not None:
                        hits += [Hit(key, place, 0.0) for key in table.find(digest.value)]
        return sorted(hits, key=lambda hit: (hit.query, hit.key))

    def find_pdq(self, banks: Sequence[int], queries: Sequence[bytes], distance: int) -> list[Hit]:
        """All hashes of the given banks within `distance` bits of a query, nearest first within a query.

        At most `flat.MOST_HITS` of a bank for a query: the nearest.

        Raises:
            WrongShape: a query is not of 32 bytes.
        """
        hits: list[Hit] = []
        with self._lock.read():
            for bank in self._held(banks):
                for place, (keys, distances) in enumerate(bank.pdq.search(queries, distance)):
                    hits += [
                        Hit(key, place, float(bits))
                        for key, bits in zip(keys.tolist(), distances.tolist(), strict=True)
                    ]
        return sorted(hits, key=lambda hit: (hit.query, hit.value, hit.key))

    def find_vectors(self, banks: Sequence[int], space: VectorSpace, model: str, queries: Vectors, k: int) -> list[Hit]:
        """The k nearest vectors of each bank to each query, by cosine similarity, nearest first within a query.

        Raises:
            IndexRefused: the queries are not unit vectors of the model's dimensions, or k is less than 1.
        """
        hits: list[Hit] = []
        with self._lock.read():
            for bank in self._held(banks):
                index = bank.vectors.get((space, model))
                if index is None:
                    continue
                for place, (keys, similarities) in enumerate(zip(*index.search(queries, k), strict=True)):
                    hits += [
                        Hit(key, place, value) for key, value in zip(keys.tolist(), similarities.tolist(), strict=True)
                    ]
        return sorted(hits, key=lambda hit: (hit.query, -hit.value, hit.key))

    def hash_count(self, banks: Sequence[int], type_: SignalType) -> int:
        """How many hashes of a type the given banks have."""
        with self._lock.read():
            if type_ is SignalType.PDQ:
                return sum(len(bank.pdq) for bank in self._held(banks))
            return sum(len(bank.digests[type_]) for bank in self._held(banks) if type_ in bank.digests)

    def vector_models(self, banks: Sequence[int], space: VectorSpace) -> dict[str, int]:
        """How many vectors of a space the given banks have, by model fingerprint."""
        counts: dict[str, int] = defaultdict(int)
        with self._lock.read():
            for bank in self._held(banks):
                for (held_space, model), index in bank.vectors.items():
                    if held_space is space:
                        counts[model] += len(index)
        return dict(counts)

    def _held(self, banks: Sequence[int]) -> list[_BankIndexes]:
        """The given banks that have anything, each once."""
        return [self._banks[bank] for bank in dict.fromkeys(banks) if bank in self._banks]

    def info(self) -> IndexInfo:
        """How much there is of what, for metrics."""
        hashes: dict[SignalType, int] = dict.fromkeys(HASH_BYTES, 0)
        vectors: dict[VectorSpace, int] = dict.fromkeys(VectorSpace, 0)
        hash_bytes = vector_bytes = 0
        with self._lock.read():
            for bank in self._banks.values():
                hashes[SignalType.PDQ] += len(bank.pdq)
                hash_bytes += bank.pdq.nbytes
                for type_, table in bank.digests.items():
                    hashes[type_] += len(table)
                    hash_bytes += table.nbytes
                for (space, _), index in bank.vectors.items():
                    vectors[space] += len(index)
                    vector_bytes += index.nbytes
            return IndexInfo(self._revision, len(self._banks), hashes, vectors, hash_bytes, vector_bytes)

    # ---------------------------------------------------------------------------------------------------- snapshots

    def parts(self) -> Iterator[HashPart | VectorPart]:
        """Copies of all there is, one index after the other, changes going on in between.

        A later part may have changes that an earlier one has not. Parts that are put into an index of the revision
        read before the first of them are right again once the changes since are applied to it.
        """
        with self._lock.read():
            banks = list(self._banks)
        for key in banks:
            with self._lock.read():
                bank = self._banks.get(key, _BankIndexes())
                tables = {type_: table.pairs() for type_, table in bank.digests.items()}
                pdq = bank.pdq.arrays()
                places = list(bank.vectors)
            for type_, pairs in tables.items():
                yield HashPart(key, type_, *digest_tables.arrays(pairs, DIGEST_BYTES[type_]))
            if len(pdq[0]):
                yield HashPart(key, SignalType.PDQ, *pdq)
            for place in places:
                with self._lock.read():
                    bank = self._banks.get(key, _BankIndexes())
                    index = bank.vectors.get(place)
                    arrays = index.arrays() if index is not None else None
                    count = len(index) if index is not None else 0
                if index is not None and arrays is not None:
                    yield VectorPart(key, *place, index.dimensions, count, arrays)

    def put(self, part: HashPart | VectorPart) -> None:
        """Take a part that `parts` gave into an index that is not searched yet.

        Raises:
            ValueError: the part does not hold what it says.
        """
        with self._lock.write():
            bank = self._bank(part.bank)
            if isinstance(part, VectorPart):
                index = UsearchVectorIndex.of(part.arrays, part.dimensions)
                if len(index) != part.count:
                    raise WrongShape(f"the graph has {len(index)} vectors, and {part.count} were expected")
                bank.vectors[part.space, part.model] = index
            elif part.type is SignalType.PDQ:
                bank.pdq = FlatHammingIndex.of(part.keys, part.values)
            else:
                if part.values.shape != (len(part.keys), DIGEST_BYTES[part.type]):
                    raise WrongShape(f"{part.values.shape} are not {len(part.keys)} digests of {part.type.value}")
                table = bank.digests.setdefault(part.type, DigestTable())
                for key, value in zip(part.keys.tolist(), part.values, strict=True):
                    table.add(key, value.tobytes())


def _check_hashes(rows: Iterable[StoredHash]) -> None:
    for row in rows:
        expected = HASH_BYTES.get(row.type)
        if len(row.value) != expected:
            raise WrongShape(f"hash {row.key} of type {row.type.value} has {len(row.value)} bytes, not {expected}")
