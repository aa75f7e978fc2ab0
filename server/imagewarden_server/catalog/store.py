"""The catalogue over SQL: banks, entries and their signals, each change one durable transaction with a revision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from sqlalchemy import Connection, Engine, insert, select, update
from sqlalchemy import delete as sql_delete
from sqlalchemy.exc import IntegrityError

from imagewarden_server.catalog import feed
from imagewarden_server.catalog.engine import open_engine
from imagewarden_server.catalog.entries import (
    bank_row,
    entries_with_signals,
    entry_row,
    find_existing,
    insert_entries,
    insert_signals,
    list_query,
    patched,
    revived,
)
from imagewarden_server.catalog.rows import (
    bank_of,
    entry_of,
    hash_of,
    local_of,
    micros,
    new_entry_id,
    thresholds_json,
    vector_of,
)
from imagewarden_server.catalog.tables import banks, entries, hashes, local_features, meta, vectors
from imagewarden_server.catalog.transactions import Ledger, last_revision
from imagewarden_server.matching.errors import BankExists, BankNotEmpty, EntryExists
from imagewarden_server.matching.ports import (
    AddedEntry,
    BankPatch,
    Change,
    EntryPatch,
    Idempotency,
    Page,
    StoredHash,
    StoredLocal,
    StoredVector,
    Written,
)
from imagewarden_server.matching.types import (
    Bank,
    BankKind,
    Entry,
    EntryState,
    HashSignal,
    NewEntry,
    Policy,
    SignalType,
)

T = TypeVar("T")

_NO_VECTOR = np.empty(0, np.float32)
_LOCAL_BATCH = 500
"""Rows of local features a batch: each may have a hundred kilobytes."""


class SqlCatalog:
    """Implements `ports.Catalog` over SQLite."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._ledger = Ledger(engine)
        with self._ledger.reading() as connection:
            found = connection.execute(select(meta.c.value).where(meta.c.name == "id")).scalar_one()
        self._id = str(found)

    @classmethod
    def open(cls, path: Path) -> SqlCatalog:
        """Open or make the catalogue at a path.

        Raises:
            CatalogError: it is damaged, or was written by a newer version.
        """
        return cls(open_engine(path))

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @property
    def id(self) -> str:
        """The catalogue's own identifier, 32 hexadecimal digits."""
        return self._id

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

        def work(connection: Connection, now: int) -> tuple[Bank, feed.Detail, Any]:
            values = {
                "id": bank_id,
                "kind": kind.value,
                "display_name": display_name,
                "action": int(policy.action),
                "thresholds": thresholds_json(policy),
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
            return bank_of(bank_row(connection, bank_id)), {}, bank_id

        return self._ledger.change("create_bank", once, _recall_bank, work)

    def get_bank(self, bank_id: str) -> Bank:
        """One bank."""
        with self._ledger.reading() as connection:
            return bank_of(bank_row(connection, bank_id))

    def list_banks(self, *, after: int = 0, limit: int = 100) -> Page[Bank]:
        """Banks in the order they were made."""
        with self._ledger.reading() as connection:
            query = select(banks).where(banks.c.key > after).order_by(banks.c.key).limit(limit + 1)
            found = [bank_of(row) for row in connection.execute(query)]
        return Page(tuple(found[:limit]), found[limit - 1].key if len(found) > limit else None)

    def all_banks(self) -> tuple[Bank, ...]:
        """All banks."""
        with self._ledger.reading() as connection:
            return tuple(bank_of(row) for row in connection.execute(select(banks)))

    def update_bank(self, bank_id: str, patch: BankPatch, *, once: Idempotency | None = None) -> Written[Bank]:
        """Change a bank; a repeat of the request answers the bank as it is now."""

        def work(connection: Connection, now: int) -> tuple[Bank, feed.Detail, Any]:
            row = bank_row(connection, bank_id)
            values: dict[str, Any] = {"update_time": now}
            for name in ("display_name", "enabled", "keep_images"):
                if getattr(patch, name) is not None:
                    values[name] = getattr(patch, name)
            if patch.labels is not None:
                values["labels"] = dict(patch.labels)
            if patch.policy is not None:
                values |= {"action": int(patch.policy.action), "thresholds": thresholds_json(patch.policy)}
            connection.execute(update(banks).where(banks.c.key == row.key).values(**values))
            return bank_of(bank_row(connection, bank_id)), {}, bank_id

        return self._ledger.change("update_bank", once, _recall_bank, work)

    def delete_bank(self, bank_id: str, *, force: bool, once: Idempotency | None = None) -> Written[int]:
        """Delete a bank; answers how many entries went with it."""

        def work(connection: Connection, _now: int) -> tuple[int, feed.Detail, Any]:
            row = bank_row(connection, bank_id)
            if row.entry_count and not force:
                raise BankNotEmpty(bank_id, row.entry_count)
            connection.execute(sql_delete(banks).where(banks.c.key == row.key))
            return row.entry_count, feed.bank_removed(row.key), row.entry_count

        return self._ledger.change("delete_bank", once, lambda _, result: int(result), work)

    # Entries

    def add_entry(self, bank_id: str, entry: NewEntry, *, once: Idempotency | None = None) -> Written[Entry]:
        """Make one entry; a repeat of the request answers the entry as it is now."""

        def work(connection: Connection, now: int) -> tuple[Entry, feed.Detail, Any]:
            bank = bank_row(connection, bank_id)
            sha256 = [signal for signal in entry.hashes if signal.type is SignalType.SHA256]
            existing = find_existing(connection, bank.key, sha256)
            if existing:
                raise EntryExists(bank_id, next(iter(existing.values())))
            entry_id = new_entry_id()
            key = insert_entries(connection, bank.key, [(entry_id, entry)], now)
            insert_signals(connection, bank.key, key, [entry])
            (made,) = entries_with_signals(connection, bank_id, [entry_row(connection, bank, entry_id)])
            return made, feed.added(key, key), [bank_id, entry_id]

        return self._ledger.change("add_entry", once, _recall_entry, work)

    def add_hashes(
        self, bank_id: str, new: Sequence[NewEntry], *, once: Idempotency | None = None
    ) -> Written[list[AddedEntry]]:
        """Make many entries of one hash each, all or none; what the bank has, or comes twice, is a duplicate."""

        def work(connection: Connection, now: int) -> tuple[list[AddedEntry], feed.Detail, Any]:
            bank = bank_row(connection, bank_id)
            known = find_existing(connection, bank.key, [entry.hashes[0] for entry in new])
            results: list[AddedEntry] = []
            fresh: list[tuple[str, NewEntry]] = []
            for entry in new:
                place = (entry.hashes[0].type, entry.hashes[0].value)
                duplicate = place in known
                if not duplicate:
                    known[place] = new_entry_id()
                    fresh.append((known[place], entry))
                results.append(AddedEntry(known[place], duplicate))
            detail: feed.Detail = {}
            if fresh:
                first = insert_entries(connection, bank.key, fresh, now)
                insert_signals(connection, bank.key, first, [entry for _, entry in fresh])
                detail = feed.added(first, first + len(fresh) - 1)
            return results, detail, [[one.entry_id, one.duplicate] for one in results]

        return self._ledger.change(
            "add_hashes", once, lambda _, result: [AddedEntry(name, duplicate) for name, duplicate in result], work
        )

    def find_hash(self, bank_id: str, signal: HashSignal) -> str | None:
        """The id of the bank's entry that has this hash, or None."""
        with self._ledger.reading() as connection:
            bank = bank_row(connection, bank_id)
            return find_existing(connection, bank.key, [signal]).get((signal.type, signal.value))

    def get_entry(self, bank_id: str, entry_id: str) -> Entry:
        """One entry with signals and thumbnail."""
        with self._ledger.reading() as connection:
            row = entry_row(connection, bank_row(connection, bank_id), entry_id)
            (entry,) = entries_with_signals(connection, bank_id, [row])
            return entry

    def list_entries(
        self,
        bank_id: str,
        *,
        after: int = 0,
        limit: int = 100,
        external_id: str = "",
        label: str = "",
        state: EntryState | None = None,
    ) -> Page[Entry]:
        """Entries with their signals in the order they were made."""
        with self._ledger.reading() as connection:
            bank = bank_row(connection, bank_id)
            query = list_query(bank.key, after=after, external_id=external_id, label=label, state=state)
            rows = connection.execute(query.limit(limit + 1)).all()
            found = entries_with_signals(connection, bank_id, rows[:limit])
        return Page(tuple(found), rows[limit - 1].key if len(rows) > limit else None)

    def update_entry(
        self, bank_id: str, entry_id: str, patch: EntryPatch, *, once: Idempotency | None = None
    ) -> Written[Entry]:
        """Change an entry; a repeat of the request answers the entry as it is now."""

        def work(connection: Connection, now: int) -> tuple[Entry, feed.Detail, Any]:
            bank = bank_row(connection, bank_id)
            row = entry_row(connection, bank, entry_id)
            values = {"update_time": now, **patched(patch)}
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
            return changed, detail, [bank_id, entry_id]

        return self._ledger.change("update_entry", once, _recall_entry, work)

    def delete_entry(self, bank_id: str, entry_id: str, *, once: Idempotency | None = None) -> Written[None]:
        """Delete an entry."""

        def work(connection: Connection, _now: int) -> tuple[None, feed.Detail, Any]:
            bank = bank_row(connection, bank_id)
            row = entry_row(connection, bank, entry_id)
            detail = feed.removed(connection, [row.key])
            connection.execute(sql_delete(entries).where(entries.c.key == row.key))
            connection.execute(update(banks).where(banks.c.key == bank.key).values(entry_count=banks.c.entry_count - 1))
            return None, detail, None

        return self._ledger.change("delete_entry", once, lambda *_: None, work)

    def expire(self, now: datetime, limit: int = 1_000) -> int:
        """Mark entries whose expire_time has passed; how many. Nothing to mark is no change."""
        due = (
            select(entries.c.key)
            .where(entries.c.expire_time <= micros(now), entries.c.state == EntryState.ACTIVE.value)
            .limit(limit)
        )
        with self._ledger.reading() as connection:
            if not connection.execute(due).all():
                return 0

        def work(connection: Connection, time: int) -> tuple[int, feed.Detail, Any]:
            keys = list(connection.execute(due).scalars())
            detail = feed.removed(connection, keys)
            values = {"state": EntryState.EXPIRED.value, "update_time": time}
            connection.execute(update(entries).where(entries.c.key.in_(keys)).values(**values))
            return len(keys), detail, None

        return self._ledger.change("expire", None, lambda *_: 0, work).value

    # What the index needs

    def entries_by_hash_key(self, keys: Sequence[int]) -> dict[int, Entry]:
        """The entries that stored hashes belong to."""
        return self._entries_by(hashes, keys)

    def entries_by_vector_key(self, keys: Sequence[int]) -> dict[int, Entry]:
        """The entries that stored vectors belong to."""
        return self._entries_by(vectors, keys)

    def entries_by_key(self, keys: Sequence[int]) -> dict[int, Entry]:
        """The entries of these keys."""
        return self._entries_by(entries, keys)

    def _entries_by(self, table: Any, keys: Sequence[int]) -> dict[int, Entry]:
        if not keys:
            return {}
        query = select(table.c.key.label("signal_key"), banks.c.id.label("bank_id"), *_without_blobs())
        if table is not entries:
            query = query.join(entries, entries.c.key == table.c.entry_key)
        query = query.join(banks, banks.c.key == entries.c.bank_key)
        found: dict[int, Entry] = {}
        distinct = list(dict.fromkeys(keys))
        with self._ledger.reading() as connection:
            for begin in range(0, len(distinct), 500):
                rows = connection.execute(query.where(table.c.key.in_(distinct[begin : begin + 500])))
                found |= {row.signal_key: entry_of(row, row.bank_id) for row in rows}
        return found

    def changes(self, after: int, limit: int = 256) -> list[Change]:
        """The changes after a revision, oldest first."""
        with self._ledger.reading() as connection:
            return feed.read_changes(connection, after, limit, _NO_VECTOR)

    def live_hashes(self) -> Iterator[list[StoredHash]]:
        """All hashes of active entries, in batches."""
        with self._ledger.reading() as connection:
            for batch in feed.live_rows(connection, hashes):
                yield [hash_of(row) for row in batch]

    def live_vectors(self) -> Iterator[list[StoredVector]]:
        """All vectors of active entries, in batches."""
        with self._ledger.reading() as connection:
            for batch in feed.live_rows(connection, vectors):
                yield [vector_of(row) for row in batch]

    def live_locals(self) -> Iterator[list[StoredLocal]]:
        """All local features of active entries, in batches.

        Raises:
            DamagedFeatures: a row is not what was written.
        """
        with self._ledger.reading() as connection:
            for batch in feed.live_rows(connection, local_features, _LOCAL_BATCH):
                yield [local_of(row) for row in batch]


def _without_blobs() -> list[Any]:
    return [column for column in entries.c if column.name not in {"thumbnail", "image"}]


def _recall_bank(connection: Connection, result: Any) -> Bank:
    return bank_of(bank_row(connection, result))


def _recall_entry(connection: Connection, result: Any) -> Entry:
    bank_id, entry_id = result
    row = entry_row(connection, bank_row(connection, bank_id), entry_id)
    (entry,) = entries_with_signals(connection, bank_id, [row])
    return entry
