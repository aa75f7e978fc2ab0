"""A list's bytes: gzip is taken off, the beginning is known before it is read, and no line is unbounded."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from imagewarden.lists.items import ListError, Refused, shown

T = TypeVar("T")

HEAD_BYTES = 64 * 2**10
"""How much of the beginning is known."""
_BLOCK = 256 * 2**10
_GZIP = b"\x1f\x8b"
_MARK = b"\xef\xbb\xbf"
_DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile)


class Source:
    """The bytes of a list.

    Attributes:
        head: how it begins.
        whole: whether that is all of it.

    Raises:
        ListError: it is gzip, and damaged at its beginning.
        OSError: it cannot be read.
    """

    def __init__(self, file: Any) -> None:
        self._counted = _Counted(file)
        raw: io.RawIOBase = _Replayed(_take(self._counted, len(_GZIP)), self._counted)
        packed: Any = io.BufferedReader(raw, _BLOCK)
        if packed.peek(1)[: len(_GZIP)] == _GZIP:
            packed = gzip.GzipFile(fileobj=packed)
        head = _told(lambda: _take(packed, HEAD_BYTES), "at its beginning")
        self.whole = len(head) < HEAD_BYTES
        self.head = head.removeprefix(_MARK)
        self._file = io.BufferedReader(_Replayed(self.head, packed), _BLOCK)

    @property
    def read_bytes(self) -> int:
        """How many bytes of the file have been read, gzip still on."""
        return self._counted.count

    def lines(self, most: int) -> Iterator[tuple[int, bytes] | Refused]:
        """Its lines with their numbers from 1; one that is longer than `most` bytes is refused, and never kept.

        Raises:
            ListError: it is gzip, and damaged or cut off.
            OSError: it cannot be read.
        """
        number = 0
        read = self._file.readline
        try:
            while line := read(most + 1):
                number += 1
                if len(line) <= most or line.endswith(b"\n"):
                    yield number, line
                    continue
                while (rest := read(_BLOCK)) and not rest.endswith(b"\n"):
                    pass
                yield Refused(number, f"the line has more than {most:,} bytes", shown(line))
        except _DAMAGED as error:
            raise ListError(f"after line {number} the gzip file is damaged or cut off: {error}") from error

    def blocks(self) -> Iterator[bytes]:
        """Its bytes, some at a time.

        Raises:
            ListError: it is gzip, and damaged or cut off.
            OSError: it cannot be read.
        """
        count = 0
        while block := _told(lambda: self._file.read1(_BLOCK), f"after {count:,} bytes"):
            count += len(block)
            yield block


def _told(read: Callable[[], T], where: str) -> T:
    try:
        return read()
    except _DAMAGED as error:
        raise ListError(f"{where} the gzip file is damaged or cut off: {error}") from error


def _take(file: Any, count: int) -> bytes:
    """So many bytes, or all that there are; a read may give less than was asked for."""
    parts: list[bytes] = []
    while count > 0 and (part := file.read(count)):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


class _Counted:
    """A file that counts what is read of it."""

    def __init__(self, file: Any) -> None:
        # A pipe gives what is there: a read of many bytes would wait for all of them.
        self._read = getattr(file, "read1", file.read)
        self.count = 0

    def read(self, size: int) -> bytes:
        data = self._read(size)
        if not isinstance(data, bytes):
            raise TypeError(f"the file gave {type(data).__name__}, not bytes; open it with mode 'rb'")
        self.count += len(data)
        return data


class _Replayed(io.RawIOBase):
    """A file whose beginning was read already."""

    def __init__(self, head: bytes, rest: Any) -> None:
        super().__init__()
        self._head = head
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        if self._head:
            data, self._head = self._head[: len(buffer)], self._head[len(buffer) :]
        else:
            data = self._rest.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
