"""A catalogue with something of everything, its files with one byte changed, and what is there afterwards."""

from __future__ import annotations

import contextlib
import hashlib
import random
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from imagewarden_server.access import NewKey, Role, new_key
from imagewarden_server.catalog import CatalogError, SqlCatalog
from imagewarden_server.matching.patches import BankPatch, EntryPatch
from imagewarden_server.matching.policy import default_policy
from imagewarden_server.matching.ports import Idempotency
from imagewarden_server.matching.types import (
    BankKind,
    EntryState,
    HashSignal,
    LocalFeatures,
    LocalSignal,
    NewEntry,
    SignalType,
    VectorSignal,
    VectorSpace,
)
from imagewarden_server.matching.visible import Banks

CATALOG = "catalog.sqlite3"
Dump = dict[str, list[tuple[Any, ...]]]


def hashes(first: int, count: int) -> list[NewEntry]:
    digests = [hashlib.sha256(str(number).encode()).digest() for number in range(first, first + count)]
    return [NewEntry(hashes=(HashSignal(SignalType.SHA256, digest),)) for digest in digests]


def picture(number: int) -> NewEntry:
    """An entry with every signal."""
    chance = np.random.default_rng(number)
    points = chance.uniform(0.1, 0.6, (60, 4)).astype(np.float32)
    local = LocalSignal("sift-1", LocalFeatures(points, chance.integers(0, 255, (60, 128), np.uint8), 1.5))
    vectors = chance.normal(size=(2, 256)).astype(np.float32)
    return NewEntry(
        external_id=f"case-{number}",
        labels=("one", "two"),
        metadata={"note": "n" * number},
        thumbnail=chance.bytes(3_000),
        hashes=(HashSignal(SignalType.PDQ, chance.bytes(32), 90), *hashes(10_000 + number, 1)[0].hashes),
        vectors=(VectorSignal(SignalType.EMBEDDING, VectorSpace.COPY, "model", vectors),),
        local=(local,),
    )


def fill(catalog: SqlCatalog) -> None:
    """All kinds of changes."""
    for name in ("abuse", "spam", "gone"):
        catalog.create_bank(name, BankKind.BANNED, policy=default_policy(BankKind.BANNED), labels={"team": name})
    catalog.keys.add_key(*_key("one"))
    for number in range(12):
        catalog.add_hashes("abuse", hashes(number * 40, 40), once=Idempotency(f"request-{number}", bytes(32)))
        catalog.add_entry("spam" if number % 2 else "gone", picture(number))
    entries = catalog.list_entries("spam").items
    catalog.update_entry("spam", entries[0].id, EntryPatch(state=EntryState.DISABLED))
    catalog.delete_entry("spam", entries[1].id)
    catalog.delete_bank("gone", force=True)
    catalog.update_bank("abuse", BankPatch(display_name="what is banned"))
    catalog.keys.revoke_key(catalog.keys.all_keys()[0].id)
    catalog.keys.add_key(*_key("two"))


def _key(name: str) -> tuple[str, NewKey, bytes]:
    id_, _, digest = new_key()
    return id_, NewKey(name, Role.ADMIN, Banks(("*",)), expire_time=datetime(2040, 1, 1, tzinfo=UTC)), digest


def copied(folder: Path, to: Path) -> Path:
    """A state's files, as they are this moment; its catalogue."""
    shutil.copytree(folder, to)
    return to / CATALOG


def contents(folder: Path) -> dict[str, bytes]:
    """The files that have anything to lose: the -shm is SQLite's scratch."""
    files = [file for file in folder.iterdir() if file.is_file() and not file.name.endswith("-shm")]
    return {file.name: file.read_bytes() for file in files if file.stat().st_size}


def dump(path: Path) -> Dump:
    """Every row of every table, and the schema."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        schema = database.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: sorted(database.execute(f"SELECT * FROM {name}").fetchall()) for name in tables} | {"": schema}  # noqa: S608 -- its own names


def changed_elsewhere(path: Path, *statements: str) -> None:
    """Change a catalogue that is closed by a program that knows nothing of sums."""
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def without_sums(path: Path, *statements: str) -> None:
    """Make of a catalogue that is closed one of before there were sums."""
    changed_elsewhere(path, "DELETE FROM catalog_meta WHERE name = 'sums'", *statements)
    path.with_name(f"{path.name}-sums").unlink()


@dataclass(frozen=True)
class Flip:
    """One bit of one file."""

    name: str
    offset: int
    bit: int

    def do(self, folder: Path) -> None:
        with (folder / self.name).open("r+b") as file:
            file.seek(self.offset)
            (byte,) = file.read(1)
            file.seek(self.offset)
            file.write(bytes([byte ^ 1 << self.bit]))


def flips(folder: Path, count: int, seed: int) -> Iterator[Flip]:
    """Bits at random places, of each file as many."""
    chance = random.Random(seed)  # noqa: S311 -- the same seed changes the same bits
    files = [name for name, content in sorted(contents(folder).items()) if content]
    sizes = {name: (folder / name).stat().st_size for name in files}
    for number in range(count):
        name = files[number % len(files)]
        yield Flip(name, chance.randrange(sizes[name]), chance.randrange(8))


def refused(folder: Path, before: dict[str, bytes]) -> bool:
    """Open a state; whether it was refused, by name, with a command, and as it was."""
    said = ""
    try:
        SqlCatalog.open(folder / CATALOG).close()
    except CatalogError as error:
        said = str(error)
    if not said:
        return False
    assert str(folder / CATALOG) in said
    assert "`imagewarden restore " in said
    assert contents(folder) == before
    return True


def survives(state: Path, flip: Flip, scratch: Path, expected: Dump) -> bool:
    """Change one bit of a copy of a state, and open it: it is refused, or has exactly what is expected.

    Returns:
        Whether it was refused.
    """
    shutil.copytree(state, scratch)
    flip.do(scratch)
    seen = refused(scratch, contents(scratch))
    if not seen:
        assert dump(scratch / CATALOG) == expected, flip
    shutil.rmtree(scratch)
    return seen
