"""Exchanges that speak JSON: StopNCII.org and Tech Against Terrorism, as their interfaces answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from imagewarden._enums import SignalType
from imagewarden._records import EntryRecord
from imagewarden.lists.elements import Elements, parsed
from imagewarden.lists.items import (
    BadRecord,
    Item,
    NoPicture,
    Refused,
    Settings,
    hash_of,
    labels_of,
    metadata_of,
    moment,
    name_of,
    shown,
    type_of,
)
from imagewarden.lists.source import Source

STOPNCII, TAT = "stopncii", "tat"
STOPNCII_KEY, TAT_KEY = "hashRecords", "results"
_GONE = frozenset({"Withdrawn", "Deleted"})
_THERE = frozenset({"Received", "Active"})
_PICTURES = frozenset(
    {"jpg", "jpeg", "jfif", "png", "gif", "webp", "bmp", "tif", "tiff", "heic", "heif", "avif", "image"}
)


def read_stopncii(source: Source, settings: Settings) -> Iterator[Item]:
    """The records of StopNCII's `FetchHashes`; their numbers count them, from 1.

    Raises:
        ListError: it is no such JSON, or not to its end; it is gzip, and damaged or cut off.
        OSError: it cannot be read.
    """
    return _records(source, STOPNCII_KEY, lambda said: stopncii_record(said, settings))


def read_tat(source: Source, settings: Settings) -> Iterator[Item]:
    """The records of Tech Against Terrorism's hash list; their numbers count them, from 1.

    Raises:
        ListError: it is no such JSON, or not to its end; it is gzip, and damaged or cut off.
        OSError: it cannot be read.
    """
    return _records(source, TAT_KEY, lambda said: tat_record(said, settings))


def _records(source: Source, key: str, record: Callable[[dict[str, Any]], EntryRecord]) -> Iterator[Item]:
    for number, element in enumerate(Elements(source.blocks(), key), 1):
        try:
            found = record(parsed(element))
        except BadRecord as error:
            yield Refused(number, str(error), shown(element or b""))
        else:
            yield number, found


def stopncii_record(said: dict[str, Any], settings: Settings) -> EntryRecord:
    """One object of `hashRecords` as a record.

    Raises:
        NoPicture: it is of something else.
        BadRecord: it says what it should not.
    """
    kind = _text(said, "signalType")
    if kind != "ImagePDQ":
        raise NoPicture(f"signalType {shown(kind, 40)!r} is no hash of a picture; ImagePDQ is")
    one = hash_of(SignalType.PDQ, _text(said, "hashValue").strip())
    status = _text(said, "hashStatus")
    origin = STOPNCII if settings.source is None else settings.source
    # A record of a hash takes the place of every earlier one of it: the hash is its name.
    if status in _GONE:
        return EntryRecord((one,), one.hex, origin, removed=True)
    if status not in _THERE:
        known = ", ".join(sorted(_THERE | _GONE))
        raise BadRecord(f"hashStatus {shown(status, 40)!r} is not known; {known} are")
    facts = {"status": status, "modified": moment(said.get("lastModtimestamp"))}
    # An exchange that has none to tell writes an empty list in the place of the object.
    cases = said.get("caseNumbers") or {}
    if not isinstance(cases, dict):
        raise BadRecord("caseNumbers is no object")
    facts |= {f"case {case}": str(state) for case, state in cases.items()}
    labels: list[str] = []
    for place, feedback in enumerate(_objects(said, "CSPFeedbacks"), 1):
        who = _text(feedback, "source") or f"provider {place}"
        facts[f"feedback {who}"] = _text(feedback, "feedbackValue")
        tags = feedback.get("tags") or []
        if not isinstance(tags, list):
            raise BadRecord("the tags of a feedback are no array")
        labels += map(str, tags)
    metadata = metadata_of(facts)
    return EntryRecord((one,), one.hex, origin, labels_of(settings, labels, metadata), metadata)


def tat_record(said: dict[str, Any], settings: Settings) -> EntryRecord:
    """One object of `results` as a record.

    Raises:
        NoPicture: it is of something else.
        BadRecord: it says what it should not.
    """
    file_type = _text(said, "file_type").strip().lower().removeprefix(".").removeprefix("image/")
    if file_type and file_type not in _PICTURES:
        raise NoPicture(f"file_type {shown(file_type, 40)!r} is no picture")
    one = hash_of(type_of(_text(said, "algorithm")), _text(said, "hash_digest").strip())
    number = said.get("id", "")
    if isinstance(number, bool) or not isinstance(number, int | str):
        raise BadRecord("id is neither a number nor a text")
    external_id = name_of("id", str(number))
    origin = TAT if settings.source is None else settings.source
    deleted = said.get("deleted", False)
    if not isinstance(deleted, bool):
        raise BadRecord(f"deleted is {shown(str(deleted), 40)!r}, and true or false was expected")
    if deleted:
        return EntryRecord((one,), external_id, origin, removed=True)
    metadata = metadata_of(
        {
            "created": _when(said.get("created_on")),
            "updated": _when(said.get("updated_on")),
            "file_type": file_type,
        }
    )
    return EntryRecord((one,), external_id, origin, labels_of(settings, [_text(said, "ideology")], metadata), metadata)


def _when(value: object) -> str:
    return value if isinstance(value, str) else moment(value)


def _text(said: dict[str, Any], key: str) -> str:
    value = said.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadRecord(f"{key} is {type(value).__name__}, and a text was expected")
    return value


def _objects(said: dict[str, Any], key: str) -> list[dict[str, Any]]:
    value = said.get(key) or []
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise BadRecord(f"{key} is no array of objects")
    return value
