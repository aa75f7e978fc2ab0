"""Which entries a listing has, on a real database file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.dialects import sqlite

from imagewarden_server.catalog import SqlCatalog
from imagewarden_server.catalog.entries import list_query
from imagewarden_server.matching.listing import EntryFilter
from imagewarden_server.matching.patches import EntryPatch
from imagewarden_server.matching.policy import default_policy
from imagewarden_server.matching.types import BankKind, EntryState, HashSignal, NewEntry, SignalType


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalog.sqlite3"


@pytest.fixture
def catalog(path: Path) -> Iterator[SqlCatalog]:
    opened = SqlCatalog.open(path)
    opened.create_bank("abuse", BankKind.BANNED, policy=default_policy(BankKind.BANNED))
    yield opened
    opened.close()


def picture(number: int, note: str, source: str = "") -> NewEntry:
    sha256 = HashSignal(SignalType.SHA256, number.to_bytes(32, "big"))
    return NewEntry(hashes=(sha256,), external_id=f"case-{number}", labels=("a", "b"), note=note, source=source)


def test_all_that_a_filter_asks_holds(catalog: SqlCatalog) -> None:
    notes = ("Until the appeal of case 7", "100% junk", "1000 junk_words", "")
    made = [catalog.add_entry("abuse", picture(number, note)).value for number, note in enumerate(notes, 1)]
    catalog.update_entry("abuse", made[1].id, EntryPatch(state=EntryState.DISABLED))
    catalog.update_entry("abuse", made[2].id, EntryPatch(quarantine="", note="2000 junk_words"))

    def found(**only: Any) -> list[int]:
        listed = catalog.list_entries("abuse", only=EntryFilter(**only)).items
        return [made.index(next(one for one in made if one.id == entry.id)) for entry in listed]

    assert [entry.note for entry in made] == list(notes)
    assert found() == [0, 1, 2, 3]
    assert found(note="APPEAL of") == [0]
    assert found(note="0% j") == [1], "no wildcard"
    assert found(note="k_w") == [2], "no wildcard"
    assert found(note="2000") == [2]
    assert found(note="junk") == [1, 2]
    assert found(note="junk", state=EntryState.DISABLED) == [1]
    assert found(note="junk", quarantined=True) == [2]
    assert found(label="a", quarantined=True, external_id="case-3") == [2]
    assert found(label="a", quarantined=True, external_id="case-1") == []


def test_the_entries_of_one_source_are_found_whatever_became_of_them(catalog: SqlCatalog) -> None:
    sources = ("North", "South", "", "South", "south")
    made = [catalog.add_entry("abuse", picture(place, "", source)).value for place, source in enumerate(sources)]
    catalog.update_entry("abuse", made[3].id, EntryPatch(state=EntryState.DISABLED))

    def found(after: int = 0, **only: Any) -> list[str]:
        return [entry.id for entry in catalog.list_entries("abuse", after=after, only=EntryFilter(**only)).items]

    assert found(source="South") == [made[1].id, made[3].id]
    assert found(source="South", state=EntryState.DISABLED) == [made[3].id]
    assert found(made[1].key, source="South") == [made[3].id]
    assert found(source="Sout_") == []
    catalog.update_entry("abuse", made[1].id, EntryPatch(source="North"))
    catalog.delete_entry("abuse", made[3].id)
    assert found(source="South") == []
    assert found(source="North") == [made[0].id, made[1].id]


def test_what_a_tombstone_names_is_not_looked_for_among_all_of_its_source(catalog: SqlCatalog, path: Path) -> None:
    catalog.add_hashes("abuse", [picture(number, "", "South") for number in range(100)])
    with sqlite3.connect(path) as connection:
        asked = "SELECT key FROM entries WHERE bank_key = ? AND source = ? AND external_id = ? ORDER BY key"
        plan = connection.execute(f"EXPLAIN QUERY PLAN {asked}", (1, "South", "case-7")).fetchall()
    assert "entries_by_external_id" in plan[0][3]


def test_a_page_is_read_in_order_without_sorting_the_bank(catalog: SqlCatalog, path: Path) -> None:
    catalog.add_hashes("abuse", [picture(number, "") for number in range(100)])
    for only in (
        EntryFilter(),
        EntryFilter(external_id="x"),
        EntryFilter(state=EntryState.ACTIVE),
        EntryFilter(label="x"),
        EntryFilter(quarantined=True),
        EntryFilter(note="x"),
        EntryFilter(source="x"),
        EntryFilter(source="x", state=EntryState.DISABLED),
    ):
        query = list_query(1, after=5, only=only).limit(10)
        sql = str(query.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True}))
        with sqlite3.connect(path) as connection:
            plan = " ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}"))
        assert "USING INDEX entries_by_" in plan
        assert "TEMP B-TREE" not in plan, f"{only}: {plan}"
        assert ("entries_by_source (bank_key=? AND source=?" in plan) == bool(only.source)
