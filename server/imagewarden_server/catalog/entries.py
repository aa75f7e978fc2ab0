"""Entries and their signals: the statements that the catalogue's changes are made of."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, Table, func, select, text, update

from imagewarden_server.catalog.features import encode_features
from imagewarden_server.catalog.rows import (
    entry_of,
    micros,
    moment,
    quarantine_columns,
    summaries,
    vector_bytes,
)
from imagewarden_server.catalog.tables import banks, entries, hashes, local_features, match_reports, vectors
from imagewarden_server.catalog.tallies import feedback_by
from imagewarden_server.matching.errors import BankNotFound, EntryNotFound
from imagewarden_server.matching.listing import EntryFilter
from imagewarden_server.matching.opinions import NO_FEEDBACK, Quarantine
from imagewarden_server.matching.patches import EntryPatch
from imagewarden_server.matching.types import Entry, EntryState, HashSignal, NewEntry, SignalType

_CHUNK = 500
_ROWS = 50
"""So many rows a statement: a third less time than one by one, and fewer variables than any SQLite takes."""


def bank_row(connection: Connection, bank_id: str, key: int | None = None) -> Any:
    """A bank's row; with `key` that bank's alone, and no other's of its name. Raises BankNotFound."""
    row = connection.execute(select(banks).where(banks.c.id == bank_id)).one_or_none()
    if row is None or (key is not None and row.key != key):
        raise BankNotFound(bank_id)
    return row


def named_so(column: Any, pattern: str) -> Any:
    """Whether a name is as a pattern of `visible.Banks` has it."""
    return column.startswith(pattern[:-1], autoescape=True) if pattern.endswith("*") else column == pattern


def entry_row(connection: Connection, bank: Any, entry_id: str) -> Any:
    """An entry's row. Raises EntryNotFound."""
    query = select(entries).where(entries.c.bank_key == bank.key, entries.c.id == entry_id)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise EntryNotFound(bank.id, entry_id)
    return row


def entries_with_signals(connection: Connection, bank_id: str, rows: Sequence[Any]) -> list[Entry]:
    """Entries of one bank with their signals in short, in the order of the rows."""
    keys = [row.key for row in rows]
    hash_rows = connection.execute(
        select(hashes.c.entry_key, hashes.c.type, hashes.c.value, hashes.c.quality)
        .where(hashes.c.entry_key.in_(keys))
        .order_by(hashes.c.key)
    )
    vector_rows = connection.execute(
        select(
            vectors.c.entry_key,
            vectors.c.type,
            vectors.c.model,
            func.count().label("views"),
            func.max(func.length(vectors.c.data)).label("bytes"),
        )
        .where(vectors.c.entry_key.in_(keys))
        .group_by(vectors.c.entry_key, vectors.c.type, vectors.c.model)
        .order_by(vectors.c.type)
    )
    local_rows = connection.execute(
        select(
            local_features.c.entry_key,
            local_features.c.extractor,
            func.count().label("views"),
            func.sum(local_features.c.keypoints).label("keypoints"),
        )
        .where(local_features.c.entry_key.in_(keys))
        .group_by(local_features.c.entry_key, local_features.c.extractor)
    )
    signals = summaries(hash_rows, vector_rows, local_rows)
    feedback = feedback_by(connection, match_reports.c.entry_key, keys)
    return [
        entry_of(
            row,
            bank_id,
            signals.get(row.key, ()),
            getattr(row, "thumbnail", None),
            feedback.get(row.key, NO_FEEDBACK),
        )
        for row in rows
    ]


def recall_entry(connection: Connection, result: Any) -> Entry:
    """The entry that a change answered, as it is now: from the bank's id and its own."""
    bank_id, entry_id = result
    row = entry_row(connection, bank_row(connection, bank_id), entry_id)
    (entry,) = entries_with_signals(connection, bank_id, [row])
    return entry


def list_query(bank_key: int, *, after: int, only: EntryFilter) -> Select[Any]:
    """The rows of a listing, without their pictures."""
    columns = [column for column in entries.c if column.name not in {"thumbnail", "image"}]
    query = select(*columns).where(entries.c.bank_key == bank_key, entries.c.key > after).order_by(entries.c.key)
    if only.external_id:
        query = query.where(entries.c.external_id == only.external_id)
    if only.state is not None:
        query = query.where(entries.c.state == only.state.value)
    if only.label:
        query = query.where(
            text("EXISTS (SELECT 1 FROM json_each(entries.labels) WHERE value = :label)").bindparams(label=only.label)
        )
    if only.note:
        query = query.where(func.lower(entries.c.note).contains(only.note.lower(), autoescape=True))
    if only.source:
        # The index has no entry without a source, and is used where the query says that it wants none.
        query = query.where(entries.c.source == only.source, text("entries.source <> ''"))
    if only.quarantined:
        query = query.where(entries.c.quarantine_reason.is_not(None))
    return query


def find_existing(
    connection: Connection, bank_key: int, signals: Sequence[HashSignal]
) -> dict[tuple[SignalType, bytes], str]:
    """Which of these hashes the bank has already, with the id of the oldest entry that has each."""
    found: dict[tuple[SignalType, bytes], str] = {}
    values = list({signal.value for signal in signals})
    wanted = {(signal.type, signal.value) for signal in signals}
    for begin in range(0, len(values), _CHUNK):
        rows = connection.execute(
            select(hashes.c.type, hashes.c.value, entries.c.id)
            .join(entries, entries.c.key == hashes.c.entry_key)
            .where(hashes.c.value.in_(values[begin : begin + _CHUNK]), hashes.c.bank_key == bank_key)
            .order_by(hashes.c.key)
        )
        for row in rows:
            place = (SignalType(row.type), row.value)
            if place in wanted:
                found.setdefault(place, row.id)
    return found


class NewRow(NamedTuple):
    """An entry to insert.

    Attributes:
        create_time: microseconds since 1970; None: now.
    """

    id: str
    entry: NewEntry
    state: EntryState = EntryState.ACTIVE
    create_time: int | None = None
    quarantine: Quarantine | None = None


def kept_of(bank: Any, entry: NewEntry) -> NewEntry:
    """What a bank keeps of an entry: its picture only where the bank's row says so now."""
    return entry if bank.keep_images or not entry.image else replace(entry, image=None)


def insert_entries(connection: Connection, bank_key: int, new: Sequence[NewRow], now: int) -> int:
    """Insert entries with keys that follow each other; the first key. Raises nothing of the domain."""
    # The writer holds the database's lock: nobody else draws from the sequence meanwhile.
    last = connection.execute(text("SELECT seq FROM sqlite_sequence WHERE name = 'entries'")).scalar() or 0
    first = int(last) + 1
    quarantined = any(row.quarantine is not None for row in new)
    _insert(
        connection,
        entries,
        [
            (
                key,
                row.id,
                bank_key,
                row.entry.external_id,
                json.dumps(row.entry.labels) if row.entry.labels else "[]",
                json.dumps(dict(row.entry.metadata)) if row.entry.metadata else "{}",
                row.entry.source,
                row.entry.brand,
                row.state.value,
                None if row.entry.expire_time is None else micros(row.entry.expire_time),
                row.entry.thumbnail,
                row.entry.image,
                now if row.create_time is None else row.create_time,
                now,
                row.entry.note,
                *(quarantine_columns(row.quarantine).values() if quarantined else ()),
            )
            for key, row in enumerate(new, first)
        ],
    )
    connection.execute(update(banks).where(banks.c.key == bank_key).values(entry_count=banks.c.entry_count + len(new)))
    return first


def insert_signals(connection: Connection, bank_key: int, first: int, new: Sequence[NewEntry]) -> None:
    """Insert the hashes, vectors and local features of entries whose keys follow each other from `first`."""
    keyed = list(enumerate(new, first))
    _insert(
        connection,
        hashes,
        [
            (None, key, bank_key, signal.type.value, signal.value, signal.quality)
            for key, entry in keyed
            for signal in entry.hashes
        ],
    )
    _insert(
        connection,
        vectors,
        [
            (
                None,
                key,
                bank_key,
                signal.type.value,
                signal.space.value,
                signal.model,
                vector_bytes(vector),
                signal.mean,
                signal.deviation,
            )
            for key, entry in keyed
            for signal in entry.vectors
            for vector in signal.vectors
        ],
    )
    _insert(
        connection,
        local_features,
        [
            (None, key, bank_key, local.extractor, len(local.features.points), encode_features(local.features))
            for key, entry in keyed
            for local in entry.local
        ],
    )


def _insert(connection: Connection, table: Table, rows: list[tuple[Any, ...]]) -> None:
    """Insert rows with the first columns of a table in their order, as the database has them.

    By the driver itself: for lists of a million hashes what SQLAlchemy does with each row is most of the time.
    """
    names = [column.name for column in table.columns][: len(rows[0])] if rows else []
    for begin in range(0, len(rows), _ROWS):
        some = rows[begin : begin + _ROWS]
        one = f"({', '.join('?' * len(names))})"
        connection.exec_driver_sql(
            f"INSERT INTO {table.name} ({', '.join(names)}) VALUES {', '.join([one] * len(some))}",  # noqa: S608 -- names of our own
            tuple(chain.from_iterable(some)),
        )


def patched(patch: EntryPatch) -> dict[str, Any]:
    """The columns that a patch changes, but for the state."""
    values: dict[str, Any] = {
        name: getattr(patch, name)
        for name in ("external_id", "source", "brand", "note")
        if getattr(patch, name) is not None
    }
    if patch.labels is not None:
        values["labels"] = list(patch.labels)
    if patch.metadata is not None:
        values["metadata"] = dict(patch.metadata)
    if patch.clear_expire_time:
        values["expire_time"] = None
    elif patch.expire_time is not None:
        values["expire_time"] = micros(patch.expire_time)
    return values


def revived(row: Any, values: Mapping[str, Any], now: int) -> EntryState | None:
    """An expired entry whose time was moved or taken away takes part again."""
    if row.state != EntryState.EXPIRED.value or "expire_time" not in values:
        return None
    later = values["expire_time"] is None or moment(values["expire_time"]) > moment(now)
    return EntryState.ACTIVE if later else None
