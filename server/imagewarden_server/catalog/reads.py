"""What checks and the index read of the catalogue: entries by their keys, changes, all that is live."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from sqlalchemy import select

from imagewarden_server.catalog import feed
from imagewarden_server.catalog.rows import entry_of, hashes_of, local_of, vector_of
from imagewarden_server.catalog.tables import banks, entries, hashes, local_features, vectors
from imagewarden_server.catalog.transactions import Ledger
from imagewarden_server.matching.ports import Change, StoredHash, StoredLocal, StoredVector
from imagewarden_server.matching.types import Entry

_NO_VECTOR = np.empty(0, np.float32)
_LOCAL_BATCH = 500
"""Rows of local features a batch: each may have a hundred kilobytes."""


class CatalogReads:
    """The half of `ports.Catalog` that an index is made of."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

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
                yield hashes_of(batch)

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
