"""Reading the hash lists that teams exchange, and ImageWarden's own.

    from imagewarden import Client
    from imagewarden.lists import Refused, open_list

    with Client() as client, open_list("entries.xml") as found:
        records = (item for item in found if not isinstance(item, Refused))
        for answer in client.import_entries("abuse", records):
            print(answer)

A list is read as it is used, whatever its size; a record that cannot be read is answered as `Refused`, and the next
one is read. gzip is taken off. docs/lists.md says what becomes of each format's fields.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from imagewarden._enums import SignalType
from imagewarden.lists import exchanges, hashes, ncmec, own, tables
from imagewarden.lists.detect import Detected, detect
from imagewarden.lists.items import Format, Item, ListError, Refused, Settings
from imagewarden.lists.own import Writer
from imagewarden.lists.source import Source

_READERS: Mapping[Format, Callable[[Source, Settings], Iterator[Item]]] = {
    Format.HASHES: hashes.read,
    Format.TX_CSV: tables.read_tx,
    Format.THREATEXCHANGE: tables.read_cache,
    Format.NCMEC: ncmec.read,
    Format.STOPNCII: exchanges.read_stopncii,
    Format.TAT: exchanges.read_tat,
    Format.JSONL: own.read,
}

__all__ = ["Detected", "Format", "HashList", "Item", "ListError", "Refused", "Writer", "detect", "open_list"]


class HashList:
    """A list that was opened: an iterator of numbers and records, and of what was refused.

    Attributes:
        format: its format.
        why: why it is that, for people.
    """

    def __init__(self, file: BinaryIO, settings: Settings, format_: Format | None) -> None:
        self._file = file
        self._source = Source(file)
        found = Detected(format_, "you say so") if format_ is not None else detect(self._source.head)
        self.format, self.why = found.format, found.why
        self._items = _READERS[self.format](self._source, settings)

    def __iter__(self) -> Iterator[Item]:
        """Its records.

        Raises:
            ListError: it cannot be read to its end.
            OSError: the file cannot be read.
        """
        return self._items

    @property
    def read_bytes(self) -> int:
        """How many bytes of the file have been read."""
        return self._source.read_bytes

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self._file.close()


def open_list(
    file: str | os.PathLike[str] | BinaryIO,
    *,
    format: Format | str | None = None,  # noqa: A002 -- the word that people use
    type: SignalType | None = None,  # noqa: A002 -- as of Hash
    source: str | None = None,
    labels: Sequence[str] = (),
) -> HashList:
    """Open a list.

    Args:
        file: its path, or a file opened for reading bytes.
        format: what it is; None: by how it begins.
        type: of hashes that do not say it.
        source: of all records; None: what the list says, or the exchange's name.
        labels: of all records, beside the list's own.

    Raises:
        ListError: it is not clear what it is; it is gzip, and damaged.
        OSError: it cannot be opened.
        ValueError: there is no such format; a source or a label is longer than the API takes.
    """
    known = None if format is None else Format(format)
    if isinstance(file, str | os.PathLike):
        name = os.fspath(file)
        opened: BinaryIO = Path(name).open("rb")  # noqa: SIM115 -- the list closes it
    else:
        name, opened = str(getattr(file, "name", "")), file
    try:
        return HashList(opened, Settings(type, source, tuple(labels), name), known)
    except BaseException:  # what was opened here is closed whatever went wrong; raised again
        if opened is not file:
            opened.close()
        raise
