"""All indexes of all banks behind one lock: implements `ports.SearchIndex`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from imagewarden_server.index.bank import BankIndexes
from imagewarden_server.index.errors import RevisionGap
from imagewarden_server.index.locking import ReadersWriterLock
from imagewarden_server.index.parts import IndexInfo, Part
from imagewarden_server.index.scores import Best
from imagewarden_server.matching.ports import Change, EntryHit, Hit, LocalVotes, StoredHash, StoredLocal, StoredVector
from imagewarden_server.matching.types import (
    HASH_BYTES,
    HashSignal,
    LocalFeatures,
    SignalType,
    VectorModel,
    Vectors,
    VectorSpace,
)

_Row = TypeVar("_Row", StoredHash, StoredVector, StoredLocal)


class IndexSet:
    """Searches over banks; thread-safe: searches run beside each other, a change alone."""

    def __init__(self, revision: int = 0) -> None:
        self._lock = ReadersWriterLock()
        self._revision = revision
        self._banks: dict[int, BankIndexes] = {}

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
                self._check(change.added_hashes, change.added_vectors, change.added_locals)
                if change.removed_bank is not None:
                    self._banks.pop(change.removed_bank, None)
                self._remove(change)
                self._add(change.added_hashes, change.added_vectors, change.added_locals)
                self._revision = change.revision

    def load_rows(
        self,
        hashes: Iterable[Sequence[StoredHash]],
        vectors: Iterable[Sequence[StoredVector]],
        features: Iterable[Sequence[StoredLocal]] = (),
    ) -> None:
        """Add the catalogue's rows to an index that is not searched yet.

        Raises:
            IndexRefused: a row would poison the index.
        """
        with self._lock.write():
            for hash_batch in hashes:
                self._check(hash_batch, (), ())
                self._add(hash_batch, (), ())
            for vector_batch in vectors:
                self._check((), vector_batch, ())
                self._add((), vector_batch, ())
            for local_batch in features:
                self._check((), (), local_batch)
                self._add((), (), local_batch)

    def _check(
        self, hashes: Sequence[StoredHash], vectors: Sequence[StoredVector], features: Sequence[StoredLocal]
    ) -> None:
        empty = BankIndexes()
        for bank, rows in _by_bank(hashes).items():
            self._banks.get(bank, empty).check(rows, (), ())
        for bank, vector_rows in _by_bank(vectors).items():
            self._banks.get(bank, empty).check((), vector_rows, ())
        for bank, local_rows in _by_bank(features).items():
            self._banks.get(bank, empty).check((), (), local_rows)

    def _add(
        self, hashes: Sequence[StoredHash], vectors: Sequence[StoredVector], features: Sequence[StoredLocal]
    ) -> None:
        for bank, rows in _by_bank(hashes).items():
            self._banks.setdefault(bank, BankIndexes()).add_hashes(rows)
        for bank, vector_rows in _by_bank(vectors).items():
            self._banks.setdefault(bank, BankIndexes()).add_vectors(vector_rows)
        for bank, local_rows in _by_bank(features).items():
            self._banks.setdefault(bank, BankIndexes()).add_locals(local_rows)

    def _remove(self, change: Change) -> None:
        for bank, rows in _by_bank(change.removed_hashes).items():
            if bank in self._banks:
                self._banks[bank].remove_hashes(rows)
        for bank, vector_rows in _by_bank(change.removed_vectors).items():
            if bank in self._banks:
                self._banks[bank].remove_vectors(vector_rows)
        for bank, local_rows in _by_bank(change.removed_locals).items():
            if bank in self._banks:
                self._banks[bank].remove_locals(local_rows)

    def compact(self) -> int:
        """Build what large indexes want beside all else: graphs of vectors, and one segment of many local ones.

        Returns:
            How many were built.
        """
        return self._merge_locals() + self._build_graphs()

    def _merge_locals(self) -> int:
        with self._lock.read():
            wanted = [one for held in self._banks.values() for one in held.locals.values() if one.wants_merging]
        built = 0
        for index in wanted:
            with self._lock.read():
                make = index.merging()
            take = make()
            with self._lock.write():
                built += take()
        return built

    def _build_graphs(self) -> int:
        with self._lock.read():
            wanted = [
                (bank, place, index)
                for bank, held in self._banks.items()
                for place, index in held.vectors.items()
                if index.wants_graph
            ]
        built = 0
        for bank, place, index in wanted:
            with self._lock.read():
                keys, vectors = index.rows()
            graph = index.graph_of(keys, vectors)
            with self._lock.write():
                # The bank may be gone meanwhile, or have begun a new index.
                if bank in self._banks and self._banks[bank].vectors.get(place) is index:
                    index.adopt(graph)
                    built += 1
        return built

    # ----------------------------------------------------------------------------------------------------- searches

    def find_digests(self, banks: Sequence[int], digests: Sequence[HashSignal], *, wait: bool = True) -> list[Hit]:
        """Equal digests in the given banks; Hit.query is the place in `digests`. Raises WouldWait."""
        hits: list[Hit] = []
        with self._lock.read(wait=wait):
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

    def hash_distances(self, entries: Sequence[int], banks: Sequence[int], queries: Sequence[bytes]) -> list[Hit]:
        """The smallest PDQ distance of each given entry to any query, of those that have a PDQ hash; nearest first.

        Raises:
            WrongShape: a query is not of 32 bytes.
        """
        hits: list[Hit] = []
        with self._lock.read():
            for bank in self._held(banks):
                found = (array.tolist() for array in bank.pdq.distances(entries, queries))
                hits += [Hit(entry, query, float(bits)) for entry, query, bits in zip(*found, strict=True)]
        return sorted(hits, key=lambda hit: (hit.value, hit.key))

    def find_vectors(self, banks: Sequence[int], space: VectorSpace, model: str, queries: Vectors, k: int) -> list[Hit]:
        """The k nearest vectors of each bank to each query, by cosine similarity, nearest first within a query.

        Raises:
            IndexRefused: the queries are not unit vectors, or k is less than 1.
        """
        hits: list[Hit] = []
        with self._lock.read():
            for bank in self._held(banks):
                index = bank.vectors.get((space, model, queries.shape[1]))
                if index is None:
                    continue
                for place, (keys, similarities) in enumerate(zip(*index.search(queries, k), strict=True)):
                    hits += [
                        Hit(key, place, value) for key, value in zip(keys.tolist(), similarities.tolist(), strict=True)
                    ]
        return sorted(hits, key=lambda hit: (hit.query, -hit.value, hit.key))

    def find_entries(
        self, banks: Sequence[int], space: VectorSpace, model: str, queries: Vectors, k: int
    ) -> list[EntryHit]:
        """The k best entries of each bank over all queries: of each its best view and query, the best entry first.

        Raises:
            IndexRefused: the queries are not unit vectors, or k is less than 1.
        """
        place = space, model, queries.shape[1]
        with self._lock.read():
            found = [
                bank.vectors[place].find_entries(queries, k) for bank in self._held(banks) if place in bank.vectors
            ]
        return _entry_hits(found)

    def score_entries(
        self, entries: Sequence[int], banks: Sequence[int], space: VectorSpace, model: str, queries: Vectors
    ) -> list[EntryHit]:
        """The best view and query of each given entry that has vectors of the space and model, the best first; exact.

        Raises:
            IndexRefused: the queries are not unit vectors.
        """
        place = space, model, queries.shape[1]
        with self._lock.read():
            found = [
                bank.vectors[place].score_entries(entries, queries)
                for bank in self._held(banks)
                if place in bank.vectors
            ]
        return _entry_hits(found)

    def find_local(self, banks: Sequence[int], extractor: str, features: LocalFeatures, k: int) -> list[LocalVotes]:
        """The k sets of local features of each bank that most keypoints vote for, most votes first."""
        found: list[LocalVotes] = []
        with self._lock.read():
            indexes = [bank.locals[extractor] for bank in self._held(banks) if extractor in bank.locals]
            if not indexes:
                return []
            question = indexes[0].question(features)
            for index in indexes:
                found += [
                    LocalVotes(index.entry_of(key), key, votes, mirrored)
                    for key, votes, mirrored in index.answer(question, k)
                ]
        return sorted(found, key=lambda one: (-one.votes, one.key))

    def local_features(self, entries: Sequence[int], banks: Sequence[int], extractor: str) -> list[StoredLocal]:
        """All sets of local features of the given entries, in the order of the entries."""
        found: list[StoredLocal] = []
        with self._lock.read():
            for entry in dict.fromkeys(entries):
                for bank in dict.fromkeys(banks):
                    index = self._banks[bank].locals.get(extractor) if bank in self._banks else None
                    if index is not None:
                        found += [
                            StoredLocal(key, bank, entry, extractor, index.get(key))
                            for key in index.keys_of_entry(entry)
                        ]
        return found

    def local_count(self, banks: Sequence[int]) -> dict[str, int]:
        """How many sets of local features the given banks have, by extractor."""
        counts: dict[str, int] = defaultdict(int)
        with self._lock.read():
            for bank in self._held(banks):
                for extractor, index in bank.locals.items():
                    counts[extractor] += len(index)
        return dict(counts)

    def hash_count(self, banks: Sequence[int], type_: SignalType) -> int:
        """How many hashes of a type the given banks have."""
        with self._lock.read():
            if type_ is SignalType.PDQ:
                return sum(len(bank.pdq) for bank in self._held(banks))
            return sum(len(bank.digests[type_]) for bank in self._held(banks) if type_ in bank.digests)

    def vector_models(self, banks: Sequence[int], space: VectorSpace) -> dict[VectorModel, int]:
        """How many vectors of a space the given banks have, by what made them."""
        counts: dict[VectorModel, int] = defaultdict(int)
        with self._lock.read():
            for bank in self._held(banks):
                for (held_space, model, dimensions), index in bank.vectors.items():
                    if held_space is space:
                        counts[VectorModel(model, dimensions)] += len(index)
        return dict(counts)

    def _held(self, banks: Sequence[int]) -> list[BankIndexes]:
        """The given banks that have anything, each once."""
        return [self._banks[bank] for bank in dict.fromkeys(banks) if bank in self._banks]

    def info(self) -> IndexInfo:
        """How much there is of what, for metrics."""
        hashes: dict[SignalType, int] = dict.fromkeys(HASH_BYTES, 0)
        vectors: dict[VectorSpace, int] = dict.fromkeys(VectorSpace, 0)
        features = hash_bytes = vector_bytes = local_bytes = 0
        with self._lock.read():
            for bank in self._banks.values():
                hashes[SignalType.PDQ] += len(bank.pdq)
                hash_bytes += bank.pdq.nbytes
                for type_, table in bank.digests.items():
                    hashes[type_] += len(table)
                    hash_bytes += table.nbytes
                for (space, _, _), index in bank.vectors.items():
                    vectors[space] += len(index)
                    vector_bytes += index.nbytes
                for local in bank.locals.values():
                    features += len(local)
                    local_bytes += local.nbytes
            return IndexInfo(
                self._revision, len(self._banks), hashes, vectors, features, hash_bytes, vector_bytes, local_bytes
            )

    # ---------------------------------------------------------------------------------------------------- snapshots

    def parts(self) -> Iterator[Part]:
        """Copies of all there is, one index after the other, changes going on in between.

        A later part may have changes that an earlier one has not. Parts that are put into an index of the revision
        read before the first of them are right again once the changes since are applied to it.
        """
        with self._lock.read():
            contents = [(key, name) for key, bank in self._banks.items() for name in bank.contents()]
        for key, name in contents:
            with self._lock.read():
                make = self._banks[key].copying(key, name) if key in self._banks else None
            if make is not None:
                part = make()
                # What it was made of need not stay while it is written.
                del make
                yield part

    def put(self, part: Part) -> None:
        """Take a part that `parts` gave into an index that is not searched yet.

        Raises:
            ValueError: the part does not hold what it says.
        """
        with self._lock.write():
            self._banks.setdefault(part.bank, BankIndexes()).put(part)


def _by_bank(rows: Iterable[_Row]) -> dict[int, list[_Row]]:
    banks: dict[int, list[_Row]] = defaultdict(list)
    for row in rows:
        banks[row.bank].append(row)
    return banks


def _entry_hits(found: Sequence[Best]) -> list[EntryHit]:
    hits = [
        EntryHit(*hit)
        for best in found
        for hit in zip(
            best.entries.tolist(),
            best.keys.tolist(),
            best.queries.tolist(),
            best.values.tolist(),
            best.cosines.tolist(),
            strict=True,
        )
    ]
    return sorted(hits, key=lambda hit: (-hit.value, hit.entry))
