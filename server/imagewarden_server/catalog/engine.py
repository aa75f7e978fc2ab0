"""Opening the database: private to its owner, migrated to the newest schema, durable, and refused where damaged."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, event, insert, select, text
from sqlalchemy.exc import DatabaseError, SQLAlchemyError

from imagewarden_server.catalog.errors import CatalogError
from imagewarden_server.catalog.guard import Guard
from imagewarden_server.catalog.remedy import remedy, remedy_of_damage
from imagewarden_server.catalog.sums import SUMS, sync
from imagewarden_server.catalog.tables import meta

_BUSY_MS = 10_000
BESIDE = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a database while it is in use, or after a kill."""
_UNFINISHED = ".new-"
_HAS_SUMS = "sums"
"""A name in catalog_meta: what belongs to the catalogue has sums beside it, and is damaged without them."""


@dataclass(frozen=True, slots=True)
class Database:
    """An open catalogue.

    Attributes:
        engine: connections to it.
        guard: what every transaction that writes is to be in.
    """

    engine: Engine
    guard: Guard

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()
        self.guard.close()


def open_database(path: Path, *, as_it_is: bool = False) -> Database:
    """Open or make the SQLite database at a path.

    WAL with full synchronisation: a transaction that committed survives kill -9 and a power cut. A new catalogue
    appears by one rename, with its schema: a file that is empty, or has no schema, was emptied, and is never taken for
    a new one. Every page is held against its sum (see `guard`), but where somebody else has the catalogue open, who did
    so.

    Args:
        path: of the database.
        as_it_is: a file that has no sums beside it has lost none; its structure is looked at as ever.

    Raises:
        CatalogError: the file is no catalogue, is damaged, was emptied or lost, or was written by a newer version.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    guard = Guard(path)
    engine: Engine | None = None
    try:
        with guard.opening():
            if not path.exists():
                _create(path)
            _look(path, guard, as_it_is=as_it_is)
            guard.begin()
            engine = _connect(path, new=False)
            _mark(engine)
            guard.follow()
    except BaseException:  # whatever stopped it, what was opened is closed
        if engine is not None:
            engine.dispose()
        guard.close()
        raise
    return Database(engine, guard)


def _look(path: Path, guard: Guard, *, as_it_is: bool) -> None:
    """See that every page is what was written; of a catalogue that never had sums, that its structure is whole."""
    if not path.stat().st_size:
        raise CatalogError(f"the catalogue {path} is empty (0 bytes): what it had is lost", _anew(path))
    if not guard.alone:
        return
    if guard.has_sums:
        guard.verify()
        return
    if _marked(path) and not as_it_is:
        raise guard.lost()
    # The last connection that is closed moves the -wal into the file and removes it.
    _connect(path, new=False, thorough=True).dispose()
    guard.seal()


def _marked(path: Path) -> bool:
    """Whether a file is of a catalogue that has sums; one that cannot be read is looked at by others."""
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection,
    ):
        query = "SELECT count(*) FROM catalog_meta WHERE name = ?"
        return bool(connection.execute(query, (_HAS_SUMS,)).fetchone()[0])
    return False


def _mark(engine: Engine) -> None:
    with engine.connect() as connection:
        if connection.execute(select(meta.c.value).where(meta.c.name == _HAS_SUMS)).first() is not None:
            return
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        connection.execute(insert(meta).values(name=_HAS_SUMS, value="1"))


def _create(path: Path) -> None:
    """Make a new catalogue under another name, whole and on the disk, and give it its own."""
    for suffix in (*BESIDE, SUMS):
        left = path.with_name(path.name + suffix)
        if left.exists():
            raise CatalogError(
                f"{left} is there without the catalogue it belongs to, {path}: put both back from one copy, or move "
                f"the {suffix} away to begin a new catalogue"
            )
    for stray in path.parent.glob(f"{path.name}{_UNFINISHED}*"):
        stray.unlink()
    unfinished = path.with_name(f"{path.name}{_UNFINISHED}{os.getpid()}")
    # Made here with the rights it shall have: the catalogue says who was banned for what.
    os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    # The last connection that is closed moves the -wal into the file and removes it.
    _connect(unfinished, new=True).dispose()
    sync(unfinished)
    unfinished.rename(path)
    sync(path.parent)


def _anew(path: Path) -> str:
    return f"{remedy(path)}, or move it away to begin a new one"


def _connect(path: Path, *, new: bool, thorough: bool = False) -> Engine:
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": _BUSY_MS / 1000, "check_same_thread": False})
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    try:
        _check(engine, path, "integrity_check" if thorough else "quick_check")
        _migrate(engine, path, new=new)
    except (SQLAlchemyError, sqlite3.DatabaseError) as error:
        engine.dispose()
        raise CatalogError(f"the catalogue {path} cannot be read ({error})", remedy_of_damage(path)) from error
    except CatalogError:
        engine.dispose()
        raise
    return engine


def _configure(connection: sqlite3.Connection, _record: Any) -> None:
    # SQLAlchemy says when a transaction begins, see `_begin`: pysqlite's own guess is switched off.
    connection.isolation_level = None
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "temp_store=MEMORY",
        "cache_size=-65536",
        f"busy_timeout={_BUSY_MS}",
        # Nothing is moved into the database but by the guard.
        "wal_autocheckpoint=0",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Any) -> None:
    """Writers take the lock at once, so that none fails half-way; readers see one snapshot."""
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _check(engine: Engine, path: Path, how: str) -> None:
    try:
        with engine.connect() as connection:
            found = connection.execute(text(f"PRAGMA {how}(1)")).scalar()
    except DatabaseError as error:
        raise CatalogError(f"the catalogue {path} is damaged ({error.orig})", remedy_of_damage(path)) from error
    if found != "ok":
        raise CatalogError(f"the catalogue {path} is damaged ({found})", remedy_of_damage(path))


def _migrate(engine: Engine, path: Path, *, new: bool) -> None:
    config = Config()
    config.set_main_option("script_location", "imagewarden_server.catalog:migrations")
    scripts = ScriptDirectory.from_config(config)
    with engine.connect() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    if current is None and not new:
        raise CatalogError(
            f"{path} has no schema: it is no catalogue, or the {path.name}-wal that belongs to it is missing",
            _anew(path),
        )
    known = {script.revision for script in scripts.walk_revisions()}
    if current is not None and current not in known:
        raise CatalogError(
            f"the catalogue {path} has schema {current}, which this version does not know: it was written by a newer "
            "one; upgrade imagewarden"
        )
    if current == scripts.get_current_head():
        return
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
