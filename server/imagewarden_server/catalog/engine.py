"""Opening the database: private to its owner, migrated to the newest schema, durable, and refused where damaged."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import DatabaseError, SQLAlchemyError

from imagewarden_server.catalog.errors import CatalogError

_BUSY_MS = 10_000
BESIDE = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a database while it is in use, or after a kill."""
_UNFINISHED = ".new-"
_RESTORE = "restore its newest copy (`imagewarden restore COPY --state-dir STATE`), or move it away to begin a new one"


def open_engine(path: Path) -> Engine:
    """Open or make the SQLite database at a path.

    WAL with full synchronisation: a transaction that committed survives kill -9 and a power cut. A new catalogue
    appears by one rename, with its schema: a file that is empty, or has no schema, was emptied, and is never taken for
    a new one.

    Raises:
        CatalogError: the file is no catalogue, is damaged, was emptied or lost, or was written by a newer version.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _alone(path.parent):
        if not path.exists():
            _create(path)
    if not path.stat().st_size:
        raise CatalogError(f"the catalogue {path} is empty (0 bytes): what it had is lost; {_RESTORE}")
    return _connect(path, new=False)


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Keep out others who would make a catalogue in the same directory."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _create(path: Path) -> None:
    """Make a new catalogue under another name, whole and on the disk, and give it its own."""
    for suffix in BESIDE:
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


def sync(path: Path) -> None:
    """Have a file or a folder on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _connect(path: Path, *, new: bool) -> Engine:
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": _BUSY_MS / 1000, "check_same_thread": False})
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    try:
        _check(engine, path)
        _migrate(engine, path, new=new)
    except (SQLAlchemyError, sqlite3.DatabaseError) as error:
        engine.dispose()
        raise CatalogError(f"the catalogue {path} cannot be read ({error}); {_RESTORE}") from error
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
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Any) -> None:
    """Writers take the lock at once, so that none fails half-way; readers see one snapshot."""
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _check(engine: Engine, path: Path) -> None:
    try:
        with engine.connect() as connection:
            found = connection.execute(text("PRAGMA quick_check(1)")).scalar()
    except DatabaseError as error:
        raise CatalogError(f"the catalogue {path} is damaged ({error.orig}); {_RESTORE}") from error
    if found != "ok":
        raise CatalogError(f"the catalogue {path} is damaged ({found}); {_RESTORE}")


def _migrate(engine: Engine, path: Path, *, new: bool) -> None:
    config = Config()
    config.set_main_option("script_location", "imagewarden_server.catalog:migrations")
    scripts = ScriptDirectory.from_config(config)
    with engine.connect() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    if current is None and not new:
        raise CatalogError(
            f"{path} has no schema: it is no catalogue, or the {path.name}-wal that belongs to it is missing; "
            f"{_RESTORE}"
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
