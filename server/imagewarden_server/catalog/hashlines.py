"""Which hashes a change brought or took away, as its event has them: a digest of all, and the first ones in full.

A line is `ID TYPE:HEX`: the {entry} of the entry's name, the type and the hash in lower case; an entry without hashes
has one line with its id alone. Sorted by their bytes and each ended by a line feed, they are what the digest is of;
docs/access.md says how a person makes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import Connection, select

from imagewarden_server.catalog.entries import NewRow
from imagewarden_server.catalog.tables import entries, hashes
from imagewarden_server.matching.types import HashSignal

_MOST = 100
_BATCH = 10_000


def line(entry_id: str, type_: str | None, value: bytes | None) -> str:
    """The line of a hash that an entry has, or of an entry that has none."""
    return entry_id if value is None else f"{entry_id} {type_}:{value.hex()}"


def lines_of(entry_id: str, signals: Sequence[HashSignal]) -> list[str]:
    """The lines of an entry with these hashes."""
    return [line(entry_id, signal.type.value, signal.value) for signal in signals] or [entry_id]


def lines_of_new(rows: Iterable[NewRow]) -> list[str]:
    """The lines of entries that are new."""
    return [one for row in rows for one in lines_of(row.id, row.entry.hashes)]


def lines_of_bank(connection: Connection, bank_key: int) -> Iterator[str]:
    """The lines of all that a bank has, sorted; read as they are asked for."""
    # By id, and of one entry by type and value: that is the order of the lines, for no id has what sorts before a
    # space. The index of ids gives it, so that a million are never sorted in memory.
    query = (
        select(entries.c.id, hashes.c.type, hashes.c.value)
        .join(hashes, hashes.c.entry_key == entries.c.key, isouter=True)
        .where(entries.c.bank_key == bank_key)
        .order_by(entries.c.id, hashes.c.type, hashes.c.value)
    )
    for row in connection.execute(query, execution_options={"yield_per": _BATCH}):
        yield line(*row)


def told(lines: Iterable[str]) -> dict[str, Any]:
    """What an event has of lines that are sorted: SHA-256 of all of them, and the first hundred."""
    digest = hashlib.sha256()
    first: list[str] = []
    left = iter(lines)
    while some := list(islice(left, _BATCH)):
        first = first or some[:_MOST]
        digest.update(("\n".join(some) + "\n").encode("ascii"))
    return {"sha256": digest.hexdigest(), "lines": first}
