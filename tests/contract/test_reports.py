"""Reports of matches, on a real database file: who found what, counted once, with an event each."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, event

from imagewarden_server.catalog import SqlCatalog, tallies
from imagewarden_server.catalog.tables import match_reports
from imagewarden_server.matching import actor
from imagewarden_server.matching.actor import Actor
from imagewarden_server.matching.audit import AuditQuery
from imagewarden_server.matching.errors import BankNotFound, EntryNotFound, RequestIdReused
from imagewarden_server.matching.opinions import Feedback, Opinion
from imagewarden_server.matching.policy import default_policy
from imagewarden_server.matching.ports import Idempotency
from imagewarden_server.matching.types import BankKind, Entry, HashSignal, NewEntry, SignalType

FIRST, SECOND = bytes(32), bytes(31) + b"\x01"
FALSE, CONFIRMED, DISPUTED = Opinion.FALSE_POSITIVE, Opinion.CONFIRMED, Opinion.DISPUTED


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalog.sqlite3"


@pytest.fixture
def catalog(path: Path) -> Iterator[SqlCatalog]:
    opened = SqlCatalog.open(path)
    opened.create_bank("abuse", BankKind.BANNED, policy=default_policy(BankKind.BANNED))
    opened.create_bank("other", BankKind.BANNED, policy=default_policy(BankKind.BANNED))
    yield opened
    opened.close()


def add(catalog: SqlCatalog, number: int = 1, bank: str = "abuse") -> Entry:
    hash_ = HashSignal(SignalType.SHA256, number.to_bytes(32, "big"))
    return catalog.add_entry(bank, NewEntry(hashes=(hash_,))).value


@contextmanager
def by(name: str) -> Iterator[None]:
    token = actor.acting(Actor(name, "ReportMatch", "request-1"))
    try:
        yield
    finally:
        actor._current.reset(token)


def report(
    catalog: SqlCatalog,
    entry: Entry,
    opinion: Opinion = FALSE,
    sha256: bytes = FIRST,
    *,
    who: str = "k1 (anna)",
    note: str = "",
    once: Idempotency | None = None,
) -> Feedback:
    with by(who):
        return catalog.reports.report(entry.bank_id, entry.id, sha256, opinion, note, once=once).value.feedback


def test_reports_are_counted_by_entry_and_by_bank(catalog: SqlCatalog) -> None:
    one, two, elsewhere = add(catalog, 1), add(catalog, 2), add(catalog, 1, "other")
    assert report(catalog, one, FALSE) == Feedback(0, 1, 0)
    assert report(catalog, one, CONFIRMED, SECOND) == Feedback(1, 1, 0)
    assert report(catalog, one, DISPUTED, who="k2 (ben)") == Feedback(1, 1, 1)
    assert report(catalog, two, FALSE) == Feedback(0, 1, 0)
    assert report(catalog, elsewhere, CONFIRMED) == Feedback(1, 0, 0)
    assert catalog.get_entry("abuse", one.id).feedback == Feedback(1, 1, 1)
    assert [entry.feedback for entry in catalog.list_entries("abuse").items] == [Feedback(1, 1, 1), Feedback(0, 1, 0)]
    assert catalog.get_bank("abuse").feedback == Feedback(1, 2, 1)
    assert [bank.feedback for bank in catalog.list_banks().items] == [Feedback(1, 2, 1), Feedback(1, 0, 0)]


def test_one_report_counts_for_an_entry_a_picture_and_a_reporter(catalog: SqlCatalog) -> None:
    entry = add(catalog)
    report(catalog, entry, FALSE, note="a drawing")
    assert report(catalog, entry, FALSE, note="a drawing, still") == Feedback(0, 1, 0)
    assert report(catalog, entry, CONFIRMED, note="I was wrong") == Feedback(1, 0, 0), "a later one takes its place"
    assert report(catalog, entry, FALSE, who="k2 (ben)") == Feedback(1, 1, 0)
    assert report(catalog, entry, FALSE, SECOND) == Feedback(1, 2, 0)
    newest, *_, oldest = catalog.get_entry("abuse", entry.id).reports
    assert (newest.sha256, newest.opinion, newest.reporter) == (SECOND, FALSE, "k1 (anna)")
    assert (oldest.sha256, oldest.opinion, oldest.note) == (FIRST, CONFIRMED, "I was wrong")
    assert newest.time >= oldest.time
    assert catalog.list_entries("abuse").items[0].reports == (), "one entry's reports are read for one entry alone"


def test_a_picture_counts_once_for_an_opinion_however_many_have_it(catalog: SqlCatalog) -> None:
    entry, other = add(catalog, 1), add(catalog, 2)
    for who in ("k1 (anna)", "k2 (ben)", "k3 (cleo)"):
        assert report(catalog, entry, FALSE, who=who) == Feedback(0, 1, 0)
    assert report(catalog, entry, CONFIRMED, who="k3 (cleo)") == Feedback(1, 1, 0), "they disagree: once for each"
    assert report(catalog, entry, CONFIRMED, who="k4 (dan)") == Feedback(1, 1, 0)
    assert report(catalog, entry, FALSE, SECOND, who="k2 (ben)") == Feedback(1, 2, 0)
    report(catalog, other, FALSE)
    assert [one.feedback for one in catalog.list_entries("abuse").items] == [Feedback(1, 2, 0), Feedback(0, 1, 0)]
    assert catalog.get_bank("abuse").feedback == Feedback(1, 3, 0), "a picture of each of its entries"
    report(catalog, entry, CONFIRMED, who="k1 (anna)")
    assert report(catalog, entry, CONFIRMED, who="k2 (ben)") == Feedback(1, 1, 0), "all changed their mind"
    assert len(catalog.get_entry("abuse", entry.id).reports) == 5, "and each is on record"


def test_a_repeat_counts_once_and_with_other_content_is_refused(catalog: SqlCatalog) -> None:
    entry = add(catalog)
    once = Idempotency("6e1f2a34-0000-4000-8000-000000000001", b"content")
    assert report(catalog, entry, CONFIRMED, once=once) == Feedback(1, 0, 0)
    report(catalog, entry, FALSE)
    assert report(catalog, entry, CONFIRMED, once=once) == Feedback(0, 1, 0), "answered as it is now, not made again"
    with pytest.raises(RequestIdReused):
        report(catalog, entry, FALSE, once=Idempotency(once.request_id, b"other"))


def test_a_report_is_an_event_and_no_revision(catalog: SqlCatalog) -> None:
    entry = add(catalog)
    before = catalog.revision()
    report(catalog, entry, FALSE, note="a drawing")
    report(catalog, entry, CONFIRMED, note="it is not")
    assert catalog.revision() == before, "checks see nothing of it: what they know stays known"
    first, second = catalog.audit.events(AuditQuery()).items[-2:]
    assert (first.method, first.actor, first.resource, first.revision) == ("ReportMatch", "k1 (anna)", entry.name, "")
    said = {"sha256": FIRST.hex(), "opinion": "false_positive", "note": "a drawing"}
    assert (first.before, json.loads(first.after)) == ("", said)
    assert json.loads(second.before) == said
    assert json.loads(second.after)["opinion"] == "confirmed"
    assert first.hash == second.previous_hash


def test_what_is_not_there_is_not_reported(catalog: SqlCatalog) -> None:
    entry = add(catalog)
    events = len(catalog.audit.events(AuditQuery()).items)
    with pytest.raises(EntryNotFound):
        catalog.reports.report("abuse", "nobody", FIRST, FALSE, "", once=None)
    with pytest.raises(BankNotFound):
        catalog.reports.report("nobody", entry.id, FIRST, FALSE, "", once=None)
    with pytest.raises(EntryNotFound):
        catalog.reports.report("other", entry.id, FIRST, FALSE, "", once=None)
    assert len(catalog.audit.events(AuditQuery()).items) == events


def test_reports_go_with_their_entry_and_their_bank(catalog: SqlCatalog, path: Path) -> None:
    one, two, elsewhere = add(catalog, 1), add(catalog, 2), add(catalog, 1, "other")
    for entry in (one, two, elsewhere):
        report(catalog, entry)
    catalog.delete_entry("abuse", one.id)
    assert catalog.get_bank("abuse").feedback == Feedback(0, 1, 0)
    catalog.delete_bank("other", force=True)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT entry_key FROM match_reports").fetchall() == [(two.key,)]


def test_counting_reads_an_index_and_no_table(catalog: SqlCatalog, path: Path) -> None:
    """Of a bank, which may have very many, an index that has all of it, in its order."""
    report(catalog, add(catalog))
    asked: list[str] = []
    with create_engine(f"sqlite:///{path}").connect() as connection:
        event.listen(connection, "before_cursor_execute", lambda *said: asked.append(said[2]))
        for column in (match_reports.c.bank_key, match_reports.c.entry_key):
            assert tallies.feedback_by(connection, column, [1]) == {1: Feedback(0, 1, 0)}
    with sqlite3.connect(path) as connection:
        of_bank, of_entry = (
            " ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", (1,))) for query in asked
        )
    assert "SEARCH match_reports USING" in of_entry, of_entry
    assert "SEARCH match_reports USING COVERING INDEX match_reports_by_bank" in of_bank, of_bank
    assert of_bank.count("TEMP B-TREE") == 1, f"for the sum over its entries alone: {of_bank}"


def test_reports_outlive_a_restart(catalog: SqlCatalog, path: Path) -> None:
    entry = add(catalog)
    report(catalog, entry, note="seen")
    catalog.close()
    again = SqlCatalog.open(path)
    assert again.get_entry("abuse", entry.id).feedback == Feedback(0, 1, 0)
    assert again.get_entry("abuse", entry.id).reports[0].note == "seen"
    again.close()
