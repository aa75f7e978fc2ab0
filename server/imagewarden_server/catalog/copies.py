"""Copies of the catalogue: made while it is in use, and put in its place when it is lost."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from imagewarden_server.catalog.engine import BESIDE, open_engine, sync
from imagewarden_server.catalog.errors import CatalogError
from imagewarden_server.catalog.transactions import Ledger, last_revision

CATALOG = "catalog.sqlite3"
_PAGES = 2_048
"""So many pages are copied before others may write again: 8 MB."""

Progress = Callable[[int, int], None]
"""Told how many pages are left, and how many there are."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy that was checked.

    Attributes:
        revision: the number of the last change that it has.
        nbytes: its size.
    """

    path: Path
    catalog_id: str
    revision: int
    nbytes: int


def back_up(state: Path, into: Path, progress: Progress = lambda *_: None) -> Copy:
    """Copy the catalogue of a state into a folder, by SQLite's own way of copying a database that is in use.

    The copy has one state of the catalogue, and all that was acknowledged before it began. It appears under its name
    once it is whole, checked and on the disk.

    Raises:
        CatalogError: there is no catalogue, or it or the copy is damaged.
        OSError: the folder cannot be written.
    """
    source = state / CATALOG
    if not source.is_file():
        raise CatalogError(f"there is no catalogue {source}; name the server's state by --state-dir")
    into.mkdir(parents=True, exist_ok=True, mode=0o700)
    name = f"catalog-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}.sqlite3"
    unfinished = into / f".{name}.part"
    os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        with (
            contextlib.closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as reading,
            contextlib.closing(sqlite3.connect(unfinished)) as writing,
        ):
            reading.backup(writing, pages=_PAGES, progress=lambda _, left, total: progress(left, total))
            # A copy is one file: nothing of it may wait in another one.
            writing.execute("PRAGMA journal_mode=DELETE")
        sync(unfinished)
        _look(unfinished)
        unfinished.rename(into / name)
        sync(into)
    except sqlite3.Error as error:
        raise CatalogError(f"{source} could not be copied ({error})") from error
    finally:
        for left in (unfinished, *(unfinished.with_name(unfinished.name + suffix) for suffix in BESIDE)):
            left.unlink(missing_ok=True)
    return _look(into / name)


def restore(copy: Path, state: Path) -> tuple[Copy, Path | None]:
    """Put a copy in the place of a state's catalogue; what was there is moved aside, and no byte of it is lost.

    Whoever calls it has made sure that no server uses the state. The index is made anew at the next start: its
    snapshots may be of changes that the copy does not have.

    Returns:
        The copy, and the folder with what was there; None: nothing was.

    Raises:
        CatalogError: it is no catalogue, or is damaged: nothing was changed.
        OSError: the state cannot be written.
    """
    if not copy.is_file():
        raise CatalogError(f"there is no file {copy}")
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    unfinished = state / f".{CATALOG}.restoring"
    unfinished.unlink(missing_ok=True)
    with copy.open("rb") as reading, unfinished.open("xb") as writing:
        os.fchmod(writing.fileno(), 0o600)
        while block := reading.read(2**20):
            writing.write(block)
    sync(unfinished)
    try:
        found = _look(unfinished)
    except CatalogError as error:
        unfinished.unlink()
        raise CatalogError(f"{copy} is not restored: {error}") from error
    there = [state / (CATALOG + suffix) for suffix in ("", *BESIDE)] + [state / "index"]
    aside = None
    if any(path.exists() for path in there):
        aside = state / f"before-restore-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
        aside.mkdir(mode=0o700)
        for path in there:
            if path.exists():
                path.rename(aside / path.name)
    unfinished.rename(state / CATALOG)
    sync(state)
    return Copy(state / CATALOG, found.catalog_id, found.revision, found.nbytes), aside


def newest(path: Path) -> Path:
    """The newest copy of a folder, or the file itself. Raises CatalogError."""
    if not path.is_dir():
        return path
    found = copies(path)
    if not found:
        raise CatalogError(f"{path} has no copies")
    return found[0]


def copies(folder: Path) -> list[Path]:
    """The copies in a folder, the newest first."""
    return sorted(folder.glob("catalog-*.sqlite3"), reverse=True)


def _look(path: Path) -> Copy:
    """See that a copy can be used: whole, of a schema that is known, brought to the newest. Raises CatalogError."""
    engine = open_engine(path)
    try:
        ledger = Ledger(engine)
        with ledger.reading() as connection:
            revision = last_revision(connection)
    finally:
        engine.dispose()
    for suffix in BESIDE:
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return Copy(path, ledger.catalog_id, revision, path.stat().st_size)
