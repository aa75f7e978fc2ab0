"""Which entries of a bank the records of a list mean: by an id, an external_id or a hash."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, select

from imagewarden_server.catalog.tables import entries, hashes
from imagewarden_server.matching.lists import ListRecord

_CHUNK = 500

Key = tuple[Any, ...]
"""By what a record's entry is known: its id, or its source with its external_id or its first hash."""


def key_of(record: ListRecord) -> Key:
    """By what the entry of a record that adds is known."""
    if record.id:
        return ("id", record.id)
    entry = record.entry
    if entry.external_id:
        return ("external_id", entry.source, entry.external_id)
    if entry.hashes:
        return ("hash", entry.source, entry.hashes[0].type.value, entry.hashes[0].value)
    # Vectors alone: nothing tells whether the bank has them.
    return ("number", record.number)


def there(connection: Connection, bank_key: int, keys: Iterable[Key]) -> dict[Key, int]:
    """The catalogue's keys of the entries that a bank has; of several the oldest."""
    by_kind: dict[str, list[Key]] = {}
    for key in keys:
        by_kind.setdefault(key[0], []).append(key)
    found: dict[Key, int] = {}

    def look(kind: str, query: Any, column: Any, made: Any) -> None:
        wanted = set(by_kind.get(kind, ()))
        values = list({key[-1] for key in wanted})
        for begin in range(0, len(values), _CHUNK):
            for row in connection.execute(query.where(column.in_(values[begin : begin + _CHUNK]))):
                key = made(row)
                if key in wanted:
                    found.setdefault(key, row.key)

    of_bank = select(entries.c.key, entries.c.id, entries.c.source, entries.c.external_id).where(
        entries.c.bank_key == bank_key
    )
    look("id", of_bank, entries.c.id, lambda row: ("id", row.id))
    look(
        "external_id",
        of_bank.order_by(entries.c.key),
        entries.c.external_id,
        lambda row: ("external_id", row.source, row.external_id),
    )
    return found | _known_by_hash(connection, bank_key, by_kind.get("hash", ()))


def _known_by_hash(connection: Connection, bank_key: int, keys: Sequence[Key]) -> dict[Key, int]:
    """As `there`, of keys that are hashes: most records of most lists, so the driver itself is asked."""
    wanted = set(keys)
    # In the order of the index: those that follow each other are on one page.
    values = sorted({key[-1] for key in wanted})
    found: dict[Key, int] = {}
    for begin in range(0, len(values), _CHUNK):
        some = values[begin : begin + _CHUNK]
        rows = connection.exec_driver_sql(
            "SELECT entries.key, entries.source, hashes.type, hashes.value FROM hashes "  # noqa: S608 -- marks alone
            "JOIN entries ON entries.key = hashes.entry_key "
            f"WHERE hashes.value IN ({', '.join('?' * len(some))}) AND hashes.bank_key = ? ORDER BY entries.key",
            (*some, bank_key),
        )
        for entry_key, source, type_, value in rows:
            key = ("hash", source, type_, value)
            if key in wanted:
                found.setdefault(key, entry_key)
    return found


def of_tombstone(connection: Connection, bank_key: int, record: ListRecord) -> list[int]:
    """The keys of the entries that a tombstone names: by its id, or of its source by its external_id or its hashes."""
    entry = record.entry
    query = select(entries.c.key).where(entries.c.bank_key == bank_key).order_by(entries.c.key)
    if record.id:
        return list(connection.execute(query.where(entries.c.id == record.id)).scalars())
    query = query.where(entries.c.source == entry.source)
    if entry.external_id:
        return list(connection.execute(query.where(entries.c.external_id == entry.external_id)).scalars())
    found: dict[int, None] = {}
    for signal in entry.hashes:
        having = select(hashes.c.entry_key).where(
            hashes.c.value == signal.value, hashes.c.bank_key == bank_key, hashes.c.type == signal.type.value
        )
        found |= dict.fromkeys(connection.execute(query.where(entries.c.key.in_(having))).scalars())
    return list(found)
