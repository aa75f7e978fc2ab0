"""Nearest neighbours among unit vectors by cosine similarity: one Protocol, usearch, and the exact oracle.

An index holds the vectors of one bank, one space and one model, so that a bank's filter can lose no result.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from usearch.index import Index, ScalarKind

Matrix = NDArray[np.float32]
Keys = NDArray[np.int64]

EXACT_BELOW = 4_000
"""Under this many vectors a scan is as fast as the graph, and misses nothing: see docs/index.md for the measurement."""

_CONNECTIVITY = 16
_EXPANSION_ADD = 128
_EXPANSION_SEARCH = 64
_UNIT_TOLERANCE = 1e-2


class VectorIndex(Protocol):
    """Vectors by key; not thread-safe: the holder locks."""

    @property
    def dimensions(self) -> int:
        """The vectors' number of dimensions."""

    def __len__(self) -> int:
        """How many vectors it holds."""

    def __contains__(self, key: int) -> bool:
        """Whether it holds a key."""

    def add(self, keys: Sequence[int], vectors: Matrix) -> None:
        """Add vectors [n, d]. Raises ValueError, changing nothing: a key is there, or a vector is not of norm 1."""

    def remove(self, keys: Sequence[int]) -> None:
        """Remove keys; those that are not there are no error."""

    def search(self, queries: Matrix, k: int) -> tuple[list[Keys], list[Matrix]]:
        """The keys and cosine similarities of the k nearest to each query [q, d], nearest first."""

    def save(self, path: Path) -> None:
        """Write it to a file."""

    @classmethod
    def load(cls, path: Path, dimensions: int) -> VectorIndex:
        """Read it from a file whose digest was checked before."""


def check_vectors(held: VectorIndex, dimensions: int, keys: Sequence[int], vectors: Matrix) -> None:
    """Refuse what would poison an index: a NaN ranks first in usearch's results, and a zero vector has no direction."""
    if vectors.ndim != 2 or vectors.shape != (len(keys), dimensions):
        raise ValueError(f"{vectors.shape} vectors for {len(keys)} keys; expected ({len(keys)}, {dimensions})")
    norms = np.linalg.norm(vectors, axis=1)
    if not np.all(np.abs(norms - 1.0) <= _UNIT_TOLERANCE):  # NaN compares False, and is refused with the rest
        raise ValueError("a vector is not of unit norm, or not finite")
    if len(set(keys)) != len(keys) or any(key in held for key in keys):
        raise ValueError("a key is there already")


class ExactVectorIndex:
    """A matrix and a product: the oracle, and the fastest there is for a small bank."""

    def __init__(self, dimensions: int) -> None:
        self._dimensions = dimensions
        self._keys: list[int] = []
        self._places: dict[int, int] = {}
        self._matrix: Matrix = np.empty((16, dimensions), np.float32)

    @property
    def dimensions(self) -> int:
        """The vectors' number of dimensions."""
        return self._dimensions

    def __len__(self) -> int:
        """How many vectors it holds."""
        return len(self._keys)

    def __contains__(self, key: int) -> bool:
        """Whether it holds a key."""
        return key in self._places

    def add(self, keys: Sequence[int], vectors: Matrix) -> None:
        """Add vectors [n, d]."""
        check_vectors(self, self._dimensions, keys, vectors)
        end = len(self._keys) + len(keys)
        if end > len(self._matrix):
            grown = np.empty((max(end, 2 * len(self._matrix)), self._dimensions), np.float32)
            grown[: len(self._keys)] = self._matrix[: len(self._keys)]
            self._matrix = grown
        self._matrix[len(self._keys) : end] = vectors
        for key in keys:
            self._places[key] = len(self._keys)
            self._keys.append(key)

    def remove(self, keys: Sequence[int]) -> None:
        """Remove keys: the last row moves into the gap."""
        for key in keys:
            place = self._places.pop(key, None)
            if place is None:
                continue
            last = self._keys.pop()
            if last != key:
                self._matrix[place] = self._matrix[len(self._keys)]
                self._keys[place] = last
                self._places[last] = place

    def search(self, queries: Matrix, k: int) -> tuple[list[Keys], list[Matrix]]:
        """The k nearest, exactly."""
        count = len(self._keys)
        if not count:
            return [np.empty(0, np.int64)] * len(queries), [np.empty(0, np.float32)] * len(queries)
        similarities = queries @ self._matrix[:count].T
        keys = np.asarray(self._keys, np.int64)
        if k < count:
            chosen = np.argpartition(-similarities, k - 1, axis=1)[:, :k]
        else:
            chosen = np.broadcast_to(np.arange(count), (len(queries), count))
        values = np.take_along_axis(similarities, chosen, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        chosen = np.take_along_axis(chosen, order, axis=1)
        values = np.take_along_axis(values, order, axis=1)
        return list(keys[chosen]), list(values)

    def save(self, path: Path) -> None:
        """Write keys and matrix as .npz."""
        with path.open("wb") as file:
            np.savez(file, keys=np.asarray(self._keys, np.int64), matrix=self._matrix[: len(self._keys)])

    @classmethod
    def load(cls, path: Path, dimensions: int) -> ExactVectorIndex:
        """Read keys and matrix."""
        made = cls(dimensions)
        with np.load(path, allow_pickle=False) as file:
            keys, matrix = file["keys"], file["matrix"]
        made.add([int(key) for key in keys], matrix)
        return made


class UsearchVectorIndex:
    """usearch's HNSW graph over f16, by cosine; while it is small it is scanned, which misses nothing."""

    def __init__(self, dimensions: int) -> None:
        self._dimensions = dimensions
        self._index = self._make(dimensions)
        self._removed = 0

    @property
    def dimensions(self) -> int:
        """The vectors' number of dimensions."""
        return self._dimensions

    @staticmethod
    def _make(dimensions: int) -> Index:
        return Index(
            ndim=dimensions,
            metric="cos",
            dtype=ScalarKind.F16,
            connectivity=_CONNECTIVITY,
            expansion_add=_EXPANSION_ADD,
            expansion_search=_EXPANSION_SEARCH,
        )

    def __len__(self) -> int:
        """How many vectors it holds."""
        return len(self._index)

    def __contains__(self, key: int) -> bool:
        """Whether it holds a key."""
        return bool(self._index.contains(key))

    def add(self, keys: Sequence[int], vectors: Matrix) -> None:
        """Add vectors [n, d], one thread: concurrent adds strand nodes (usearch issue 735)."""
        check_vectors(self, self._dimensions, keys, vectors)
        if keys:
            self._index.add(np.asarray(keys, np.uint64), vectors, threads=1)

    def remove(self, keys: Sequence[int]) -> None:
        """Remove keys; a graph that is mostly gaps is built anew, since gaps cost recall and memory."""
        for key in keys:
            if self._index.contains(key):
                self._index.remove(key)
                self._removed += 1
        if self._removed > max(len(self._index), 64):
            self._rebuild()

    def _rebuild(self) -> None:
        kept = self._live_keys()
        fresh = self._make(self._dimensions)
        if len(kept):
            fresh.add(kept, self._index.get(kept, dtype=ScalarKind.F32), threads=1)
        self._index = fresh
        self._removed = 0

    def _live_keys(self) -> NDArray[np.uint64]:
        keys = np.asarray(self._index.keys[: len(self._index)], np.uint64)
        return keys[[bool(self._index.contains(int(key))) for key in keys]] if len(keys) else keys

    def search(self, queries: Matrix, k: int) -> tuple[list[Keys], list[Matrix]]:
        """The k nearest; all queries in one batched call."""
        count = min(k, len(self._index))
        if not count:
            return [np.empty(0, np.int64)] * len(queries), [np.empty(0, np.float32)] * len(queries)
        found = self._index.search(queries, count, exact=len(self._index) < EXACT_BELOW, threads=1)
        # One query comes back without its first axis.
        keys = np.atleast_2d(np.asarray(found.keys)).astype(np.int64)
        values = 1.0 - np.atleast_2d(np.asarray(found.distances)).astype(np.float32)
        counts = np.atleast_1d(getattr(found, "counts", np.full(len(queries), count)))
        return (
            [keys[row, : counts[row]] for row in range(len(queries))],
            [values[row, : counts[row]] for row in range(len(queries))],
        )

    def save(self, path: Path) -> None:
        """Write usearch's own format."""
        self._index.save(str(path))

    @classmethod
    def load(cls, path: Path, dimensions: int) -> UsearchVectorIndex:
        """Read usearch's own format; a damaged graph kills the process, so its digest was checked before."""
        made = cls(dimensions)
        made._index.load(str(path))
        if made._index.ndim != dimensions:
            raise ValueError(f"the index has {made._index.ndim} dimensions, expected {dimensions}")
        return made
