"""The audit log and the keys, on a real database file: every change has its event, and nothing can be taken back."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imagewarden import AuditEvent as ClientEvent
from imagewarden import EntryRecord, RecordHash
from imagewarden import SignalType as ClientType
from imagewarden.lists import Writer
from imagewarden_server.access import NewKey, Role, new_key
from imagewarden_server.catalog import SqlCatalog
from imagewarden_server.catalog.errors import CatalogError, KeyNotFound
from imagewarden_server.matching import actor
from imagewarden_server.matching.actor import Actor
from imagewarden_server.matching.audit import AuditEvent, AuditQuery
from imagewarden_server.matching.errors import BankExists, EntryNotFound
from imagewarden_server.matching.patches import BankPatch, EntryPatch
from imagewarden_server.matching.policy import default_policy
from imagewarden_server.matching.ports import Idempotency
from imagewarden_server.matching.types import (
    BankKind,
    EntryState,
    HashSignal,
    NewEntry,
    SignalType,
    VectorSignal,
    VectorSpace,
)
from imagewarden_server.matching.visible import ALL_BANKS, Banks

BANNED = default_policy(BankKind.BANNED)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalog.sqlite3"


@pytest.fixture
def catalog(path: Path) -> Iterator[SqlCatalog]:
    opened = SqlCatalog.open(path)
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def moderator() -> Iterator[None]:
    token = actor.acting(Actor("k1 (moderators)", "", "request-1"))
    yield
    actor._current.reset(token)


def entry(number: int, **said: object) -> NewEntry:
    hash_ = HashSignal(SignalType.SHA256, number.to_bytes(32, "big"))
    return NewEntry(hashes=(hash_,), **said)  # type: ignore[arg-type]  # by name


def events(catalog: SqlCatalog, **asked: object) -> list[AuditEvent]:
    return list(catalog.audit.events(AuditQuery(**asked, limit=1_000)).items)  # type: ignore[arg-type]  # by name


def genuine(event: AuditEvent) -> bool:
    """As the client sees it."""
    said = {name: getattr(event, name) for name in AuditEvent.__slots__}
    return ClientEvent(**said | {"hash": event.hash.hex(), "previous_hash": event.previous_hash.hex()}).genuine


def whole(catalog: SqlCatalog, event: AuditEvent) -> ClientEvent:
    """An event as the client has it, with what its listing left out."""
    said = {name: getattr(event, name) for name in AuditEvent.__slots__}
    listed = ClientEvent(**said | {"hash": event.hash.hex(), "previous_hash": event.previous_hash.hex()})
    parts: list[tuple[str, str]] = []
    begin: int | None = 0
    while begin is not None:
        part = catalog.audit.part(event.sequence, begin, ALL_BANKS)
        assert part is not None
        assert len(part.before) + len(part.after) <= 2**20
        parts.append((part.before, part.after))
        begin = part.next_begin
    return listed.filled(parts)


@pytest.mark.parametrize("newest_first", [False, True])
def test_an_event_too_long_for_a_page_is_listed_without_what_it_says_and_read_by_itself(
    catalog: SqlCatalog, newest_first: bool
) -> None:
    catalog.create_bank("abuse", BankKind.BANNED, policy=BANNED)
    added = catalog.add_entry("abuse", entry(1, metadata={"k": "\u00e9" * 1_500_000})).value
    catalog.update_entry("abuse", added.id, EntryPatch(metadata={"k": "\U0001f600" * 1_100_000 + "end"}))
    catalog.delete_entry("abuse", added.id)
    catalog.delete_bank("abuse", force=False)
    found: list[AuditEvent] = []
    after: int | None = 0
    while after is not None:
        page = catalog.audit.events(AuditQuery(newest_first=newest_first, after=after, limit=2))
        assert sum(len((one.before + one.after).encode()) for one in page.items) <= 4 * 2**20
        found += page.items
        after = page.next_after
    found.sort(key=lambda one: one.sequence)
    assert [one.method for one in found] == ["CreateBank", "AddEntry", "UpdateEntry", "DeleteEntry", "DeleteBank"]
    created, listed, changed, deleted, _ = found
    for short in (created, listed):
        assert (short.before_bytes, short.after_bytes) == (0, 0)
        assert whole(catalog, short).after == short.after, "whoever asks for the parts of a short one has them, too"
    assert (changed.before, changed.after, deleted.before, deleted.after) == ("", "", "", "")
    assert (changed.before_bytes, deleted.after_bytes) == (len(listed.after.encode()), 0)
    assert changed.after_bytes == deleted.before_bytes > 4 * 2**20
    with pytest.raises(ValueError, match=r"event 3 leaves out [\d,]+ bytes"):
        genuine(changed)
    assert json.loads(whole(catalog, changed).after)["metadata"]["k"].endswith("\U0001f600end")
    assert all(whole(catalog, one).genuine for one in found)
    assert catalog.audit.part(6, 0, ALL_BANKS) is None
    assert catalog.audit.part(3, 0, Banks(("other",))) is None
    beyond = catalog.audit.part(3, 2**63 - 1, Banks(("abuse",)))
    assert beyond is not None
    assert (beyond.before, beyond.after, beyond.next_begin) == ("", "", None)


def test_every_change_is_one_event_with_who_before_after_and_revision(catalog: SqlCatalog) -> None:
    catalog.create_bank("abuse", BankKind.BANNED, policy=BANNED, labels={"team": "safety"})
    catalog.update_bank("abuse", BankPatch(enabled=False))
    added = catalog.add_entry("abuse", entry(1, external_id="case 7")).value
    catalog.add_hashes("abuse", [entry(1), entry(2), entry(3)])
    catalog.update_entry("abuse", added.id, EntryPatch(state=EntryState.DISABLED))
    catalog.delete_entry("abuse", added.id)
    catalog.delete_bank("abuse", force=True)
    found = events(catalog)
    assert [one.sequence for one in found] == list(range(1, 8))
    assert [one.method for one in found] == [
        "CreateBank",
        "UpdateBank",
        "AddEntry",
        "AddHashes",
        "UpdateEntry",
        "DeleteEntry",
        "DeleteBank",
    ]
    assert {(one.actor, one.request_id, one.outcome, one.count) for one in found} == {
        ("k1 (moderators)", "request-1", "OK", 1)
    }
    assert [one.revision for one in found] == [f"r1.{catalog.id[:12]}.{number:x}" for number in range(1, 8)]
    assert [one.resource for one in found] == [
        "banks/abuse",
        "banks/abuse",
        added.name,
        "banks/abuse",
        added.name,
        added.name,
        "banks/abuse",
    ]
    before: list[Any] = [json.loads(one.before) if one.before else None for one in found]
    after: list[Any] = [json.loads(one.after) if one.after else None for one in found]
    assert (before[0], after[0]["enabled"], after[0]["labels"]) == (None, True, {"team": "safety"})
    assert (before[1]["enabled"], after[1]["enabled"]) == (True, False)
    assert before[2] is None
    assert after[2]["external_id"] == "case 7"
    assert after[2]["signals"] == [f"sha256 {1:064x}"]
    assert {name: after[3][name] for name in ("added", "duplicates")} == {"added": 2, "duplicates": 1}
    assert after[3]["first"] < after[3]["last"]
    assert (before[4]["state"], after[4]["state"]) == ("active", "disabled")
    assert (before[5]["state"], after[5]) == ("disabled", None)
    assert (before[6]["entries"], after[6]) == (2, None)


def digest(lines: list[str]) -> str:
    """As docs/access.md has a person make it."""
    return hashlib.sha256("".join(f"{line}\n" for line in sorted(lines)).encode()).hexdigest()


def test_the_record_tells_by_their_hashes_what_was_added_and_what_went_with_a_bank(catalog: SqlCatalog) -> None:
    catalog.create_bank("abuse", BankKind.BANNED, policy=BANNED)
    new = [*(entry(number) for number in range(150)), entry(3)]
    given = catalog.add_hashes("abuse", new).value
    lines = [f"{one.entry_id} sha256:{sent.hashes[0].value.hex()}" for one, sent in zip(given, new, strict=True)]
    lines = lines[:150]
    after = json.loads(events(catalog)[-1].after)
    assert (after["sha256"], after["lines"]) == (digest(lines), sorted(lines)[:100])
    catalog.add_hashes("abuse", new)
    assert json.loads(events(catalog)[-1].after) == {"added": 0, "duplicates": 151}

    vectors = VectorSignal(SignalType.EMBEDDING, VectorSpace.COPY, "model", np.eye(4, dtype=np.float32)[:1])
    without = catalog.add_entry("abuse", NewEntry(vectors=(vectors,))).value
    several = (HashSignal(SignalType.PDQ, bytes(32)), HashSignal(SignalType.MD5, bytes(16)))
    with_many = catalog.add_entry("abuse", NewEntry(hashes=several)).value
    catalog.create_bank("other", BankKind.BANNED, policy=BANNED)
    catalog.add_hashes("other", [entry(7)])
    lines += [without.id, *(f"{with_many.id} {one.type.value}:{one.value.hex()}" for one in several)]
    out = io.BytesIO()
    writer = Writer(out, bank="banks/abuse", kind="banned", revision="r1", exported=datetime.now(UTC))
    for record in catalog.export_records("abuse", 0).records:
        hashes = tuple(RecordHash(ClientType(one.type.value), one.value) for one in record.entry.hashes)
        writer.write(EntryRecord(id=record.id, hashes=hashes))
    writer.end()
    catalog.delete_bank("abuse", force=True)
    before = json.loads(events(catalog)[-1].before)
    assert (before["sha256"], before["lines"]) == (digest(lines), sorted(lines)[:100])
    text = (Path(__file__).parents[2] / "docs" / "access.md").read_text(encoding="utf-8")
    (program,) = re.findall("```python\n(.*?)```", text, re.DOTALL)
    said = subprocess.run([sys.executable, "-c", program], input=out.getvalue(), capture_output=True, check=True)
    assert said.stdout.decode().strip() == before["sha256"]


def test_a_change_that_failed_or_was_repeated_is_no_event(catalog: SqlCatalog) -> None:
    once = Idempotency("a", b"content")
    for _ in range(2):
        catalog.create_bank("abuse", BankKind.BANNED, policy=BANNED, once=once)
    with pytest.raises(BankExists):
        catalog.create_bank("abuse", BankKind.BANNED, policy=BANNED)
    with pytest.raises(EntryNotFound):
        catalog.delete_entry("abuse", "nobody")
    assert len(events(catalog)) == 1


def test_what_expires_is_the_servers_doing(catalog: SqlCatalog) -> None:
    catalog.create_bank("abuse", BankKind.BANNED, policy=BANNED)
    soon = datetime.now(UTC) + timedelta(seconds=1)
    added = catalog.add_entry("abuse", entry(1, expire_time=soon)).value
    actor.acting(actor.SERVER)
    assert catalog.expire(soon + timedelta(seconds=1)) == 1
    last = events(catalog)[-1]
    assert (last.actor, last.method, last.resource) == ("server", "ExpireEntries", "banks/abuse")
    assert json.loads(last.after) == {"expired": [added.id]}
    assert events(catalog, banks=Banks(("abuse",)))[-1] == last


def test_what_expires_in_several_banks_is_a_change_of_each(catalog: SqlCatalog) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=1)
    for bank in ("a", "b"):
        catalog.create_bank(bank, BankKind.BANNED, policy=BANNED)
        for number in range(3):
            catalog.add_entry(bank, entry(number, expire_time=soon))
    later = soon + timedelta(seconds=1)
    assert [catalog.expire(later) for _ in range(3)] == [3, 3, 0]
    assert [one.resource for one in events(catalog, method="AddEntry")][-1].startswith("banks/b")


def test_each_event_is_bound_to_all_before_it(catalog: SqlCatalog, path: Path) -> None:
    for number in range(5):
        catalog.create_bank(f"b{number}", BankKind.BANNED, policy=BANNED)
    catalog.audit.refused([(Actor("unknown at \u00e9", "CheckImage", "r"), "", "UNAUTHENTICATED", 12)])
    found = events(catalog)
    assert found[0].previous_hash == hashlib.sha256(f"imagewarden audit {catalog.id}".encode()).digest()
    assert all(two.previous_hash == one.hash for one, two in itertools.pairwise(found))
    assert all(genuine(one) for one in found)
    assert catalog.audit.head() == (6, found[-1].hash.hex())
    assert (found[-1].outcome, found[-1].count) == ("UNAUTHENTICATED", 12)
    with sqlite3.connect(path) as connection:
        columns = "sequence, time, actor, method, resource, outcome, before, after, revision, request_id, count, hash"
        values = f"INTO audit_events ({columns}) VALUES ({{}}, 0, 'x', '', '', '', '', '', '', '', 1, x'00')"
        for statement in (
            "UPDATE audit_events SET actor = 'x' WHERE sequence = 3",
            "DELETE FROM audit_events",
            f"INSERT OR REPLACE {values.format(6)}",
            f"INSERT {values.format(9)}",
        ):
            with pytest.raises(sqlite3.DatabaseError, match=r"audit events are (never changed|only added at the end)"):
                connection.execute(statement)
        connection.execute("DROP TRIGGER audit_events_no_UPDATE")
        connection.execute("UPDATE audit_events SET actor = 'x' WHERE sequence = 3")
    connection.close()
    assert [genuine(one) for one in events(catalog)] == [True, True, False, True, True, True]


def test_events_are_asked_by_bank_actor_method_outcome_and_time(catalog: SqlCatalog) -> None:
    for bank in ("acme-logos", "acme-old", "abuse"):
        catalog.create_bank(bank, BankKind.BANNED, policy=BANNED)
    catalog.add_entry("abuse", entry(1))
    middle = events(catalog)[1].time
    catalog.audit.refused([(Actor("k2 (acme)", "GetBank", ""), "banks/abuse", "PERMISSION_DENIED", 1)])
    catalog.audit.refused([(Actor("k2 (acme)", "DropAll", ""), "", "PERMISSION_DENIED", 1)])

    def numbers(**asked: object) -> list[int]:
        return [one.sequence for one in events(catalog, **asked)]

    assert numbers(banks=Banks(("abuse",))) == [3, 4, 5]
    assert numbers(banks=Banks(("acme-*",))) == [1, 2]
    assert numbers(banks=Banks(("acme",))) == []
    assert numbers(banks=Banks(())) == []
    assert numbers(banks=ALL_BANKS) == [1, 2, 3, 4, 5, 6]
    assert numbers(actor="(acme)") == [5, 6]
    assert numbers(actor="%") == []
    assert numbers(method="CreateBank") == [1, 2, 3]
    assert numbers(outcome="PERMISSION_DENIED", method="GetBank") == [5]
    assert numbers(since=middle) == [2, 3, 4, 5, 6]
    assert numbers(until=middle) == [1]
    assert numbers(newest_first=True) == [6, 5, 4, 3, 2, 1]


def test_pages_go_on_where_the_one_before_ended_in_both_orders(catalog: SqlCatalog) -> None:
    for number in range(7):
        catalog.create_bank(f"b{number}", BankKind.BANNED, policy=BANNED)
    for newest_first in (False, True):
        seen: list[int] = []
        after: int | None = 0
        while after is not None:
            page = catalog.audit.events(AuditQuery(newest_first=newest_first, after=after, limit=3))
            seen += [one.sequence for one in page.items]
            assert all(genuine(one) for one in page.items)
            after = page.next_after
        assert seen == (list(range(7, 0, -1)) if newest_first else list(range(1, 8)))


def test_keys_are_kept_by_their_digest_and_their_making_and_revoking_are_events(
    catalog: SqlCatalog, path: Path
) -> None:
    id_, text, digest = new_key()
    expires = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    new = NewKey("the hook", Role.MODERATOR, Banks(("abuse", "x-*")), None, 2.5, 3, expires)
    made = catalog.keys.add_key(id_, new, digest)
    assert catalog.keys.all_keys() == [made]
    assert (made.new, made.digest, made.revoke_time) == (new, digest, None)
    revoked = catalog.keys.revoke_key(id_)
    assert revoked.revoke_time is not None
    assert catalog.keys.revoke_key(id_) == revoked, "revoked is revoked"
    with pytest.raises(KeyNotFound, match="imagewarden key list"):
        catalog.keys.revoke_key("nobody")
    found = events(catalog)
    assert [(one.method, one.resource) for one in found] == [("CreateKey", f"keys/{id_}"), ("RevokeKey", f"keys/{id_}")]
    assert json.loads(found[0].after)["banks"] == ["abuse", "x-*"]
    assert catalog.revision() == 0, "who may call is no change that checks see"
    catalog.close()
    assert all(text.encode() not in file.read_bytes() for file in path.parent.iterdir())
    assert all(text[-43:].encode() not in file.read_bytes() for file in path.parent.iterdir())


def test_a_certificate_stands_for_one_good_key(catalog: SqlCatalog) -> None:
    def new(days: int) -> NewKey:
        return NewKey(
            "x", Role.CHECKER, ALL_BANKS, "hook.example", expire_time=datetime.now(UTC) + timedelta(days=days)
        )

    catalog.keys.add_key("gone", new(-1), b"")
    catalog.keys.add_key("first", new(1), b"")
    with pytest.raises(CatalogError, match="stands for key first already"):
        catalog.keys.add_key("second", new(1), b"")
    catalog.keys.revoke_key("first")
    catalog.keys.add_key("second", new(1), b"")
