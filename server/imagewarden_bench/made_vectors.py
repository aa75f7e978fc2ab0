"""Vectors that lie as the shipped descriptor's do, for indexes that are larger than there are pictures for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

DIMENSIONS = 512
"""Of the shipped descriptor."""

VIEWS = 12
"""Of a banned picture."""

_QUERIES = 200
_VIEW_SPREAD = 0.6
_QUERY_SPREAD = 0.25
_CARRIED = 0.45
"""How fast what the principal axes of the shipped descriptor carry falls: the variance of axis n is as n to the power
of minus this (measured of 12,000 views of 1,000 photographs: 0.024 the first, 0.0078 the ninth, 0.0031 the 65th)."""

Vectors = NDArray[np.float32]


def made_vectors(count: int, seed: int) -> tuple[Vectors, Vectors]:
    """Unit vectors, twelve about each picture's, on axes that carry what those of real ones do; queries near some."""
    chance = np.random.default_rng(seed)
    scale = np.arange(1, DIMENSIONS + 1, dtype=np.float32) ** (-_CARRIED / 2)
    turn = np.linalg.qr(chance.normal(size=(DIMENSIONS, DIMENSIONS)))[0].astype(np.float32)

    def drawn(rows: int) -> Vectors:
        return chance.standard_normal((rows, DIMENSIONS), np.float32) * scale

    vectors = np.repeat(drawn(-(-count // VIEWS)), VIEWS, axis=0)[:count]
    vectors += _VIEW_SPREAD * drawn(count)
    queries = vectors[chance.integers(0, count, _QUERIES)] + _QUERY_SPREAD * drawn(_QUERIES)
    return _unit(vectors @ turn), _unit(queries @ turn)


def _unit(vectors: Vectors) -> Vectors:
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors
