"""The change feed: what each committed change means for an index.

A change's row keeps what the tables will no longer have: the keys that go out, with all that is needed to find them.
What comes in is read from the tables as they are now, so an entry that was changed again since is read as it is now;
folding all changes up to the last one gives exactly what is live.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, select

from imagewarden_server.catalog.rows import hash_of, vector_of
from imagewarden_server.catalog.tables import changes, entries, hashes, vectors
from imagewarden_server.matching.ports import Change, StoredHash, StoredVector
from imagewarden_server.matching.types import EntryState, SignalType, Vectors, VectorSpace

_BATCH = 10_000
_ACTIVE = EntryState.ACTIVE.value

Detail = dict[str, Any]


def added(first_entry: int, last_entry: int) -> Detail:
    """The detail of a change that brings entries in, by the range of their keys."""
    return {"in": [first_entry, last_entry]}


def removed(connection: Connection, entry_keys: Sequence[int]) -> Detail:
    """The detail of a change that takes entries out: to be made before their rows go."""
    hash_rows = connection.execute(
        select(hashes.c.key, hashes.c.bank_key, hashes.c.type, hashes.c.value).where(hashes.c.entry_key.in_(entry_keys))
    )
    vector_rows = connection.execute(
        select(vectors.c.key, vectors.c.bank_key, vectors.c.space, vectors.c.model).where(
            vectors.c.entry_key.in_(entry_keys)
        )
    )
    return {
        "hashes_out": [[row.key, row.bank_key, row.type, row.value.hex()] for row in hash_rows],
        "vectors_out": [[row.key, row.bank_key, row.space, row.model] for row in vector_rows],
    }


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
    if "in" in detail:
        first, last = detail["in"]
        hash_query = _active(hashes).where(hashes.c.entry_key.between(first, last)).order_by(hashes.c.key)
        vector_query = _active(vectors).where(vectors.c.entry_key.between(first, last)).order_by(vectors.c.key)
        hashes_in = [hash_of(row) for row in connection.execute(hash_query)]
        vectors_in = [vector_of(row) for row in connection.execute(vector_query)]
    return Change(
        revision=revision,
        removed_bank=detail.get("bank_out"),
        removed_hashes=[
            StoredHash(key, bank, SignalType(type_), bytes.fromhex(value))
            for key, bank, type_, value in detail.get("hashes_out", ())
        ],
        removed_vectors=[
            StoredVector(key, bank, VectorSpace(space), model, no_vector)
            for key, bank, space, model in detail.get("vectors_out", ())
        ],
        added_hashes=hashes_in,
        added_vectors=vectors_in,
    )


def _active(table: Any) -> Any:
    """Rows of a signal table whose entries take part in checks."""
    return select(table).join(entries, entries.c.key == table.c.entry_key).where(entries.c.state == _ACTIVE)


def live_rows(connection: Connection, table: Any) -> Iterator[list[Any]]:
    """All rows of a signal table whose entries take part in checks, in batches by key."""
    after = 0
    while True:
        batch = connection.execute(_active(table).where(table.c.key > after).order_by(table.c.key).limit(_BATCH)).all()
        if not batch:
            return
        yield list(batch)
        after = batch[-1].key
