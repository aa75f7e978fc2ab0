"""The change feed: what each committed change means for an index.

A change's row keeps what the tables will no longer have: the keys that go out, with all that is needed to find them.
What comes in is read from the tables as they are now, so an entry that was changed again since is read as it is now;
folding all changes up to the last one gives exactly what is live.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from sqlalchemy import Connection, select

from imagewarden_server.catalog.rows import hashes_of, local_of, vector_of
from imagewarden_server.catalog.tables import changes, entries, hashes, local_features, vectors
from imagewarden_server.matching.ports import Change, StoredHash, StoredLocal, StoredVector
from imagewarden_server.matching.types import EntryState, LocalFeatures, SignalType, Vectors, VectorSpace

_BATCH = 10_000
_CHUNK = 500
_NO_FEATURES = LocalFeatures(np.empty((0, 4), np.float32), np.empty((0, 128), np.uint8), 1.0)
_ACTIVE = EntryState.ACTIVE.value

Detail = dict[str, Any]


def added(first_entry: int, last_entry: int) -> Detail:
    """The detail of a change that brings entries in, by the range of their keys."""
    return {"in": [first_entry, last_entry]}


def several(ranges: Sequence[tuple[int, int]], entry_keys: Sequence[int]) -> Detail:
    """The detail of a change that brings in entries by ranges of their keys, and single ones besides."""
    detail: Detail = {"ranges": [list(one) for one in ranges]} if ranges else {}
    return detail | {"keys": list(entry_keys)} if entry_keys else detail


def removed(connection: Connection, entry_keys: Sequence[int]) -> Detail:
    """The detail of a change that takes entries out: to be made before their rows go."""
    hash_rows = _of(connection, hashes, entry_keys, "type", "value")
    vector_rows = _of(connection, vectors, entry_keys, "space", "model")
    local_rows = _of(connection, local_features, entry_keys, "extractor")
    return {
        "hashes_out": [[row.key, row.bank_key, row.type, row.value.hex(), row.entry_key] for row in hash_rows],
        "vectors_out": [[row.key, row.bank_key, row.space, row.model, row.entry_key] for row in vector_rows],
        "locals_out": [[row.key, row.bank_key, row.extractor, row.entry_key] for row in local_rows],
    }


def _of(connection: Connection, table: Any, entry_keys: Sequence[int], *names: str) -> list[Any]:
    """The rows of entries by their keys: some entries at a time, for SQLite takes so many variables and no more."""
    query = select(*(table.c[name] for name in ("key", "bank_key", "entry_key", *names)))
    found: list[Any] = []
    for begin in range(0, len(entry_keys), _CHUNK):
        found += connection.execute(query.where(table.c.entry_key.in_(entry_keys[begin : begin + _CHUNK])))
    return sorted(found, key=lambda row: row.key)


def bank_removed(bank_key: int) -> Detail:
    """The detail of a change that takes a bank out with all it had."""
    return {"bank_out": bank_key}


def read_changes(connection: Connection, after: int, limit: int, no_vector: Vectors) -> list[Change]:
    """The changes after a revision, oldest first."""
    rows = connection.execute(
        select(changes.c.revision, changes.c.detail)
        .where(changes.c.revision > after)
        .order_by(changes.c.revision)
        .limit(limit)
    ).all()
    return [_change(connection, row.revision, row.detail, no_vector) for row in rows]


def _change(connection: Connection, revision: int, detail: Detail, no_vector: Vectors) -> Change:
    hashes_in: list[StoredHash] = []
    vectors_in: list[StoredVector] = []
    locals_in: list[StoredLocal] = []
    for chosen in _entries_in(detail):

        def rows(table: Any, chosen: Callable[[Any], Any] = chosen) -> Any:
            return connection.execute(_active(table).where(chosen(table.c.entry_key)).order_by(table.c.key))

        hashes_in += hashes_of(rows(hashes))
        vectors_in += [vector_of(row) for row in rows(vectors)]
        locals_in += [local_of(row) for row in rows(local_features)]
    # Changes that were written before there were local features name no entry: what goes out is found by its key.
    return Change(
        revision=revision,
        removed_bank=detail.get("bank_out"),
        removed_hashes=[
            StoredHash(key, bank, SignalType(type_), bytes.fromhex(value), *(entry or [0]))
            for key, bank, type_, value, *entry in detail.get("hashes_out", ())
        ],
        removed_vectors=[
            StoredVector(key, bank, VectorSpace(space), model, no_vector, *(entry or [0]))
            for key, bank, space, model, *entry in detail.get("vectors_out", ())
        ],
        removed_locals=[
            StoredLocal(key, bank, entry, extractor, _NO_FEATURES)
            for key, bank, extractor, entry in detail.get("locals_out", ())
        ],
        added_hashes=hashes_in,
        added_vectors=vectors_in,
        added_locals=locals_in,
    )


def _entries_in(detail: Detail) -> Iterator[Callable[[Any], Any]]:
    """Which entries come in: conditions on the column of their keys."""

    def between(first: int, last: int) -> Callable[[Any], Any]:
        return lambda column: column.between(first, last)

    for first, last in [*([detail["in"]] if "in" in detail else []), *detail.get("ranges", ())]:
        yield between(first, last)
    if "keys" in detail:
        yield lambda column: column.in_(detail["keys"])


def _active(table: Any) -> Any:
    """Rows of a signal table whose entries take part in checks."""
    return select(table).join(entries, entries.c.key == table.c.entry_key).where(entries.c.state == _ACTIVE)


def live_rows(connection: Connection, table: Any, size: int = _BATCH) -> Iterator[list[Any]]:
    """All rows of a signal table whose entries take part in checks, in batches by key."""
    after = 0
    while True:
        batch = connection.execute(_active(table).where(table.c.key > after).order_by(table.c.key).limit(size)).all()
        if not batch:
            return
        yield list(batch)
        after = batch[-1].key
