"""The sums of a catalogue's pages, in a file beside it: what each page is, as of the last change.

The file grows by a record with each change and is written anew, with one record of all pages, when the catalogue is
opened and when it has grown long. All numbers are u32 and little-endian but for the salts.

| bytes | what |
|---|---|
| 4 | the letters IWPS |
| u32 | the version of this format: 1 |
| u32 | bytes a page |
| u32 | CRC-32 of the 12 bytes before |

and then records:

| bytes | what |
|---|---|
| u32 | CRC-32 of all of the record that follows |
| u32 | n, how many pages it tells of |
| u32 | how many pages the catalogue has |
| 8 | the salts of the write-ahead log that it was read of; 0: of none |
| 3 x u32 | how many frames of that log, and the two checksums of the last: see `wal` |
| n x 2 x u32 | a page's number, from 1, and its CRC-32 |
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from imagewarden_server.catalog.errors import CatalogError
from imagewarden_server.catalog.wal import NOWHERE, Numbers, Position, Written

SUMS = "-sums"
"""What the file's name has more than the catalogue's."""
_MAGIC = b"IWPS"
_VERSION = 1
_HEADER = struct.Struct("<4sII")
_CRC = struct.Struct("<I")
_RECORD = struct.Struct("<II8sIII")
_LOCKS_AT = 2**30
"""SQLite keeps locks at this byte of a database, and nothing else in the page that has it."""


class DamagedSums(CatalogError):
    """The file of sums is not what was written: the message says where."""


@dataclass(slots=True)
class Sums:
    """What each page is.

    Attributes:
        page_size: in bytes.
        size: how many pages there are.
        values: [size + 1] the CRC-32 of a page by its number; of 0 nothing.
        known: [size + 1] whether it is known.
        position: how far in the log this is.
    """

    page_size: int
    size: int = 0
    values: Numbers = field(default_factory=lambda: np.zeros(1, np.uint32))
    known: np.ndarray[tuple[int], np.dtype[np.bool_]] = field(default_factory=lambda: np.zeros(1, np.bool_))
    position: Position = NOWHERE

    def put(self, written: Written) -> None:
        """Take over what was written, in that order."""
        self.resize(written.size)
        inside = written.pages <= written.size
        pages = written.pages[inside]
        self.values[pages] = written.sums[inside]
        self.known[pages] = True
        self.position = written.position

    def resize(self, size: int) -> None:
        """Have as many pages."""
        if size != self.size:
            kept = min(size, self.size) + 1
            values, known = np.zeros(size + 1, np.uint32), np.zeros(size + 1, np.bool_)
            values[:kept], known[:kept] = self.values[:kept], self.known[:kept]
            self.size, self.values, self.known = size, values, known

    def wrong(self, found: Numbers) -> list[int]:
        """The pages that are not what they were.

        Args:
            found: [pages + 1] the CRC-32 of pages by their numbers; those that are not there are wrong.
        """
        there = min(len(found), self.size + 1)
        wrong = self.known.copy()
        wrong[:there] &= self.values[:there] != found[:there]
        return np.flatnonzero(wrong).tolist()


class Loaded(NamedTuple):
    """What could be read of a file of sums.

    Attributes:
        sums: as of its last good record.
        end: where that ends, in bytes.
        left: how many bytes follow that are no record.
        records: how many there are.
    """

    sums: Sums
    end: int
    left: int
    records: int


def load(path: Path) -> Loaded:
    """Read a file of sums.

    Raises:
        DamagedSums: its beginning is not what was written.
        CatalogError: it is of a newer version.
        OSError: it cannot be read.
    """
    data = path.read_bytes()
    sums = Sums(_page_size(path, data))
    end, records = first_record(), 0
    while (found := read_record(data, end)) is not None:
        written, end = found
        sums.put(written)
        records += 1
    if not records:
        raise DamagedSums(f"{path} is damaged: its first record is not what was written")
    return Loaded(sums, end, len(data) - end, records)


def _page_size(path: Path, data: bytes) -> int:
    size = _HEADER.size
    if len(data) < first_record() or _CRC.unpack_from(data, size)[0] != zlib.crc32(data[:size]):
        raise DamagedSums(f"{path} is damaged: its first {first_record()} bytes are not what was written")
    magic, version, page_size = _HEADER.unpack_from(data)
    if magic != _MAGIC or version != _VERSION:
        raise CatalogError(f"{path} has version {version}, and {_VERSION} is read: upgrade imagewarden")
    return int(page_size)


def first_record() -> int:
    """Where the first record begins."""
    return _HEADER.size + _CRC.size


def read_record(data: bytes, offset: int) -> tuple[Written, int] | None:
    """The record at a place, and where it ends; None: there is no whole one."""
    head = offset + _CRC.size
    if head + _RECORD.size > len(data):
        return None
    (crc,) = _CRC.unpack_from(data, offset)
    count, size, salts, frames, one, two = _RECORD.unpack_from(data, head)
    pairs, end = head + _RECORD.size, head + _RECORD.size + 8 * count
    if end > len(data) or zlib.crc32(memoryview(data)[head:end]) != crc:
        return None
    table = np.frombuffer(data, "<u4", 2 * count, pairs).reshape(count, 2)
    return Written(table[:, 0], table[:, 1], size, Position(salts, frames, (one, two))), end


def record(written: Written) -> bytes:
    """A record of what was written; of a page that was written again the last."""
    last = dict(zip(written.pages.tolist(), written.sums.tolist(), strict=True))
    pairs = np.array(list(last.items()), "<u4").tobytes()
    place = written.position
    body = _RECORD.pack(len(last), written.size, place.salts, place.frames, *place.checksum) + pairs
    return _CRC.pack(zlib.crc32(body)) + body


def save(path: Path, sums: Sums) -> None:
    """Write the file anew: it takes its name once it is on the disk."""
    header = _HEADER.pack(_MAGIC, _VERSION, sums.page_size)
    pages = np.flatnonzero(sums.known).astype(np.uint32)
    content = record(Written(pages, sums.values[pages], sums.size, sums.position))
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        file.write(header + _CRC.pack(zlib.crc32(header)) + content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Have a file or a folder on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def page_sums(path: Path, page_size: int) -> Numbers:
    """[pages + 1] the CRC-32 of a file's whole pages by their numbers; of 0 nothing.

    To be called where this process has no connection to the database: closing a file gives up all locks that the
    process has on it, SQLite's too.
    """
    found = [np.zeros(1, np.uint32)]
    with path.open("rb") as file:
        while block := memoryview(file.read(1_024 * page_size)):
            ends = range(page_size, len(block) + 1, page_size)
            found.append(np.fromiter((zlib.crc32(block[end - page_size : end]) for end in ends), np.uint32, len(ends)))
    return np.concatenate(found)


def lock_page(page_size: int) -> int:
    """The number of the page that never has anything."""
    return _LOCKS_AT // page_size + 1
