import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.unit.index.rows import (
    DIMENSIONS,
    EXTRACTOR,
    MODEL,
    OTHER_MODEL,
    hash_row,
    local_row,
    pdq,
    unit_vectors,
    vector_row,
    without_vector,
)

from imagewarden_server.index import (
    IndexRefused,
    IndexSet,
    NotUnitVector,
    RevisionGap,
    UsearchVectorIndex,
    WrongScale,
    WrongShape,
)
from imagewarden_server.matching.ports import Change, StoredHash, StoredLocal, StoredVector
from imagewarden_server.matching.types import HashSignal, SignalType, Vectors, VectorSpace


def keys(index: IndexSet, vector: Vectors, k: int = 1) -> list[int]:
    return [hit.key for hit in index.find_vectors([1], VectorSpace.COPY, MODEL, vector[None], k)]


def bad_local(**parts: Any) -> StoredLocal:
    row = local_row(9, seed=9)
    return replace(row, features=replace(row.features, **parts))


class TestRevisions:
    def test_a_gap_is_refused_and_what_came_before_it_is_in_force(self) -> None:
        index = IndexSet(7)
        with pytest.raises(RevisionGap, match="change 10 came, and 9 was expected"):
            index.apply([Change(8, added_hashes=[hash_row(1, pdq(1))]), Change(10, added_hashes=[hash_row(2, pdq(2))])])
        assert index.revision == 8
        assert index.hash_count([1], SignalType.PDQ) == 1

    def test_changes_that_are_in_force_are_passed_over(self) -> None:
        index = IndexSet()
        change = Change(1, added_hashes=[hash_row(1, pdq(1))])
        index.apply([change])
        index.apply([change, Change(1, removed_bank=1), Change(2)])
        assert index.revision == 2
        assert index.hash_count([1], SignalType.PDQ) == 1

    def test_rows_that_are_there_come_again_without_harm(self) -> None:
        vectors = unit_vectors(2)
        hashes = [hash_row(1, pdq(1)), hash_row(2, bytes(16), SignalType.MD5)]
        rows = [vector_row(key, vectors[key]) for key in range(2)]
        features = [local_row(key, seed=key) for key in range(2)]
        index = IndexSet()
        index.load_rows([hashes], [rows], [features])
        index.apply(
            [
                Change(1, added_hashes=hashes, added_vectors=[*rows, rows[0]], added_locals=[*features, features[0]]),
                Change(2, removed_hashes=hashes[:1], removed_locals=features[:1]),
            ]
        )
        index.apply([Change(3, removed_hashes=hashes[:1], removed_vectors=[vector_row(99, vectors[0], bank=9)])])
        index.apply([Change(4, removed_bank=77, removed_hashes=[hash_row(5, bytes(20), SignalType.SHA1)])])
        index.apply([Change(5, removed_locals=[features[0], local_row(9, seed=9, bank=9), local_row(8, 8, 1, "x")])])
        assert index.local_count([1]) == {EXTRACTOR: 1}
        assert index.hash_count([1], SignalType.PDQ) == 0
        assert index.hash_count([1], SignalType.MD5) == 1
        assert index.vector_models([1], VectorSpace.COPY) == {(MODEL, DIMENSIONS): 2}


class TestRefusals:
    @pytest.mark.parametrize(
        ("hashes", "vectors", "error"),
        [
            ([hash_row(9, bytes(31))], [], WrongShape),
            ([hash_row(9, bytes(15), SignalType.MD5)], [], WrongShape),
            ([hash_row(9, bytes(32), SignalType.EMBEDDING)], [], WrongShape),
            ([], [vector_row(9, np.zeros(24, np.float32))], NotUnitVector),
            ([], [vector_row(9, np.full(24, np.nan, np.float32))], NotUnitVector),
            ([], [vector_row(9, np.zeros(0, np.float32))], NotUnitVector),
            ([], [vector_row(8, unit_vectors(1)[0]), vector_row(9, unit_vectors(1)[0][:3])], NotUnitVector),
            ([], [vector_row(9, unit_vectors(1))], WrongShape),
            ([], [vector_row(9, unit_vectors(1)[0], scale=(0.1, 0.0))], WrongScale),
            ([], [vector_row(9, unit_vectors(1)[0], scale=(0.1, -1.0))], WrongScale),
            ([], [vector_row(9, unit_vectors(1)[0], scale=(np.nan, 1.0))], WrongScale),
            ([], [vector_row(9, unit_vectors(1)[0], scale=(0.0, np.inf))], WrongScale),
            ([bad_local(points=np.zeros((3, 4), np.float32))], [], WrongShape),
            ([bad_local(descriptors=np.zeros((40, 64), np.uint8))], [], WrongShape),
            ([bad_local(descriptors=np.zeros((40, 128), np.float32))], [], WrongShape),
        ],
    )
    def test_a_change_with_one_bad_row_leaves_nothing(
        self, hashes: list[StoredHash | StoredLocal], vectors: list[StoredVector], error: type[IndexRefused]
    ) -> None:
        vector = unit_vectors(3)
        index = IndexSet()
        index.apply([Change(1, added_hashes=[hash_row(1, pdq(1))], added_vectors=[vector_row(1, vector[0])])])
        bad = Change(
            2,
            removed_hashes=[hash_row(1, pdq(1))],
            removed_vectors=[vector_row(1, vector[0])],
            added_hashes=[hash_row(2, pdq(2)), *(row for row in hashes if isinstance(row, StoredHash))],
            added_locals=[local_row(1, seed=1), *(row for row in hashes if isinstance(row, StoredLocal))],
            added_vectors=[vector_row(2, vector[1]), vector_row(3, vector[2], model=OTHER_MODEL), *vectors],
        )
        with pytest.raises(error):
            index.apply([bad])
        assert index.revision == 1
        assert [hit.key for hit in index.find_pdq([1], [pdq(1), pdq(2)], 0)] == [1]
        assert keys(index, vector[0], 5) == [1]
        assert index.local_count([1]) == {}
        assert index.vector_models([1], VectorSpace.COPY) == {(MODEL, DIMENSIONS): 1}

    def test_bad_queries_are_refused(self) -> None:
        index = IndexSet()
        index.apply([Change(1, added_hashes=[hash_row(1, pdq(1))], added_vectors=[vector_row(1, unit_vectors(1)[0])])])
        with pytest.raises(WrongShape, match="at least 1"):
            index.find_entries([1], VectorSpace.COPY, MODEL, unit_vectors(1), 0)
        with pytest.raises(NotUnitVector):
            index.find_entries([1], VectorSpace.COPY, MODEL, unit_vectors(1) * np.nan, 3)
        with pytest.raises(WrongShape, match="31"):
            index.find_pdq([1], [bytes(31)], 31)
        with pytest.raises(WrongShape, match="31"):
            index.hash_distances([1], [1], [bytes(31)])

    def test_a_bank_asked_twice_answers_once(self) -> None:
        index = IndexSet()
        index.apply([Change(1, added_hashes=[hash_row(1, pdq(1))])])
        assert len(index.find_pdq([1, 1], [pdq(1)], 31)) == 1
        assert index.hash_count([1, 1], SignalType.PDQ) == 1


class TestCompact:
    def test_a_large_index_gets_its_graph_beside_all_else(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("imagewarden_server.index.bank.GRAPH_FROM", dict.fromkeys(VectorSpace, 1_000))
        vectors = unit_vectors(2_400, dimensions=8)
        rows = [vector_row(key, vectors[key]) for key in range(2_400)]
        index = IndexSet()
        index.apply([Change(1, added_vectors=[*rows[:1_000], vector_row(1, vectors[0], bank=2)])])
        assert index.compact() == 0
        index.apply([Change(2, added_vectors=rows[1_000:])])
        assert index.compact() == 1
        assert index.compact() == 0
        gone = [without_vector(row) for row in rows[1_300:]]
        index.apply([Change(3, removed_vectors=gone), Change(4, added_vectors=rows[1_300:1_302])])
        assert keys(index, vectors[1_301]) == [1_301]
        assert keys(index, vectors[1_303]) != [1_303]
        assert index.vector_models([1], VectorSpace.COPY) == {(MODEL, 8): 1_302}
        (best,) = index.find_entries([1], VectorSpace.COPY, MODEL, vectors[77:78], 1)
        assert (best.entry, best.key, best.query) == (38, 77, 0)

    def test_what_one_query_asks_for_gets_one_sooner(self) -> None:
        index = IndexSet()
        vectors = unit_vectors(10_001, dimensions=4)
        for revision, space in enumerate((VectorSpace.COPY, VectorSpace.LOGO, VectorSpace.SEMANTIC), 1):
            rows = [vector_row(20_000 * revision + key, vector, space=space) for key, vector in enumerate(vectors)]
            index.apply([Change(revision, added_vectors=rows)])
            assert index.compact() == (space is VectorSpace.SEMANTIC)

    def test_a_bank_that_went_meanwhile_gets_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("imagewarden_server.index.bank.GRAPH_FROM", dict.fromkeys(VectorSpace, 10))
        vectors = unit_vectors(20)
        index = IndexSet()
        index.apply([Change(1, added_vectors=[vector_row(key, vectors[key]) for key in range(20)])])
        built = UsearchVectorIndex.built

        def beside(*arguments: Any) -> UsearchVectorIndex:
            index.apply([Change(2, removed_bank=1), Change(3, added_vectors=[vector_row(99, vectors[0])])])
            return built(*arguments)

        monkeypatch.setattr(UsearchVectorIndex, "built", beside)
        assert index.compact() == 0
        assert keys(index, vectors[0], 9) == [99]


class TestInfo:
    def test_it_counts_by_kind(self) -> None:
        vectors = unit_vectors(3)
        index = IndexSet()
        index.apply(
            [
                Change(
                    1,
                    added_hashes=[
                        hash_row(1, pdq(1)),
                        hash_row(2, pdq(2), bank=2),
                        hash_row(3, bytes(16), SignalType.MD5),
                    ],
                    added_vectors=[
                        vector_row(1, vectors[0]),
                        vector_row(2, vectors[1]),
                        vector_row(3, vectors[2], space=VectorSpace.LOGO),
                    ],
                    added_locals=[local_row(1, seed=1), local_row(2, seed=2, extractor="other")],
                )
            ]
        )
        info = index.info()
        assert (info.revision, info.banks) == (1, 2)
        assert info.hashes == {
            SignalType.PDQ: 2,
            SignalType.MD5: 1,
            SignalType.SHA1: 0,
            SignalType.SHA256: 0,
        }
        assert info.vectors == {VectorSpace.COPY: 2, VectorSpace.LOGO: 1, VectorSpace.SEMANTIC: 0}
        assert info.locals == 2
        assert info.hash_bytes > 64 + 16
        assert info.vector_bytes >= 3 * 24 * 4
        assert info.local_bytes >= 2 * 40 * (128 + 16)


class Beside(threading.Thread):
    """Does something over and over until it is stopped; remembers what went wrong."""

    def __init__(self, work: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._stop_it = threading.Event()
        self.rounds = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self._stop_it.is_set():
                self._work()
                self.rounds += 1
        except Exception as error:  # noqa: BLE001 - whatever it is, the test's own thread must hear of it
            self.error = error

    def finish(self) -> None:
        self._stop_it.set()
        self.join(30)
        assert self.error is None
        assert self.rounds > 0


class TestThreads:
    def test_a_search_sees_all_of_a_change_or_nothing_of_it(self) -> None:
        """Searches, changes and copies beside each other: nothing is torn, nothing fails."""
        vectors = unit_vectors(200)
        index = IndexSet()
        digests = [HashSignal(SignalType.MD5, bytes(16)), HashSignal(SignalType.SHA1, bytes(20))]
        features = [local_row(1, seed=1, entry=400), local_row(2, seed=1, bank=2, entry=401)]

        def search() -> None:
            assert len(index.find_digests([1, 2], digests)) in {0, 2}
            assert len(index.find_pdq([1, 2], [pdq(1), pdq(2)], 0)) in {0, 2}
            assert len(index.find_vectors([1, 2], VectorSpace.COPY, MODEL, vectors[:2], 500)) in {0, 400}
            assert len(index.find_entries([1, 2], VectorSpace.COPY, MODEL, vectors[:9], 500)) in {0, 200}
            assert len(index.score_entries(range(100), [1, 2], VectorSpace.COPY, MODEL, vectors[:2])) in {0, 100}
            assert len(index.hash_distances([300, 301], [1, 2], [pdq(1)])) in {0, 2}
            assert len(index.find_local([1, 2], EXTRACTOR, features[0].features, 5)) in {0, 2}
            assert len(index.local_features([400, 401], [1, 2], EXTRACTOR)) in {0, 2}

        def copy() -> None:
            list(index.parts())
            index.compact()
            index.info()

        beside = [Beside(search), Beside(search), Beside(copy)]
        for thread in beside:
            thread.start()
        hashes = [
            hash_row(1, bytes(16), SignalType.MD5),
            hash_row(2, bytes(20), SignalType.SHA1, bank=2),
            hash_row(3, pdq(1), entry=300),
            hash_row(4, pdq(2), bank=2, entry=301),
        ]
        rows = [vector_row(key, vectors[key], bank=1 + key % 2, entry=key) for key in range(200)]
        gone = [without_vector(row) for row in rows]
        for revision in range(1, 41, 2):
            index.apply([Change(revision, added_hashes=hashes, added_vectors=rows, added_locals=features)])
            index.apply([Change(revision + 1, removed_hashes=hashes, removed_vectors=gone, removed_locals=features)])
        for thread in beside:
            thread.finish()
        assert index.revision == 40
