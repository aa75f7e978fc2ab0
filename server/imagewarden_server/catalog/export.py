"""Entries out of a bank with all that they are recognised by."""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import Connection, func, select

from imagewarden_server.catalog.rows import local_of, moment, quarantine_of
from imagewarden_server.catalog.tables import banks, entries, hashes, local_features, vectors
from imagewarden_server.catalog.transactions import last_revision
from imagewarden_server.matching.lists import Exported, ListRecord
from imagewarden_server.matching.types import (
    EntryState,
    HashSignal,
    LocalSignal,
    NewEntry,
    SignalType,
    VectorSignal,
    VectorSpace,
)

_MOST = 1_000
_MOST_BYTES = 4 * 2**20
_LONG = ("thumbnail", "image", "labels", "metadata", "note")
"""The columns of an entry that may be long; of texts the characters count."""


def page(connection: Connection, bank: Any, after: int) -> Exported:
    """Entries of a bank from a key on: at most a thousand and some 4 MiB, and at least one where there is one."""
    of_bank = select(entries.c.key).where(entries.c.bank_key == bank.key, entries.c.key > after)
    keys = list(connection.execute(of_bank.order_by(entries.c.key).limit(_MOST + 1)).scalars())
    chosen = _within(connection, keys[:_MOST])
    rows = connection.execute(select(entries).where(entries.c.key.in_(chosen)).order_by(entries.c.key)).all()
    by_hash = _grouped(connection, hashes, chosen)
    by_vector = _grouped(connection, vectors, chosen)
    by_local = _grouped(connection, local_features, chosen)
    records = [
        _record(row, by_hash.get(row.key, ()), by_vector.get(row.key, ()), by_local.get(row.key, ())) for row in rows
    ]
    count = connection.execute(select(banks.c.entry_count).where(banks.c.key == bank.key)).scalar_one()
    more = len(keys) > len(chosen)
    return Exported(tuple(records), chosen[-1] if more else None, last_revision(connection), int(count))


def vectors_of_entry(connection: Connection, key: int) -> list[VectorSignal]:
    """The vectors of an entry, as they were given: one signal for those of one scale that follow each other."""
    return _vectors(_grouped(connection, vectors, [key]).get(key, ()))


def local_of_entry(connection: Connection, key: int) -> list[LocalSignal]:
    """The local features of an entry."""
    return _local(_grouped(connection, local_features, [key]).get(key, ()))


def _within(connection: Connection, keys: Sequence[int]) -> list[int]:
    """The first of these entries, as many as have some 4 MiB together."""
    sizes = dict.fromkeys(keys, 0)
    lengths = [func.coalesce(func.length(entries.c[name]), 0) for name in _LONG]
    of_entries = select(entries.c.key, functools.reduce(operator.add, lengths).label("bytes")).where(
        entries.c.key.in_(keys)
    )
    found = list(connection.execute(of_entries))
    for table in (vectors, local_features):
        of_table = select(table.c.entry_key.label("key"), func.sum(func.length(table.c.data)).label("bytes"))
        found += connection.execute(of_table.where(table.c.entry_key.in_(keys)).group_by(table.c.entry_key))
    for row in found:
        sizes[row.key] += row.bytes
    together = list(itertools.accumulate(sizes.values()))
    return [key for place, key in enumerate(keys) if not place or together[place] <= _MOST_BYTES]


def _grouped(connection: Connection, table: Any, keys: Sequence[int]) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for row in connection.execute(select(table).where(table.c.entry_key.in_(keys)).order_by(table.c.key)):
        found.setdefault(row.entry_key, []).append(row)
    return found


def _record(row: Any, hash_rows: Sequence[Any], vector_rows: Sequence[Any], local_rows: Sequence[Any]) -> ListRecord:
    # EXPIRED is what the time makes of it, wherever it comes in again.
    state = EntryState.DISABLED if row.state == EntryState.DISABLED.value else EntryState.ACTIVE
    entry = NewEntry(
        hashes=tuple(HashSignal(SignalType(one.type), one.value, one.quality) for one in hash_rows),
        vectors=tuple(_vectors(vector_rows)),
        local=tuple(_local(local_rows)),
        external_id=row.external_id,
        labels=tuple(row.labels),
        metadata=row.metadata,
        source=row.source,
        brand=row.brand,
        note=row.note,
        expire_time=None if row.expire_time is None else moment(row.expire_time),
        thumbnail=row.thumbnail,
        image=row.image,
    )
    made = moment(row.create_time)
    return ListRecord(row.key, entry, row.id, state=state, create_time=made, quarantine=quarantine_of(row))


def _vectors(rows: Sequence[Any]) -> list[VectorSignal]:
    made = []
    for (type_, space, model, mean, deviation), run in itertools.groupby(
        rows, key=lambda row: (row.type, row.space, row.model, row.mean, row.deviation)
    ):
        data = np.stack([np.frombuffer(row.data, "<f4") for row in run])
        made.append(VectorSignal(SignalType(type_), VectorSpace(space), model, data, mean, deviation))
    return made


def _local(rows: Sequence[Any]) -> list[LocalSignal]:
    return [LocalSignal(row.extractor, local_of(row).features) for row in rows]
