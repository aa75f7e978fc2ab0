"""What the catalogue promises, on a real database file."""

from __future__ import annotations

import contextlib
import sqlite3
import stat
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagewarden_server.catalog import SqlCatalog
from imagewarden_server.matching.errors import (
    BankExists,
    BankNotEmpty,
    BankNotFound,
    EntryExists,
    EntryNotFound,
    RequestIdReused,
)
from imagewarden_server.matching.listing import EntryFilter
from imagewarden_server.matching.patches import BankPatch, EntryPatch
from imagewarden_server.matching.policy import complete, default_policy
from imagewarden_server.matching.ports import Change, Idempotency, StoredHash, StoredLocal, StoredVector
from imagewarden_server.matching.types import (
    Action,
    BankKind,
    EntryState,
    HashSignal,
    LocalFeatures,
    LocalSignal,
    NewEntry,
    SignalType,
    Threshold,
    VectorSignal,
    VectorSpace,
)

BANNED = default_policy(BankKind.BANNED)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "catalog.sqlite3"


@pytest.fixture
def catalog(path: Path) -> Iterator[SqlCatalog]:
    opened = SqlCatalog.open(path)
    yield opened
    opened.close()


def sha(number: int) -> HashSignal:
    return HashSignal(SignalType.SHA256, number.to_bytes(32, "big"))


def hash_entry(number: int) -> NewEntry:
    return NewEntry(hashes=(sha(number),))


def keypoints(count: int, seed: int = 3) -> LocalFeatures:
    generator = np.random.default_rng(seed)
    points = generator.uniform(0, 1, (count, 4)).astype(np.float32)
    return LocalFeatures(points, generator.integers(0, 256, (count, 128), dtype=np.uint8), 1.5)


def picture(number: int, views: int = 2) -> NewEntry:
    vectors = np.eye(8, dtype=np.float32)[:views]
    return NewEntry(
        hashes=(sha(number), HashSignal(SignalType.PDQ, number.to_bytes(32, "little"), 90)),
        vectors=(VectorSignal(SignalType.EMBEDDING, VectorSpace.COPY, "model", vectors, mean=0.25, deviation=0.125),),
        local=(LocalSignal("sift-1", keypoints(3, number)), LocalSignal("sift-1", keypoints(4, number))),
        external_id=f"case-{number}",
        labels=("a", "b"),
        metadata={"k": "v"},
        source="test",
        thumbnail=b"png",
    )


def make(catalog: SqlCatalog, bank_id: str = "abuse") -> None:
    catalog.create_bank(bank_id, BankKind.BANNED, policy=BANNED, keep_images=True)


def test_the_state_is_its_owners_alone(catalog: SqlCatalog, path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert len(catalog.id) == 32


def test_it_is_the_same_after_it_was_closed(path: Path) -> None:
    first = SqlCatalog.open(path)
    policy = complete(BankKind.BANNED, Action.REVIEW, {SignalType.PDQ: Threshold(20, disabled=True)})
    made = first.create_bank("abuse", BankKind.BANNED, policy=policy, labels={"team": "ts"}, keep_images=True)
    entry = first.add_entry("abuse", picture(1)).value
    identity, revision = first.id, first.revision()
    first.close()
    second = SqlCatalog.open(path)
    assert (second.id, second.revision()) == (identity, revision)
    assert second.get_bank("abuse").policy == made.value.policy == policy
    assert second.get_entry("abuse", entry.id) == entry
    (vectors,) = list(second.live_vectors())
    assert [tuple(row.vector) for row in vectors] == [tuple(row) for row in np.eye(8)[:2]]
    second.close()


def test_an_entry_comes_back_as_it_was_said(catalog: SqlCatalog) -> None:
    make(catalog)
    entry = catalog.add_entry("abuse", picture(7)).value
    assert (entry.external_id, entry.labels, entry.metadata, entry.source) == ("case-7", ("a", "b"), {"k": "v"}, "test")
    assert entry.state is EntryState.ACTIVE
    assert entry.thumbnail == b"png"
    summaries = {signal.type: signal for signal in entry.signals}
    assert summaries[SignalType.SHA256].hex == sha(7).value.hex()
    assert summaries[SignalType.PDQ].quality == 90
    assert (summaries[SignalType.EMBEDDING].views, summaries[SignalType.EMBEDDING].dimensions) == (2, 8)
    assert (summaries[SignalType.LOCAL].views, summaries[SignalType.LOCAL].keypoints) == (2, 7)
    assert summaries[SignalType.LOCAL].model == "sift-1"
    assert catalog.get_bank("abuse").entry_count == 1


def test_an_index_gets_all_that_was_stored(catalog: SqlCatalog) -> None:
    make(catalog)
    new = picture(7)
    entry = catalog.add_entry("abuse", new).value
    (change,) = catalog.changes(1)
    assert [list(batch) for batch in catalog.live_hashes()] == [change.added_hashes]
    assert {row.entry for row in change.added_hashes} == {entry.key}
    assert [(row.entry, row.mean, row.deviation) for row in change.added_vectors] == 2 * [(entry.key, 0.25, 0.125)]
    (live,) = catalog.live_locals()
    for rows in (change.added_locals, live):
        assert [(row.entry, row.extractor) for row in rows] == 2 * [(entry.key, "sift-1")]
        for row, local in zip(rows, new.local, strict=True):
            np.testing.assert_array_equal(row.features.descriptors, local.features.descriptors)
            np.testing.assert_allclose(row.features.points, local.features.points, atol=5e-4)
    catalog.delete_entry("abuse", entry.id)
    (gone,) = catalog.changes(2)
    assert [row.key for row in gone.removed_locals] == [row.key for row in change.added_locals]
    assert {row.entry for row in gone.removed_hashes} == {row.entry for row in gone.removed_vectors} == {entry.key}
    assert {row.entry for row in gone.removed_locals} == {entry.key}


def test_entries_are_found_by_key(catalog: SqlCatalog) -> None:
    make(catalog)
    make(catalog, "other")
    made = [catalog.add_entry(bank, picture(number)).value for number, bank in enumerate(["abuse", "other", "abuse"])]
    catalog.delete_entry("abuse", made[2].id)
    found = catalog.entries_by_key([entry.key for entry in made] + [999, made[0].key])
    assert {key: (entry.bank_id, entry.id) for key, entry in found.items()} == {
        entry.key: (entry.bank_id, entry.id) for entry in made[:2]
    }
    assert catalog.entries_by_key([]) == {}


def test_errors_leave_nothing(catalog: SqlCatalog) -> None:
    make(catalog)
    entry = catalog.add_entry("abuse", picture(1)).value
    before = catalog.revision()
    for call, error in (
        (lambda: make(catalog), BankExists),
        (lambda: catalog.get_bank("nobody"), BankNotFound),
        (lambda: catalog.add_entry("nobody", picture(2)), BankNotFound),
        (lambda: catalog.add_hashes("nobody", [hash_entry(2)]), BankNotFound),
        (lambda: catalog.add_entry("abuse", picture(1)), EntryExists),
        (lambda: catalog.get_entry("abuse", "0"), EntryNotFound),
        (lambda: catalog.delete_entry("abuse", "0"), EntryNotFound),
        (lambda: catalog.update_entry("abuse", "0", EntryPatch()), EntryNotFound),
        (lambda: catalog.delete_bank("abuse", force=False), BankNotEmpty),
    ):
        with pytest.raises(error):
            call()
    assert catalog.revision() == before
    assert catalog.get_bank("abuse").entry_count == 1
    assert catalog.get_entry("abuse", entry.id) == entry


def test_a_bulk_is_one_change_and_knows_its_duplicates(catalog: SqlCatalog) -> None:
    make(catalog)
    first = catalog.add_hashes("abuse", [hash_entry(number) for number in range(2_500)])
    assert first.revision == 2
    again = catalog.add_hashes("abuse", [hash_entry(0), hash_entry(9_999), hash_entry(9_999)])
    assert [one.duplicate for one in again.value] == [True, False, True]
    assert again.value[0].entry_id == first.value[0].entry_id
    assert again.value[1].entry_id == again.value[2].entry_id
    assert catalog.get_bank("abuse").entry_count == 2_501
    assert len({one.entry_id for one in first.value}) == 2_500
    (_, bulk, more) = catalog.changes(0)
    assert (len(bulk.added_hashes), len(more.added_hashes)) == (2_500, 1)


def test_the_same_hash_in_two_banks_is_two_entries(catalog: SqlCatalog) -> None:
    make(catalog)
    make(catalog, "other")
    catalog.add_hashes("abuse", [hash_entry(1)])
    assert not catalog.add_hashes("other", [hash_entry(1)]).value[0].duplicate


def test_a_repeat_is_answered_from_the_first(catalog: SqlCatalog) -> None:
    once = Idempotency("6e1f2a34-0000-4000-8000-000000000001", b"content")
    make(catalog)
    first = catalog.add_entry("abuse", picture(1), once=once)
    second = catalog.add_entry("abuse", picture(1), once=once)
    assert (second.value.id, second.revision, second.replayed) == (first.value.id, first.revision, True)
    with pytest.raises(RequestIdReused):
        catalog.add_entry("abuse", picture(2), once=Idempotency(once.request_id, b"other"))
    failed = Idempotency("6e1f2a34-0000-4000-8000-000000000002", b"x")
    with pytest.raises(EntryExists):
        catalog.add_entry("abuse", picture(1), once=failed)
    assert not catalog.add_entry("abuse", picture(3), once=failed).replayed, "what failed was not recorded"


def test_pages_and_filters(catalog: SqlCatalog) -> None:
    make(catalog)
    catalog.add_hashes("abuse", [hash_entry(number) for number in range(5)])
    catalog.add_entry("abuse", picture(100))
    seen: list[str] = []
    after: int | None = 0
    while after is not None:
        page = catalog.list_entries("abuse", after=after, limit=2)
        seen += [entry.id for entry in page.items]
        after = page.next_after
    assert len(seen) == len(set(seen)) == 6
    for only in (EntryFilter(label="a"), EntryFilter(external_id="case-100")):
        assert [entry.external_id for entry in catalog.list_entries("abuse", only=only).items] == ["case-100"]
    assert not catalog.list_entries("abuse", only=EntryFilter(state=EntryState.EXPIRED)).items


def test_expiry_takes_out_and_a_new_time_brings_back(catalog: SqlCatalog) -> None:
    make(catalog)
    now = datetime.now(UTC)
    entry = catalog.add_entry("abuse", picture(1)).value
    catalog.update_entry("abuse", entry.id, EntryPatch(expire_time=now + timedelta(hours=1)))
    before = catalog.revision()
    assert catalog.expire(now) == 0
    assert catalog.revision() == before, "nothing to mark is no change"
    assert catalog.expire(now + timedelta(hours=2)) == 1
    assert catalog.get_entry("abuse", entry.id).state is EntryState.EXPIRED
    assert not list(catalog.live_hashes())
    assert not list(catalog.live_locals())
    revived = catalog.update_entry("abuse", entry.id, EntryPatch(clear_expire_time=True)).value
    assert (revived.state, revived.expire_time) == (EntryState.ACTIVE, None)
    assert sum(len(batch) for batch in catalog.live_hashes()) == 2
    assert sum(len(batch) for batch in catalog.live_locals()) == 2


def test_keys_are_never_used_again(catalog: SqlCatalog) -> None:
    make(catalog)
    seen: set[int] = set()
    for number in range(5):
        entry = catalog.add_entry("abuse", picture(number)).value
        keys = {row.key for batch in catalog.live_hashes() for row in batch}
        keys |= {1_000 + row.key for batch in catalog.live_locals() for row in batch}
        assert not keys & seen
        seen |= keys
        catalog.delete_entry("abuse", entry.id)


def test_banks_are_read_anew_after_each_change(catalog: SqlCatalog) -> None:
    make(catalog)
    assert [bank.enabled for bank in catalog.all_banks()] == [True]
    catalog.update_bank("abuse", BankPatch(enabled=False))
    assert [bank.enabled for bank in catalog.all_banks()] == [False]
    catalog.delete_bank("abuse", force=True)
    assert catalog.all_banks() == ()


def test_many_writers_leave_no_gap(catalog: SqlCatalog) -> None:
    make(catalog)

    def write(begin: int) -> None:
        for number in range(begin, begin + 20):
            catalog.add_hashes("abuse", [hash_entry(number)])

    writers = [threading.Thread(target=write, args=(begin,)) for begin in range(0, 100, 20)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    revisions = [change.revision for change in catalog.changes(0, limit=1_000)]
    assert revisions == list(range(1, 102))
    assert catalog.get_bank("abuse").entry_count == 100


Stored = StoredHash | StoredVector | StoredLocal


def fold(changes: list[Change]) -> tuple[set[int], set[int], set[int]]:
    """What an index that follows the changes holds: the keys of hashes, of vectors and of local features."""
    held: list[dict[int, int]] = [{}, {}, {}]
    for change in changes:
        sides: list[tuple[Sequence[Stored], Sequence[Stored]]] = [
            (change.removed_hashes, change.added_hashes),
            (change.removed_vectors, change.added_vectors),
            (change.removed_locals, change.added_locals),
        ]
        for kind, (removed, added) in zip(held, sides, strict=True):
            for key in [key for key, bank in kind.items() if bank == change.removed_bank]:
                del kind[key]
            for row in removed:
                kind.pop(row.key, None)
            kind.update({row.key: row.bank for row in added})
    return set(held[0]), set(held[1]), set(held[2])


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["picture", "hashes", "delete", "disable", "enable", "expire", "bank", "drop"]),
        st.integers(0, 5),
    ),
    max_size=30,
)


def grow(catalog: SqlCatalog, operation: str, bank: str, which: int, number: int) -> list[tuple[str, str]]:
    """Make or drop a bank, or add entries: those that are new."""
    if operation == "bank":
        make(catalog, bank)
    elif operation == "drop":
        catalog.delete_bank(bank, force=True)
    elif operation == "picture":
        return [(bank, catalog.add_entry(bank, picture(number)).value.id)]
    elif operation == "hashes":
        added = catalog.add_hashes(bank, [hash_entry(number * 10 + one) for one in range(which)])
        return [(bank, one.entry_id) for one in added.value]
    return []


def change(catalog: SqlCatalog, operation: str, entry: tuple[str, str]) -> None:
    """Delete, disable, enable or expire an entry."""
    if operation == "delete":
        catalog.delete_entry(*entry)
    elif operation == "expire":
        catalog.update_entry(*entry, EntryPatch(expire_time=datetime.now(UTC) - timedelta(seconds=1)))
        catalog.expire(datetime.now(UTC))
    elif operation in {"disable", "enable"}:
        state = EntryState.DISABLED if operation == "disable" else EntryState.ACTIVE
        catalog.update_entry(*entry, EntryPatch(state=state))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations=OPERATIONS, start=st.integers(0, 40))
def test_folding_the_changes_gives_what_is_live(
    tmp_path_factory: pytest.TempPathFactory, operations: list[tuple[str, int]], start: int
) -> None:
    catalog = SqlCatalog.open(tmp_path_factory.mktemp("fold") / "catalog.sqlite3")
    entries: list[tuple[str, str]] = []
    seen: list[Change] = []
    for step, (operation, which) in enumerate(operations):
        with contextlib.suppress(BankExists, BankNotFound, EntryNotFound):
            entries += grow(catalog, operation, f"b{which % 2}", which, step + 1)
            if entries:
                change(catalog, operation, entries[which % len(entries)])
        if step == start:  # an index that read along sees other rows than one that reads all at the end
            seen = catalog.changes(0, limit=1_000)
    seen += catalog.changes(len(seen), limit=1_000)
    hashes = {row.key for batch in catalog.live_hashes() for row in batch}
    vectors = {row.key for batch in catalog.live_vectors() for row in batch}
    locals_ = {row.key for batch in catalog.live_locals() for row in batch}
    assert fold(seen) == fold(catalog.changes(0, limit=1_000)) == (hashes, vectors, locals_)
    for bank in catalog.list_banks().items:
        assert len(catalog.list_entries(bank.id, limit=1_000).items) == bank.entry_count
    catalog.close()
