"""What is read of a write-ahead log is what SQLite reads of it, whole and damaged."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
import zlib
from pathlib import Path

import numpy as np
import pytest

from imagewarden_server.catalog.sums import Sums, page_sums
from imagewarden_server.catalog.wal import NOWHERE, read_log

PAGE = 1_024


@pytest.fixture
def chance() -> random.Random:
    return random.Random(77)  # noqa: S311 -- the same seed does the same


def database(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    # So small a cache writes pages into the log before their transaction ends, and others over them.
    for pragma in (f"page_size={PAGE}", "journal_mode=WAL", "wal_autocheckpoint=0", "synchronous=OFF", "cache_size=8"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("CREATE TABLE things (key INTEGER PRIMARY KEY, value BLOB)")
    return connection


def change(connection: sqlite3.Connection, chance: random.Random) -> None:
    """A transaction of any size, of which one in four is taken back."""
    connection.execute("BEGIN")
    for _ in range(chance.randrange(1, 12)):
        connection.execute("INSERT INTO things (value) VALUES (?)", (chance.randbytes(chance.randrange(3_000)),))
    connection.execute("DELETE FROM things WHERE key % 7 = ?", (chance.randrange(7),))
    connection.execute("ROLLBACK" if chance.random() < 0.25 else "COMMIT")


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def as_sqlite_reads(path: Path, scratch: Path) -> list[int]:
    """The sums of all pages, after SQLite has moved the log into a copy of the database."""
    for one in (path, log_of(path)):
        shutil.copy(one, scratch / one.name)
    with contextlib.closing(sqlite3.connect(scratch / path.name)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    found: list[int] = page_sums(scratch / path.name, PAGE)[1:].tolist()
    return found


def as_read_here(path: Path) -> list[int]:
    found = page_sums(path, PAGE)
    sums = Sums(PAGE, len(found) - 1, found, np.ones(len(found), np.bool_))
    log = read_log(log_of(path), PAGE)
    if len(log.pages):
        sums.put(log)
    values: list[int] = sums.values[1:].tolist()
    return values


def test_a_damaged_log_is_believed_as_far_as_sqlite_believes_it(tmp_path: Path, chance: random.Random) -> None:
    (tmp_path / "open").mkdir()
    path = tmp_path / "open" / "a.sqlite3"
    connection = database(path)
    for number in range(40):
        change(connection, chance)
        if number == 15:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    whole = log_of(path).read_bytes()
    lengths = set()
    for number in range(80):
        state, scratch = tmp_path / f"state-{number}", tmp_path / f"scratch-{number}"
        state.mkdir()
        scratch.mkdir()
        shutil.copy(path, state / path.name)
        damaged = bytearray(whole)
        if number % 4 == 1:
            damaged = damaged[: chance.randrange(len(damaged))]
        elif number:
            at = chance.randrange(32) if number % 4 == 2 else chance.randrange(len(damaged))
            damaged[at] ^= 1 << chance.randrange(8)
        log_of(state / path.name).write_bytes(damaged)
        assert as_read_here(state / path.name) == as_sqlite_reads(state / path.name, scratch), number
        lengths.add(read_log(log_of(state / path.name), PAGE).position.frames)
    connection.close()
    assert len(lengths) > 15


def test_reading_on_gives_what_reading_all_gives(tmp_path: Path, chance: random.Random) -> None:
    path = tmp_path / "a.sqlite3"
    connection = database(path)
    seen, position, anew = Sums(PAGE), NOWHERE, 0
    for number in range(60):
        change(connection, chance)
        written = read_log(log_of(path), PAGE, position)
        if len(written.pages):
            anew += written.position.salts != position.salts
            position = written.position
            seen.put(written)
        if number % 13 == 12:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    connection.close()
    assert anew == 5
    assert not seen.wrong(page_sums(path, PAGE))
    assert seen.known[1:].all()


def test_what_is_no_log_has_nothing(tmp_path: Path) -> None:
    for content in (b"", b"short", bytes(32), bytes(5_000)):
        (tmp_path / "log").write_bytes(content)
        assert read_log(tmp_path / "log", PAGE).size == 0
    assert read_log(tmp_path / "nothing", PAGE).position is NOWHERE


def test_a_page_is_summed_as_zlib_sums_it(tmp_path: Path) -> None:
    (tmp_path / "pages").write_bytes(b"a" * PAGE + b"b" * PAGE + b"half")
    assert page_sums(tmp_path / "pages", PAGE).tolist() == [0, zlib.crc32(b"a" * PAGE), zlib.crc32(b"b" * PAGE)]
