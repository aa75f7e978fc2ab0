"""The vectors of one bank, space and model with the entries whose views they are: which entries do these queries find?

A check asks with a hundred rows at once, one a window of the picture, and wants entries, each by its best view. A
matrix product answers that: 12,000 vectors of 512 dimensions in 10 ms, where a scan row by row takes 60. So the vectors
are one float32 matrix, an entry's next to each other, and the product goes over it block by block, without a loop over
queries, rows or hits; a first product in few dimensions (see `sketch`) says which entries are worth the whole one.
float16 would take half of the memory and, widened block by block, 1.6 times as long.

Beyond a size (see `GRAPH_FROM`) a graph (see `graph`) names, by the first few queries alone, what entries are worth a
product. It is an accelerator and no second truth: what it names is scored by the matrix, with all queries. Asked by a
hundred queries it would cost more than the product; so an entry that only a late query would find is missed there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagewarden_server.index.errors import DuplicateKey, WrongShape
from imagewarden_server.index.reduced import Graph, graph_of, stored_graph
from imagewarden_server.index.scores import Best, best_of_each, best_queries, nearest_rows, widest_scores
from imagewarden_server.index.sketch import QUERIES_FROM, Sketch, worthwhile
from imagewarden_server.index.vectors import Arrays, Keys, Matrix, check_queries, check_scale, check_vectors
from imagewarden_server.matching.types import VectorSpace

GRAPH_FROM: Mapping[VectorSpace, int] = {
    VectorSpace.COPY: 100_000,
    VectorSpace.LOGO: 100_000,
    VectorSpace.SEMANTIC: 10_000,
}
"""Beyond how many vectors a graph is made: a product with a hundred queries takes 95 ms for 100,000 (docs/index.md).

SEMANTIC vectors are asked for by one query at a time, for which a graph is soon the quicker."""

GRAPH_QUERIES = 16
"""How many queries, the first, are asked of a graph: those of the whole picture and of its largest windows."""

GRAPH_AXES: Mapping[VectorSpace, int] = {VectorSpace.COPY: 128}
"""On how many principal axes a graph is built: see `reduced`; of other spaces on all dimensions, as they come."""

_GRAPH_NEAREST = 2
_LEAST_NAMED = 100
_TIMES_NAMED = 4
_LEAST_ROOM = 16
_GROWTH = 1.5

_COLUMNS: Mapping[str, type] = {
    "keys": np.int64,
    "entries": np.int64,
    "means": np.float32,
    "deviations": np.float32,
    "live": np.bool_,
}


class EntryVectors:
    """Vectors by key and entry; not thread-safe: the holder locks.

    Rows stay in the order of their entries. A removed row stays where it is, left out of what is found, until half of
    the rows are removed; a row's vector is never overwritten, so that a snapshot may read it without the lock.

    Args:
        dimensions: of the vectors.
        graph_from: beyond how many vectors a graph is wanted.
        graph_axes: on how many principal axes it is built; None: on all dimensions.
    """

    def __init__(self, dimensions: int, graph_from: int, graph_axes: int | None = None) -> None:
        self._dimensions = dimensions
        self._graph_from = graph_from
        self._graph_axes = graph_axes
        self._graph: Graph | None = None
        self._matrix: Matrix = np.empty((_LEAST_ROOM, dimensions), np.float32)
        self._columns: dict[str, NDArray[Any]] = {name: np.empty(_LEAST_ROOM, kind) for name, kind in _COLUMNS.items()}
        self._count = 0
        self._removed = 0
        self._starts: NDArray[np.intp] = np.empty(0, np.intp)
        self._ascending = True
        self._sketch: Sketch | None = None

    @property
    def dimensions(self) -> int:
        """The vectors' number of dimensions."""
        return self._dimensions

    @property
    def nbytes(self) -> int:
        """How many bytes of memory it takes."""
        columns = sum(column.nbytes for column in self._columns.values())
        beside = sum(one.nbytes for one in (self._graph, self._sketch) if one is not None)
        return self._matrix.nbytes + columns + beside

    @property
    def wants_graph(self) -> bool:
        """Whether it is large enough for a graph and has none, or a worn one: see `graph_of` and `adopt`."""
        return len(self) > self._graph_from and (self._graph is None or self._graph.worn)

    @property
    def has_graph(self) -> bool:
        """Whether a graph names the entries to score."""
        return self._graph is not None

    def __len__(self) -> int:
        """How many vectors it holds."""
        return self._count - self._removed

    def __contains__(self, key: int) -> bool:
        """Whether it holds a key."""
        return bool(self.holds([key])[0])

    def _column(self, name: str) -> NDArray[Any]:
        return self._columns[name][: self._count]

    def holds(self, keys: Sequence[int] | Keys) -> NDArray[np.bool_]:
        """Which of these keys it holds."""
        held = self._column("keys")
        if self._removed:
            held = held[self._column("live")]
        return np.isin(np.asarray(keys, np.int64), held)

    # ------------------------------------------------------------------------------------------------------ changes

    def add(
        self,
        keys: Sequence[int],
        entries: Sequence[int],
        vectors: Matrix,
        means: Sequence[float] | None = None,
        deviations: Sequence[float] | None = None,
    ) -> None:
        """Add float32 vectors [n, dimensions] of norm 1, each a view of an entry; the scale leaves cosines as they are.

        Raises:
            IndexRefused: a shape, a norm, a scale or a key is not as it must be; nothing was added.
        """
        count = len(keys)
        check_vectors(vectors, count, self._dimensions)
        new: dict[str, NDArray[Any]] = {
            "keys": np.asarray(keys, np.int64),
            "entries": np.asarray(entries, np.int64),
            "means": np.zeros(count, np.float32) if means is None else np.asarray(means, np.float32),
            "deviations": np.ones(count, np.float32) if deviations is None else np.asarray(deviations, np.float32),
            "live": np.ones(count, np.bool_),
        }
        self._check(new, count)
        self._revive(new, vectors)
        if self._graph is not None:
            self._graph.add(keys, vectors)
        fresh = ~self.holds(keys)
        if not fresh.any():
            return
        order = np.lexsort((new["keys"][fresh], new["entries"][fresh]))
        self._append({name: column[fresh][order] for name, column in new.items()}, vectors[fresh][order])

    def _check(self, new: Mapping[str, NDArray[Any]], count: int) -> None:
        for name, column in new.items():
            if column.shape != (count,):
                raise WrongShape(f"{name} of shape {column.shape} came, and ({count},) was expected")
        check_scale(new["means"], new["deviations"])
        if len(np.unique(new["keys"])) != count:
            raise DuplicateKey("a key is given twice")
        there = self.holds(new["keys"])
        if there.any():
            raise DuplicateKey(f"vector {new['keys'][there][0]} is there already: remove it first")

    def _revive(self, new: Mapping[str, NDArray[Any]], vectors: Matrix) -> None:
        """An entry that is enabled again has the vectors it had, and most often these are here still."""
        if not self._removed:
            return
        places = np.flatnonzero(np.isin(self._column("keys"), new["keys"]))
        by_key = np.argsort(new["keys"])
        source = by_key[np.searchsorted(new["keys"][by_key], self._column("keys")[places])]
        same = self._column("entries")[places] == new["entries"][source]
        same &= (self._matrix[places] == vectors[source]).all(axis=1)
        for name in ("means", "deviations", "live"):
            self._column(name)[places[same]] = new[name][source[same]]
        self._removed -= int(same.sum())
        if not same.all():
            self._keep(self._column("live"))

    def _append(self, new: Mapping[str, NDArray[Any]], vectors: Matrix) -> None:
        begin, end = self._count, self._count + len(vectors)
        if end > len(self._matrix):
            self._resize(max(end, int(_GROWTH * len(self._matrix))))
        # What others read is before `begin`.
        self._matrix[begin:end] = vectors
        for name, column in new.items():
            self._columns[name][begin:end] = column
        self._count = end
        if begin and new["entries"][0] < self._columns["entries"][begin - 1]:
            # Entries' keys grow, so this is the rare case: one that was disabled for long.
            self._keep(np.argsort(self._column("entries"), kind="stable"))
        else:
            rows = self._matrix[:end]
            self._sketch = Sketch.of(rows) if self._sketch is None else self._sketch.extended(rows)
            self._find_starts()

    def _resize(self, room: int) -> None:
        matrix = np.empty((room, self._dimensions), np.float32)
        matrix[: self._count] = self._matrix[: self._count]
        self._matrix = matrix
        for name, column in self._columns.items():
            self._columns[name] = np.empty(room, column.dtype)
            self._columns[name][: self._count] = column[: self._count]

    def _keep(self, which: NDArray[Any]) -> None:
        """Take these rows, by mask or by place, into a matrix of their own."""
        self._matrix = self._matrix[: self._count][which]
        self._columns = {name: self._column(name)[which] for name in self._columns}
        self._count = len(self._matrix)
        self._removed = self._count - int(np.count_nonzero(self._columns["live"]))
        self._sketch = Sketch.of(self._matrix)
        self._find_starts()

    def _find_starts(self) -> None:
        entries, keys = self._column("entries"), self._column("keys")
        self._ascending = bool((keys[1:] > keys[:-1]).all())
        self._starts = np.flatnonzero(np.concatenate([[True], entries[1:] != entries[:-1]])) if len(entries) else _NONE

    def remove(self, keys: Sequence[int]) -> None:
        """Remove keys; those that are not there are no error."""
        live = self._column("live")
        gone = np.isin(self._column("keys"), np.asarray(keys, np.int64)) & live
        if not gone.any():
            return
        live[gone] = False
        self._removed += int(np.count_nonzero(gone))
        if self._graph is not None:
            self._graph.remove(self._column("keys")[gone].tolist())
            if len(self) <= self._graph_from // 2:
                self._graph = None
        if self._removed > len(self):
            self._keep(live)

    # -------------------------------------------------------------------------------------------------------- graph

    def rows(self) -> tuple[Keys, Matrix]:
        """All keys int64 [n] and vectors [n, dimensions]."""
        keys, vectors = self._column("keys"), self._matrix[: self._count]
        if not self._removed:
            return keys, vectors
        live = self._column("live")
        return keys[live], vectors[live]

    def graph_of(self, keys: Keys, vectors: Matrix) -> Graph:
        """A graph of what `rows` gave; to be called without the lock, since it takes long."""
        return graph_of(keys, vectors, self._graph_axes)

    def adopt(self, graph: Graph) -> None:
        """Take a graph that was built of this index's `rows` a while ago, brought to what the index holds now."""
        keys, vectors = self.rows()
        graph.remove(np.setdiff1d(graph.keys, keys).tolist())
        missing = ~np.isin(keys, graph.keys)
        graph.add(keys[missing].tolist(), vectors[missing])
        self._graph = graph

    # ------------------------------------------------------------------------------------------------------ searches

    def search(self, queries: Matrix, k: int) -> tuple[list[Keys], list[Matrix]]:
        """The k nearest to each query [q, dimensions]: keys int64 and cosine similarities float32, nearest first.

        Raises:
            IndexRefused: the queries are not unit vectors of the index's dimensions, or k is less than 1.
        """
        check_queries(queries, k, self._dimensions)
        if not len(self):
            return [_NO_KEYS] * len(queries), [np.empty(0, np.float32)] * len(queries)
        if self._graph is not None:
            named = self._graph.search(queries, max(_LEAST_NAMED, _TIMES_NAMED * k))[0]
            found = [self._nearest_of(keys, query, k) for keys, query in zip(named, queries, strict=True)]
            return [keys for keys, _ in found], [cosines for _, cosines in found]
        matrix, keys, live = self._matrix[: self._count], self._column("keys"), self._column("live")
        return nearest_rows(matrix, keys, live if self._removed else None, queries, min(k, len(self)))

    def _nearest_of(self, keys: Keys, query: NDArray[np.float32], k: int) -> tuple[Keys, Matrix]:
        """The k of these keys that are nearest to a query, exactly."""
        rows = self._rows_with(keys)
        cosines = np.clip(self._matrix[rows] @ query, -1.0, 1.0)
        order = np.argsort(-cosines, kind="stable")[:k]
        return self._column("keys")[rows[order]], cosines[order]

    def _rows_with(self, keys: Keys) -> NDArray[np.intp]:
        """The rows of keys that are here."""
        held = self._column("keys")
        if not self._ascending:
            return np.flatnonzero(np.isin(held, keys))
        places = np.minimum(np.searchsorted(held, keys), len(held) - 1)
        there: NDArray[np.intp] = places[held[places] == keys]
        return there

    def find_entries(self, queries: Matrix, k: int) -> Best:
        """The k entries with the best scores over all their views and all queries, the best first.

        Raises:
            IndexRefused: the queries are not unit vectors of the index's dimensions, or k is less than 1.
        """
        check_queries(queries, k, self._dimensions)
        if not len(queries) or not len(self):
            return Best.none()
        if self._graph is not None:
            # A few more than are asked for: a graph ranks by cosine, and entries are ranked by their own scales.
            found = np.concatenate(self._graph.search(queries[:GRAPH_QUERIES], _GRAPH_NEAREST * k)[0])
            return self.score_entries(self._column("entries")[self._rows_with(found)], queries).first(k)
        if self._sketch is not None and len(queries) >= QUERIES_FROM:
            rough = self._live_scores(self._sketch.rows, self._sketch.queries(queries))
            rows, _ = self._rows_of(worthwhile(np.maximum.reduceat(rough, self._starts), k))
            return self._settled(rows[self._column("live")[rows]], queries).first(k)
        scores = self._live_scores(self._matrix[: self._count], queries)
        best = np.maximum.reduceat(scores, self._starts)
        groups = np.arange(len(best)) if k >= len(best) else np.argpartition(best, -k)[-k:]
        groups = groups[best[groups] > -np.inf]
        rows, lengths = self._rows_of(groups)
        return self._settled(rows[scores[rows] == np.repeat(best[groups], lengths)], queries)

    def _live_scores(self, rows: Matrix, queries: Matrix) -> Matrix:
        """The best score of each row over all queries; of a removed row less than any."""
        scores = self._scaled(widest_scores(rows, queries), slice(self._count))
        scores[~self._column("live")] = -np.inf
        return scores

    def score_entries(self, entries: Sequence[int] | Keys, queries: Matrix) -> Best:
        """The best view and query of each given entry that is here, the best first; exact.

        Raises:
            IndexRefused: the queries are not unit vectors of the index's dimensions.
        """
        check_queries(queries, 1, self._dimensions)
        if not len(queries) or not len(self):
            return Best.none()
        firsts, wanted = self._column("entries")[self._starts], np.unique(np.asarray(entries, np.int64))
        places = np.minimum(np.searchsorted(firsts, wanted), len(firsts) - 1)
        rows, _ = self._rows_of(places[firsts[places] == wanted])
        return self._settled(rows[self._column("live")[rows]], queries)

    def _rows_of(self, groups: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The rows of groups, one group after the other, and how many each has."""
        lengths = np.append(self._starts[1:], self._count)[groups] - self._starts[groups]
        offsets = np.cumsum(lengths) - lengths
        return np.arange(lengths.sum()) + np.repeat(self._starts[groups] - offsets, lengths), lengths

    def _scaled(self, cosines: Matrix, rows: NDArray[np.intp] | slice) -> Matrix:
        scaled: Matrix = (cosines - self._columns["means"][rows]) / self._columns["deviations"][rows]
        return scaled

    def _settled(self, rows: NDArray[np.intp], queries: Matrix) -> Best:
        query, cosines = best_queries(self._matrix[rows], queries)
        return best_of_each(
            self._columns["entries"][rows], self._columns["keys"][rows], query, self._scaled(cosines, rows), cosines
        )

    # ----------------------------------------------------------------------------------------------------- snapshots

    def arrays(self) -> Arrays:
        """What `of` makes the same index of; the vectors are no copy: they stay as they are while others are added."""
        held: dict[str, NDArray[Any]] = {name: self._column(name).copy() for name in _COLUMNS}
        held["vectors"] = self._matrix[: self._count]
        if self._graph is not None:
            held |= self._graph.arrays()
        return held

    @classmethod
    def of(cls, arrays: Arrays, dimensions: int, graph_from: int, graph_axes: int | None = None) -> EntryVectors:
        """An index of what `arrays` gave.

        Raises:
            ValueError: the arrays are not of such an index. A graph whose bytes were changed may kill the process: its
                digest is checked before.
        """
        made = cls(dimensions, graph_from, graph_axes)
        vectors = arrays["vectors"]
        count = len(vectors)
        check_vectors(vectors, count, dimensions)
        for name, kind in _COLUMNS.items():
            if arrays[name].dtype != kind or arrays[name].shape != (count,):
                raise WrongShape(f"{name} are {arrays[name].dtype} {arrays[name].shape}, expected {count} {kind}")
        check_scale(arrays["means"], arrays["deviations"])
        if vectors.dtype != np.float32 or (np.diff(arrays["entries"]) < 0).any():
            raise WrongShape(
                f"vectors of {vectors.dtype}, or not in the order of their entries, and float32 was expected"
            )
        made._matrix, made._count = vectors, count
        made._columns = {name: arrays[name] for name in _COLUMNS}
        made._removed = count - int(np.count_nonzero(arrays["live"]))
        made._sketch = Sketch.of(vectors)
        made._find_starts()
        if "graph" in arrays:
            made._graph = stored_graph(arrays, dimensions)
        return made


_NO_KEYS: Keys = np.empty(0, np.int64)
_NONE: NDArray[np.intp] = np.empty(0, np.intp)
