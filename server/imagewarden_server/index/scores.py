"""The arithmetic of searches in a matrix of unit vectors: products block by block, and the best of what they give."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imagewarden_server.index.vectors import Keys, Matrix

_BLOCK_ROWS = 2_048
_BLOCK_QUERIES = 32
_BELOW_ALL = -2.0  # less than any cosine


@dataclass(frozen=True, slots=True)
class Best:
    """Entries by score, the best first: arrays of one length.

    Attributes:
        entries: int64.
        keys: int64, of the vector that was nearest.
        queries: the row of the queries that it was nearest to.
        values: float32, the scores.
        cosines: float32, the cosine similarities.
    """

    entries: Keys
    keys: Keys
    queries: NDArray[np.intp]
    values: Matrix
    cosines: Matrix

    def __len__(self) -> int:
        """How many entries these are."""
        return len(self.entries)

    def first(self, count: int) -> Best:
        """The first few."""
        return Best(
            self.entries[:count], self.keys[:count], self.queries[:count], self.values[:count], self.cosines[:count]
        )

    @classmethod
    def none(cls) -> Best:
        """No entry."""
        nothing, zero = np.empty(0, np.int64), np.empty(0, np.float32)
        return cls(nothing, nothing, np.empty(0, np.intp), zero, zero)


def widest_scores(matrix: Matrix, queries: Matrix) -> Matrix:
    """The greatest cosine similarity of each row of [n, dimensions] to any query of [q, dimensions], q > 0: [n]."""
    best = np.empty(len(matrix), np.float32)
    products = np.empty((min(_BLOCK_ROWS, len(matrix)), len(queries)), np.float32)
    for begin in range(0, len(matrix), _BLOCK_ROWS):
        block = matrix[begin : begin + _BLOCK_ROWS]
        np.matmul(block, queries.T, out=products[: len(block)])
        products[: len(block)].max(axis=1, out=best[begin : begin + len(block)])
    return np.clip(best, -1.0, 1.0, out=best)


def best_queries(rows: Matrix, queries: Matrix) -> tuple[NDArray[np.intp], Matrix]:
    """The nearest of q > 0 queries to each row, and their cosine similarity."""
    cosines = np.clip(rows @ queries.T, -1.0, 1.0)
    query = cosines.argmax(axis=1)
    return query, np.take_along_axis(cosines, query[:, None], axis=1)[:, 0]


def best_of_each(entries: Keys, keys: Keys, queries: NDArray[np.intp], values: Matrix, cosines: Matrix) -> Best:
    """Of rows, the best of each entry, the best entry first; of equal ones that with the least key."""
    order = np.lexsort((keys, -values, entries))
    of = entries[order]
    order = order[np.concatenate([[True], of[1:] != of[:-1]])] if len(of) else order
    order = order[np.lexsort((entries[order], -values[order]))]
    return Best(entries[order], keys[order], queries[order], values[order], cosines[order])


def nearest_rows(
    matrix: Matrix, keys: Keys, live: NDArray[np.bool_] | None, queries: Matrix, k: int
) -> tuple[list[Keys], list[Matrix]]:
    """The k nearest live rows to each query: keys and cosine similarities, nearest first; k is at most their number."""
    found_keys: list[Keys] = []
    found_cosines: list[Matrix] = []
    for begin in range(0, len(queries), _BLOCK_QUERIES):
        cosines = np.clip(queries[begin : begin + _BLOCK_QUERIES] @ matrix.T, -1.0, 1.0)
        if live is not None:
            cosines[:, ~live] = _BELOW_ALL
        near = np.argpartition(cosines, len(matrix) - k, axis=1)[:, len(matrix) - k :] if k < len(matrix) else None
        for row, similarities in enumerate(cosines):
            places = np.arange(len(matrix)) if near is None else near[row]
            places = places[np.lexsort((keys[places], -similarities[places]))][:k]
            found_keys.append(keys[places])
            found_cosines.append(similarities[places])
    return found_keys, found_cosines
