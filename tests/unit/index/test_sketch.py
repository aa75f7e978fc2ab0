"""A first look in few dimensions: it keeps up with its rows, and loses nothing that is near."""

from __future__ import annotations

import numpy as np
import pytest

from imagewarden_server.index import EntryVectors
from imagewarden_server.index.sketch import AXES, QUERIES_FROM, SKETCH_FROM, Sketch, worthwhile
from imagewarden_server.index.vectors import Matrix

DIMENSIONS = 4 * AXES
VIEWS = 4
ENTRIES = SKETCH_FROM // VIEWS * 3


def vectors(count: int, seed: int = 1) -> Matrix:
    """Unit vectors whose dimensions carry less and less, as those of a whitened descriptor do."""
    raw = np.random.default_rng(seed).normal(size=(count, DIMENSIONS)) / np.sqrt(1 + np.arange(DIMENSIONS) / 8)
    turn = np.linalg.qr(np.random.default_rng(7).normal(size=(DIMENSIONS, DIMENSIONS)))[0]
    raw = raw @ turn
    return np.asarray(raw / np.linalg.norm(raw, axis=1, keepdims=True), np.float32)


def near(rows: Matrix, seed: int) -> Matrix:
    """Vectors that are like these to a cosine of about 0.7."""
    noisy = rows + vectors(len(rows), seed)
    return np.asarray(noisy / np.linalg.norm(noisy, axis=1, keepdims=True), np.float32)


def filled(rows: Matrix, step: int) -> EntryVectors:
    index = EntryVectors(DIMENSIONS, 10**9)
    for begin in range(0, len(rows), step):
        keys = range(begin, min(begin + step, len(rows)))
        index.add(keys, [key // VIEWS for key in keys], rows[begin : begin + step])
    return index


@pytest.mark.parametrize("step", [ENTRIES * VIEWS, 500, 36])
def test_what_is_near_is_found_with_the_score_of_all_dimensions(step: int) -> None:
    rows = vectors(ENTRIES * VIEWS)
    index = filled(rows, step)
    assert index.nbytes > rows.nbytes + ENTRIES * VIEWS * AXES * 4, "it has a sketch"
    queries = vectors(QUERIES_FROM, seed=3)
    wanted = [5, 700, ENTRIES * VIEWS - 1]
    queries[: len(wanted)] = near(rows[wanted], seed=4)
    best = index.find_entries(queries, 3)
    assert sorted(best.keys.tolist()) == wanted
    products = rows[best.keys] @ queries.T
    np.testing.assert_allclose(best.values, products.max(axis=1), atol=1e-5)
    np.testing.assert_array_equal(best.queries, products.argmax(axis=1))


def test_what_is_removed_and_added_again_is_followed() -> None:
    rows = vectors(ENTRIES * VIEWS)
    index = filled(rows, 500)
    queries = np.concatenate([near(rows[8:9], seed=4), vectors(QUERIES_FROM, seed=3)])
    index.remove([8])
    assert 8 not in index.find_entries(queries, 1).keys
    index.add([8], [2], rows[8:9])
    assert index.find_entries(queries, 1).keys.tolist() == [8]
    index.remove(range(ENTRIES * VIEWS // 2, ENTRIES * VIEWS))
    index.remove(range(100, 140))
    assert index.find_entries(queries, 1).keys.tolist() == [8]
    other = EntryVectors.of(index.arrays(), DIMENSIONS, 10**9)
    assert other.find_entries(queries, 5).keys.tolist() == index.find_entries(queries, 5).keys.tolist()


def test_rows_that_a_search_reads_stay_while_others_come() -> None:
    rows = vectors(3 * SKETCH_FROM)
    sketch = Sketch.of(rows[:SKETCH_FROM])
    assert sketch is not None
    held, before = sketch.rows, sketch.rows.copy()
    same = sketch.extended(rows[: SKETCH_FROM + 700])
    assert same is sketch
    np.testing.assert_array_equal(held, before)
    assert len(same.rows) == SKETCH_FROM + 700
    np.testing.assert_allclose(same.rows[SKETCH_FROM:], same.queries(rows[SKETCH_FROM : SKETCH_FROM + 700]), atol=1e-6)
    doubled = same.extended(rows)
    assert doubled is not None
    assert doubled is not sketch, "axes of a third of the rows are found anew"
    assert len(doubled.rows) == len(rows)


def test_small_banks_and_short_vectors_have_none() -> None:
    assert Sketch.of(vectors(SKETCH_FROM - 1)) is None
    assert Sketch.of(vectors(SKETCH_FROM)[:, : 2 * AXES]) is None


def test_many_more_entries_than_are_asked_for_are_worth_a_second_look() -> None:
    scores = np.arange(1_200, dtype=np.float32)
    assert set(worthwhile(scores, 16)) == set(range(1_100, 1_200))
    assert set(worthwhile(scores, 100)) == set(range(800, 1_200))
    assert worthwhile(scores[:9], 16).tolist() == list(range(9))
