"""Metrics against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from imagewarden_eval import caltech101_metrics as metrics


def hits(text: str) -> metrics.Hits:
    return np.asarray([mark == "x" for mark in text])


@pytest.mark.parametrize(
    ("ranking", "relevant", "expected"),
    [
        ("xx..", 2, 1.0),
        (".x.x", 2, (1 / 2 + 2 / 4) / 2),
        ("x..x.x", 3, (1 / 1 + 2 / 4 + 3 / 6) / 3),
        # One of three was not found: it counts 0.
        ("x..x", 3, (1 / 1 + 2 / 4) / 3),
        # Of a hundred only the first three can be in a ranking of three.
        ("xxx", 100, 1.0),
        ("....", 2, 0.0),
    ],
)
def test_average_precision(ranking: str, relevant: int, expected: float) -> None:
    assert metrics.average_precision(hits(ranking), relevant) == pytest.approx(expected)


@pytest.mark.parametrize(("ranking", "relevant"), [("...", 0), ("xx.", 1)])
def test_average_precision_of_what_cannot_be(ranking: str, relevant: int) -> None:
    with pytest.raises(ValueError, match="to be found make no average precision"):
        metrics.average_precision(hits(ranking), relevant)


def test_retrieval_is_the_mean_over_queries() -> None:
    rankings = np.stack([hits("x.x.......x"), hits(".xx.x......")])
    found = metrics.retrieval(rankings, np.asarray([3, 5]))
    assert found.precision == {1: 0.5, 5: pytest.approx((2 / 5 + 3 / 5) / 2), 10: pytest.approx((2 / 10 + 3 / 10) / 2)}
    first, second = (1 + 2 / 3 + 3 / 11) / 3, (1 / 2 + 2 / 3 + 3 / 5) / 5
    assert found.mean_average_precision == pytest.approx((first + second) / 2)
    assert (found.depth, found.queries) == (11, 2)


def test_no_precision_is_told_of_a_ranking_that_is_shorter() -> None:
    assert set(metrics.retrieval(hits("x...x.")[None], np.asarray([2])).precision) == {1, 5}


def test_cosine_and_euclid_rank_vectors_of_other_norms_apart() -> None:
    query = np.asarray([[1, 0]], np.float32)
    gallery = np.asarray([[10, 0], [0.8, 0.6], [0, 1], [-1, 0]], np.float32)
    order, distances = metrics.rank(query, gallery, "cosine")
    assert order.tolist() == [[0, 1, 2, 3]]
    assert distances[0] == pytest.approx([0, 0.2, 1, 2])
    order, distances = metrics.rank(query, gallery, "euclidean")
    assert order.tolist() == [[1, 2, 3, 0]]
    assert distances[0] == pytest.approx([np.sqrt(0.4), np.sqrt(2), 2, 9])


def test_both_metrics_rank_unit_vectors_alike() -> None:
    rng = np.random.default_rng(0)
    vectors = metrics.unit(rng.normal(size=(60, 16))).astype(np.float32)
    cosine, by_cosine = metrics.rank(vectors[:20], vectors[20:], "cosine")
    euclid, by_euclid = metrics.rank(vectors[:20], vectors[20:], "euclidean")
    assert np.array_equal(cosine, euclid)
    assert by_euclid == pytest.approx(np.sqrt(2 * by_cosine), abs=1e-6)


def test_equals_keep_the_order_of_the_gallery() -> None:
    order, _ = metrics.rank(np.ones((1, 2), np.float32), np.ones((4, 2), np.float32), "cosine")
    assert order.tolist() == [[0, 1, 2, 3]]


def test_a_vector_of_zeros_is_as_far_from_all() -> None:
    _, distances = metrics.rank(np.zeros((1, 2), np.float32), np.eye(2, dtype=np.float32), "cosine")
    assert distances[0].tolist() == [1, 1]


def test_accuracy_by_class_counts_a_small_class_as_much_as_a_large_one() -> None:
    truth = np.asarray([0] * 8 + [1] * 2)
    predicted = np.asarray([0] * 8 + [1, 0])
    assert metrics.mean_class_accuracy(truth, predicted) == pytest.approx((1 + 0.5) / 2)
