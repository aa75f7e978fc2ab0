"""Random histories: the index, however it came up, gives what the plainest oracle gives."""

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule
from tests.unit.index.rows import (
    EXTRACTOR,
    MODEL,
    OTHER_MODEL,
    LoggedCatalog,
    Rows,
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
from imagewarden_server.matching.ports import Change, EntryHit, StoredHash, StoredLocal, StoredVector
from imagewarden_server.matching.types import DIGEST_BYTES, HASH_BYTES, HashSignal, SignalType, Vectors, VectorSpace

BANKS = [1, 2, 3]
POOL = unit_vectors(40)
# A vector of other dimensions, as a list may have brought it.
ODD = -1
ODD_VECTOR = unit_vectors(1, dimensions=5)[0]
PDQ_POOL = [pdq(seed, flipped=bits) for seed in range(3) for bits in (0, 1, 15, 31, 32, 60)]

SCALES = [(0.0, 1.0), (0.2, 0.1), (-0.1, 2.0)]

Row = StoredHash | StoredVector | StoredLocal


def hash_value(type_: SignalType, number: int) -> bytes:
    return PDQ_POOL[number % len(PDQ_POOL)] if type_ is SignalType.PDQ else bytes([number % 5]) * HASH_BYTES[type_]


class Histories(RuleBasedStateMachine):
    """Commits changes to a catalogue, brings the index up to it in each way there is, and compares."""

    live = Bundle("live")
    gone = Bundle("gone")

    def __init__(self) -> None:
        super().__init__()
        self.temporary = tempfile.TemporaryDirectory()
        self.directory = Path(self.temporary.name)
        self.catalog = LoggedCatalog()
        self.oracle = Rows()
        self.index = IndexSet()
        self.next_key = 1

    def teardown(self) -> None:
        self.temporary.cleanup()

    def commit(self, added: list[Row], removed: list[Row], bank: int | None = None) -> None:
        change = self.catalog.commit(
            Change(
                self.catalog.revision() + 1,
                removed_bank=bank,
                removed_hashes=[row for row in removed if isinstance(row, StoredHash)],
                removed_vectors=[without_vector(row) for row in removed if isinstance(row, StoredVector)],
                removed_locals=[without_features(row) for row in removed if isinstance(row, StoredLocal)],
                added_hashes=[row for row in added if isinstance(row, StoredHash)],
                added_vectors=[row for row in added if isinstance(row, StoredVector)],
                added_locals=[row for row in added if isinstance(row, StoredLocal)],
            )
        )
        self.oracle.apply([change])
        self.index.apply(self.catalog.changes(self.index.revision))

    @initialize()
    def begin(self) -> None:
        self.commit([], [])

    @rule(
        target=live,
        bank=st.sampled_from(BANKS),
        hashes=st.lists(st.tuples(st.sampled_from(list(HASH_BYTES)), st.integers(0, 40)), max_size=4),
        vectors=st.lists(
            st.tuples(
                st.sampled_from([VectorSpace.COPY, VectorSpace.LOGO]),
                st.sampled_from([MODEL, OTHER_MODEL]),
                st.integers(0, len(POOL) - 1) | st.just(ODD),
            ),
            max_size=5,
        ),
        features=st.lists(st.integers(0, 5), max_size=2),
        scale=st.sampled_from(SCALES),
    )
    def add(
        self,
        bank: int,
        hashes: list[tuple[SignalType, int]],
        vectors: list[tuple[VectorSpace, str, int]],
        features: list[int],
        scale: tuple[float, float],
    ) -> object:
        """One entry, as the catalogue has them: of one bank, with all its signals."""
        rows: list[Row] = []
        entry = self.next_key
        for type_, number in hashes:
            rows.append(hash_row(self.next_key, hash_value(type_, number), type_, bank, entry))
            self.next_key += 1
        for space, model, number in vectors:
            vector = ODD_VECTOR if number == ODD else POOL[number]
            rows.append(vector_row(self.next_key, vector, bank, space, model, entry, scale))
            self.next_key += 1
        for seed in features:
            rows.append(local_row(self.next_key, seed, bank, entry=entry))
            self.next_key += 1
        self.next_key += 1
        self.commit(rows, [])
        return multiple(*rows)

    @rule(target=gone, rows=st.lists(consumes(live), min_size=1, max_size=6))
    def remove(self, rows: list[Row]) -> object:
        self.commit([], rows)
        return multiple(*rows)

    @rule(target=live, rows=st.lists(consumes(gone), min_size=1, max_size=3))
    def enable_again(self, rows: list[Row]) -> object:
        self.commit(rows, [])
        return multiple(*rows)

    @rule(bank=st.sampled_from(BANKS))
    def remove_bank(self, bank: int) -> None:
        self.commit([], [], bank)

    @rule()
    def save(self) -> None:
        save_snapshot(self.index, self.directory, self.catalog.id)

    @rule()
    def restart(self) -> None:
        self.index, _, problems = open_index(self.directory, self.catalog)
        assert problems == []

    @rule(data=st.data())
    def restart_from_a_rebuild_that_saw_later_rows(self, data: st.DataObject) -> None:
        revision = data.draw(st.integers(0, self.catalog.revision()))
        self.index = IndexSet(revision)
        self.index.load_rows(self.catalog.live_hashes(), self.catalog.live_vectors(), self.catalog.live_locals())
        self.index.apply(self.catalog.changes(revision, limit=10_000))

    @rule()
    def load(self) -> None:
        save_snapshot(self.index, self.directory, self.catalog.id)
        loaded, problems = load_snapshot(self.directory, self.catalog.id, self.catalog.revision())
        assert problems == []
        assert loaded is not None
        self.index = loaded

    @invariant()
    def finds_what_the_oracle_finds(self) -> None:
        assert self.index.revision == self.oracle.revision
        digests = [HashSignal(type_, hash_value(type_, number)) for type_ in DIGEST_BYTES for number in range(5)]
        for banks in ([1], [2, 3], BANKS):
            assert self.index.find_digests(banks, digests) == self.oracle.find_digests(banks, digests)
            queries = PDQ_POOL[::5]
            for distance in (0, 31, 100):
                found = self.index.find_pdq(banks, queries, distance)
                assert found == self.oracle.find_pdq(banks, queries, distance)
            for type_ in HASH_BYTES:
                assert self.index.hash_count(banks, type_) == self.oracle.hash_count(banks, type_)
            for space in VectorSpace:
                assert self.index.vector_models(banks, space) == self.oracle.vector_models(banks, space)
            for space, model, k in ((VectorSpace.COPY, MODEL, 2), (VectorSpace.LOGO, OTHER_MODEL, 100)):
                hits = self.index.find_vectors(banks, space, model, POOL[:3], k)
                expected = self.oracle.find_vectors(banks, space, model, POOL[:3], k)
                # Vectors may be equal or nearly so: the similarities must be the same, and each key's be right.
                assert [hit.query for hit in hits] == [hit.query for hit in expected]
                np.testing.assert_allclose([hit.value for hit in hits], [hit.value for hit in expected], atol=2e-3)
                for hit in hits:
                    true = float(self.oracle.vectors[hit.key].vector @ POOL[hit.query])
                    assert abs(hit.value - true) < 2e-3
                assert len({(hit.key, hit.query) for hit in hits}) == len(hits)
            self.finds_the_same_entries(banks)

    def finds_the_same_entries(self, banks: list[int]) -> None:
        queries = POOL[5:9]
        some = list(range(1, self.next_key, 3))
        assert self.index.hash_distances(some, banks, PDQ_POOL[:4]) == self.oracle.hash_distances(
            some, banks, PDQ_POOL[:4]
        )
        assert self.index.local_count(banks) == self.oracle.local_count(banks)
        stored = self.index.local_features(range(self.next_key), banks, EXTRACTOR)
        wanted = self.oracle.local_features(range(self.next_key), banks, EXTRACTOR)
        assert [(row.key, row.entry, row.bank) for row in stored] == [(row.key, row.entry, row.bank) for row in wanted]
        votes = self.index.find_local(banks, EXTRACTOR, local_features(3), 100)
        same = {one.key for one in self.oracle.find_local(banks, EXTRACTOR, local_features(3), 100)}
        assert {one.key for one in votes[: len(same)]} == same
        for space, model, k in ((VectorSpace.COPY, MODEL, 2), (VectorSpace.LOGO, OTHER_MODEL, 100)):
            self.assert_entries(
                self.index.find_entries(banks, space, model, queries, k),
                self.oracle.find_entries(banks, space, model, queries, k),
                queries,
            )
            self.assert_entries(
                self.index.score_entries(some, banks, space, model, queries),
                self.oracle.score_entries(some, banks, space, model, queries),
                queries,
            )

    def assert_entries(self, found: list[EntryHit], expected: list[EntryHit], queries: Vectors) -> None:
        """Entries may be equally good: the scores must be the same, and each hit be what it says."""
        values = [hit.value for hit in found]
        np.testing.assert_allclose(values, [hit.value for hit in expected], atol=1e-4)
        assert len({hit.entry for hit in found}) == len(found)
        for hit in found:
            row = self.oracle.vectors[hit.key]
            cosine = float(row.vector @ queries[hit.query])
            assert row.entry == hit.entry
            assert abs(hit.cosine - cosine) < 1e-5
            assert abs(hit.value - (cosine - row.mean) / row.deviation) < 1e-4


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
