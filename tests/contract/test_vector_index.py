"""What every index of vectors does: the exact one, usearch's graph, an entry's vectors without a graph and with one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from imagewarden_server.index import (
    DuplicateKey,
    EntryVectors,
    ExactVectorIndex,
    NotUnitVector,
    UsearchVectorIndex,
    WrongShape,
)
from imagewarden_server.index.vectors import Matrix, read_arrays, write_arrays

DIMENSIONS = 32


class Entries(EntryVectors):
    """Two views an entry, without a graph."""

    def __init__(self, dimensions: int) -> None:
        super().__init__(dimensions, 10**9)

    def add(self, keys: Sequence[int], vectors: Matrix) -> None:  # type: ignore[override]
        super().add(keys, [key // 2 for key in keys], vectors)

    def save(self, path: Path) -> None:
        write_arrays(path, self.arrays())

    @classmethod
    def load(cls, path: Path, dimensions: int) -> Entries:
        made = cls(dimensions)
        made.__dict__.update(EntryVectors.of(read_arrays(path), dimensions, 10**9).__dict__)
        return made


class EntriesWithGraph(Entries):
    """Two views an entry, with a graph from the first vector on."""

    def __init__(self, dimensions: int) -> None:
        super().__init__(dimensions)
        self._graph_from = 0

    def add(self, keys: Sequence[int], vectors: Matrix) -> None:  # type: ignore[override]
        super().add(keys, vectors)
        if self.wants_graph:
            self.adopt(self.graph_of(*self.rows()))


class EntriesWithReducedGraph(EntriesWithGraph):
    """Two views an entry, with a graph on half of their axes."""

    def __init__(self, dimensions: int) -> None:
        super().__init__(dimensions)
        self._graph_axes = dimensions // 2


Index = ExactVectorIndex | UsearchVectorIndex | Entries
Make = Callable[[int], Index]


@pytest.fixture(params=[ExactVectorIndex, UsearchVectorIndex, Entries, EntriesWithGraph, EntriesWithReducedGraph])
def kind(request: pytest.FixtureRequest) -> type[Index]:
    made: type[Index] = request.param
    return made


def unit_vectors(count: int, seed: int = 7, dimensions: int = DIMENSIONS) -> Matrix:
    vectors = np.random.default_rng(seed).standard_normal((count, dimensions)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def nearest(index: Index, queries: Matrix) -> list[int]:
    return [int(keys[0]) for keys in index.search(queries, 1)[0]]


class TestVectorIndex:
    def test_an_empty_one_finds_nothing(self, kind: type[Index]) -> None:
        keys, similarities = kind(DIMENSIONS).search(unit_vectors(2), 5)
        assert [len(one) for one in keys] == [0, 0]
        assert [len(one) for one in similarities] == [0, 0]

    def test_no_query_finds_nothing(self, kind: type[Index]) -> None:
        index = kind(DIMENSIONS)
        index.add([1], unit_vectors(1))
        assert index.search(np.empty((0, DIMENSIONS), np.float32), 3) == ([], [])

    @pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 9, 16, 17, 100])
    def test_each_entry_is_found_after_save_and_load(self, kind: type[Index], count: int, tmp_path: Path) -> None:
        vectors = unit_vectors(count)
        keys = list(range(1000, 1000 + count))
        index = kind(DIMENSIONS)
        index.add(keys, vectors)
        index.save(tmp_path / "index")
        loaded = kind.load(tmp_path / "index", DIMENSIONS)
        assert len(loaded) == count
        assert nearest(index, vectors) == keys
        assert nearest(loaded, vectors) == keys
        assert [nearest(loaded, vectors[row : row + 1]) for row in range(count)] == [[key] for key in keys]

    @pytest.mark.parametrize("count", [1, 2, 4, 8, 16])
    def test_each_of_identical_vectors_is_found_after_save_and_load(
        self, kind: type[Index], count: int, tmp_path: Path
    ) -> None:
        same = np.repeat(unit_vectors(1), count, axis=0)
        index = kind(DIMENSIONS)
        index.add(list(range(count)), same)
        index.save(tmp_path / "index")
        keys, _ = kind.load(tmp_path / "index", DIMENSIONS).search(same[:1], count)
        assert sorted(keys[0].tolist()) == list(range(count))

    def test_an_empty_one_is_saved_and_loaded(self, kind: type[Index], tmp_path: Path) -> None:
        kind(DIMENSIONS).save(tmp_path / "index")
        loaded = kind.load(tmp_path / "index", DIMENSIONS)
        assert len(loaded) == 0
        loaded.add([5], unit_vectors(1))
        assert nearest(loaded, unit_vectors(1)) == [5]

    def test_similarities_are_cosines_and_fall(self, kind: type[Index]) -> None:
        vectors = unit_vectors(200)
        index = kind(DIMENSIONS)
        index.add(list(range(200)), vectors)
        query = unit_vectors(3, seed=8)
        for row, (keys, similarities) in enumerate(zip(*index.search(query, 10), strict=True)):
            assert keys.dtype == np.int64
            assert len(keys) == 10
            np.testing.assert_allclose(similarities, vectors[keys] @ query[row], atol=2e-3)
            assert (np.diff(similarities) <= 0).all()
            assert similarities.max() <= 1.0

    def test_k_may_be_greater_than_the_index(self, kind: type[Index]) -> None:
        index = kind(DIMENSIONS)
        index.add([1, 2, 3], unit_vectors(3))
        assert sorted(index.search(unit_vectors(1), 50)[0][0].tolist()) == [1, 2, 3]

    @pytest.mark.parametrize("k", [0, -1])
    def test_k_must_be_positive(self, kind: type[Index], k: int) -> None:
        with pytest.raises(WrongShape, match="at least 1"):
            kind(DIMENSIONS).search(unit_vectors(1), k)

    def test_a_removed_one_is_not_found_and_another_is_in_its_place(self, kind: type[Index]) -> None:
        vectors = unit_vectors(10)
        index = kind(DIMENSIONS)
        index.add(list(range(10)), vectors)
        index.remove([4, 4, 77])
        index.remove([4])
        assert len(index) == 9
        assert 4 not in index
        assert 5 in index
        assert 4 not in index.search(vectors[4:5], 10)[0][0]
        assert len(index.search(vectors[4:5], 10)[0][0]) == 9

    def test_all_removed_and_added_again(self, kind: type[Index]) -> None:
        vectors = unit_vectors(200)
        index = kind(DIMENSIONS)
        index.add(list(range(200)), vectors)
        index.remove(list(range(200)))
        assert len(index) == 0
        assert [len(keys) for keys in index.search(vectors[:2], 3)[0]] == [0, 0]
        index.add(list(range(100)), vectors[:100])
        assert nearest(index, vectors[:100]) == list(range(100))

    def test_a_removed_one_comes_back(self, kind: type[Index]) -> None:
        vectors = unit_vectors(20)
        index = kind(DIMENSIONS)
        index.add(list(range(20)), vectors)
        index.remove([3, 4])
        index.add([3], vectors[3:4])
        assert len(index) == 19
        assert nearest(index, vectors[3:4]) == [3]
        assert 4 not in index.search(vectors[4:5], 20)[0][0]

    def test_a_removed_key_comes_back_with_another_vector(self, kind: type[Index]) -> None:
        vectors = unit_vectors(20)
        index = kind(DIMENSIONS)
        index.add(list(range(20)), vectors)
        index.remove([3, 4])
        other = unit_vectors(1, seed=99)
        index.add([3, 50], np.concatenate([other, vectors[4:5]]))
        keys, similarities = index.search(np.concatenate([other, vectors[3:4]]), 1)
        assert keys[0].tolist() == [3]
        assert similarities[0][0] == pytest.approx(1.0, abs=2e-3)
        assert similarities[1][0] < 0.9
        assert nearest(index, vectors[4:5]) == [50]
        assert len(index) == 20

    def test_removals_survive_save_and_load(self, kind: type[Index], tmp_path: Path) -> None:
        vectors = unit_vectors(100)
        index = kind(DIMENSIONS)
        index.add(list(range(100)), vectors)
        index.remove(list(range(30)))
        index.save(tmp_path / "index")
        loaded = kind.load(tmp_path / "index", DIMENSIONS)
        assert len(loaded) == 70
        keys, _ = loaded.search(vectors, 70)
        assert all(sorted(row.tolist()) == list(range(30, 100)) for row in keys)
        loaded.add([0], vectors[:1])
        assert nearest(loaded, vectors[:1]) == [0]

    def test_the_nearest_live_one_is_found_behind_many_removed(self, kind: type[Index]) -> None:
        base = unit_vectors(1)[0]
        close = base + 0.01 * unit_vectors(60, seed=3)
        close = np.asarray(close / np.linalg.norm(close, axis=1, keepdims=True), np.float32)
        index = kind(DIMENSIONS)
        index.add(list(range(60)), close)
        index.add([60, 61], unit_vectors(2, seed=4))
        index.add(list(range(100, 150)), unit_vectors(50, seed=5))
        index.remove(list(range(50)))
        keys, _ = index.search(base[None], 11)
        assert set(keys[0][:10].tolist()) == set(range(50, 60))
        assert len(keys[0]) == 11

    @pytest.mark.parametrize(
        ("bad", "error", "says"),
        [
            (np.full((1, DIMENSIONS), np.nan, np.float32), NotUnitVector, "norm nan"),
            (np.full((1, DIMENSIONS), np.inf, np.float32), NotUnitVector, "norm inf"),
            (np.zeros((1, DIMENSIONS), np.float32), NotUnitVector, "norm 0"),
            (np.ones((1, DIMENSIONS), np.float32), NotUnitVector, "norm 5"),
            (unit_vectors(1, dimensions=DIMENSIONS + 1), WrongShape, "33"),
            (unit_vectors(1)[0], WrongShape, r"\(32,\)"),
            (unit_vectors(2), WrongShape, r"\(2, 32\)"),
        ],
    )
    def test_what_would_poison_it_is_refused(
        self, kind: type[Index], bad: Matrix, error: type[Exception], says: str
    ) -> None:
        vectors = unit_vectors(5)
        index = kind(DIMENSIONS)
        index.add(list(range(5)), vectors)
        with pytest.raises(error, match=says):
            index.add([9], bad)
        if bad.ndim == 2 and bad.shape == (1, DIMENSIONS):
            with pytest.raises(error):
                index.add([9, 10], np.concatenate([unit_vectors(1), bad]))
            with pytest.raises(error):
                index.search(bad, 3)
        assert len(index) == 5
        assert 9 not in index
        assert nearest(index, vectors) == list(range(5))

    def test_a_query_of_other_dimensions_is_refused(self, kind: type[Index]) -> None:
        index = kind(DIMENSIONS)
        index.add([1], unit_vectors(1))
        with pytest.raises(WrongShape, match="33"):
            index.search(unit_vectors(1, dimensions=DIMENSIONS + 1), 1)

    @pytest.mark.parametrize("keys", [[2, 9], [9, 2], [9, 9]])
    def test_a_duplicate_key_is_refused_and_nothing_added(self, kind: type[Index], keys: list[int]) -> None:
        vectors = unit_vectors(5)
        index = kind(DIMENSIONS)
        index.add(list(range(5)), vectors)
        with pytest.raises(DuplicateKey):
            index.add(keys, unit_vectors(2, seed=8))
        assert len(index) == 5
        assert 9 not in index
        assert nearest(index, vectors) == list(range(5))

    def test_a_file_that_is_none_is_refused(self, kind: type[Index], tmp_path: Path) -> None:
        path = tmp_path / "index"
        path.write_bytes(b"no index at all")
        with pytest.raises(ValueError, match=r"pickle|cannot"):
            kind.load(path, DIMENSIONS)

    def test_a_file_of_other_dimensions_is_refused(self, kind: type[Index], tmp_path: Path) -> None:
        index = kind(DIMENSIONS)
        index.add([1], unit_vectors(1))
        index.save(tmp_path / "index")
        with pytest.raises(ValueError, match="33"):
            kind.load(tmp_path / "index", DIMENSIONS + 1)

    def test_its_size_in_bytes_grows(self, kind: type[Index]) -> None:
        index = kind(DIMENSIONS)
        before = index.nbytes
        index.add(list(range(100)), unit_vectors(100))
        assert index.nbytes >= before + 100 * DIMENSIONS


class TestUsearch:
    def test_recall_of_the_graph(self) -> None:
        generator = np.random.default_rng(2)
        centres = generator.standard_normal((100, DIMENSIONS))
        raw = centres[generator.integers(0, 100, 4_000)] + 0.6 * generator.standard_normal((4_000, DIMENSIONS))
        vectors = np.asarray(raw / np.linalg.norm(raw, axis=1, keepdims=True), np.float32)
        graph, exact = UsearchVectorIndex(DIMENSIONS), ExactVectorIndex(DIMENSIONS)
        for index in (graph, exact):
            index.add(list(range(3_900)), vectors[:3_900])
        found, expected = graph.search(vectors[3_900:], 10)[0], exact.search(vectors[3_900:], 10)[0]
        hits = [len(set(one.tolist()) & set(other.tolist())) for one, other in zip(found, expected, strict=True)]
        assert np.mean(hits) / 10 > 0.97

    def test_every_vector_is_found_by_itself_however_many_were_exchanged(self) -> None:
        """With usearch's own remove, which gives a removed one's place to the next, some are lost."""
        generator = np.random.default_rng(1)
        centres = generator.standard_normal((60, DIMENSIONS))
        held: dict[int, Matrix] = {}
        index = UsearchVectorIndex(DIMENSIONS)
        following = 0
        for _ in range(3):
            if held:
                gone = generator.permutation(list(held))[: int(len(held) * 0.6)].tolist()
                index.remove(gone)
                for key in gone:
                    del held[key]
            count = 2_000 - len(held)
            raw = centres[generator.integers(0, 60, count)] + 0.5 * generator.standard_normal((count, DIMENSIONS))
            vectors = np.asarray(raw / np.linalg.norm(raw, axis=1, keepdims=True), np.float32)
            keys = list(range(following, following + count))
            following += count
            index.add(keys, vectors)
            held.update(zip(keys, vectors, strict=True))
        assert nearest(index, np.stack(list(held.values()))) == list(held)

    def test_a_small_graph_that_is_mostly_removed_is_built_anew(self) -> None:
        vectors = unit_vectors(1_000)
        index = UsearchVectorIndex(DIMENSIONS)
        index.add(list(range(1_000)), vectors)
        before = index.nbytes
        index.remove(list(range(501)))
        assert not index.worn
        assert index.nbytes < before * 0.6
        assert nearest(index, vectors[501:]) == list(range(501, 1_000))

    def test_a_large_one_says_that_it_is_worn(self) -> None:
        vectors = unit_vectors(2_300, dimensions=8)
        index = UsearchVectorIndex(8)
        index.add(list(range(2_300)), vectors)
        index.remove(list(range(1_150)))
        before = index.worn
        index.remove([1_150])
        assert (before, index.worn) == (False, True)
        fresh = index.rebuilt()
        assert not fresh.worn
        assert fresh.nbytes < index.nbytes
        assert len(fresh) == len(index) == 1_149
        assert sorted(fresh.keys.tolist()) == list(range(1_151, 2_300))
