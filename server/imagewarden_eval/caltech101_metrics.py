"""What is counted: precision at k, average precision, accuracy by class. All exact, none over a sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Hits = NDArray[np.bool_]
Matrix = NDArray[np.float32]
Ranking = NDArray[np.int64]

CUTS = (1, 5, 10)
METRICS = ("cosine", "euclidean")
_FLOOR = 1e-12


@dataclass(frozen=True, slots=True)
class Retrieval:
    """How well the like is found.

    Attributes:
        precision: by k: the mean share of the k nearest that are of the query's category.
        mean_average_precision: over the ranking as deep as `depth`.
        depth: how many of each ranking were seen.
        queries: how many.
    """

    precision: Mapping[int, float]
    mean_average_precision: float
    depth: int
    queries: int


def average_precision(hits: Hits, relevant: int) -> float:
    """The mean, over what should be found, of the precision at its place; what is not found counts 0.

    Args:
        hits: bool [n], the ranking from the nearest: whether each is of the query's category.
        relevant: how many there are to be found. Of a ranking cut at n no more than n can be: they are divided by the
            smaller of the two (average precision at n, as TREC's).

    Raises:
        ValueError: there is nothing to be found, or more was found than there is.
    """
    if relevant < 1 or int(hits.sum()) > relevant:
        raise ValueError(f"{int(hits.sum())} hits of {relevant} to be found make no average precision")
    places = np.flatnonzero(hits) + 1
    return float((np.arange(1, len(places) + 1) / places).sum() / min(relevant, len(hits)))


def retrieval(hits: Hits, relevant: NDArray[np.int64]) -> Retrieval:
    """Count over queries.

    Args:
        hits: bool [q, n], a ranking each.
        relevant: how many of the query's category there are to be found, int64 [q], each at least 1.
    """
    return Retrieval(
        {k: float(hits[:, :k].mean()) for k in CUTS if k <= hits.shape[1]},
        float(np.mean([average_precision(row, int(count)) for row, count in zip(hits, relevant, strict=True)])),
        hits.shape[1],
        len(hits),
    )


def rank(queries: Matrix, gallery: Matrix, metric: str) -> tuple[Ranking, NDArray[np.float64]]:
    """The whole gallery from the nearest, exactly.

    Args:
        queries: float32 [q, D].
        gallery: float32 [n, D].
        metric: `cosine`, whatever the norms, or `euclidean`, of the vectors as they are.

    Returns:
        Places in the gallery, int64 [q, n], equals in the gallery's order; and their distances, float64 [q, n]: 1 less
        the cosine, or Euclid's.
    """
    left, right = queries.astype(np.float64), gallery.astype(np.float64)
    if metric == "cosine":
        distances = 1 - unit(left) @ unit(right).T
    else:
        squares = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)[None, :] - 2 * left @ right.T
        distances = np.sqrt(np.maximum(squares, 0))
    order = np.argsort(distances, axis=1, kind="stable")
    return order, np.take_along_axis(distances, order, axis=1)


def unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Vectors of norm 1; zero stays zero."""
    norms: NDArray[np.float64] = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(norms, _FLOOR)


def mean_class_accuracy(truth: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
    """The mean over categories of the share of its pictures that are named rightly: Caltech101's own measure."""
    right = truth == predicted
    return float(np.mean([right[truth == label].mean() for label in np.unique(truth)]))
