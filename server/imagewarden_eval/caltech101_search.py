"""Similarity search through the product itself: AddImage and SearchSimilarImages over gRPC, and whether they are right.

The server answers the hundred nearest at most. So its rankings give precision at k and average precision at 100, and
every one of them is held against the exact ranking of the same vectors: the whole ranking is then counted from those.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imagewarden import AlreadyExists, BankKind, Client, ImageWardenError, InvalidRequest, Metric
from imagewarden_eval.caltech101_data import Dataset, Split
from imagewarden_eval.caltech101_metrics import METRICS, Matrix, Retrieval, rank, retrieval
from imagewarden_eval.errors import EvaluationError
from imagewarden_eval.progress import Progress
from imagewarden_eval.service import in_order, patiently

MOST = 100
"""The most neighbours of one SearchSimilarImages call."""
TOLERANCE = 2e-3
"""How far a similarity may be from the exact one: the index keeps vectors as 16-bit floats."""

_BANK = "caltech101"
_CALLERS = 4


class SearchError(EvaluationError):
    """The server refused what the evaluation needs; the message says what."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One query's neighbours as the server ranks them: places in the dataset, distances, cosine similarities."""

    places: tuple[int, ...]
    distances: tuple[float, ...]
    similarities: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Gallery:
    """What the server took: places in the dataset, and what it refused, a sentence each."""

    places: NDArray[np.int64]
    refused: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Agreement:
    """The server's rankings beside the exact ones.

    Attributes:
        queries: how many were compared.
        same_first: the share whose nearest is the same.
        overlap: the mean share of the exact nearest ones among the answered ones.
        largest_difference: of the similarity at any rank from the exact one at that rank.
        agrees: whether no similarity is farther off than `TOLERANCE`: then only equals, but for 16 bits, can have
            changed places.
    """

    queries: int
    same_first: float
    overlap: float
    largest_difference: float
    agrees: bool


def fill(client: Client, data: Dataset, split: Split, progress: Progress) -> Gallery:
    """Make a bank of the split's training pictures, CATEGORY/file as their external_id.

    Raises:
        SearchError: the server is not there, or does not take pictures.
    """

    def add(place: int) -> str | None:
        path = data.paths[place]
        try:
            patiently(
                lambda request_id: client.add_image(_BANK, data.root / path, external_id=path, request_id=request_id)
            )
        except AlreadyExists:
            return f"{path}: the same bytes are in the gallery already"
        except InvalidRequest as error:
            return f"{path}: {error.message}"
        return None

    try:
        # An allowed bank: what is searched by meaning bans nothing.
        client.create_bank(_BANK, BankKind.ALLOWED)
        with progress.task("pictures added to the gallery", len(split.training)) as advance:
            problems = []
            for problem in in_order(add, split.training.tolist(), _CALLERS):
                problems.append(problem)
                advance(1)
    except ImageWardenError as error:
        raise SearchError(f"the gallery could not be filled: {error.message}") from error
    kept = [place for place, problem in zip(split.training, problems, strict=True) if problem is None]
    return Gallery(np.asarray(kept, np.int64), tuple(problem for problem in problems if problem is not None))


def ask(client: Client, data: Dataset, queries: Sequence[int], metric: str, progress: Progress) -> list[Answer]:
    """The server's answers to queries, in their order.

    Raises:
        SearchError: a call failed.
    """
    by_path = {path: place for place, path in enumerate(data.paths)}

    def search(place: int) -> Answer:
        found = client.search(data.root / data.paths[place], k=MOST, metric=Metric(metric), banks=(_BANK,))
        return Answer(
            tuple(by_path[one.entry.external_id] for one in found.results),
            tuple(one.distance for one in found.results),
            tuple(one.similarity for one in found.results),
        )

    try:
        answers = []
        with progress.task(f"searches by {metric}", len(queries)) as advance:
            for answer in in_order(search, queries, _CALLERS):
                answers.append(answer)
                advance(1)
    except ImageWardenError as error:
        raise SearchError(f"a search by {metric} failed: {error.message}") from error
    return answers


def judge(data: Dataset, gallery: NDArray[np.int64], queries: Sequence[int], answers: Sequence[Answer]) -> Retrieval:
    """Count the server's rankings: precision at k, and average precision at their depth.

    Raises:
        SearchError: an answer is shorter than what there is to answer.
    """
    depth = min(MOST, len(gallery))
    short = [data.paths[query] for query, answer in zip(queries, answers, strict=True) if len(answer.places) != depth]
    if short:
        raise SearchError(f"{len(short)} answers do not have {depth} neighbours, the first of them to {short[0]}")
    labels = data.labels
    hits = np.asarray(
        [labels[list(answer.places)] == labels[query] for query, answer in zip(queries, answers, strict=True)]
    )
    return retrieval(hits, relevant(data, gallery, queries))


def relevant(data: Dataset, gallery: NDArray[np.int64], queries: Iterable[int]) -> NDArray[np.int64]:
    """How many pictures of each query's category the gallery has: int64 [q]."""
    counts = np.bincount(data.labels[gallery], minlength=len(data.categories))
    return counts[data.labels[list(queries)]].astype(np.int64)


def exact(
    data: Dataset, vectors: Matrix, gallery: NDArray[np.int64], queries: Sequence[int]
) -> dict[str, tuple[Retrieval, NDArray[np.int64]]]:
    """The whole ranking of vectors by both metrics: what it counts, and places in the dataset, int64 [q, n]."""
    found = {}
    for metric in METRICS:
        order, _ = rank(vectors[list(queries)], vectors[gallery], metric)
        places = gallery[order]
        hits = data.labels[places] == data.labels[list(queries)][:, None]
        found[metric] = (retrieval(hits, relevant(data, gallery, queries)), places)
    return found


def agreement(
    vectors: Matrix, gallery: NDArray[np.int64], queries: Sequence[int], answers: Sequence[Answer]
) -> Agreement:
    """Hold the server's rankings against the exact ones of vectors that came straight from the model.

    Args:
        vectors: float32 [n, D], of unit norm, of the whole dataset.
        gallery: what the server took, places in the dataset.
        queries: places in the dataset.
        answers: the server's, by cosine or Euclid: both rank unit vectors alike.
    """
    order, distances = rank(vectors[list(queries)], vectors[gallery], "cosine")
    firsts, overlaps, worst = [], [], 0.0
    for row, (query, answer) in enumerate(zip(queries, answers, strict=True)):
        depth = len(answer.places)
        nearest = gallery[order[row, :depth]]
        firsts.append(bool(depth) and answer.places[0] == nearest[0])
        overlaps.append(len(set(answer.places) & set(nearest.tolist())) / max(depth, 1))
        said = np.asarray(answer.similarities)
        own = vectors[list(answer.places)].astype(np.float64) @ vectors[query].astype(np.float64)
        # At each rank the best there is, and of each entry its own.
        worst = max(
            worst,
            float(np.abs(said - (1 - distances[row, :depth])).max(initial=0.0)),
            float(np.abs(said - own).max(initial=0.0)),
        )
    return Agreement(len(queries), float(np.mean(firsts)), float(np.mean(overlaps)), worst, worst <= TOLERANCE)
