"""CSV lists of Meta's `threatexchange` package: what `tx dataset --csv` prints, and the cache of its command line.

Each line is read by itself, so that a quote that is not closed harms its own line only.

Of the hash exchange's opinion: `NEGATIVE_CLASS` and the label `false_positive` say that a hash is not of the kind that
the list bans. Such a line removes what an earlier one brought.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from pathlib import PurePath

from imagewarden._enums import SignalType
from imagewarden._records import EntryRecord
from imagewarden.lists.items import (
    BadRecord,
    Item,
    ListError,
    Refused,
    Settings,
    hash_of,
    labels_of,
    metadata_of,
    name_of,
    shown,
    type_of,
    utf8,
)
from imagewarden.lists.source import Source

MAX_LINE = 64 * 2**10
TX_HEADER = ("signal_type", "signal_str", "collab", "category", "tags")
THREATEXCHANGE = "threatexchange"
_NEGATIVE = "NEGATIVE_CLASS"
_FALSE_POSITIVE = "false_positive"
# `simple.HASH_PDQ.te`, as the package names its cache.
_CACHE_NAME = re.compile(r"(?:^|[._-])hash_(pdq|md5|sha1|sha256)(?:[._-]|$)", re.IGNORECASE)


def cells(line: bytes) -> list[str]:
    """The cells of one line.

    Raises:
        BadRecord: it is no line of CSV.
    """
    text = utf8(line).rstrip("\r\n")
    try:
        return next(csv.reader([text], strict=True), [])
    except (csv.Error, StopIteration) as error:
        raise BadRecord(f"it is no line of CSV: {error}") from None


def _rows(source: Source, record: Callable[[list[str]], EntryRecord | None]) -> Iterator[Item]:
    for item in source.lines(MAX_LINE):
        if isinstance(item, Refused):
            yield item
            continue
        number, line = item
        if not line.strip():
            continue
        try:
            found = record(cells(line))
        except BadRecord as error:
            yield Refused(number, str(error), shown(line.strip()))
        else:
            if found is not None:
                yield number, found


def read_tx(source: Source, settings: Settings) -> Iterator[Item]:
    """The records of a `tx dataset --csv`: its columns in any order, each collaboration a source of its own.

    Raises:
        ListError: it has another header; it is gzip, and damaged or cut off.
        OSError: it cannot be read.
    """
    columns: dict[str, int] = {}

    def record(row: list[str]) -> EntryRecord | None:
        if not columns:
            columns.update({name: place for place, name in enumerate(row)})
            if not {"signal_type", "signal_str"} <= columns.keys():
                raise ListError(f"the first line is no header of `tx dataset --csv`, which is {','.join(TX_HEADER)}")
            if len(columns) < len(row):
                raise ListError("the first line names a column twice")
            return None
        if len(row) != len(columns):
            raise BadRecord(f"it has {len(row)} cells, and the header has {len(columns)}")
        said = {name: row[place] for name, place in columns.items()}
        one = hash_of(type_of(said["signal_type"]), said["signal_str"].strip())
        origin = said.get("collab", "") if settings.source is None else settings.source
        name = name_of("collab", origin)
        category = said.get("category", "").strip()
        if category == _NEGATIVE:
            return EntryRecord((one,), one.hex, name, removed=True)
        metadata: dict[str, str] = {}
        labels = labels_of(settings, (*said.get("tags", "").split(), category), metadata)
        # The hash is its own name in the list: so a line that says something else of it brings its entry up to date.
        return EntryRecord((one,), one.hex, name, labels, metadata)

    return _rows(source, record)


def read_cache(source: Source, settings: Settings) -> Iterator[Item]:
    """The records of a ThreatExchange cache: the indicator, its first descriptor, when it was added, its labels.

    Raises:
        ListError: neither the caller nor the file's name says of what type its hashes are; it is gzip, and damaged.
        OSError: it cannot be read.
    """
    kind = settings.type or _type_by_name(settings.name)
    origin = THREATEXCHANGE if settings.source is None else settings.source

    def record(row: list[str]) -> EntryRecord:
        if len(row) != 4:
            raise BadRecord(f"it has {len(row)} cells, and 4 were expected: indicator,descriptor,added_on,labels")
        indicator, descriptor, added_on, words = row
        one = hash_of(kind, indicator.strip())
        said = words.split()
        if _FALSE_POSITIVE in said:
            return EntryRecord((one,), one.hex, origin, removed=True)
        metadata = metadata_of({"descriptor": descriptor, "added_on": added_on})
        labels = labels_of(settings, said, metadata)
        return EntryRecord((one,), one.hex, origin, labels, metadata)

    return _rows(source, record)


def _type_by_name(name: str) -> SignalType:
    found = _CACHE_NAME.search(PurePath(name).name)
    if found is None:
        raise ListError(
            "a ThreatExchange cache does not say the type of its hashes, and neither does the file's name "
            f"({shown(PurePath(name).name)!r}; simple.HASH_PDQ.te would): give --type"
        )
    return type_of(found[1])
