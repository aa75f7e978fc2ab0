"""Where a picture's bytes come from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from imagewarden._channel import MAX_MESSAGE_BYTES
from imagewarden._errors import InvalidRequest

# Room in a message for all that is not the picture.
_ENVELOPE = 64 * 2**10
MAX_IMAGE_BYTES = MAX_MESSAGE_BYTES - _ENVELOPE


class BinaryFile(Protocol):
    """A file that was opened for reading bytes."""

    def read(self, size: int = -1, /) -> bytes:
        """Read at most `size` bytes."""


ImageSource = bytes | bytearray | memoryview | str | os.PathLike[str] | BinaryFile
"""A picture: its file's bytes, the file's path, or the file opened for reading bytes."""


def needs_reading(source: object) -> bool:
    """Whether getting the bytes may block."""
    return not isinstance(source, bytes | bytearray | memoryview)


def read_image(source: ImageSource, *, field: str = "image") -> bytes:
    """The bytes of a picture; no more than can be sent is ever read.

    Raises:
        OSError: the file cannot be read.
        InvalidRequest: the picture is larger than one message may be.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
    elif isinstance(source, str | os.PathLike):
        with Path(source).open("rb") as file:
            data = _drain(file, field)
    elif hasattr(source, "read"):
        data = _drain(source, field)
    else:
        raise TypeError(f"{field} is {type(source).__name__}; give bytes, a path, or a file opened with mode 'rb'")
    if len(data) > MAX_IMAGE_BYTES:
        raise InvalidRequest(
            f"{field}: the picture has more than the {MAX_IMAGE_BYTES} bytes that can be sent; scale it down",
            reason="IMAGE_OVER_LIMITS",
            field=field,
        )
    return data


def _drain(file: BinaryFile, field: str) -> bytes:
    """All that a file has, but no more than one byte over the limit; a read may give less than was asked for."""
    parts: list[bytes] = []
    room = MAX_IMAGE_BYTES + 1
    while room > 0:
        part = file.read(room)
        if not isinstance(part, bytes):
            raise TypeError(f"{field}: the file gave {type(part).__name__}, not bytes; open it with mode 'rb'")
        if not part:
            break
        parts.append(part)
        room -= len(part)
    return b"".join(parts)
