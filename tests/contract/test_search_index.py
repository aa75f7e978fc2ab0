"""What every SearchIndex does: the oracle, and the index as it comes up in each way."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from tests.unit.index.rows import (
    MODEL,
    OTHER_MODEL,
    LoggedCatalog,
    hash_row,
    pdq,
    unit_vectors,
    vector_row,
    without_vector,
)

from imagewarden_server.index import IndexSet, load_snapshot, open_index, save_snapshot
from imagewarden_server.matching.ports import Change, Hit, SearchIndex
from imagewarden_server.matching.types import HashSignal, SignalType, VectorSpace

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
        assert index.vector_models([1], VectorSpace.COPY) == {MODEL: count}

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
        assert index.vector_models([1], VectorSpace.COPY) == {MODEL: 1, OTHER_MODEL: 1}
        assert index.vector_models([1, 2], VectorSpace.SEMANTIC) == {MODEL: 1}

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
        assert index.vector_models([1], VectorSpace.COPY) == {MODEL: 3}

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
