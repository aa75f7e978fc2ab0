"""Rows, a catalogue and an oracle for tests of the index."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from imagewarden_server.matching.ports import Change, EntryHit, Hit, LocalVotes, StoredHash, StoredLocal, StoredVector
from imagewarden_server.matching.types import HashSignal, LocalFeatures, SignalType, VectorModel, Vectors, VectorSpace

DIMENSIONS = 24
MODEL = "a" * 64
OTHER_MODEL = "b" * 64
EXTRACTOR = "sift-1"
NO_VECTOR = np.empty(0, np.float32)
NO_FEATURES = LocalFeatures(np.empty((0, 4), np.float32), np.empty((0, 128), np.uint8), 1.0)


def unit_vectors(count: int, seed: int = 5, dimensions: int = DIMENSIONS) -> Vectors:
    vectors = np.random.default_rng(seed).standard_normal((count, dimensions)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def pdq(seed: int, flipped: int = 0) -> bytes:
    """A hash of random bits, of which the first few are flipped."""
    value = int.from_bytes(np.random.default_rng(seed).bytes(32), "big")
    return (value ^ ((1 << flipped) - 1)).to_bytes(32, "big")


def local_features(seed: int, count: int = 40) -> LocalFeatures:
    """Keypoints as of a picture: random places, and descriptors with the few large values that SIFT's have."""
    generator = np.random.default_rng(seed)
    points = generator.uniform(0, 1, (count, 4)).astype(np.float32) * np.array([1, 1, 0.05, 2 * np.pi], np.float32)
    descriptors = np.minimum(generator.exponential(40, (count, 128)), 255).astype(np.uint8)
    return LocalFeatures(points.astype(np.float32), descriptors, 1.25)


def hash_row(
    key: int, value: bytes, type_: SignalType = SignalType.PDQ, bank: int = 1, entry: int | None = None
) -> StoredHash:
    """A hash; every two keys are of one entry unless it is said."""
    return StoredHash(key, bank, type_, value, key // 2 if entry is None else entry)


def vector_row(
    key: int,
    vector: Vectors,
    bank: int = 1,
    space: VectorSpace = VectorSpace.COPY,
    model: str = MODEL,
    entry: int | None = None,
    scale: tuple[float, float] = (0.0, 1.0),
) -> StoredVector:
    """A vector; every two keys are views of one entry unless it is said. The scale is mean and deviation."""
    return StoredVector(key, bank, space, model, vector, key // 2 if entry is None else entry, *scale)


def local_row(key: int, seed: int, bank: int = 1, extractor: str = EXTRACTOR, entry: int | None = None) -> StoredLocal:
    """Local features; every two keys are views of one entry unless it is said."""
    return StoredLocal(key, bank, key // 2 if entry is None else entry, extractor, local_features(seed))


def without_vector(row: StoredVector) -> StoredVector:
    """A row as a change that removes it has it."""
    return StoredVector(row.key, row.bank, row.space, row.model, NO_VECTOR, row.entry)


def without_features(row: StoredLocal) -> StoredLocal:
    """A row as a change that removes it has it."""
    return StoredLocal(row.key, row.bank, row.entry, row.extractor, NO_FEATURES)


def _comparable(row: StoredVector, space: VectorSpace, model: str, queries: Vectors) -> bool:
    return (row.space, row.model, len(row.vector)) == (space, model, queries.shape[1])


def _same(features: LocalFeatures, asked: set[bytes]) -> float:
    return float(sum(one.tobytes() in asked for one in features.descriptors))


@dataclass
class Rows:
    """What is live after some changes: the plainest form of an index, and what a catalogue's tables have."""

    revision: int = 0
    hashes: dict[int, StoredHash] = field(default_factory=dict)
    vectors: dict[int, StoredVector] = field(default_factory=dict)
    locals: dict[int, StoredLocal] = field(default_factory=dict)

    def apply(self, changes: Iterable[Change]) -> None:
        for change in changes:
            self.hashes = {key: row for key, row in self.hashes.items() if row.bank != change.removed_bank}
            self.vectors = {key: row for key, row in self.vectors.items() if row.bank != change.removed_bank}
            self.locals = {key: row for key, row in self.locals.items() if row.bank != change.removed_bank}
            for gone in change.removed_hashes:
                self.hashes.pop(gone.key, None)
            for gone_vector in change.removed_vectors:
                self.vectors.pop(gone_vector.key, None)
            for gone_local in change.removed_locals:
                self.locals.pop(gone_local.key, None)
            self.hashes |= {row.key: row for row in change.added_hashes}
            self.vectors |= {row.key: row for row in change.added_vectors}
            self.locals |= {row.key: row for row in change.added_locals}
            self.revision = change.revision

    def find_digests(self, banks: Sequence[int], digests: Sequence[HashSignal], *, wait: bool = True) -> list[Hit]:  # noqa: ARG002
        return [
            Hit(row.key, place, 0.0)
            for place, digest in enumerate(digests)
            for row in sorted(self.hashes.values(), key=lambda row: row.key)
            if row.bank in banks and row.type is digest.type and row.value == digest.value
        ]

    def find_pdq(self, banks: Sequence[int], queries: Sequence[bytes], distance: int) -> list[Hit]:
        hits = [
            Hit(row.key, place, float((int.from_bytes(row.value, "big") ^ int.from_bytes(query, "big")).bit_count()))
            for place, query in enumerate(queries)
            for row in self.hashes.values()
            if row.bank in banks and row.type is SignalType.PDQ
        ]
        return sorted((hit for hit in hits if hit.value <= distance), key=lambda hit: (hit.query, hit.value, hit.key))

    def hash_distances(self, entries: Sequence[int], banks: Sequence[int], queries: Sequence[bytes]) -> list[Hit]:
        best: dict[int, Hit] = {}
        for hit in self.find_pdq(banks, queries, 256):
            entry = self.hashes[hit.key].entry
            if entry in entries and (entry not in best or hit.value < best[entry].value):
                best[entry] = Hit(entry, hit.query, hit.value)
        return sorted(best.values(), key=lambda hit: (hit.value, hit.key))

    def find_entries(
        self, banks: Sequence[int], space: VectorSpace, model: str, queries: Vectors, k: int
    ) -> list[EntryHit]:
        hits: list[EntryHit] = []
        for bank in banks:
            entries = [row.entry for row in self.vectors.values()]
            hits += self.score_entries(entries, [bank], space, model, queries)[:k]
        return sorted(hits, key=lambda hit: (-hit.value, hit.entry))

    def score_entries(
        self, entries: Sequence[int], banks: Sequence[int], space: VectorSpace, model: str, queries: Vectors
    ) -> list[EntryHit]:
        best: dict[int, EntryHit] = {}
        for row in self.vectors.values():
            if row.bank not in banks or not _comparable(row, space, model, queries) or row.entry not in entries:
                continue
            for place, cosine in enumerate((queries @ row.vector).tolist()):
                value = (cosine - row.mean) / row.deviation
                if row.entry not in best or value > best[row.entry].value:
                    best[row.entry] = EntryHit(row.entry, row.key, place, value, cosine)
        return sorted(best.values(), key=lambda hit: (-hit.value, hit.entry))

    def find_local(self, banks: Sequence[int], extractor: str, features: LocalFeatures, k: int) -> list[LocalVotes]:
        """Votes are how many descriptors are the same: the plainest there is."""
        found: list[LocalVotes] = []
        asked = {row.tobytes() for row in features.descriptors}
        for bank in banks:
            votes = [
                LocalVotes(row.entry, row.key, _same(row.features, asked), mirrored=False)
                for row in self.locals.values()
                if row.bank == bank and row.extractor == extractor
            ]
            found += sorted((one for one in votes if one.votes), key=lambda one: (-one.votes, one.key))[:k]
        return sorted(found, key=lambda one: (-one.votes, one.key))

    def local_features(self, entries: Sequence[int], banks: Sequence[int], extractor: str) -> list[StoredLocal]:
        return [
            row
            for entry in dict.fromkeys(entries)
            for row in sorted(self.locals.values(), key=lambda row: row.key)
            if row.entry == entry and row.bank in banks and row.extractor == extractor
        ]

    def local_count(self, banks: Sequence[int]) -> dict[str, int]:
        return dict(Counter(row.extractor for row in self.locals.values() if row.bank in banks))

    def find_vectors(self, banks: Sequence[int], space: VectorSpace, model: str, queries: Vectors, k: int) -> list[Hit]:
        hits: list[Hit] = []
        for bank in banks:
            mine = [row for row in self.vectors.values() if row.bank == bank]
            rows = [row for row in mine if _comparable(row, space, model, queries)]
            for place, query in enumerate(queries):
                near = sorted(
                    (Hit(row.key, place, float(row.vector @ query)) for row in rows), key=lambda hit: -hit.value
                )
                hits += near[:k]
        return sorted(hits, key=lambda hit: (hit.query, -hit.value, hit.key))

    def hash_count(self, banks: Sequence[int], type_: SignalType) -> int:
        return sum(row.bank in banks and row.type is type_ for row in self.hashes.values())

    def vector_models(self, banks: Sequence[int], space: VectorSpace) -> dict[VectorModel, int]:
        rows = [row for row in self.vectors.values() if row.bank in banks and row.space is space]
        return dict(Counter(VectorModel(row.model, len(row.vector)) for row in rows))


@dataclass
class LoggedCatalog:
    """A catalogue in memory: its changes, and the rows that they come to."""

    id: str = "c0ffee"
    log: list[Change] = field(default_factory=list)
    kept_from: int = 1

    def commit(self, change: Change) -> Change:
        assert change.revision == len(self.log) + 1
        self.log.append(change)
        return change

    def revision(self) -> int:
        return len(self.log)

    def changes(self, after: int, limit: int = 256) -> list[Change]:
        return [change for change in self.log if change.revision > after and change.revision >= self.kept_from][:limit]

    def rows(self) -> Rows:
        rows = Rows()
        rows.apply(self.log)
        return rows

    def live_hashes(self) -> Iterator[list[StoredHash]]:
        for row in self.rows().hashes.values():
            yield [row]

    def live_vectors(self) -> Iterator[list[StoredVector]]:
        yield list(self.rows().vectors.values())

    def live_locals(self) -> Iterator[list[StoredLocal]]:
        for row in self.rows().locals.values():
            yield [row]
