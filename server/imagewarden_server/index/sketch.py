"""A first look at many vectors by many queries, in few dimensions: which entries are worth all of them?

The rows of a bank are far from spread evenly over their dimensions. On the principal axes of the rows (Pearson, 1901)
an eighth of the dimensions ranks the entries nearly as all do; those that rank first are then scored by all
dimensions, so that every score that is answered is exact. What a sketch can lose is an entry whose rank in it is far
worse than its rank: docs/index.md has how often.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imagewarden_server.index.vectors import Matrix

SKETCH_FROM = 1_024
"""From how many rows on a sketch is kept: with fewer, the product with all dimensions is quick enough."""

QUERIES_FROM = 16
"""From how many queries on it is asked: with fewer, the product with all dimensions costs less than two steps do."""

AXES = 64
"""In how many dimensions; vectors of less than four times as many have no sketch."""

_LEAST_SHARE = 4
# So many times the entries that are asked for are scored by all dimensions, or this part of them all.
_TIMES, _PART = 4, 12
_SAMPLE = 8_192
_GROWN = 2


class Sketch:
    """The rows of a matrix in few dimensions; the holder says what becomes of the rows, and locks."""

    def __init__(self, rows: Matrix) -> None:
        """The sketch of float32 rows [n, dimensions], n > 0."""
        step = -(-len(rows) // _SAMPLE)
        sample = rows[::step]
        # The axes that carry most: those of the largest eigenvalues, which come last.
        self._axes: Matrix = np.linalg.eigh(sample.T @ sample)[1][:, -AXES:].astype(np.float32)
        self._fitted = len(rows)
        self._count = len(rows)
        self._rows: Matrix = rows @ self._axes

    @classmethod
    def of(cls, rows: Matrix) -> Sketch | None:
        """The sketch of rows, where one is worth it."""
        worth = len(rows) >= SKETCH_FROM and rows.shape[1] >= _LEAST_SHARE * AXES
        return cls(rows) if worth else None

    @property
    def nbytes(self) -> int:
        """How many bytes of memory it takes."""
        return self._rows.nbytes + self._axes.nbytes

    @property
    def rows(self) -> Matrix:
        """float32 [n, AXES]."""
        return self._rows[: self._count]

    def extended(self, rows: Matrix) -> Sketch | None:
        """The sketch of `rows`, which are those it had and more after them; its axes are found anew as they double."""
        if len(rows) >= _GROWN * self._fitted:
            return Sketch.of(rows)
        begin, end = self._count, len(rows)
        if end > len(self._rows):
            # The rows that searches read stay where they are.
            room = np.empty((max(end, int(1.5 * len(self._rows))), AXES), np.float32)
            room[:begin] = self.rows
            self._rows = room
        self._rows[begin:end] = rows[begin:] @ self._axes
        self._count = end
        return self

    def queries(self, queries: Matrix) -> Matrix:
        """Queries as they are compared with the rows: float32 [q, AXES] of [q, dimensions]."""
        return queries @ self._axes


def worthwhile(best: NDArray[np.float32], k: int) -> NDArray[np.intp]:
    """The groups that rank first by a sketch's scores, many more than the k that are asked for."""
    most = max(_TIMES * k, len(best) // _PART)
    return np.arange(len(best)) if most >= len(best) else np.argpartition(best, -most)[-most:]
