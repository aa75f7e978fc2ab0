"""Plain hashes: one a line, bare or with its type before it; `#` begins a comment."""

from __future__ import annotations

from collections.abc import Iterator

from imagewarden._enums import SignalType
from imagewarden._records import EntryRecord, RecordHash
from imagewarden._types import Hash
from imagewarden.lists.items import BYTES, BadRecord, Item, Refused, Settings, hash_of, shown, utf8
from imagewarden.lists.source import Source

MAX_LINE = 4 * 2**10
_NAMED = {str(one): one for one in BYTES}


def read(source: Source, settings: Settings) -> Iterator[Item]:
    """The records of such a list.

    Raises:
        ListError: it is gzip, and damaged or cut off.
        OSError: it cannot be read.
    """
    name = settings.source or ""
    labels = settings.labels
    digits = 0 if settings.type is None else 2 * BYTES[settings.type]
    for item in source.lines(MAX_LINE):
        if isinstance(item, Refused):
            yield item
            continue
        number, line = item
        text = line.strip()
        if not text or text[:1] == b"#":
            continue
        try:
            one = parse(text, settings.type, digits)
        except BadRecord as error:
            yield Refused(number, str(error), shown(text))
        else:
            yield number, EntryRecord((one,), "", name, labels)


def parse(text: bytes, kind: SignalType | None, digits: int) -> RecordHash:
    """The hash of a line.

    Args:
        text: the line, stripped.
        kind: what bare digits are.
        digits: how many that type has.

    Raises:
        BadRecord: it is none, or could be one of two types.
    """
    said = utf8(text)
    if kind is not None and len(said) == digits:
        return hash_of(kind, said)
    # As most lists write it; whatever else there is the long way round finds out.
    word, _, rest = said.replace(":", " ", 1).partition(" ")
    if (named := _NAMED.get(word)) is not None and len(rest) == 2 * BYTES[named]:
        return hash_of(named, rest)
    try:
        found = Hash.parse(said, type=kind)
    except ValueError as error:
        raise BadRecord(str(error)) from None
    return RecordHash(found.type, bytes.fromhex(found.hex))
