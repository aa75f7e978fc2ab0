"""A graph on a few principal axes: what it finds among vectors that lie as embeddings do, and its round trip."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from imagewarden_server.index import EntryVectors, UsearchVectorIndex
from imagewarden_server.index.reduced import ReducedGraph, graph_of, stored_graph

DIMENSIONS, AXES, VIEWS = 128, 32, 6

Matrix = NDArray[np.float32]


def unit(rows: NDArray[np.floating]) -> Matrix:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def embeddings(pictures: int, seed: int) -> Matrix:
    """Views about pictures; the axes carry less and less, in no order of the dimensions."""
    chance = np.random.default_rng(seed)
    carried = np.arange(1, DIMENSIONS + 1) ** -1.0
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(DIMENSIONS, DIMENSIONS)))[0]
    middles = np.repeat(chance.normal(size=(pictures, DIMENSIONS)), VIEWS, axis=0)
    return unit((middles + 0.4 * chance.normal(size=middles.shape)) * carried @ turn)


def filled(vectors: Matrix, axes: int | None) -> EntryVectors:
    index = EntryVectors(DIMENSIONS, 100, axes)
    index.add(range(len(vectors)), [row // VIEWS for row in range(len(vectors))], vectors)
    index.adopt(index.graph_of(*index.rows()))
    return index


def test_the_neighbours_are_those_that_a_product_finds() -> None:
    vectors = embeddings(1_500, 2)
    chance = np.random.default_rng(3)
    queries = unit(vectors[chance.integers(0, len(vectors), 100)] + 0.02 * chance.normal(size=(100, DIMENSIONS)))
    keys, cosines = filled(vectors, AXES).search(queries, 10)
    every = queries @ vectors.T
    exact = np.argsort(-every, axis=1)[:, :10]
    recall = np.mean([len({*row.tolist()} & {*right.tolist()}) / 10 for row, right in zip(keys, exact, strict=True)])
    assert recall >= 0.98
    for row, said, all_of in zip(keys, cosines, every, strict=True):
        np.testing.assert_allclose(said, all_of[row], atol=1e-6)
        assert (np.diff(said) <= 0).all()


def test_entries_are_named_by_the_reduced_graph_and_scored_by_all_dimensions() -> None:
    vectors = embeddings(200, 4)
    index = filled(vectors, AXES)
    best = index.find_entries(vectors[[77, 600]], 5)
    expected = index.score_entries(range(200), vectors[[77, 600]]).first(2)
    assert best.entries[:2].tolist() == expected.entries.tolist()
    np.testing.assert_array_equal(best.values[:2], expected.values)


def test_it_takes_less_memory_and_comes_back_from_its_arrays() -> None:
    vectors = embeddings(100, 5)
    keys = np.arange(len(vectors))
    whole, reduced = graph_of(keys, vectors, None), graph_of(keys, vectors, AXES)
    assert isinstance(whole, UsearchVectorIndex)
    assert isinstance(reduced, ReducedGraph)
    assert reduced.nbytes < 0.75 * whole.nbytes
    reduced.remove([3])
    again = stored_graph(reduced.arrays(), DIMENSIONS)
    assert isinstance(again, ReducedGraph)
    assert sorted(again.keys.tolist()) == sorted(set(keys.tolist()) - {3})
    assert [row.tolist() for row in again.search(vectors[:5], 4)[0]] == [
        row.tolist() for row in reduced.search(vectors[:5], 4)[0]
    ]
    assert isinstance(stored_graph(whole.arrays(), DIMENSIONS), UsearchVectorIndex)


def test_axes_of_other_vectors_are_refused() -> None:
    arrays = graph_of(np.arange(600), embeddings(100, 6), AXES).arrays()
    with pytest.raises(ValueError, match=r"axes of the graph are float32 \(128, 32\), and \(64, n\)"):
        stored_graph(arrays, 64)


def test_few_dimensions_are_not_reduced() -> None:
    assert isinstance(graph_of(np.arange(600), embeddings(100, 7), 100), UsearchVectorIndex)


def test_a_query_without_a_part_in_the_axes_finds_something() -> None:
    vectors = embeddings(300, 8)
    vectors[:, -1] = 0
    vectors = unit(vectors)
    index = filled(vectors, AXES)
    query = np.zeros((1, DIMENSIONS), np.float32)
    query[0, -1] = 1
    keys, cosines = index.search(query, 3)
    assert len(keys[0]) == 3
    np.testing.assert_allclose(cosines[0], 0, atol=1e-6)
