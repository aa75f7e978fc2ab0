"""ImageWarden's own lists: JSON lines that an export writes and an import reads; docs/lists.md has the format.

The first line says what it is, each other one is an entry, and the last one says how many there were: so a list that
was cut off is known as one.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, BinaryIO

from imagewarden._enums import EntryState, QuarantineReason, SignalType
from imagewarden._opinions import Quarantine
from imagewarden._records import EntryRecord, RecordFeatures, RecordHash, RecordVectors
from imagewarden.lists.elements import parsed
from imagewarden.lists.items import BadRecord, Item, ListError, Refused, Settings, hash_of, labels_of, shown, type_of
from imagewarden.lists.source import Source

VERSION = 1
HEADER_KEY = "imagewarden"
MAX_LINE = 64 * 2**20
"""Bytes of a line: more than the largest picture that a record can carry, as base64."""
_MAX_HEADER = 64 * 2**10
_LARGEST = 2**53
_STATES = (EntryState.ACTIVE, EntryState.DISABLED)
_KEYS = frozenset(
    {
        "id",
        "removed",
        "external_id",
        "source",
        "labels",
        "metadata",
        "brand",
        "note",
        "state",
        "expire_time",
        "create_time",
        "hashes",
        "vectors",
        "features",
        "thumbnail",
        "image",
        "quarantine",
    }
)
_REASONS = frozenset(QuarantineReason) - {QuarantineReason.UNKNOWN}


class Writer:
    """Writes such a list.

    Args:
        out: where to; it stays open.
        bank: `banks/{bank}`.
        kind: what the bank is for.
        revision: the state of the catalogue that the first entry has.
        exported: now.
    """

    def __init__(self, out: BinaryIO, *, bank: str, kind: str, revision: str, exported: datetime) -> None:
        self._out = out
        self.count = 0
        """How many entries were written."""
        self._line(
            {HEADER_KEY: VERSION, "bank": bank, "kind": kind, "revision": revision, "exported": _time_text(exported)}
        )

    def write(self, record: EntryRecord) -> None:
        """Write an entry."""
        self._line(said_of(record))
        self.count += 1

    def end(self) -> None:
        """Write the last line."""
        self._line({"count": self.count})

    def _line(self, said: Mapping[str, Any]) -> None:
        self._out.write(json.dumps(said, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode() + b"\n")


def said_of(record: EntryRecord) -> dict[str, Any]:
    """A record as its JSON object: what is empty is left out."""
    said: dict[str, Any] = {
        "id": record.id,
        "removed": record.removed,
        "external_id": record.external_id,
        "source": record.source,
        "labels": list(record.labels),
        "metadata": dict(sorted(record.metadata.items())),
        "brand": record.brand,
        "note": record.note,
        "state": record.state,
        "expire_time": _time_text(record.expire_time),
        "create_time": _time_text(record.create_time),
        "quarantine": _quarantine_said(record.quarantine),
        "hashes": [_hash_said(one) for one in record.hashes],
        "vectors": [
            {
                "type": one.type,
                "model_version": one.model_version,
                "dimensions": one.dimensions,
                "mean": one.mean,
                "deviation": one.deviation,
                "data": _base64(one.data),
            }
            for one in record.vectors
        ],
        "features": [{"extractor": one.extractor, "data": _base64(one.data)} for one in record.features],
        "thumbnail": _base64(record.thumbnail),
        "image": _base64(record.image),
    }
    return {key: value for key, value in said.items() if value}


def _quarantine_said(why: Quarantine | None) -> dict[str, Any] | None:
    return None if why is None else {"reason": why.reason, "message": why.message, "time": _time_text(why.time)}


def _hash_said(one: RecordHash) -> dict[str, Any]:
    said: dict[str, Any] = {"type": one.type, "hex": one.hex}
    return said if one.quality is None else {**said, "quality": one.quality}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _time_text(time: datetime | None) -> str:
    return "" if time is None else time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def read(source: Source, settings: Settings) -> Iterator[Item]:
    """The records of such a list; their numbers are those of their lines.

    Raises:
        ListError: it begins with another line, was cut off, or has another number of entries than it says; it is gzip,
            and damaged.
        OSError: it cannot be read.
    """
    headed = False
    expected: int | None = None
    count = number = 0
    for item in source.lines(MAX_LINE):
        number, line = (item.number, b"") if isinstance(item, Refused) else item
        if not isinstance(item, Refused) and not line.strip():
            continue
        if expected is not None:
            raise ListError(f"line {number}: the list says that it ends at the line before")
        if not headed:
            read_header(line)
            headed = True
            continue
        found = item if isinstance(item, Refused) else _item(number, line, settings)
        if isinstance(found, int):
            expected = found
            continue
        count += 1
        yield found
    if expected is None:
        raise ListError(f"the list was cut off: no line after line {number} says how many entries there are")
    if expected != count:
        raise ListError(f"the list says that it has {expected:,} entries, and it has {count:,}")


def _item(number: int, line: bytes, settings: Settings) -> Item | int:
    """What a line says: a record, or how many there were."""
    try:
        said = parsed(line)
        if "count" in said:
            return _whole(said, "count")
        record = record_of(said)
    except BadRecord as error:
        return Refused(number, str(error), shown(line.strip()))
    if settings.source is not None:
        record = replace(record, source=settings.source)
    return number, record if record.removed else _as_asked(record, settings)


def _as_asked(record: EntryRecord, settings: Settings) -> EntryRecord:
    if not settings.labels:
        return record
    metadata = dict(record.metadata)
    return replace(record, labels=labels_of(settings, record.labels, metadata), metadata=metadata)


def read_header(line: bytes) -> dict[str, Any]:
    """The first line of such a list.

    Raises:
        ListError: it is none, or of a version that this client cannot read.
    """
    try:
        said = parsed(line[:_MAX_HEADER])
    except BadRecord:
        said = {}
    version = said.get(HEADER_KEY)
    if version is None:
        raise ListError(f'the first line is {shown(line, 60)!r}, and {{"{HEADER_KEY}": {VERSION}, ...}} was expected')
    if version != VERSION or isinstance(version, bool):
        raise ListError(f"the list is of version {shown(str(version), 20)}, and this client reads version {VERSION}")
    return said


def record_of(said: Mapping[str, Any]) -> EntryRecord:
    """The record that a JSON object says.

    Raises:
        BadRecord: it says something else, or something that this client does not know and would lose.
    """
    if not said.keys() <= _KEYS:
        raise BadRecord(f"it has {shown(min(said.keys() - _KEYS), 40)!r}, which this client does not know; upgrade it")
    labels = _list(said, "labels")
    metadata = said.get("metadata", {})
    if not isinstance(metadata, dict) or not all(isinstance(one, str) for one in (*metadata.values(), *labels)):
        raise BadRecord("labels are an array of texts, and metadata is an object of texts")
    state = _text(said, "state")
    if state and state not in _STATES:
        raise BadRecord(f"state is {shown(state, 40)!r}; it is active or disabled")
    removed = said.get("removed", False)
    if not isinstance(removed, bool):
        raise BadRecord("removed is true or false")
    return EntryRecord(
        hashes=_each(said, "hashes", _hash),
        external_id=_text(said, "external_id"),
        source=_text(said, "source"),
        labels=tuple(labels),
        metadata=metadata,
        removed=removed,
        id=_text(said, "id"),
        brand=_text(said, "brand"),
        note=_text(said, "note"),
        state=EntryState(state) if state else None,
        expire_time=_time(said, "expire_time"),
        create_time=_time(said, "create_time"),
        vectors=_each(said, "vectors", _vectors),
        features=_each(said, "features", _features),
        thumbnail=_bytes(said, "thumbnail"),
        image=_bytes(said, "image"),
        quarantine=_quarantine(said["quarantine"]) if "quarantine" in said else None,
    )


def _quarantine(said: Any) -> Quarantine:
    if not isinstance(said, dict) or not said.keys() <= {"reason", "message", "time"}:
        raise BadRecord("quarantine is an object of reason, message and time")
    reason = _text(said, "reason")
    if reason not in _REASONS:
        raise BadRecord(f"quarantine: reason is {shown(reason, 40)!r}; it is {', '.join(sorted(_REASONS))}")
    since = _time(said, "time")
    if since is None:
        raise BadRecord("quarantine: it has no time: say since when")
    return Quarantine(QuarantineReason(reason), _text(said, "message"), since)


def _hash(said: Mapping[str, Any]) -> RecordHash:
    kind = type_of(_text(said, "type"))
    found = hash_of(kind, _text(said, "hex"))
    if "quality" not in said:
        return found
    quality = _whole(said, "quality")
    if kind is not SignalType.PDQ or quality > 100:
        raise BadRecord(f"quality is {quality} of a {kind} hash; it is 0 to 100, and of pdq only")
    return RecordHash(kind, found.value, quality)


def _vectors(said: Mapping[str, Any]) -> RecordVectors:
    kind = _text(said, "type")
    if kind not in {SignalType.EMBEDDING, SignalType.SEMANTIC}:
        raise BadRecord(f"type is {shown(kind, 40)!r}; vectors are embedding or semantic")
    dimensions, data = _whole(said, "dimensions"), _bytes(said, "data")
    if not dimensions or not data or len(data) % (4 * dimensions):
        raise BadRecord(f"{len(data):,} bytes are no views of {dimensions:,} dimensions, of 4 bytes each")
    return RecordVectors(
        SignalType(kind),
        _text(said, "model_version"),
        dimensions,
        data,
        _number(said, "mean", 0.0),
        _number(said, "deviation", 1.0),
    )


def _features(said: Mapping[str, Any]) -> RecordFeatures:
    return RecordFeatures(_text(said, "extractor"), _bytes(said, "data"))


def _each(said: Mapping[str, Any], key: str, make: Callable[[Mapping[str, Any]], Any]) -> tuple[Any, ...]:
    parts = _list(said, key)
    try:
        return tuple(make(one) if isinstance(one, dict) else _bad("it is no object") for one in parts)
    except BadRecord as error:
        raise BadRecord(f"{key}: {error}") from None


def _bad(message: str) -> Any:
    raise BadRecord(message)


def _list(said: Mapping[str, Any], key: str) -> list[Any]:
    value = said.get(key, [])
    return value if isinstance(value, list) else _bad(f"{key} is no array")


def _text(said: Mapping[str, Any], key: str) -> str:
    value = said.get(key, "")
    return value if isinstance(value, str) else _bad(f"{key} is no text")


def _whole(said: Mapping[str, Any], key: str) -> int:
    value = said.get(key, 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        raise BadRecord(f"{key} is {shown(str(value), 40)}, and a whole number was expected")
    return value


def _number(said: Mapping[str, Any], key: str, default: float) -> float:
    value = said.get(key, default)
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _LARGEST:
        raise BadRecord(f"{key} is {shown(str(value), 40)}, and a number was expected")
    return float(value)


def _bytes(said: Mapping[str, Any], key: str) -> bytes:
    try:
        return base64.b64decode(_text(said, key), validate=True)
    except (binascii.Error, ValueError):
        raise BadRecord(f"{key} is no base64") from None


def _time(said: Mapping[str, Any], key: str) -> datetime | None:
    text = _text(said, key)
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        expected = "a time such as 2026-11-30T12:00:00Z was expected"
        raise BadRecord(f"{key} is {shown(text, 40)!r}, and {expected}") from None
    if found.tzinfo is None:
        raise BadRecord(f"{key} is {shown(text, 40)!r}, which has no time zone: end it with Z")
    try:
        return found.astimezone(UTC)
    except OverflowError:
        raise BadRecord(f"{key} is {shown(text, 40)!r}, which is before or after all time") from None
