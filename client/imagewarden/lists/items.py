"""What readers of lists give, and what they have in common: hashes, texts and times within the API's limits."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from imagewarden._enums import SignalType
from imagewarden._records import EntryRecord, RecordHash

MAX_LABELS = 64
MAX_PAIRS = 64
MAX_TEXT = 256
"""Characters of a text, as the API has it."""
_SHOWN = 80
_LEFT_OUT = "labels_left_out"

BYTES = {SignalType.SHA256: 32, SignalType.SHA1: 20, SignalType.MD5: 16, SignalType.PDQ: 32}
"""By type of hash, its bytes."""


class Format(enum.StrEnum):
    """The formats that can be read."""

    HASHES = "hashes"
    TX_CSV = "tx-csv"
    THREATEXCHANGE = "threatexchange"
    NCMEC = "ncmec"
    STOPNCII = "stopncii"
    TAT = "tat"
    JSONL = "jsonl"


class ListError(ValueError):
    """A list cannot be read, or not to its end; what was read of it before is good."""


class BadRecord(ValueError):
    """One record cannot be read; its message says why. Readers answer it as `Refused`."""


class NoPicture(BadRecord):
    """A record is of a film, a text or an address."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A record of a list that cannot be brought in.

    Attributes:
        number: of its line; in XML and JSON of the record.
        reason: what is wrong, for people.
        excerpt: how it begins, with nothing in it that a terminal would obey.
        line: its line, where that is not its number; 0: not known.
    """

    number: int
    reason: str
    excerpt: str
    line: int = 0


Item = tuple[int, EntryRecord] | Refused


@dataclass(frozen=True, slots=True)
class Settings:
    """What the caller says of a list.

    Attributes:
        type: of hashes that do not say it.
        source: of all records; None: what the list says, or the exchange's name.
        labels: of all records, before the list's own.
        name: the file's name.
    """

    type: SignalType | None = None
    source: str | None = None
    labels: tuple[str, ...] = ()
    name: str = ""

    def __post_init__(self) -> None:
        for what, text in (("source", self.source or ""), *(("label", label) for label in self.labels)):
            if len(text) > MAX_TEXT:
                raise ValueError(f"the {what} has {len(text)} characters; at most {MAX_TEXT}")
        if len(self.labels) > MAX_LABELS or not all(self.labels):
            raise ValueError(f"{len(self.labels)} labels; at most {MAX_LABELS}, and none empty")


def shown(text: str | bytes, most: int = _SHOWN) -> str:
    """The beginning of a text, with nothing in it that a terminal would obey."""
    if isinstance(text, bytes):
        text = text[: 4 * most].decode("utf-8", "backslashreplace")
    short = text[:most]
    clean = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in short)
    return clean if len(text) <= most else f"{clean}..."


def utf8(data: bytes) -> str:
    """A record's text.

    Raises:
        BadRecord: it is none.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise BadRecord(f"it is not UTF-8: {error.reason} at byte {error.start}") from None


def type_of(word: str) -> SignalType:
    """The type of hash that a word names, however it is written: pdq, SHA-256, HASH_MD5.

    Raises:
        BadRecord: it names none that can be compared.
    """
    plain = word.strip().lower().replace("-", "").replace("_", "").removeprefix("hash")
    found = _TYPES.get(plain)
    if found is None:
        raise BadRecord(f"{shown(word, 40)!r} is no type of hash that can be compared; {', '.join(BYTES)} are")
    return found


_TYPES = {str(one): one for one in BYTES}


def hash_of(kind: SignalType, text: str) -> RecordHash:
    """The hash that hexadecimal digits say.

    Raises:
        BadRecord: it is none of that type.
    """
    length = BYTES[kind]
    if len(text) != 2 * length:
        raise BadRecord(f"it has {len(text)} characters; {kind} hashes have {2 * length} hexadecimal digits")
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != length:  # blanks between digits are skipped without a word
        raise BadRecord(f"it is no {kind} hash: not all of it is hexadecimal digits")
    return RecordHash(kind, value)


def labels_of(settings: Settings, said: Iterable[str], metadata: dict[str, str]) -> tuple[str, ...]:
    """The labels of a record: the caller's, then the list's, as many and as long as the API takes.

    How many had no room is said in `metadata`.
    """
    found = dict.fromkeys((*settings.labels, *(cut(label) for label in said if label)))
    if len(found) > MAX_LABELS:
        metadata[_LEFT_OUT] = str(len(found) - MAX_LABELS)
    return tuple(found)[:MAX_LABELS]


def metadata_of(said: Mapping[str, str]) -> dict[str, str]:
    """Facts of a record, as many and as long as the API takes, and room for one more; empty ones are none."""
    found = {cut(key): cut(value) for key, value in said.items() if value}
    return dict(tuple(found.items())[: MAX_PAIRS - 1])


def cut(text: str) -> str:
    """A text as long as the API takes it."""
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"


def name_of(what: str, text: str) -> str:
    """A text that names something, and so cannot be cut.

    Raises:
        BadRecord: it is too long.
    """
    if len(text) > MAX_TEXT:
        raise BadRecord(f"its {what} has {len(text)} characters; at most {MAX_TEXT}")
    return text


def moment(seconds: object) -> str:
    """A time that is given as seconds since 1970, as ISO 8601; empty: it is none."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return ""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
    except (OverflowError, OSError, ValueError):
        return ""
