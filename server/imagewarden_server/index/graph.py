"""usearch's HNSW graph over f16 vectors, by cosine: near neighbours among more vectors than a product is quick for.

usearch's own `remove` is never called. It hands the place of a removed vector to the next one that is added, whose old
neighbours then lead elsewhere: after 60% were removed and replaced a few times, 1 in 700 vectors was not even found by
itself (docs/index.md). Here a removed vector stays in the graph, as a way through it, and is left out of what is found,
until the graph is built anew without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from usearch.index import Index, ScalarKind

from imagewarden_server.index.vectors import (
    Arrays,
    Keys,
    Matrix,
    check_keys,
    check_queries,
    check_vectors,
    read_arrays,
    write_arrays,
)

_CONNECTIVITY = 16
_EXPANSION_ADD = 128
_EXPANSION_SEARCH = 64
_REBUILD_AT_ONCE = 1_000
_NODE_BYTES = 146  # links and key, on average, as usearch's statistics have it for 10,000 vectors
_SAME = 0.999
_NO_KEYS: Keys = np.empty(0, np.int64)


class UsearchVectorIndex:
    """Vectors by key in a graph: implements `VectorIndex`; not thread-safe: the holder locks.

    Args:
        dimensions: of the vectors.
    """

    def __init__(self, dimensions: int) -> None:
        self._dimensions = dimensions
        self._graph = self._make()
        self._removed: Keys = _NO_KEYS

    def _make(self) -> Index:
        return Index(
            ndim=self._dimensions,
            metric="cos",
            dtype=ScalarKind.F16,
            connectivity=_CONNECTIVITY,
            expansion_add=_EXPANSION_ADD,
            expansion_search=_EXPANSION_SEARCH,
        )

    @property
    def dimensions(self) -> int:
        """The vectors' number of dimensions."""
        return self._dimensions

    @property
    def nbytes(self) -> int:
        """About how many bytes of memory the graph takes; usearch's own figure counts room that it never touched."""
        return len(self._graph) * (2 * self._dimensions + _NODE_BYTES)

    @property
    def worn(self) -> bool:
        """Whether more than half of the graph is removed: time for `rebuilt`."""
        return len(self._removed) > len(self)

    @property
    def keys(self) -> Keys:
        """All keys int64 [n] that it holds."""
        keys = np.asarray(self._graph.keys[: len(self._graph)]).astype(np.int64)
        return keys[~self._is_removed(keys)]

    def __len__(self) -> int:
        """How many vectors it holds."""
        return len(self._graph) - len(self._removed)

    def __contains__(self, key: int) -> bool:
        """Whether it holds a key."""
        return bool(self._graph.contains(key)) and not self._is_removed(np.array([key]))[0]

    def _is_removed(self, keys: Keys) -> NDArray[np.bool_]:
        """Which keys are in the graph but removed."""
        if not len(self._removed):
            return np.zeros(keys.shape, np.bool_)
        places = np.minimum(np.searchsorted(self._removed, keys), len(self._removed) - 1)
        return np.asarray(self._removed[places] == keys)

    def add(self, keys: Sequence[int], vectors: Matrix) -> None:
        """Add vectors, on one thread: adds beside each other strand nodes (usearch issue 735)."""
        check_vectors(vectors, len(keys), self._dimensions)
        check_keys(self, keys)
        wanted = np.asarray(keys, np.int64)
        again = self._is_removed(wanted)
        if again.any():
            # An entry that is enabled again has the vectors it had, and these are in the graph still.
            held = np.stack(self._graph.get(wanted[again].astype(np.uint64), ScalarKind.F32))
            if (np.einsum("nd,nd->n", held, vectors[again]) < _SAME).any():
                self._take(self.rebuilt())
                again[:] = False
            self._removed = np.setdiff1d(self._removed, wanted[again])
        if not again.all():
            self._graph.add(wanted[~again].astype(np.uint64), vectors[~again], threads=1)

    def remove(self, keys: Sequence[int]) -> None:
        """Remove keys; a small graph that is mostly removed is built anew at once, a large one by who holds it."""
        held = [key for key in keys if self._graph.contains(key)]
        self._removed = np.union1d(self._removed, np.array(held, np.int64))
        if self.worn and len(self) <= _REBUILD_AT_ONCE:
            self._take(self.rebuilt())

    def entries(self) -> tuple[Keys, NDArray[np.float16]]:
        """Copies of all keys int64 [n] and vectors float16 [n, dimensions]."""
        keys = np.sort(self.keys)
        if not len(keys):
            return keys, np.empty((0, self._dimensions), np.float16)
        return keys, np.stack(self._graph.get(keys.astype(np.uint64), ScalarKind.F16))

    @classmethod
    def built(cls, keys: Keys, vectors: NDArray[np.float16] | Matrix, dimensions: int) -> UsearchVectorIndex:
        """An index of keys and unit vectors, which are not checked; takes about half a millisecond a vector."""
        made = cls(dimensions)
        if len(keys):
            made._graph.add(keys.astype(np.uint64), vectors, threads=1)
        return made

    def rebuilt(self) -> UsearchVectorIndex:
        """The same vectors in a graph without the removed ones."""
        return self.built(*self.entries(), self._dimensions)

    def _take(self, other: UsearchVectorIndex) -> None:
        self._graph, self._removed = other._graph, other._removed

    def search(self, queries: Matrix, k: int) -> tuple[list[Keys], list[Matrix]]:
        """The k nearest; all queries in one batched call."""
        check_queries(queries, k, self._dimensions)
        wanted = min(k, len(self))
        if not wanted or not len(queries):
            return [_NO_KEYS] * len(queries), [np.empty(0, np.float32)] * len(queries)
        # Removed vectors may be among the nearest: ask for more until enough others are found.
        asked = wanted if not len(self._removed) else 2 * wanted
        while True:
            asked = min(asked, len(self._graph))
            keys, similarities = self._nearest(queries, asked)
            live = [~self._is_removed(row) for row in keys]
            if asked == len(self._graph) or all(row.sum() >= wanted for row in live):
                return (
                    [row[kept][:wanted] for row, kept in zip(keys, live, strict=True)],
                    [row[kept][:wanted] for row, kept in zip(similarities, live, strict=True)],
                )
            asked *= 2

    def _nearest(self, queries: Matrix, count: int) -> tuple[list[Keys], list[Matrix]]:
        found = self._graph.search(queries, count, threads=1)
        # A single query comes back without its first axis, and without counts.
        keys = np.atleast_2d(found.keys).astype(np.int64)
        similarities = np.clip(1.0 - np.atleast_2d(found.distances).astype(np.float32), -1.0, 1.0)
        counts = getattr(found, "counts", [keys.shape[1]])
        return (
            [row[:size] for row, size in zip(keys, counts, strict=True)],
            [row[:size] for row, size in zip(similarities, counts, strict=True)],
        )

    def arrays(self) -> Arrays:
        """The graph in usearch's own format, and the keys that are removed."""
        return {"graph": np.frombuffer(self._graph.save(), np.uint8), "removed": self._removed}

    @classmethod
    def of(cls, arrays: Arrays, dimensions: int) -> UsearchVectorIndex:
        """An index of a graph; a damaged one kills the process at a search, so its digest was checked before."""
        made = cls(dimensions)
        try:
            made._graph.load(arrays["graph"].data)
        except RuntimeError as error:
            raise ValueError(f"usearch cannot read the graph: {error}") from error
        made._removed = arrays["removed"]
        if made._graph.ndim != dimensions or made._graph.dtype != ScalarKind.F16:
            raise ValueError(
                f"the graph has {made._graph.ndim} dimensions of {made._graph.dtype}, expected {dimensions} of f16"
            )
        return made

    def save(self, path: Path) -> None:
        """Write the graph and what is removed of it."""
        write_arrays(path, self.arrays())

    @classmethod
    def load(cls, path: Path, dimensions: int) -> UsearchVectorIndex:
        """Read a graph and what is removed of it."""
        return cls.of(read_arrays(path), dimensions)
