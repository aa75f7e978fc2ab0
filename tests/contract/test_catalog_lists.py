"""What the catalogue promises of lists, on a real database file."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Pool, event
from tests.contract.test_catalog import BANNED, fold, keypoints, make, picture, sha

from imagewarden_server.catalog import SqlCatalog, audit, export
from imagewarden_server.matching.audit import AuditQuery
from imagewarden_server.matching.errors import BankNotFound
from imagewarden_server.matching.lists import Imported, ListRecord
from imagewarden_server.matching.opinions import Quarantine, QuarantineReason
from imagewarden_server.matching.patches import BankPatch, EntryPatch
from imagewarden_server.matching.types import (
    BankKind,
    Entry,
    EntryState,
    HashSignal,
    LocalSignal,
    NewEntry,
    SignalType,
    VectorSignal,
    VectorSpace,
)

PAST, FUTURE = (datetime.now(UTC) + timedelta(days=days) for days in (-2, 2))


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[SqlCatalog]:
    opened = SqlCatalog.open(tmp_path / "catalog.sqlite3")
    make(opened)
    yield opened
    opened.close()


def named(number: int, *hashes: int, source: str = "list", **said: object) -> ListRecord:
    """A record with an external id, as exchanges have them."""
    entry = NewEntry(hashes=tuple(map(sha, hashes)), external_id=f"case-{number}", source=source, **said)  # type: ignore[arg-type]  # short cut
    return ListRecord(number, entry)


def plain(number: int, *, source: str = "") -> ListRecord:
    """A record of one hash and no name."""
    return ListRecord(number, NewEntry(hashes=(sha(number),), source=source))


def gone(record: ListRecord) -> ListRecord:
    return dataclasses.replace(record, removed=True)


def take(catalog: SqlCatalog, *records: ListRecord, dry: bool = False, bank: str = "abuse") -> Imported:
    return catalog.import_records(bank, records, (), validate_only=dry).value


def entries(catalog: SqlCatalog, bank: str = "abuse") -> Sequence[Entry]:
    return catalog.list_entries(bank, limit=1_000).items


def digests(entry: Entry) -> set[str]:
    return {signal.hex for signal in entry.signals if signal.type is SignalType.SHA256}


def exported(catalog: SqlCatalog, bank: str = "abuse") -> list[ListRecord]:
    found: list[ListRecord] = []
    after: int | None = 0
    while after is not None:
        some = catalog.export_records(bank, after)
        found += some.records
        after = some.next_after
    return found


def same(one: NewEntry, two: NewEntry) -> bool:
    """Whether two entries are the same, signal for signal and byte for byte."""
    vectors = [
        [(signal.type, signal.space, signal.model, signal.mean, signal.deviation) for signal in entry.vectors]
        for entry in (one, two)
    ]
    local = [[signal.extractor for signal in entry.local] for entry in (one, two)]
    return (
        vectors[0] == vectors[1]
        and local[0] == local[1]
        and all(np.array_equal(a.vectors, b.vectors) for a, b in zip(one.vectors, two.vectors, strict=True))
        and all(
            np.array_equal(a.features.points, b.features.points)
            and np.array_equal(a.features.descriptors, b.features.descriptors)
            and a.features.aspect == b.features.aspect
            for a, b in zip(one.local, two.local, strict=True)
        )
        and dataclasses.replace(one, vectors=(), local=()) == dataclasses.replace(two, vectors=(), local=())
    )


def test_a_list_comes_in_once(catalog: SqlCatalog) -> None:
    records = [named(1, 1, 11), named(2, 2), plain(3), plain(4)]
    assert take(catalog, *records) == Imported(added=4)
    before, revision = entries(catalog), catalog.revision()
    assert take(catalog, *records) == Imported(unchanged=4)
    assert entries(catalog) == before
    # What changes nothing is no change: no revision, no event.
    assert catalog.revision() == revision
    assert catalog.get_bank("abuse").entry_count == 4


def test_what_comes_twice_in_one_message_is_as_it_came_last(catalog: SqlCatalog) -> None:
    assert take(catalog, named(1, 1), plain(5), named(1, 2), plain(5)) == Imported(added=2, unchanged=2)
    assert {entry.external_id: digests(entry) for entry in entries(catalog)} == {
        "case-1": {sha(2).value.hex()},
        "": {sha(5).value.hex()},
    }


def test_a_rehearsal_changes_nothing_and_counts_right(catalog: SqlCatalog) -> None:
    take(catalog, named(1, 1), plain(2))
    before, revision, events = entries(catalog), catalog.revision(), catalog.audit.head()
    records = [named(1, 9), named(3, 3), gone(plain(2)), gone(plain(7))]
    assert take(catalog, *records, dry=True) == Imported(added=1, updated=1, removed=1, absent=1)
    assert (entries(catalog), catalog.revision(), catalog.audit.head()) == (before, revision, events)
    assert take(catalog, *records) == Imported(added=1, updated=1, removed=1, absent=1)


def test_a_named_record_brings_its_entry_up_to_date(catalog: SqlCatalog) -> None:
    take(catalog, named(1, 1, 11, labels=("a",), metadata={"k": "1"}))
    (before,) = entries(catalog)
    assert take(catalog, named(1, 2, labels=("b",), metadata={"k": "2"}, expire_time=FUTURE)) == Imported(updated=1)
    (after,) = entries(catalog)
    assert (after.id, after.create_time) == (before.id, before.create_time)
    assert digests(after) == {sha(2).value.hex()}
    assert (after.labels, after.metadata, after.expire_time) == (("b",), {"k": "2"}, FUTURE)
    # What a record does not say stays.
    assert take(catalog, named(1, 2)) == Imported(unchanged=1)
    assert list(entries(catalog)) == [after]


def test_what_people_changed_of_a_plain_hash_stays(catalog: SqlCatalog) -> None:
    take(catalog, plain(1))
    (entry,) = entries(catalog)
    catalog.update_entry("abuse", entry.id, EntryPatch(labels=("ours",), state=EntryState.DISABLED))
    assert take(catalog, ListRecord(1, NewEntry(hashes=(sha(1),), labels=("theirs",)))) == Imported(unchanged=1)
    (entry,) = entries(catalog)
    assert (entry.labels, entry.state) == (("ours",), EntryState.DISABLED)


def test_an_exchange_does_not_enable_what_people_disabled(catalog: SqlCatalog) -> None:
    take(catalog, named(1, 1))
    (entry,) = entries(catalog)
    catalog.update_entry("abuse", entry.id, EntryPatch(state=EntryState.DISABLED))
    assert take(catalog, named(1, 2)) == Imported(updated=1)
    (entry,) = entries(catalog)
    assert entry.state is EntryState.DISABLED
    assert not [row for batch in catalog.live_hashes() for row in batch]


def test_a_list_puts_under_quarantine_and_releases_nothing(catalog: SqlCatalog) -> None:
    flood = Quarantine(QuarantineReason.FLOOD, "200 at once", PAST)
    held = dataclasses.replace(named(1, 1), quarantine=flood)
    assert take(catalog, held, dataclasses.replace(plain(2), quarantine=flood)) == Imported(added=2)
    assert [entry.quarantine for entry in entries(catalog)] == [flood, flood]
    assert take(catalog, held, named(1, 1), plain(2)) == Imported(unchanged=3)
    assert take(catalog, named(1, 1, 3, labels=("b",))) == Imported(updated=1)
    assert [entry.quarantine for entry in entries(catalog)] == [flood, flood]

    other = Quarantine(QuarantineReason.BY_HAND, "", FUTURE)
    revision = catalog.revision()
    assert take(catalog, dataclasses.replace(held, quarantine=other)) == Imported(updated=1)
    assert catalog.revision() == revision + 1, "checks read the entry again"
    assert entries(catalog)[0].quarantine == other
    event = catalog.audit.events(AuditQuery(newest_first=True, limit=1)).items[0]
    (changed,) = json.loads(event.after)["changed"].values()
    assert (changed["quarantine_reason"], changed["quarantine_message"]) == ("by_hand", "")
    # The entry goes with its quarantine: what comes again is new.
    assert take(catalog, gone(named(1)), named(1, 1)) == Imported(added=1, removed=1)
    assert entries(catalog)[-1].quarantine is None


def test_a_tombstone_takes_what_its_source_brought_and_nothing_else(catalog: SqlCatalog) -> None:
    ours = catalog.add_hashes("abuse", [NewEntry(hashes=(sha(1),))]).value[0].entry_id
    take(catalog, plain(1, source="a"), plain(1, source="b"), named(1, 5, source="a"), named(1, 6, source="b"))
    assert len(entries(catalog)) == 5
    assert take(catalog, gone(plain(1, source="a")), gone(named(1, source="b"))) == Imported(removed=2)
    left = {(entry.source, entry.external_id, *digests(entry)) for entry in entries(catalog)}
    one, five = sha(1).value.hex(), sha(5).value.hex()
    assert left == {("", "", one), ("b", "", one), ("a", "case-1", five)}
    assert take(catalog, gone(plain(1, source="a")), gone(named(1, source="b"))) == Imported(absent=2)
    assert catalog.get_entry("abuse", ours).state is EntryState.ACTIVE
    assert catalog.get_bank("abuse").entry_count == 3


def test_records_are_taken_in_their_order(catalog: SqlCatalog) -> None:
    assert take(catalog, plain(1), gone(plain(1)), plain(1)) == Imported(added=2, removed=1)
    assert take(catalog, gone(plain(1)), named(2, 2), gone(named(2))) == Imported(added=1, removed=2)
    assert not entries(catalog)


def test_a_record_with_an_id_is_that_entry(catalog: SqlCatalog) -> None:
    made = catalog.add_entry("abuse", picture(7)).value
    record = ListRecord(1, NewEntry(hashes=(sha(8),), labels=("new",)), id=made.id, state=EntryState.DISABLED)
    assert take(catalog, record) == Imported(updated=1)
    changed = catalog.get_entry("abuse", made.id)
    assert (changed.state, changed.labels, digests(changed)) == (EntryState.DISABLED, ("new",), {sha(8).value.hex()})
    # Kinds of signals that the record does not have stay.
    assert {signal.type for signal in changed.signals} >= {SignalType.EMBEDDING, SignalType.LOCAL}
    assert take(catalog, ListRecord(2, NewEntry(), id=made.id, removed=True)) == Imported(removed=1)
    assert take(catalog, ListRecord(3, NewEntry(hashes=(sha(1),)), id="of-another-server")) == Imported(added=1)
    assert [entry.id for entry in entries(catalog)] == ["of-another-server"]


def test_time_makes_an_entry_expired_wherever_it_comes_in(catalog: SqlCatalog) -> None:
    assert take(catalog, named(1, 1, expire_time=PAST), named(2, 2, expire_time=FUTURE)) == Imported(added=2)
    assert [entry.state for entry in entries(catalog)] == [EntryState.EXPIRED, EntryState.ACTIVE]
    assert take(catalog, named(1, 1, expire_time=FUTURE), named(2, 2, expire_time=PAST)) == Imported(updated=2)
    assert [entry.state for entry in entries(catalog)] == [EntryState.ACTIVE, EntryState.EXPIRED]
    hashes, _, _ = fold(catalog.changes(0, limit=1_000))
    assert hashes == {row.key for batch in catalog.live_hashes() for row in batch}


def test_vectors_of_other_dimensions_are_refused(catalog: SqlCatalog) -> None:
    catalog.add_entry("abuse", picture(7))

    def record(number: int, side: int, model: str = "model") -> ListRecord:
        vectors = (VectorSignal(SignalType.EMBEDDING, VectorSpace.COPY, model, np.eye(side, dtype=np.float32)[:1]),)
        return ListRecord(number, NewEntry(hashes=(sha(number),), vectors=vectors))

    result = take(catalog, record(1, 8), record(2, 9), record(3, 9, "other"), record(4, 10, "other"))
    assert result.added == 2
    assert [one.number for one in result.refused] == [2, 4]
    assert "9 dimensions, and the bank's have 8" in result.refused[0].message


def test_a_refused_record_says_nothing_of_those_after_it(catalog: SqlCatalog) -> None:
    catalog.add_entry("abuse", picture(7))

    def record(number: int, **sides: int) -> ListRecord:
        vectors = tuple(
            VectorSignal(SignalType.EMBEDDING, VectorSpace.COPY, model, np.eye(side, dtype=np.float32)[:1])
            for model, side in sides.items()
        )
        return ListRecord(number, NewEntry(hashes=(sha(number),), vectors=vectors))

    tombstone = gone(record(2, third=9))
    result = take(catalog, record(1, other=9, model=9), tombstone, record(3, other=10), record(4, third=10))
    assert [one.number for one in result.refused] == [1]
    assert (result.added, result.absent) == (2, 1)


def by_id(entry: Entry, number: int, state: EntryState | None = None, **said: object) -> ListRecord:
    """A record that knows an entry by its id."""
    return ListRecord(number, NewEntry(**said), id=entry.id, state=state)  # type: ignore[arg-type]  # short cut


def test_two_records_of_a_message_may_be_of_one_entry(catalog: SqlCatalog) -> None:
    take(catalog, named(1, 1))
    (entry,) = entries(catalog)
    disabled, active = EntryState.DISABLED, EntryState.ACTIVE
    again = dataclasses.replace(named(1, 1), number=2, state=active)
    assert take(catalog, by_id(entry, 1, disabled), again) == Imported(updated=2)
    assert catalog.get_entry("abuse", entry.id).state is active
    hashes, _, _ = fold(catalog.changes(0, limit=1_000))
    assert hashes == {row.key for batch in catalog.live_hashes() for row in batch}
    assert len(hashes) == 1
    assert take(catalog, by_id(entry, 1, note="a"), named(1, 1, 2), by_id(entry, 3, note="b")) == Imported(
        updated=2, unchanged=1
    )
    assert catalog.get_entry("abuse", entry.id).note == "b"
    event = json.loads(catalog.audit.events(AuditQuery(newest_first=True, limit=1)).items[0].before)
    assert event["entries"][entry.id] == {"note": "", "signals": [f"sha256 {sha(1).value.hex()}"]}


def test_a_record_of_an_entry_that_the_same_message_brought_is_no_second_one(catalog: SqlCatalog) -> None:
    new = ListRecord(1, NewEntry(hashes=(sha(1),), external_id="case-1", source="list"), id="of-another-server")
    assert take(catalog, new, named(1, 2), gone(named(2)), new) == Imported(added=1, updated=2, absent=1)
    (entry,) = entries(catalog)
    assert (entry.id, digests(entry)) == ("of-another-server", {sha(1).value.hex()})
    hashes, _, _ = fold(catalog.changes(0, limit=1_000))
    assert hashes == {row.key for batch in catalog.live_hashes() for row in batch}


def test_a_list_of_a_bank_that_is_gone_is_none_of_its_namesakes(catalog: SqlCatalog) -> None:
    before = catalog.get_bank("abuse")
    catalog.delete_bank("abuse", force=True)
    catalog.create_bank("abuse", BankKind.BRAND, policy=BANNED)
    revision = catalog.revision()
    changes: list[Callable[[], object]] = [
        lambda: catalog.import_records("abuse", [plain(1)], (), bank_key=before.key, validate_only=False),
        lambda: catalog.import_records("abuse", [plain(1)], (), bank_key=before.key, validate_only=True),
        lambda: catalog.add_hashes("abuse", [plain(1).entry], bank_key=before.key),
        lambda: catalog.add_entry("abuse", picture(1), bank_key=before.key),
        lambda: catalog.update_bank("abuse", BankPatch(enabled=False), bank_key=before.key),
    ]
    for change in changes:
        with pytest.raises(BankNotFound):
            change()
    assert catalog.revision() == revision
    assert not entries(catalog)


def test_pictures_are_kept_where_the_bank_keeps_them_now(catalog: SqlCatalog) -> None:
    catalog.update_bank("abuse", BankPatch(keep_images=False))
    catalog.add_entry("abuse", dataclasses.replace(picture(1), image=b"file"))
    assert take(catalog, named(2, 2, image=b"file")) == Imported(added=1)
    assert [one.entry.image for one in exported(catalog)] == [None, None]
    catalog.update_bank("abuse", BankPatch(keep_images=True))
    assert take(catalog, named(2, 2, image=b"file")) == Imported(updated=1)
    assert [one.entry.image for one in exported(catalog)] == [None, b"file"]


def test_no_bank_is_an_error(catalog: SqlCatalog) -> None:
    with pytest.raises(BankNotFound):
        take(catalog, plain(1), bank="nowhere")


def test_what_goes_out_comes_in_the_same_signal_for_signal(catalog: SqlCatalog) -> None:
    for number in range(1, 6):
        catalog.add_entry("abuse", dataclasses.replace(picture(number, views=1 + number % 3), image=b"file" * number))
    take(catalog, named(20, 20, 21, expire_time=FUTURE), named(21, 22, expire_time=PAST), plain(30))
    catalog.update_entry("abuse", entries(catalog)[1].id, EntryPatch(state=EntryState.DISABLED, note="ask Kim"))
    catalog.update_entry("abuse", entries(catalog)[2].id, EntryPatch(quarantine="under appeal"))
    before = exported(catalog)
    make(catalog, "copy")
    assert take(catalog, *before, bank="copy") == Imported(added=8)
    after = exported(catalog, "copy")
    assert [(one.id, one.state, one.create_time, one.quarantine) for one in after] == [
        (one.id, one.state, one.create_time, one.quarantine) for one in before
    ]
    assert all(same(one.entry, two.entry) for one, two in zip(before, after, strict=True))
    assert [entry.state for entry in entries(catalog, "copy")] == [entry.state for entry in entries(catalog)]
    assert take(catalog, *after, bank="copy") == Imported(unchanged=8)


def test_an_export_is_in_pages_of_some_bytes(catalog: SqlCatalog, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1, 8):
        catalog.add_entry("abuse", dataclasses.replace(picture(number), image=bytes(1_000 * number)))
    monkeypatch.setattr(export, "_MOST_BYTES", 6_000)
    pages = []
    after: int | None = 0
    while after is not None:
        some = catalog.export_records("abuse", after)
        pages.append([one.entry.external_id for one in some.records])
        after = some.next_after
        assert some.entry_count == 7
    assert [name for some in pages for name in some] == [f"case-{number}" for number in range(1, 8)]
    assert len(pages) > 3
    assert all(pages)


def digest(lines: Iterable[str]) -> str:
    """As docs/access.md has a person make it."""
    return hashlib.sha256("".join(f"{line}\n" for line in sorted(lines)).encode()).hexdigest()


def test_labels_and_metadata_count_in_the_pages_of_an_export(catalog: SqlCatalog) -> None:
    metadata = {f"{key:0>256}": "v" * 256 for key in range(64)}
    for begin in (0, 100):
        take(catalog, *(named(number, number, metadata=metadata) for number in range(begin + 1, begin + 101)))
    page = catalog.export_records("abuse", 0)
    assert 100 < len(page.records) <= 4 * 2**20 / (64 * 512)
    assert [record.entry.external_id for record in exported(catalog)] == [f"case-{one}" for one in range(1, 201)]


def test_a_tombstone_may_name_more_entries_than_sqlite_takes_variables(catalog: SqlCatalog) -> None:
    count = 2_500
    added = [NewEntry(hashes=(sha(number),), external_id="case-1", source="list") for number in range(1, count + 1)]
    catalog.add_hashes("abuse", added)

    def narrow(connection: Any, *_: object) -> None:
        connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 1_000)  # 32,766 as SQLite comes

    event.listen(Pool, "checkout", narrow)
    try:
        assert take(catalog, gone(named(1)), gone(named(1))) == Imported(removed=count, absent=1)
    finally:
        event.remove(Pool, "checkout", narrow)
    assert not entries(catalog)
    (change,) = catalog.changes(catalog.revision() - 1)
    assert [one.key for one in change.removed_hashes] == sorted(one.key for one in change.removed_hashes)
    assert len(change.removed_hashes) == count


def test_the_event_of_a_list_says_what_changed_and_what_went(catalog: SqlCatalog) -> None:
    take(catalog, named(1, 1, labels=("a",)), plain(2))
    case, hash_ = entries(catalog)
    take(catalog, named(1, 3, labels=("b",)), gone(plain(2)), plain(4), gone(plain(9)))
    event = catalog.audit.events(AuditQuery(newest_first=True, limit=1)).items[0]
    assert (event.method, event.resource) == ("ImportEntries", "banks/abuse")
    before, after = json.loads(event.before), json.loads(event.after)
    assert {name: after[name] for name in ("added", "updated", "removed", "absent", "unchanged", "refused")} == {
        "added": 1, "updated": 1, "removed": 1, "absent": 1, "unchanged": 0, "refused": 0,
    }  # fmt: skip
    one, two, three, four = (sha(number).value.hex() for number in range(1, 5))
    assert before["entries"] == {
        case.id: {"labels": ["a"], "signals": [f"sha256 {one}"]},
        hash_.id: {"external_id": "", "source": "", "signals": [f"sha256 {two}"]},
    }
    assert after["changed"] == {case.id: {"labels": ["b"], "signals": [f"sha256 {three}"]}}
    (new,) = (entry.id for entry in entries(catalog) if entry.id != case.id)
    taken, brought = [f"{case.id} sha256:{one}", f"{hash_.id} sha256:{two}"], [
        f"{case.id} sha256:{three}", f"{new} sha256:{four}",
    ]  # fmt: skip
    assert (before["lines"], before["sha256"]) == (sorted(taken), digest(taken))
    assert (after["lines"], after["sha256"]) == (sorted(brought), digest(brought))


def test_the_event_of_a_long_list_has_a_digest_of_all_and_some_of_it_in_full(catalog: SqlCatalog) -> None:
    md5 = HashSignal(SignalType.MD5, bytes(16))
    records = [
        ListRecord(number, NewEntry(hashes=(sha(number), md5), source="a"), id=f"e-{number}")
        for number in range(2_000, 0, -1)
    ]
    records.append(ListRecord(9_999, NewEntry(vectors=picture(7).vectors), id="a_logo"))
    take(catalog, *records)
    lines = sorted(
        ["a_logo", *(line for one in records[:-1] for line in (
            f"{one.id} sha256:{one.entry.hashes[0].value.hex()}", f"{one.id} md5:{'0' * 32}",
        ))]
    )  # fmt: skip
    take(catalog, *(gone(one) for one in records))
    into, out = catalog.audit.events(AuditQuery(method="ImportEntries", limit=2)).items
    after, before = json.loads(into.after), json.loads(out.before)
    assert (after["lines"], after["sha256"]) == (lines[:100], digest(lines))
    assert (before["lines"], before["sha256"]) == (lines[:100], digest(lines))
    assert len(into.after) < 12_000


def test_vectors_that_a_list_replaced_are_told_and_no_hash_is_said_to_be_gone(catalog: SqlCatalog) -> None:
    made = catalog.add_entry("abuse", picture(7)).value
    other = [dataclasses.replace(one, mean=one.mean + 1) for one in picture(7).vectors]
    assert take(catalog, ListRecord(1, NewEntry(vectors=tuple(other)), id=made.id)) == Imported(updated=1)
    event = catalog.audit.events(AuditQuery(newest_first=True, limit=1)).items[0]
    assert json.loads(event.before) == {"entries": {made.id: {}}}
    assert json.loads(event.after)["changed"] == {made.id: {"vectors": "replaced"}}


def test_a_page_of_long_events_is_short(catalog: SqlCatalog, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1, 5):
        take(catalog, plain(number))
    events = catalog.audit.events
    sizes = [len(event.before) + len(event.after) for event in events(AuditQuery()).items]
    monkeypatch.setattr(audit, "_MOST_BYTES", max(sizes))
    assert sum(sizes[:2]) > max(sizes)
    seen = []
    query = AuditQuery(limit=5)
    while True:
        some = events(query)
        assert all(event.after for event in some.items)
        assert sum(len(event.before) + len(event.after) for event in some.items) <= max(sizes)
        seen += [event.sequence for event in some.items]
        if some.next_after is None:
            break
        query = dataclasses.replace(query, after=some.next_after)
    assert seen == [1, 2, 3, 4, 5]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["named", "plain", "gone", "unsaid", "disable", "enable", "picture"]),
        st.integers(0, 3),
        st.integers(0, 5),
    ),
    min_size=1,
    max_size=12,
)


def record_of(kind: str, which: int, value: int) -> ListRecord:
    if kind == "named":
        return named(which, value, value + 10)
    if kind == "plain":
        return plain(value, source="list")
    if kind == "gone":
        return gone(named(which))
    if kind == "unsaid":
        return gone(plain(value, source="list"))
    entry = dataclasses.replace(picture(value), external_id=f"case-{which}", source="list", thumbnail=None)
    local = (LocalSignal("sift-1", keypoints(2 + value, value)),)
    return ListRecord(which, dataclasses.replace(entry, local=local))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(messages=st.lists(STEPS, max_size=5), start=st.integers(0, 5))
def test_an_index_that_follows_lists_has_what_is_live(
    tmp_path_factory: pytest.TempPathFactory, messages: list[list[tuple[str, int, int]]], start: int
) -> None:
    catalog = SqlCatalog.open(tmp_path_factory.mktemp("lists") / "catalog.sqlite3")
    make(catalog)
    seen = []
    for step, message in enumerate(messages):
        rehearsed = None
        records = [record_of(*one) for one in message if one[0] not in {"disable", "enable"}]
        if records:
            rehearsed = take(catalog, *records, dry=True)
            assert take(catalog, *records) == rehearsed
        there = entries(catalog)
        for kind, which, _ in message:
            if there and kind in {"disable", "enable"}:
                state = EntryState.DISABLED if kind == "disable" else EntryState.ACTIVE
                catalog.update_entry("abuse", there[which % len(there)].id, EntryPatch(state=state))
        if step == start:
            seen = catalog.changes(0, limit=1_000)
    seen += catalog.changes(len(seen), limit=1_000)
    live = tuple(
        {row.key for batch in rows() for row in batch}
        for rows in (catalog.live_hashes, catalog.live_vectors, catalog.live_locals)
    )
    assert fold(seen) == fold(catalog.changes(0, limit=1_000)) == live
    assert len(entries(catalog)) == catalog.get_bank("abuse").entry_count
    catalog.close()


def test_a_brand_bank_has_its_own_vectors(catalog: SqlCatalog) -> None:
    catalog.create_bank("brand", BankKind.BRAND, policy=BANNED)
    logo = VectorSignal(SignalType.EMBEDDING, VectorSpace.LOGO, "model", np.eye(4, dtype=np.float32)[:2], 0.5, 0.25)
    entry = NewEntry(hashes=(HashSignal(SignalType.SHA1, bytes(20)),), vectors=(logo,), brand="Acme")
    assert take(catalog, ListRecord(1, entry, id="one"), bank="brand") == Imported(added=1)
    (record,) = exported(catalog, "brand")
    assert same(record.entry, entry)
