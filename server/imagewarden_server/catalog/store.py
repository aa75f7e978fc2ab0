"""The catalogue over SQL: banks, entries and their signals, each change one durable transaction with a revision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, false, func, insert, or_, select, update
from sqlalchemy import delete as sql_delete
from sqlalchemy.exc import IntegrityError

from imagewarden_server.catalog import export, feed, hashlines, lists
from imagewarden_server.catalog.audit import Note, bank_said, entry_said
from imagewarden_server.catalog.engine import Database, open_database
from imagewarden_server.catalog.entries import (
    NewRow,
    bank_row,
    entries_with_signals,
    entry_row,
    find_existing,
    insert_entries,
    insert_signals,
    kept_of,
    list_query,
    named_so,
    patched,
    recall_entry,
    revived,
)
from imagewarden_server.catalog.feedback import SqlReports, banks_with_feedback, quarantine_patch
from imagewarden_server.catalog.reads import CatalogReads
from imagewarden_server.catalog.records import SqlAuditLog, SqlKeys
from imagewarden_server.catalog.rows import (
    bank_of,
    entry_of,
    micros,
    new_entry_ids,
    policy_columns,
)
from imagewarden_server.catalog.tables import banks, entries
from imagewarden_server.catalog.tallies import newest_reports
from imagewarden_server.catalog.transactions import Done, Ledger, last_revision
from imagewarden_server.matching.errors import BankExists, BankNotEmpty, EntryExists
from imagewarden_server.matching.listing import ALL_ENTRIES, EntryFilter
from imagewarden_server.matching.lists import Exported, Imported, ListRecord, RefusedRecord
from imagewarden_server.matching.patches import BankPatch, EntryPatch
from imagewarden_server.matching.ports import AddedEntry, Idempotency, Page, Written
from imagewarden_server.matching.types import (
    Bank,
    BankKind,
    Entry,
    EntryState,
    NewEntry,
    Policy,
    SignalType,
)
from imagewarden_server.matching.visible import ALL_BANKS, Banks

T = TypeVar("T")


class SqlCatalog(CatalogReads):
    """Implements `ports.Catalog` over SQLite.

    Attributes:
        keys: who may do what.
        audit: what was done and refused.
        reports: what people found of matches.
    """

    def __init__(self, database: Database) -> None:
        super().__init__(Ledger(database))
        self._database = database
        self.keys = SqlKeys(self._ledger)
        self.audit = SqlAuditLog(self._ledger)
        self.reports = SqlReports(self._ledger)

    @classmethod
    def open(cls, path: Path) -> SqlCatalog:
        """Open or make the catalogue at a path.

        Raises:
            CatalogError: it is damaged, or was written by a newer version.
        """
        return cls(open_database(path))

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    @property
    def id(self) -> str:
        """The catalogue's own identifier, 32 hexadecimal digits."""
        return self._ledger.catalog_id

    def revision(self) -> int:
        """The number of the last committed change."""
        with self._ledger.reading() as connection:
            return last_revision(connection)

    # Banks

    def create_bank(
        self,
        bank_id: str,
        kind: BankKind,
        *,
        policy: Policy,
        display_name: str = "",
        enabled: bool = True,
        labels: Mapping[str, str] | None = None,
        keep_images: bool = False,
        once: Idempotency | None = None,
    ) -> Written[Bank]:
        """Make a bank; a repeat of the request answers the bank as it is now."""

        def work(connection: Connection, now: int) -> Done[Bank]:
            values = {
                "id": bank_id,
                "kind": kind.value,
                "display_name": display_name,
                **policy_columns(policy),
                "enabled": enabled,
                "labels": dict(labels or {}),
                "keep_images": keep_images,
                "create_time": now,
                "update_time": now,
            }
            try:
                connection.execute(insert(banks).values(**values))
            except IntegrityError:
                raise BankExists(bank_id) from None
            made = bank_of(bank_row(connection, bank_id))
            return made, {}, bank_id, Note(made.name, None, bank_said(made))

        return self._ledger.change("CreateBank", once, _read_bank, work)

    def get_bank(self, bank_id: str) -> Bank:
        """One bank."""
        with self._ledger.reading() as connection:
            return _read_bank(connection, bank_id)

    def list_banks(self, *, after: int = 0, limit: int = 100, visible: Banks = ALL_BANKS) -> Page[Bank]:
        """Banks in the order they were made."""
        with self._ledger.reading() as connection:
            query = select(banks).where(banks.c.key > after).order_by(banks.c.key).limit(limit + 1)
            if not visible.all:
                query = query.where(or_(false(), *(named_so(banks.c.id, pattern) for pattern in visible.patterns)))
            found = banks_with_feedback(connection, connection.execute(query).all())
        return Page(tuple(found[:limit]), found[limit - 1].key if len(found) > limit else None)

    def all_banks(self) -> tuple[Bank, ...]:
        """All banks."""
        with self._ledger.reading() as connection:
            return tuple(bank_of(row) for row in connection.execute(select(banks)))

    def update_bank(
        self, bank_id: str, patch: BankPatch, *, bank_key: int | None = None, once: Idempotency | None = None
    ) -> Written[Bank]:
        """Change a bank; a repeat of the request answers the bank as it is now."""

        def work(connection: Connection, now: int) -> Done[Bank]:
            row = bank_row(connection, bank_id, bank_key)
            values: dict[str, Any] = {"update_time": now}
            for name in ("display_name", "enabled", "keep_images"):
                if getattr(patch, name) is not None:
                    values[name] = getattr(patch, name)
            if patch.labels is not None:
                values["labels"] = dict(patch.labels)
            if patch.policy is not None:
                values |= policy_columns(patch.policy)
            connection.execute(update(banks).where(banks.c.key == row.key).values(**values))
            changed = _read_bank(connection, bank_id)
            return changed, {}, bank_id, Note(changed.name, bank_said(bank_of(row)), bank_said(changed))

        return self._ledger.change("UpdateBank", once, _read_bank, work)

    def delete_bank(self, bank_id: str, *, force: bool, once: Idempotency | None = None) -> Written[int]:
        """Delete a bank; answers how many entries went with it."""

        def work(connection: Connection, _now: int) -> Done[int]:
            row = bank_row(connection, bank_id)
            if row.entry_count and not force:
                raise BankNotEmpty(bank_id, row.entry_count)
            said = bank_said(bank_of(row)) | hashlines.told(hashlines.lines_of_bank(connection, row.key))
            connection.execute(sql_delete(banks).where(banks.c.key == row.key))
            note = Note(f"banks/{bank_id}", said, None)
            return row.entry_count, feed.bank_removed(row.key), row.entry_count, note

        return self._ledger.change("DeleteBank", once, lambda _, result: int(result), work)

    # Entries

    def add_entry(
        self, bank_id: str, entry: NewEntry, *, bank_key: int | None = None, once: Idempotency | None = None
    ) -> Written[Entry]:
        """Make one entry; a repeat of the request answers the entry as it is now."""

        def work(connection: Connection, now: int) -> Done[Entry]:
            bank = bank_row(connection, bank_id, bank_key)
            sha256 = [signal for signal in entry.hashes if signal.type is SignalType.SHA256]
            existing = find_existing(connection, bank.key, sha256)
            if existing:
                raise EntryExists(bank_id, next(iter(existing.values())))
            (entry_id,) = new_entry_ids(1)
            key = insert_entries(connection, bank.key, [NewRow(entry_id, kept_of(bank, entry))], now)
            insert_signals(connection, bank.key, key, [entry])
            (made,) = entries_with_signals(connection, bank_id, [entry_row(connection, bank, entry_id)])
            return made, feed.added(key, key), [bank_id, entry_id], Note(made.name, None, entry_said(made))

        return self._ledger.change("AddEntry", once, recall_entry, work)

    def add_hashes(
        self,
        bank_id: str,
        new: Sequence[NewEntry],
        *,
        bank_key: int | None = None,
        once: Idempotency | None = None,
    ) -> Written[list[AddedEntry]]:
        """Make many entries of one hash each, all or none; what the bank has, or comes twice, is a duplicate."""

        def work(connection: Connection, now: int) -> Done[list[AddedEntry]]:
            bank = bank_row(connection, bank_id, bank_key)
            known = find_existing(connection, bank.key, [entry.hashes[0] for entry in new])
            results: list[AddedEntry] = []
            fresh: list[NewRow] = []
            for entry, entry_id in zip(new, new_entry_ids(len(new)), strict=True):
                place = (entry.hashes[0].type, entry.hashes[0].value)
                duplicate = place in known
                if not duplicate:
                    known[place] = entry_id
                    fresh.append(NewRow(known[place], entry))
                results.append(AddedEntry(known[place], duplicate))
            detail: feed.Detail = {}
            if fresh:
                first = insert_entries(connection, bank.key, fresh, now)
                insert_signals(connection, bank.key, first, [row.entry for row in fresh])
                detail = feed.added(first, first + len(fresh) - 1)
            said: dict[str, Any] = {"added": len(fresh), "duplicates": len(results) - len(fresh)}
            if fresh:
                # Ids sort by the time they were made: those of the call are between these two.
                said |= {"first": min(row.id for row in fresh), "last": max(row.id for row in fresh)}
                said |= hashlines.told(sorted(hashlines.lines_of_new(fresh)))
            note = Note(f"banks/{bank_id}", None, said)
            return results, detail, [[one.entry_id, one.duplicate] for one in results], note

        return self._ledger.change(
            "AddHashes", once, lambda _, result: [AddedEntry(name, duplicate) for name, duplicate in result], work
        )

    def import_records(
        self,
        bank_id: str,
        records: Sequence[ListRecord],
        refused: Sequence[RefusedRecord],
        *,
        bank_key: int | None = None,
        validate_only: bool,
    ) -> Written[Imported]:
        """Bring records of a list in, as one change, or none where the bank has all of it; see `lists`."""

        def work(connection: Connection, now: int) -> Done[Imported]:
            return lists.bring_in(connection, bank_row(connection, bank_id, bank_key), records, refused, now)

        if validate_only:
            return Written(self._ledger.rehearse(work), 0)
        return self._ledger.change("ImportEntries", None, lambda *_: Imported(), work)

    def export_records(self, bank_id: str, after: int) -> Exported:
        """Entries with all their signals, in the order they were made, some MiB at a time."""
        with self._ledger.reading() as connection:
            return export.page(connection, bank_row(connection, bank_id), after)

    def get_entry(self, bank_id: str, entry_id: str) -> Entry:
        """One entry with signals and thumbnail."""
        with self._ledger.reading() as connection:
            row = entry_row(connection, bank_row(connection, bank_id), entry_id)
            (entry,) = entries_with_signals(connection, bank_id, [row])
            return replace(entry, reports=newest_reports(connection, entry.key))

    def list_entries(
        self, bank_id: str, *, after: int = 0, limit: int = 100, only: EntryFilter = ALL_ENTRIES
    ) -> Page[Entry]:
        """Entries with their signals in the order they were made."""
        with self._ledger.reading() as connection:
            bank = bank_row(connection, bank_id)
            query = list_query(bank.key, after=after, only=only)
            rows = connection.execute(query.limit(limit + 1)).all()
            found = entries_with_signals(connection, bank_id, rows[:limit])
        return Page(tuple(found), rows[limit - 1].key if len(rows) > limit else None)

    def update_entry(
        self, bank_id: str, entry_id: str, patch: EntryPatch, *, once: Idempotency | None = None
    ) -> Written[Entry]:
        """Change an entry; a repeat of the request answers the entry as it is now."""

        def work(connection: Connection, now: int) -> Done[Entry]:
            bank = bank_row(connection, bank_id)
            row = entry_row(connection, bank, entry_id)
            values = {"update_time": now, **patched(patch), **quarantine_patch(connection, row, patch, now)}
            state = patch.state or revived(row, values, now)
            detail: feed.Detail = {}
            if state is not None and state.value != row.state:
                values["state"] = state.value
                if state is EntryState.ACTIVE:
                    detail = feed.added(row.key, row.key)
                elif row.state == EntryState.ACTIVE.value:
                    detail = feed.removed(connection, [row.key])
            connection.execute(update(entries).where(entries.c.key == row.key).values(**values))
            (changed,) = entries_with_signals(connection, bank_id, [entry_row(connection, bank, entry_id)])
            note = Note(changed.name, entry_said(entry_of(row, bank_id, changed.signals)), entry_said(changed))
            return changed, detail, [bank_id, entry_id], note

        return self._ledger.change("UpdateEntry", once, recall_entry, work)

    def delete_entry(self, bank_id: str, entry_id: str, *, once: Idempotency | None = None) -> Written[None]:
        """Delete an entry."""

        def work(connection: Connection, _now: int) -> Done[None]:
            bank = bank_row(connection, bank_id)
            row = entry_row(connection, bank, entry_id)
            (gone,) = entries_with_signals(connection, bank_id, [row])
            detail = feed.removed(connection, [row.key])
            connection.execute(sql_delete(entries).where(entries.c.key == row.key))
            connection.execute(update(banks).where(banks.c.key == bank.key).values(entry_count=banks.c.entry_count - 1))
            return None, detail, None, Note(gone.name, entry_said(gone), None)

        return self._ledger.change("DeleteEntry", once, lambda *_: None, work)

    def expire(self, now: datetime, limit: int = 1_000) -> int:
        """Mark entries of one bank whose expire_time has passed; how many. Nothing to mark is no change."""
        passed = (entries.c.expire_time <= micros(now)) & (entries.c.state == EntryState.ACTIVE.value)
        first = select(func.min(entries.c.bank_key)).where(passed).scalar_subquery()
        due = select(entries.c.key).where(passed, entries.c.bank_key == first).limit(limit)
        with self._ledger.reading() as connection:
            if not connection.execute(due).all():
                return 0

        def work(connection: Connection, time: int) -> Done[int]:
            keys = list(connection.execute(due).scalars())
            detail = feed.removed(connection, keys)
            values = {"state": EntryState.EXPIRED.value, "update_time": time}
            connection.execute(update(entries).where(entries.c.key.in_(keys)).values(**values))
            named = select(banks.c.id, entries.c.id).join(banks, banks.c.key == entries.c.bank_key)
            rows = connection.execute(named.where(entries.c.key.in_(keys))).all()
            said = {"expired": [entry_id for _, entry_id in rows]}
            return len(keys), detail, None, Note(f"banks/{rows[0][0]}" if rows else "", None, said)

        return self._ledger.change("ExpireEntries", None, lambda *_: 0, work).value


def _read_bank(connection: Connection, bank_id: str) -> Bank:
    (bank,) = banks_with_feedback(connection, [bank_row(connection, bank_id)])
    return bank
