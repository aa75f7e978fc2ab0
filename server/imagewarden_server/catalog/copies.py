"""Copies of the catalogue: made while it is in use, and put in its place when it is lost."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from imagewarden_server.catalog.engine import BESIDE, open_database
from imagewarden_server.catalog.errors import CatalogError
from imagewarden_server.catalog.remedy import note_copy, remedy_of_damage
from imagewarden_server.catalog.store import SqlCatalog
from imagewarden_server.catalog.sums import SUMS, Sums, page_sums, sync

CATALOG = "catalog.sqlite3"
_NAME = re.compile(r"catalog-[0-9a-f]{12}-[0-9]{8}T[0-9]{6}\.[0-9]{6}Z(-[0-9a-f]{16})?\.sqlite3")
_SCRATCH = ".restoring"
_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy that was checked.

    Attributes:
        revision: the number of the last change that it has.
        nbytes: its size.
        verified: every byte is what was written, by the digest in its name; else its structure is whole, and no more is
            known.
    """

    path: Path
    catalog_id: str
    revision: int
    nbytes: int
    verified: bool


def back_up(state: Path, into: Path) -> Copy:
    """Copy the catalogue of a state into a folder, by SQLite's own way of copying a database that is in use.

    The copy has one state of the catalogue, and all that was acknowledged before it began. It appears under its name,
    which ends with its digest, once it is whole, on the disk, and every page of it is what was once written. In one
    step: a reader keeps nobody from writing, and copying step by step would begin anew with each change that comes
    between.

    Raises:
        CatalogError: there is no catalogue, or it or the copy is damaged.
        OSError: the folder cannot be written.
    """
    source = state / CATALOG
    if not source.is_file():
        raise CatalogError(f"there is no catalogue {source}; name the server's state by --state-dir")
    into.mkdir(parents=True, exist_ok=True, mode=0o700)
    unfinished = into / f".{CATALOG}-{os.getpid()}.part"
    os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        catalog_id = _copy(source, unfinished)
        sync(unfinished)
        revision = _revision(unfinished)
        digest = _sha256(unfinished)[:_DIGITS]
        name = f"catalog-{catalog_id[:12]}-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{digest}.sqlite3"
        unfinished.rename(into / name)
        sync(into)
    except sqlite3.Error as error:
        raise CatalogError(f"{source} could not be copied ({error})") from error
    finally:
        for left in (unfinished, *(unfinished.with_name(unfinished.name + suffix) for suffix in BESIDE)):
            left.unlink(missing_ok=True)
    note_copy(state, into / name)
    return Copy(into / name, catalog_id, revision, (into / name).stat().st_size, verified=True)


def _copy(source: Path, to: Path) -> str:
    """Copy the pages of a catalogue, and hold them against their sums; answers the catalogue's id."""
    database = open_database(source)
    try:
        catalog_id = SqlCatalog(database).id
        with (
            contextlib.closing(_read_only(source)) as reading,
            contextlib.closing(sqlite3.connect(to)) as writing,
        ):
            with database.guard.still() as sums:
                # From here on it sees what the sums are of.
                reading.execute("BEGIN")
                reading.execute("SELECT count(*) FROM sqlite_master").fetchone()
            reading.backup(writing)
            # A copy is one file: nothing of it may wait in another one.
            writing.execute("PRAGMA journal_mode=DELETE")
    finally:
        database.close()
    if wrong := _wrong(to, sums):
        raise CatalogError(
            f"the catalogue {source} is damaged, and is not copied: page {wrong[0]:,} is not what was written",
            remedy_of_damage(source),
        )
    return catalog_id


def _wrong(copy: Path, sums: Sums) -> list[int]:
    # SQLite writes of the first page what it keeps of the file itself.
    return [page for page in sums.wrong(page_sums(copy, sums.page_size)) if page > 1]


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)


def _revision(copy: Path) -> int:
    """The last change of a copy that lies still, after a look at its structure."""
    with contextlib.closing(sqlite3.connect(f"{copy.absolute().as_uri()}?immutable=1", uri=True)) as reading:
        (found,) = reading.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise CatalogError(f"the copy is damaged ({found}): the disk of {copy.parent} may be")
        return int(reading.execute("SELECT coalesce(max(revision), 0) FROM changes").fetchone()[0])


def restore(copy: Path, state: Path) -> tuple[Copy, Path | None]:
    """Put a copy in the place of a state's catalogue; what was there is moved aside, and no byte of it is lost.

    Whoever calls it has made sure that no server uses the state. The index is made anew at the next start: its
    snapshots may be of changes that the copy does not have.

    Args:
        copy: a copy, or any file of a catalogue with its -wal beside it, as the state's own.
        state: the server's.

    Returns:
        The copy, and the folder with what was there; None: nothing was.

    Raises:
        CatalogError: it is no catalogue, or is damaged: nothing was changed.
        OSError: the state cannot be written.
    """
    if not copy.is_file():
        raise CatalogError(f"there is no file {copy}")
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    scratch = state / _SCRATCH
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(mode=0o700)
    try:
        found = _bring(copy, scratch)
        aside = _set_aside(state)
        for name in (CATALOG + SUMS, CATALOG):
            (scratch / name).rename(state / name)
        sync(state)
    finally:
        shutil.rmtree(scratch)
    _record(state / CATALOG, None if aside is None else aside / CATALOG, copy)
    return Copy(state / CATALOG, found.catalog_id, found.revision, found.nbytes, found.verified), aside


def _bring(copy: Path, scratch: Path) -> Copy:
    """Copy a copy into a folder, and see that it can be used: whole, of a schema that is known, with sums beside it."""
    said = _NAME.fullmatch(copy.name)
    digest = _fetch(copy, scratch / CATALOG)
    if said and said[1] and said[1] != f"-{digest[:_DIGITS]}":
        raise CatalogError(
            f"{copy} is damaged: by its name its SHA-256 begins with {said[1][1:]}, and it is {digest[:_DIGITS]}; "
            "restore an older copy"
        )
    verified = bool(said and said[1])
    log = copy.with_name(f"{copy.name}-wal")
    if log.exists() and not verified:
        _fetch(log, scratch / f"{CATALOG}-wal")
    try:
        with contextlib.closing(SqlCatalog(open_database(scratch / CATALOG, as_it_is=True))) as catalog:
            catalog_id, revision = catalog.id, catalog.revision()
    except CatalogError as error:
        raise CatalogError(f"{copy} is not restored: {error.what}") from error
    sync(scratch / CATALOG)
    return Copy(copy, catalog_id, revision, (scratch / CATALOG).stat().st_size, verified)


def _fetch(source: Path, to: Path) -> str:
    """Copy a file, and have it on the disk; answers the SHA-256 of what was read."""
    digest = hashlib.sha256()
    with source.open("rb") as reading, to.open("xb") as writing:
        os.fchmod(writing.fileno(), 0o600)
        while block := reading.read(2**20):
            writing.write(block)
            digest.update(block)
    sync(to)
    return digest.hexdigest()


def _set_aside(state: Path) -> Path | None:
    """Move what a state has into a folder of it; the catalogue's own name stays, until another file takes it."""
    beside = [state / (CATALOG + suffix) for suffix in (*BESIDE, SUMS)] + [state / "index"]
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
    revoked, last = (set(), None) if before is None else _said_of(before)
    with contextlib.closing(SqlCatalog.open(restored)) as new:
        for key in new.keys.all_keys():
            if key.id in revoked and key.revoke_time is None:
                new.keys.revoke_key(key.id)
        new.audit.restored(last, {"copy": copy.name, "revision": new.revision()})


def _said_of(before: Path) -> tuple[set[str], Mapping[str, Any] | None]:
    """The keys that a catalogue says were revoked, and how far it had come; as much as can be read of a damaged one."""
    revoked: set[str] = set()
    last: Mapping[str, Any] | None = None
    with contextlib.suppress(sqlite3.Error), contextlib.closing(_read_only(before)) as old:
        for (id_,) in old.execute("SELECT id FROM access_keys WHERE revoke_time IS NOT NULL"):
            revoked.add(id_)
        (revision,) = old.execute("SELECT coalesce(max(revision), 0) FROM changes").fetchone()
        head = old.execute("SELECT sequence, lower(hex(hash)) FROM audit_events ORDER BY sequence DESC LIMIT 1")
        sequence, hash_ = head.fetchone() or (0, "")
        last = {"revision": revision, "audit_events": sequence, "audit_hash": hash_}
    return revoked, last


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
    return sorted(ours, key=lambda path: path.name.split("-")[2].removesuffix(".sqlite3"), reverse=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
