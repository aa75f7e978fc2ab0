"""Copies of the catalogue: made while it is in use, and put in its place when it is lost."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from imagewarden_server.catalog.engine import BESIDE, open_engine, sync
from imagewarden_server.catalog.errors import CatalogError
from imagewarden_server.catalog.store import SqlCatalog
from imagewarden_server.catalog.transactions import Ledger, last_revision

CATALOG = "catalog.sqlite3"
_NAME = re.compile(r"catalog-[0-9a-f]{12}-[0-9]{8}T[0-9]{6}\.[0-9]{6}Z\.sqlite3")


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


def back_up(state: Path, into: Path) -> Copy:
    """Copy the catalogue of a state into a folder, by SQLite's own way of copying a database that is in use.

    The copy has one state of the catalogue, and all that was acknowledged before it began. It appears under its name
    once it is whole, checked and on the disk. In one step: a reader keeps nobody from writing, and copying step by step
    would begin anew with each change that comes between.

    Raises:
        CatalogError: there is no catalogue, or it or the copy is damaged.
        OSError: the folder cannot be written.
    """
    source = state / CATALOG
    if not source.is_file():
        raise CatalogError(f"there is no catalogue {source}; name the server's state by --state-dir")
    into.mkdir(parents=True, exist_ok=True, mode=0o700)
    with contextlib.closing(SqlCatalog.open(source)) as catalog:
        name = f"catalog-{catalog.id[:12]}-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}.sqlite3"
    unfinished = into / f".{name}.part"
    os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        with (
            contextlib.closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as reading,
            contextlib.closing(sqlite3.connect(unfinished)) as writing,
        ):
            reading.backup(writing)
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
    aside = _set_aside(state)
    unfinished.rename(state / CATALOG)
    sync(state)
    _record(state / CATALOG, None if aside is None else aside / CATALOG, copy)
    return Copy(state / CATALOG, found.catalog_id, found.revision, found.nbytes), aside


def _set_aside(state: Path) -> Path | None:
    """Move what a state has into a folder of it; the catalogue's own name stays, until another file takes it."""
    beside = [state / (CATALOG + suffix) for suffix in BESIDE] + [state / "index"]
    if not any(path.exists() for path in (state / CATALOG, *beside)):
        return None
    aside = state / f"before-restore-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
    aside.mkdir(mode=0o700)
    if (state / CATALOG).exists():
        # A second name, so that there is no moment without a catalogue, in which a server would begin an empty one.
        os.link(state / CATALOG, aside / CATALOG)
    for path in beside:
        if path.exists():
            path.rename(aside / path.name)
    return aside


def _record(restored: Path, before: Path | None, copy: Path) -> None:
    """Revoke again what was revoked since the copy, as far as that can be read, and note the restore itself."""
    revoked: set[str] = set()
    last: dict[str, object] | None = None
    if before is not None and before.exists():
        with contextlib.suppress(CatalogError), contextlib.closing(SqlCatalog.open(before)) as old:
            revoked = {key.id for key in old.keys.all_keys() if key.revoke_time is not None}
            sequence, head = old.audit.head()
            last = {"revision": old.revision(), "audit_events": sequence, "audit_hash": head}
    with contextlib.closing(SqlCatalog.open(restored)) as new:
        for key in new.keys.all_keys():
            if key.id in revoked and key.revoke_time is None:
                new.keys.revoke_key(key.id)
        new.audit.restored(last, {"copy": copy.name, "revision": new.revision()})


def newest(path: Path) -> Path:
    """The newest copy of a folder, or the file itself. Raises CatalogError."""
    if not path.is_dir():
        return path
    found = copies(path)
    if not found:
        raise CatalogError(f"{path} has no copies")
    if len({one.name.split("-")[1] for one in found}) > 1:
        raise CatalogError(f"{path} has copies of several catalogues; name the file")
    return found[0]


def copies(folder: Path, catalog_id: str = "") -> list[Path]:
    """The copies in a folder, of one catalogue or of any, the newest first."""
    found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    ours = [path for path in found if path.name.split("-")[1] == catalog_id[:12] or not catalog_id]
    return sorted(ours, key=lambda path: path.name.split("-")[2], reverse=True)


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
