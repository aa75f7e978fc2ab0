"""What every SearchIndex does: the oracle, and the index as it comes up in each way."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from tests.unit.index.rows import (
    DIMENSIONS,
    EXTRACTOR,
    MODEL,
    OTHER_MODEL,
    LoggedCatalog,
    hash_row,
    local_features,
    local_row,
    pdq,
    unit_vectors,
    vector_row,
    without_features,
    without_vector,
)

from imagewarden_server.index import IndexSet, load_snapshot, open_index, save_snapshot
from imagewarden_server.matching.ports import Change, EntryHit, Hit, SearchIndex
from imagewarden_server.matching.types import HashSignal, SignalType, Vectors, VectorSpace

Come = Callable[[LoggedCatalog], SearchIndex]


def applied(catalog: LoggedCatalog) -> SearchIndex:
    index = IndexSet()
    index.apply(catalog.log)
    return index


def oracle(catalog: LoggedCatalog) -> SearchIndex:
    return catalog.rows()


@contextmanager
def _ways(name: str, directory: Path) -> Iterator[Come]:
    def loaded(catalog: LoggedCatalog) -> SearchIndex:
        index = IndexSet()
        index.apply(catalog.log)
        save_snapshot(index, directory, catalog.id)
        again, problems = load_snapshot(directory, catalog.id, catalog.revision())
        assert problems == []
        assert again is not None
        return again

    def caught_up(catalog: LoggedCatalog) -> SearchIndex:
        index = IndexSet()
        index.apply(catalog.log[: len(catalog.log) // 2])
        save_snapshot(index, directory, catalog.id)
        again, how, _ = open_index(directory, catalog)
        assert how == "snapshot"
        return again

    def rebuilt(catalog: LoggedCatalog) -> SearchIndex:
        again, how, _ = open_index(directory, catalog)
        assert how == "rebuilt"
        return again

    yield {"oracle": oracle, "applied": applied, "loaded": loaded, "caught up": caught_up, "rebuilt": rebuilt}[name]


@pytest.fixture(params=["oracle", "applied", "loaded", "caught up", "rebuilt"])
def come(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Come]:
    with _ways(request.param, tmp_path) as way:
        yield way


def keys(hits: list[Hit]) -> list[int]:
    return [hit.key for hit in hits]


class TestSearchIndex:
    def test_a_new_one_finds_nothing(self, come: Come) -> None:
        index = come(LoggedCatalog())
        assert index.revision == 0
        assert index.find_pdq([1], [pdq(1)], 256) == []
        assert index.find_digests([1], [HashSignal(SignalType.MD5, bytes(16))]) == []
        assert index.find_vectors([1], VectorSpace.COPY, MODEL, unit_vectors(1), 5) == []
        assert index.hash_count([1], SignalType.PDQ) == 0
        assert index.vector_models([1], VectorSpace.COPY) == {}
        assert index.hash_distances([1], [1], [pdq(1)]) == []
        assert index.find_entries([1], VectorSpace.COPY, MODEL, unit_vectors(3), 5) == []
        assert index.score_entries([1], [1], VectorSpace.COPY, MODEL, unit_vectors(3)) == []
        assert index.find_local([1], EXTRACTOR, local_features(1), 5) == []
        assert index.local_features([1], [1], EXTRACTOR) == []
        assert index.local_count([1]) == {}

    @pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
    def test_each_of_a_few_entries_is_found(self, come: Come, count: int) -> None:
        vectors = unit_vectors(count)
        catalog = LoggedCatalog()
        for number in range(count):
            catalog.commit(
                Change(
                    number + 1,
                    added_hashes=[
                        hash_row(2 * number, pdq(number)),
                        hash_row(2 * number + 1, bytes([number]) * 32, SignalType.SHA256),
                    ],
                    added_vectors=[vector_row(number, vectors[number])],
                )
            )
        index = come(catalog)
        assert index.revision == count
        for number in range(count):
            assert index.find_pdq([1], [pdq(number)], 31) == [Hit(2 * number, 0, 0.0)]
            digest = HashSignal(SignalType.SHA256, bytes([number]) * 32)
            assert index.find_digests([1], [digest]) == [Hit(2 * number + 1, 0, 0.0)]
            best = index.find_vectors([1], VectorSpace.COPY, MODEL, vectors[number : number + 1], 1)
            assert keys(best) == [number]
            assert best[0].value == pytest.approx(1.0, abs=2e-3)
        assert index.hash_count([1], SignalType.PDQ) == count
        assert index.hash_count([1], SignalType.SHA256) == count
        assert index.hash_count([1], SignalType.MD5) == 0
        assert index.vector_models([1], VectorSpace.COPY) == {(MODEL, DIMENSIONS): count}

    @pytest.mark.parametrize("count", [1, 2, 4, 8, 16])
    def test_each_of_identical_hashes_is_found(self, come: Come, count: int) -> None:
        catalog = LoggedCatalog()
        catalog.commit(Change(1, added_hashes=[hash_row(key, pdq(3)) for key in range(count)]))
        assert keys(come(catalog).find_pdq([1], [pdq(3)], 0)) == list(range(count))

    def test_pdq_finds_all_within_the_distance_and_none_beyond(self, come: Come) -> None:
        catalog = LoggedCatalog()
        catalog.commit(Change(1, added_hashes=[hash_row(bits, pdq(1, flipped=bits)) for bits in range(61)]))
        index = come(catalog)
        hits = index.find_pdq([1], [pdq(2), pdq(1)], 31)
        assert hits == [Hit(bits, 1, float(bits)) for bits in range(32)]
        assert index.find_pdq([1], [pdq(1)], 0) == [Hit(0, 0, 0.0)]
        assert len(index.find_pdq([1], [pdq(1)], 256)) == 61

    def test_a_digest_is_found_by_its_type_alone(self, come: Come) -> None:
        catalog = LoggedCatalog()
        catalog.commit(
            Change(
                1,
                added_hashes=[
                    hash_row(1, bytes(16), SignalType.MD5),
                    hash_row(2, bytes(20), SignalType.SHA1),
                    hash_row(3, bytes(32), SignalType.SHA256),
                    hash_row(4, bytes(32), SignalType.PDQ),
                    hash_row(5, bytes(16), SignalType.MD5),
                ],
            )
        )
        index = come(catalog)
        queries = [HashSignal(SignalType.SHA256, bytes(32)), HashSignal(SignalType.MD5, bytes(16))]
        assert index.find_digests([1], queries) == [Hit(3, 0, 0.0), Hit(1, 1, 0.0), Hit(5, 1, 0.0)]
        assert index.hash_count([1], SignalType.MD5) == 2

    def test_banks_that_were_not_asked_take_no_result_away(self, come: Come) -> None:
        vectors = unit_vectors(300)
        catalog = LoggedCatalog()
        crowd = [vector_row(key, vectors[0], bank=2) for key in range(1000, 1250)]
        catalog.commit(Change(1, added_vectors=crowd, added_hashes=[hash_row(9, pdq(1), bank=2)]))
        catalog.commit(Change(2, added_vectors=[vector_row(key, vectors[key], bank=1) for key in range(300)]))
        catalog.commit(Change(3, added_hashes=[hash_row(8, pdq(1), bank=1), hash_row(7, bytes(16), SignalType.MD5)]))
        index = come(catalog)
        hits = index.find_vectors([1], VectorSpace.COPY, MODEL, vectors[:1], 20)
        assert len(hits) == 20
        assert hits[0].key == 0
        assert {hit.key for hit in hits} <= set(range(300))
        both = index.find_vectors([1, 2], VectorSpace.COPY, MODEL, vectors[:1], 20)
        assert len(both) == 40
        assert [hit.value for hit in both] == sorted((hit.value for hit in both), reverse=True)
        assert index.find_pdq([1], [pdq(1)], 31) == [Hit(8, 0, 0.0)]
        assert index.find_pdq([3], [pdq(1)], 31) == []
        assert index.find_digests([2], [HashSignal(SignalType.MD5, bytes(16))]) == []

    def test_vectors_of_another_model_or_space_are_never_compared(self, come: Come) -> None:
        vector = unit_vectors(1)
        catalog = LoggedCatalog()
        catalog.commit(
            Change(
                1,
                added_vectors=[
                    vector_row(1, vector[0]),
                    vector_row(2, vector[0], model=OTHER_MODEL),
                    vector_row(3, vector[0], space=VectorSpace.LOGO),
                    vector_row(4, unit_vectors(1, dimensions=40)[0], space=VectorSpace.SEMANTIC),
                ],
            )
        )
        index = come(catalog)
        assert keys(index.find_vectors([1], VectorSpace.COPY, MODEL, vector, 9)) == [1]
        assert keys(index.find_vectors([1], VectorSpace.COPY, OTHER_MODEL, vector, 9)) == [2]
        assert keys(index.find_vectors([1], VectorSpace.LOGO, MODEL, vector, 9)) == [3]
        assert index.find_vectors([1], VectorSpace.LOGO, OTHER_MODEL, vector, 9) == []
        assert index.vector_models([1], VectorSpace.COPY) == {(MODEL, DIMENSIONS): 1, (OTHER_MODEL, DIMENSIONS): 1}
        assert index.vector_models([1, 2], VectorSpace.SEMANTIC) == {(MODEL, 40): 1}

    def test_vectors_of_other_dimensions_hold_nothing_up_and_are_never_compared(self, come: Come) -> None:
        vectors, odd = unit_vectors(3), unit_vectors(2, dimensions=4)
        strays = [vector_row(7, odd[0], entry=7), vector_row(8, odd[1], entry=8)]
        catalog = LoggedCatalog()
        catalog.commit(Change(1, added_vectors=strays))
        catalog.commit(Change(2, added_vectors=[vector_row(key, vectors[key], entry=key) for key in range(3)]))
        catalog.commit(Change(3, removed_vectors=[without_vector(strays[0])]))
        index = come(catalog)
        assert index.vector_models([1], VectorSpace.COPY) == {(MODEL, 4): 1, (MODEL, DIMENSIONS): 3}
        assert sorted(keys(index.find_vectors([1], VectorSpace.COPY, MODEL, vectors[:1], 9))) == [0, 1, 2]
        assert {hit.entry for hit in index.find_entries([1], VectorSpace.COPY, MODEL, vectors, 9)} == {0, 1, 2}
        assert [hit.entry for hit in index.score_entries([1, 8], [1], VectorSpace.COPY, MODEL, vectors)] == [1]
        assert index.find_entries([1], VectorSpace.COPY, MODEL, unit_vectors(1, dimensions=25), 3) == []
        catalog.commit(Change(4, removed_vectors=[without_vector(strays[1])]))
        index.apply(catalog.changes(index.revision))
        assert index.vector_models([1], VectorSpace.COPY) == {(MODEL, DIMENSIONS): 3}

    def test_what_is_removed_is_not_found_and_comes_back(self, come: Come) -> None:
        vectors = unit_vectors(3)
        hashes = [hash_row(1, pdq(1)), hash_row(2, bytes(16), SignalType.MD5), hash_row(3, bytes(16), SignalType.MD5)]
        rows = [vector_row(key, vectors[key]) for key in range(3)]
        catalog = LoggedCatalog()
        catalog.commit(Change(1, added_hashes=hashes, added_vectors=rows))
        catalog.commit(Change(2, removed_hashes=hashes[:2], removed_vectors=[without_vector(row) for row in rows[:2]]))
        index = come(catalog)
        assert index.find_pdq([1], [pdq(1)], 31) == []
        assert keys(index.find_digests([1], [HashSignal(SignalType.MD5, bytes(16))])) == [3]
        assert keys(index.find_vectors([1], VectorSpace.COPY, MODEL, vectors[:1], 9)) == [2]
        catalog.commit(Change(3, added_hashes=hashes[:2], added_vectors=rows[:2]))
        index.apply(catalog.changes(index.revision))
        assert index.find_pdq([1], [pdq(1)], 31) == [Hit(1, 0, 0.0)]
        assert keys(index.find_digests([1], [HashSignal(SignalType.MD5, bytes(16))])) == [2, 3]
        assert keys(index.find_vectors([1], VectorSpace.COPY, MODEL, vectors[:1], 1)) == [0]
        assert index.vector_models([1], VectorSpace.COPY) == {(MODEL, DIMENSIONS): 3}

    def test_a_removed_bank_goes_with_all_it_had(self, come: Come) -> None:
        vector = unit_vectors(1)
        catalog = LoggedCatalog()
        for bank in (1, 2):
            catalog.commit(
                Change(
                    bank,
                    added_hashes=[hash_row(bank, pdq(1), bank=bank)],
                    added_vectors=[vector_row(bank, vector[0], bank=bank)],
                )
            )
        catalog.commit(Change(3, removed_bank=1))
        index = come(catalog)
        assert keys(index.find_pdq([1, 2], [pdq(1)], 31)) == [2]
        assert keys(index.find_vectors([1, 2], VectorSpace.COPY, MODEL, vector, 5)) == [2]
        assert index.hash_count([1], SignalType.PDQ) == 0
        assert index.vector_models([1], VectorSpace.COPY) == {}

    def test_a_query_row_is_named_by_its_hits(self, come: Come) -> None:
        vectors = unit_vectors(5)
        catalog = LoggedCatalog()
        catalog.commit(Change(1, added_vectors=[vector_row(key, vectors[key]) for key in range(5)]))
        hits = come(catalog).find_vectors([1], VectorSpace.COPY, MODEL, vectors[[3, 1]], 1)
        assert [(hit.key, hit.query) for hit in hits] == [(3, 0), (1, 1)]
        assert come(catalog).find_vectors([1], VectorSpace.COPY, MODEL, np.empty((0, 24), np.float32), 1) == []


def assert_same(found: list[EntryHit], expected: list[EntryHit]) -> None:
    """Equal but for rounding: scores as near as float32 has them, and each of the key and query that it says."""
    assert [hit.entry for hit in found] == [hit.entry for hit in expected]
    assert [(hit.key, hit.query) for hit in found] == [(hit.key, hit.query) for hit in expected]
    np.testing.assert_allclose([hit.value for hit in found], [hit.value for hit in expected], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose([hit.cosine for hit in found], [hit.cosine for hit in expected], atol=1e-5)


def views(entries: int, each: int, seed: int = 5) -> Vectors:
    return unit_vectors(entries * each, seed).reshape(entries, each, DIMENSIONS)


class TestEntries:
    def logos(self, entries: int = 60, each: int = 7) -> LoggedCatalog:
        """Entries of several views in two banks, each with a scale of its own, and some that went again."""
        generator = np.random.default_rng(4)
        catalog = LoggedCatalog()
        rows = [
            vector_row(
                100 + each * entry + view,
                vector,
                bank=1 + entry % 2,
                entry=entry,
                scale=(float(generator.uniform(-0.1, 0.3)), float(generator.uniform(0.05, 0.5))),
            )
            for entry, group in enumerate(views(entries, each))
            for view, vector in enumerate(group)
        ]
        for begin in range(0, len(rows), 3 * each):
            catalog.commit(Change(catalog.revision() + 1, added_vectors=rows[begin : begin + 3 * each]))
        gone = [row for row in rows if row.entry % 5 == 0]
        catalog.commit(Change(catalog.revision() + 1, removed_vectors=[without_vector(row) for row in gone]))
        back = [row for row in gone if row.entry % 3 == 0]
        catalog.commit(Change(catalog.revision() + 1, added_vectors=back))
        return catalog

    @pytest.mark.parametrize("k", [1, 3, 20, 1_000])
    def test_the_best_entries_are_those_of_the_plain_product(self, come: Come, k: int) -> None:
        catalog = self.logos()
        index, plain = come(catalog), catalog.rows()
        queries = unit_vectors(31, seed=9)
        for banks in ([1], [2], [1, 2], [3]):
            found = index.find_entries(banks, VectorSpace.COPY, MODEL, queries, k)
            assert_same(found, plain.find_entries(banks, VectorSpace.COPY, MODEL, queries, k))
            assert [hit.value for hit in found] == sorted((hit.value for hit in found), reverse=True)
        assert index.find_entries([1], VectorSpace.LOGO, MODEL, queries, k) == []
        assert index.find_entries([1], VectorSpace.COPY, OTHER_MODEL, queries, k) == []
        assert index.find_entries([1], VectorSpace.COPY, MODEL, queries[:0], k) == []

    def test_the_scale_decides_and_not_the_cosine(self, come: Come) -> None:
        query = np.eye(DIMENSIONS, dtype=np.float32)[:1]
        near, far = np.zeros((2, DIMENSIONS), np.float32)
        near[:2], far[:2] = (0.8, 0.6), (0.6, 0.8)
        catalog = LoggedCatalog()
        catalog.commit(
            Change(
                1,
                added_vectors=[
                    vector_row(1, near, entry=1, scale=(0.5, 0.1)),
                    vector_row(2, far, entry=2, scale=(0.1, 0.1)),
                ],
            )
        )
        greedy, modest = come(catalog).find_entries([1], VectorSpace.COPY, MODEL, query, 2)[::-1]
        assert (greedy.entry, modest.entry) == (1, 2)
        np.testing.assert_allclose([greedy.value, greedy.cosine], [3.0, 0.8], rtol=1e-4)
        np.testing.assert_allclose([modest.value, modest.cosine], [5.0, 0.6], rtol=1e-4)

    def test_the_given_entries_are_scored_and_no_others(self, come: Come) -> None:
        catalog = self.logos()
        index, plain = come(catalog), catalog.rows()
        queries = unit_vectors(9, seed=8)
        for entries in ([7], [3, 8, 3, 20, 41], [5, 10], [999], [], list(range(60))):
            found = index.score_entries(entries, [1, 2], VectorSpace.COPY, MODEL, queries)
            assert_same(found, plain.score_entries(entries, [1, 2], VectorSpace.COPY, MODEL, queries))
        assert index.score_entries([7], [1], VectorSpace.COPY, MODEL, queries) == []
        assert index.score_entries([8], [1], VectorSpace.COPY, MODEL, queries[:0]) == []

    def test_an_entry_that_comes_back_after_later_ones_is_found(self, come: Come) -> None:
        vectors = unit_vectors(8)
        rows = [vector_row(key, vectors[key], entry=key) for key in range(8)]
        catalog = LoggedCatalog()
        catalog.commit(Change(1, added_vectors=rows[1:7]))
        catalog.commit(Change(2, removed_vectors=[without_vector(row) for row in rows[1:6]]))
        catalog.commit(Change(3, added_vectors=[rows[7], rows[3], rows[0]]))
        index = come(catalog)
        for entry in (0, 3, 6, 7):
            (best,) = index.find_entries([1], VectorSpace.COPY, MODEL, vectors[entry : entry + 1], 1)
            assert best.entry == entry
            assert best.cosine == pytest.approx(1.0)
        assert len(index.find_entries([1], VectorSpace.COPY, MODEL, vectors, 9)) == 4

    def test_distances_of_given_entries_are_exact(self, come: Come) -> None:
        catalog = LoggedCatalog()
        rows = [hash_row(key, pdq(key), bank=1 + key // 20, entry=key // 4) for key in range(40)]
        rows += [hash_row(90, bytes(32), SignalType.SHA256, entry=1), hash_row(91, pdq(7, flipped=9), entry=30)]
        catalog.commit(Change(1, added_hashes=rows))
        catalog.commit(Change(2, removed_hashes=rows[:5]))
        catalog.commit(Change(3, added_hashes=rows[3:4]))
        index, plain = come(catalog), catalog.rows()
        queries = [pdq(7), pdq(3), pdq(100), pdq(23, flipped=4)]
        for entries in ([2, 30], [0, 1, 1, 7, 12], [77], [], list(range(31))):
            for banks in ([1], [1, 2], [3]):
                found = index.hash_distances(entries, banks, queries)
                assert found == plain.hash_distances(entries, banks, queries)
        assert index.hash_distances([1, 30], [1], queries) == [Hit(1, 0, 0.0), Hit(30, 0, 9.0)]
        assert index.hash_distances([2], [1], []) == []


class TestLocal:
    def test_each_set_is_found_by_its_own_keypoints(self, come: Come) -> None:
        catalog = LoggedCatalog()
        rows = [local_row(key, seed=key, bank=1 + key % 2) for key in range(12)]
        catalog.commit(Change(1, added_locals=[*rows, local_row(50, seed=0, extractor="other", bank=1)]))
        catalog.commit(Change(2, removed_locals=[without_features(row) for row in rows[:4]]))
        catalog.commit(Change(3, added_locals=rows[1:2]))
        index = come(catalog)
        assert index.local_count([1, 2]) == {EXTRACTOR: 9, "other": 1}
        assert index.local_count([1]) == {EXTRACTOR: 4, "other": 1}
        for row in (rows[1], *rows[4:]):
            best = index.find_local([1, 2], EXTRACTOR, row.features, 3)[0]
            assert (best.entry, best.key, best.mirrored) == (row.entry, row.key, False)
            assert index.find_local([3 - row.bank], EXTRACTOR, row.features, 3)[:1] != [best]
        for row in rows[:1] + rows[2:4]:
            assert row.key not in [one.key for one in index.find_local([1, 2], EXTRACTOR, row.features, 9)]
        (other,) = index.find_local([1], "other", rows[0].features, 3)
        assert (other.entry, other.key) == (25, 50)
        assert index.find_local([1], "third", rows[0].features, 3) == []

    def test_the_features_of_given_entries_come_back(self, come: Come) -> None:
        catalog = LoggedCatalog()
        rows = [local_row(key, seed=key, bank=1 + key // 4) for key in range(8)]
        catalog.commit(Change(1, added_locals=rows))
        catalog.commit(Change(2, removed_locals=[without_features(rows[3])]))
        index = come(catalog)
        found = index.local_features([3, 1, 99, 3], [1, 2], EXTRACTOR)
        assert [(row.key, row.entry, row.bank) for row in found] == [(6, 3, 2), (7, 3, 2), (2, 1, 1)]
        for row in found:
            np.testing.assert_array_equal(row.features.points, rows[row.key].features.points)
            np.testing.assert_array_equal(row.features.descriptors, rows[row.key].features.descriptors)
            assert row.features.aspect == rows[row.key].features.aspect
        assert index.local_features([3], [1], EXTRACTOR) == []
        assert index.local_features([3], [2], "other") == []

    def test_a_removed_bank_goes_with_its_features(self, come: Come) -> None:
        catalog = LoggedCatalog()
        catalog.commit(Change(1, added_locals=[local_row(1, seed=1), local_row(2, seed=2, bank=2)]))
        catalog.commit(Change(2, removed_bank=1))
        index = come(catalog)
        assert index.local_count([1, 2]) == {EXTRACTOR: 1}
        assert index.local_features([0, 1], [1, 2], EXTRACTOR)[0].key == 2
