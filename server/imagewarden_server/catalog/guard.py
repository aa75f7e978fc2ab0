"""Keeps a catalogue's pages from changing unseen: what every page must be is known outside of the database.

SQLite sees damage that breaks its structure, and none in what is stored; and it drops the end of a log whose checksums
are wrong without a word. So a file beside the catalogue (`sums`) has the CRC-32 of each page as of the last change. It
is written after each transaction, from the frames that the transaction added to the log, and before the change is
acknowledged; not synchronised, since the log is: what a power cut takes of it, the log still has. At the opening every
page, as SQLite would read it, is held against its sum; pages of transactions that the sums do not have yet are believed
by the log's own checksums.

Nothing may pass from the log into the database whose sums are not on the disk: SQLite never does so by itself here, but
for the last connection that is closed. Who changes anything, moves the log into the database or closes has the lock
(a lock on the folder, for other processes too) and first reads on in the log: so a process that was killed between its
transaction and its sums does no harm.

Raw reads are of the log alone while a connection is open: closing a file gives up all locks that the process has on it,
and SQLite's are on the database.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np

from imagewarden_server.catalog.errors import CatalogError
from imagewarden_server.catalog.remedy import remedy_of_damage
from imagewarden_server.catalog.sums import (
    SUMS,
    DamagedSums,
    Sums,
    load,
    lock_page,
    page_sums,
    read_record,
    record,
    save,
    sync,
)
from imagewarden_server.catalog.wal import NOWHERE, Numbers, Position, Written, read_log

LOCK = "-lock"
"""Whoever has the catalogue open has a shared lock on this file, so that the next one need not look at all pages."""
_MOST_FRAMES = 10_000
"""A log of as many, some 40 MB, is moved into the database. SQLite's own measure is a tenth of it, which a message of a
list has alone; pages that several of them change are moved once."""
_MOST_BYTES = 4 * 2**20
"""Sums that have grown by more than this, and by more than they were, are written anew."""


class Guard:
    """The sums of one catalogue, as one opening of it keeps them.

    Attributes:
        alone: nobody else has the catalogue open; known from `opening` on.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sums = path.with_name(path.name + SUMS)
        self._log = path.with_name(f"{path.name}-wal")
        self.alone = False
        self._closed = False
        self._one = threading.Lock()
        self._held = ExitStack()
        self._folder = _descriptor(self._held, path.parent, os.O_RDONLY)
        self._presence = -1
        self._file = -1
        self._end = self._fresh = 0
        self._page_size = 0
        self._position = NOWHERE
        self._synced = False
        self._connection: sqlite3.Connection | None = None

    @contextmanager
    def opening(self) -> Iterator[None]:
        """Have the lock, and find out whether anybody else has the catalogue open."""
        with self._locked():
            self._presence = _descriptor(
                self._held, self._path.with_name(self._path.name + LOCK), os.O_CREAT | os.O_RDWR
            )
            try:
                fcntl.flock(self._presence, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self.alone = True
            except BlockingIOError:
                pass
            yield
            # Who comes now waits for the other lock, and finds this one.
            fcntl.flock(self._presence, fcntl.LOCK_SH)

    @property
    def has_sums(self) -> bool:
        """Whether the file is there."""
        return self._sums.exists()

    def lost(self) -> CatalogError:
        """What is to be said where it is not."""
        return CatalogError(
            f"{self._sums} is missing, which says what the pages of the catalogue {self._path} must be",
            remedy_of_damage(self._path),
        )

    def seal(self) -> None:
        """Take all pages as they are now for what they must be. No connection may be open."""
        with self._path.open("rb") as file:
            size = int.from_bytes(file.read(18)[16:], "big")
        sums = Sums(page_size=65_536 if size == 1 else size)
        found, log = self._as_read(sums)
        sums.resize(log.size or len(found) - 1)
        sums.values[:] = found[: sums.size + 1]
        sums.known[1:] = True
        if (nothing := lock_page(sums.page_size)) <= sums.size:
            sums.known[nothing] = False
        sums.position = log.position
        save(self._sums, sums)

    def verify(self) -> None:
        """Hold all pages against their sums. No connection may be open.

        Raises:
            CatalogError: a page is not what was written, changes are lost, or the sums themselves are damaged.
        """
        try:
            loaded = load(self._sums)
        except DamagedSums as error:
            raise CatalogError(
                f"{error}: whether the catalogue {self._path} is what was written cannot be told",
                remedy_of_damage(self._path),
            ) from error
        sums = loaded.sums
        found, log = self._as_read(sums)
        new = _after(sums.position, log)
        wrong = sums.wrong(found)
        # What came after the sums is believed by the log's own checksums.
        late = set(new.pages.tolist())
        if wrong := [page for page in wrong if page not in late and page <= (new.size or sums.size)]:
            raise CatalogError(self._say(wrong, sums, log, loaded.left), remedy_of_damage(self._path))
        if len(new.pages):
            # Of a change that was killed the log may not be on the disk, and its sums must not be there before it.
            sync(self._log)
            sums.put(new)
        if len(new.pages) or loaded.left or loaded.records > 1:
            save(self._sums, sums)

    def begin(self) -> None:
        """Follow the log from where the sums are, by a connection that stays until the end.

        Raises:
            CatalogError: there are no sums, or they are damaged.
        """
        self._reopen()
        connection = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None)
        self._connection = connection
        try:
            for pragma in ("synchronous=FULL", "wal_autocheckpoint=0"):
                connection.execute(f"PRAGMA {pragma}")
            # While this one is open, none that is closed is the last.
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.Error as error:
            raise CatalogError(
                f"the catalogue {self._path} cannot be read ({error})", remedy_of_damage(self._path)
            ) from error

    def follow(self) -> None:
        """Take the sums of what the log has more than they. To be called with the lock."""
        self._reopen_if_replaced()
        written = read_log(self._log, self._page_size, self._position)
        if not len(written.pages):
            return
        content = record(written)
        if os.pwrite(self._file, content, self._end) != len(content):
            raise OSError(f"{self._sums} could not be written: the disk is full")
        self._end += len(content)
        self._fresh += len(content)
        self._position, self._synced = written.position, False

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Around a transaction that writes: one comes after the other, and has its sums when this ends."""
        with self._locked():
            self.follow()
            yield
            self.follow()
            if self._connection is not None and self._position.frames >= _MOST_FRAMES:
                # The change is on the disk and has its sums; what cannot be moved now the next change moves.
                with suppress(OSError, sqlite3.Error):
                    self._move(self._connection)

    @contextmanager
    def still(self) -> Iterator[Sums]:
        """Nothing changes; and what all pages are."""
        with self._locked():
            self.follow()
            yield load(self._sums).sums

    def close(self) -> None:
        """Give up what is held; the last connection to be closed moves the log into the database.

        Raises:
            CatalogError: the sums are missing.
            OSError: they cannot be written.
        """
        if self._closed:
            return
        with self._held, self._locked():
            self._closed = True
            if self._connection is not None:
                try:
                    self.follow()
                    self._sync()
                except BaseException:
                    # Nothing may be moved that has no sums, and only a process that ends closes without moving.
                    ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._connection))
                    raise
                self._connection.close()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._one:
            if self._closed:
                raise CatalogError(f"the catalogue {self._path} is closed")
            fcntl.flock(self._folder, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._folder, fcntl.LOCK_UN)

    def _move(self, connection: sqlite3.Connection) -> None:
        """Move the log into the database, as far as no reader needs it."""
        if self._fresh > max(_MOST_BYTES, self._end - self._fresh):
            save(self._sums, load(self._sums).sums)
            self._reopen()
        self._sync()
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def _sync(self) -> None:
        """Have the sums on the disk, and what they are of before them."""
        if not self._synced:
            if self._log.exists():
                sync(self._log)
            os.fsync(self._file)
            self._synced = True

    def _reopen_if_replaced(self) -> None:
        """Another process may have written the file anew, or added to it."""
        try:
            now = self._sums.stat()
        except FileNotFoundError:
            raise self.lost() from None
        if now.st_ino != os.fstat(self._file).st_ino or now.st_size < self._end:
            self._reopen()
        elif now.st_size > self._end:
            self._read_on()

    def _reopen(self) -> None:
        if self._file < 0:
            try:
                self._file = _descriptor(self._held, self._sums, os.O_RDWR)
            except FileNotFoundError:
                raise self.lost() from None
        else:
            new = os.open(self._sums, os.O_RDWR)
            os.dup2(new, self._file, inheritable=False)
            os.close(new)
        loaded = load(self._sums)
        self._page_size, self._position = loaded.sums.page_size, loaded.sums.position
        self._end, self._fresh, self._synced = loaded.end, 0, False
        os.ftruncate(self._file, self._end)

    def _read_on(self) -> None:
        """Records of others; half a one, of somebody who was killed, is cut off."""
        data = os.pread(self._file, os.fstat(self._file).st_size - self._end, self._end)
        end = 0
        while (found := read_record(data, end)) is not None:
            self._position, end = found[0].position, found[1]
        self._end += end
        self._fresh += end
        self._synced = False
        os.ftruncate(self._file, self._end)

    def _as_read(self, sums: Sums) -> tuple[Numbers, Written]:
        """The sums of all pages as SQLite reads them, the log over the database; and all that the log has."""
        found = page_sums(self._path, sums.page_size)
        log = read_log(self._log, sums.page_size)
        if len(log.pages):
            over = Sums(sums.page_size, len(found) - 1, found, np.zeros(len(found), np.bool_))
            over.put(log)
            found = over.values
        return found, log

    def _say(self, wrong: list[int], sums: Sums, log: Written, left: int) -> str:
        """What is wrong."""
        page, size = wrong[0], sums.page_size
        more = f", nor are {len(wrong) - 1:,} more" if len(wrong) > 1 else ""
        where = f"page {page:,} of {sums.size:,} (bytes {(page - 1) * size:,} to {page * size - 1:,}) is not what was"
        said = f"the catalogue {self._path} is damaged: {where} written{more}"
        if sums.position.frames and log.position.salts == sums.position.salts:
            if log.position.frames < sums.position.frames:
                said += (
                    f"; changes are lost with them: {self._log.name} can be read to frame {log.position.frames:,}, and "
                    f"{sums.position.frames:,} were written"
                )
        elif sums.position.frames and not log.position.frames:
            said += f"; {self._log.name} is not there or cannot be read, which is as it must be after an orderly stop"
        if left:
            said += f"; or {self._sums.name} is: its last {left:,} bytes cannot be read"
        return said


def _after(position: Position, log: Written) -> Written:
    """What a log has after a position: all, where it has begun anew since."""
    skipped = position.frames if position.salts == log.position.salts else 0
    pages = log.pages[skipped:]
    return Written(pages, log.sums[skipped:], log.size if len(pages) else 0, log.position)


def _descriptor(held: ExitStack, path: Path, flags: int) -> int:
    descriptor = os.open(path, flags, 0o600)
    held.callback(os.close, descriptor)
    return descriptor
