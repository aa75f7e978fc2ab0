"""Rows, a catalogue and an oracle for tests of the index."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from imagewarden_server.matching.ports import Change, Hit, StoredHash, StoredVector
from imagewarden_server.matching.types import HashSignal, SignalType, Vectors, VectorSpace

DIMENSIONS = 24
MODEL = "a" * 64
OTHER_MODEL = "b" * 64
NO_VECTOR = np.empty(0, np.float32)


def unit_vectors(count: int, seed: int = 5, dimensions: int = DIMENSIONS) -> Vectors:
    vectors = np.random.default_rng(seed).standard_normal((count, dimensions)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def pdq(seed: int, flipped: int = 0) -> bytes:
    """A hash of random bits, of which the first few are flipped."""
    value = int.from_bytes(np.random.default_rng(seed).bytes(32), "big")
    return (value ^ ((1 << flipped) - 1)).to_bytes(32, "big")


def hash_row(key: int, value: bytes, type_: SignalType = SignalType.PDQ, bank: int = 1) -> StoredHash:
    return StoredHash(key, bank, type_, value)


def vector_row(
    key: int, vector: Vectors, bank: int = 1, space: VectorSpace = VectorSpace.COPY, model: str = MODEL
) -> StoredVector:
    return StoredVector(key, bank, space, model, vector)


def without_vector(row: StoredVector) -> StoredVector:
    """A row as a change that removes it has it."""
    return StoredVector(row.key, row.bank, row.space, row.model, NO_VECTOR)


@dataclass
class Rows:
    """What is live after some changes: the plainest form of an index, and what a catalogue's tables have."""

    revision: int = 0
    hashes: dict[int, StoredHash] = field(default_factory=dict)
    vectors: dict[int, StoredVector] = field(default_factory=dict)

    def apply(self, changes: Iterable[Change]) -> None:
        for change in changes:
            self.hashes = {key: row for key, row in self.hashes.items() if row.bank != change.removed_bank}
            self.vectors = {key: row for key, row in self.vectors.items() if row.bank != change.removed_bank}
            for gone in change.removed_hashes:
                self.hashes.pop(gone.key, None)
            for gone_vector in change.removed_vectors:
                self.vectors.pop(gone_vector.key, None)
            self.hashes |= {row.key: row for row in change.added_hashes}
            self.vectors |= {row.key: row for row in change.added_vectors}
            self.revision = change.revision

    def find_digests(self, banks: Sequence[int], digests: Sequence[HashSignal]) -> list[Hit]:
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

    def find_vectors(self, banks: Sequence[int], space: VectorSpace, model: str, queries: Vectors, k: int) -> list[Hit]:
        hits: list[Hit] = []
        for bank in banks:
            rows = [row for row in self.vectors.values() if (row.bank, row.space, row.model) == (bank, space, model)]
            for place, query in enumerate(queries):
                near = sorted(
                    (Hit(row.key, place, float(row.vector @ query)) for row in rows), key=lambda hit: -hit.value
                )
                hits += near[:k]
        return sorted(hits, key=lambda hit: (hit.query, -hit.value, hit.key))

    def hash_count(self, banks: Sequence[int], type_: SignalType) -> int:
        return sum(row.bank in banks and row.type is type_ for row in self.hashes.values())

    def vector_models(self, banks: Sequence[int], space: VectorSpace) -> dict[str, int]:
        return dict(Counter(row.model for row in self.vectors.values() if row.bank in banks and row.space is space))


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
