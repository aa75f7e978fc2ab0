"""What the vectors of entries do beneath what the contracts say: rows that stay, graphs, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.unit.index.rows import DIMENSIONS, unit_vectors

from imagewarden_server.index import DuplicateKey, EntryVectors, UsearchVectorIndex, WrongScale, WrongShape
from imagewarden_server.index.entry_vectors import GRAPH_QUERIES
from imagewarden_server.index.scores import Best, widest_scores


def filled(entries: int, each: int, graph_from: int = 10**9) -> EntryVectors:
    index = EntryVectors(DIMENSIONS, graph_from)
    count = entries * each
    index.add(range(count), [key // each for key in range(count)], unit_vectors(count))
    return index


def found(best: Best) -> list[tuple[int, int, int]]:
    return list(zip(best.entries.tolist(), best.keys.tolist(), best.queries.tolist(), strict=True))


class TestRows:
    def test_products_are_right_across_blocks(self) -> None:
        rows, queries = unit_vectors(5_000), unit_vectors(70, seed=6)
        np.testing.assert_allclose(widest_scores(rows, queries), (rows @ queries.T).max(axis=1), atol=1e-6)
        index = EntryVectors(DIMENSIONS, 10**9)
        index.add(range(5_000), [key // 7 for key in range(5_000)], rows)
        keys, cosines = index.search(queries, 5)
        for row, query in enumerate(queries):
            order = np.argsort(-(rows @ query))[:5]
            assert keys[row].tolist() == order.tolist()
            np.testing.assert_allclose(cosines[row], (rows @ query)[order], atol=1e-6)

    def test_what_a_snapshot_reads_stays_as_it_was(self) -> None:
        index = filled(10, 3)
        held = {name: (array, array.copy()) for name, array in index.arrays().items()}
        index.remove([0, 1, 2, 5])
        other = unit_vectors(4, seed=9)
        index.add([0, 5, 40, 41], [0, 1, 12, 11], other, [0.2] * 4, [0.5] * 4)
        index.remove(range(6, 30))
        index.add(range(100, 200), range(100, 200), unit_vectors(100, seed=2))
        for array, before in held.values():
            np.testing.assert_array_equal(array, before)
        best = index.score_entries([1], other[1:2])
        assert found(best) == [(1, 5, 0)]
        np.testing.assert_allclose([best.values[0], best.cosines[0]], [1.6, 1.0], atol=1e-5)

    def test_an_entry_that_is_enabled_again_takes_its_place(self) -> None:
        vectors = unit_vectors(12)
        index = filled(4, 3)
        rows = index.arrays()["vectors"]
        index.remove([3, 4, 5])
        assert found(index.find_entries(vectors[4:5], 9))[0][0] != 1
        index.add([5, 3, 4], [1, 1, 1], vectors[[5, 3, 4]], [0.25, 0.5, 0.75], [0.5, 1.0, 2.0])
        assert np.shares_memory(index.arrays()["vectors"], rows)
        best = index.score_entries([1], vectors[4:5])
        scores = {key: float((vectors[key] @ vectors[4] - mean) / deviation) for key, mean, deviation in SCALED}
        assert found(best) == [(1, max(scores, key=lambda key: scores[key]), 0)]
        assert best.values[0] == pytest.approx(max(scores.values()), abs=1e-5)

    def test_memory_comes_back(self) -> None:
        index = filled(1_000, 4)
        before = index.nbytes
        index.remove(range(2_001))
        assert index.nbytes < before * 0.6
        assert len(index) == 1_999
        index.remove(range(4_000))
        assert len(index) == 0
        assert index.nbytes < 5_000
        assert found(index.find_entries(unit_vectors(3), 2)) == []


SCALED = [(5, 0.25, 0.5), (3, 0.5, 1.0), (4, 0.75, 2.0)]


class TestGraph:
    def test_one_is_wanted_from_a_size_on_and_goes_below_half_of_it(self) -> None:
        index = filled(99, 2, graph_from=200)
        states = [(len(index), index.has_graph, index.wants_graph)]
        index.add([500, 501, 502], [500] * 3, unit_vectors(3, seed=3))
        states.append((len(index), index.has_graph, index.wants_graph))
        index.adopt(UsearchVectorIndex.built(*index.rows(), DIMENSIONS))
        states.append((len(index), index.has_graph, index.wants_graph))
        for gone in (range(100), [100]):
            index.remove(gone)
            states.append((len(index), index.has_graph, index.wants_graph))
        assert states == [
            (198, False, False),
            (201, False, True),
            (201, True, False),
            (101, True, False),
            (100, False, False),
        ]

    def test_a_graph_that_was_built_meanwhile_is_brought_up_to_date(self) -> None:
        vectors = unit_vectors(400)
        index = filled(100, 4, graph_from=100)
        graph = UsearchVectorIndex.built(*index.rows(), DIMENSIONS)
        index.remove(range(40, 80))
        index.add([900, 50], [900, 12], unit_vectors(2, seed=8), [0.0] * 2, [1.0] * 2)
        index.adopt(graph)
        assert sorted(graph.keys.tolist()) == sorted(index.rows()[0].tolist())
        for key in (0, 39, 80, 399):
            assert found(index.find_entries(vectors[key : key + 1], 1)) == [(key // 4, key, 0)]
        assert found(index.find_entries(unit_vectors(2, seed=8)[:1], 1)) == [(900, 900, 0)]

    def test_what_it_names_is_scored_by_all_queries_and_scales(self) -> None:
        """The first query finds the entry; a later one is nearer to another of its views."""
        vectors = unit_vectors(400)
        index = EntryVectors(DIMENSIONS, 100)
        means = np.linspace(-0.2, 0.2, 400).tolist()
        index.add(range(400), [key // 4 for key in range(400)], vectors, means, [0.5] * 400)
        index.adopt(UsearchVectorIndex.built(*index.rows(), DIMENSIONS))
        queries = np.concatenate([vectors[40:41], unit_vectors(GRAPH_QUERIES, seed=3), vectors[41:42]])
        best = index.find_entries(queries, 3)
        assert best.entries[0] == 10
        assert (best.keys[0], best.queries[0]) == (40, 0)
        expected = index.score_entries(best.entries, queries)
        assert found(expected) == found(best)
        assert best.values[0] == pytest.approx((1 - means[40]) / 0.5, abs=1e-5)


class TestRefusals:
    @pytest.mark.parametrize(
        ("mean", "deviation"), [(np.nan, 1), (np.inf, 1), (0, 0), (0, -1), (0, np.nan), (0, np.inf)]
    )
    def test_a_scale_that_scores_everything_or_nothing(self, mean: float, deviation: float) -> None:
        index = filled(2, 2)
        with pytest.raises(WrongScale, match="vector 1 of those given"):
            index.add([8, 9], [4, 4], unit_vectors(2), [0.0, mean], [1.0, deviation])
        assert len(index) == 4

    def test_columns_of_another_length_and_keys_that_are_there(self) -> None:
        index = filled(2, 2)
        with pytest.raises(WrongShape, match="entries"):
            index.add([8, 9], [4], unit_vectors(2))
        with pytest.raises(WrongShape, match="means"):
            index.add([8, 9], [4, 4], unit_vectors(2), [0.0], [1.0, 1.0])
        with pytest.raises(DuplicateKey, match="vector 3 is there"):
            index.add([8, 3], [4, 4], unit_vectors(2))
        with pytest.raises(DuplicateKey, match="twice"):
            index.add([8, 8], [4, 4], unit_vectors(2))
        assert len(index) == 4

    @pytest.mark.parametrize(
        ("wrong", "says"),
        [
            ({"keys": np.arange(3)}, "keys"),
            ({"entries": np.arange(4)[::-1]}, "order"),
            ({"entries": np.arange(4).astype(np.int32)}, "entries"),
            ({"live": np.ones(4, np.int8)}, "live"),
            ({"deviations": np.zeros(4, np.float32)}, "deviation 0"),
            ({"vectors": np.zeros((4, DIMENSIONS), np.float32)}, "norm 0"),
            ({"vectors": unit_vectors(4).astype(np.float64)}, "float64"),
        ],
    )
    def test_arrays_that_are_no_index(self, wrong: dict[str, Any], says: str) -> None:
        arrays = {**filled(2, 2).arrays(), **wrong}
        with pytest.raises(ValueError, match=says):
            EntryVectors.of(arrays, DIMENSIONS, 10**9)
