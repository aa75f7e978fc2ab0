"""Resource names, which the caller must be allowed to use, and the plain limits on what a request's fields may hold."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from imagewarden_server import access
from imagewarden_server.matching.errors import InvalidField

_BANK = re.compile(r"banks/([a-z][a-z0-9-]{0,62})")
_ENTRY = re.compile(r"banks/([a-z][a-z0-9-]{0,62})/entries/([A-Za-z0-9_-]{1,64})")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_MAX_TEXT = 256
MAX_NOTE = 1_000
"""The most characters of what people say to people."""
_MAX_LABELS = 64
_MAX_CONTEXT = 16


def bank_id(field: str, name: str) -> str:
    """The {bank} of `banks/{bank}`.

    Raises:
        InvalidField: it is no bank's name.
        PermissionDenied: the caller may not use it.
    """
    found = _BANK.fullmatch(name)
    if found is None:
        raise InvalidField(
            field,
            f"{name[:80]!r} is no bank's name; write banks/ and 1 to 63 characters of a-z, 0-9 and '-', a letter first",
        )
    access.current().permit_bank(found[1])
    return found[1]


def bank_ids(field: str, names: Iterable[str]) -> tuple[str, ...]:
    """The same of several."""
    return tuple(bank_id(f"{field}[{place}]", name) for place, name in enumerate(names))


def entry_ids(field: str, name: str) -> tuple[str, str]:
    """The {bank} and the {entry} of `banks/{bank}/entries/{entry}`."""
    found = _ENTRY.fullmatch(name)
    if found is None:
        raise InvalidField(field, f"{name[:120]!r} is no entry's name; it looks like banks/abuse/entries/0123abcd")
    access.current().permit_bank(found[1])
    return found[1], found[2]


def text(field: str, value: str, most: int = _MAX_TEXT) -> str:
    """A short text."""
    if len(value) > most:
        raise InvalidField(field, f"has {len(value)} characters; at most {most}")
    return value


def labels(field: str, values: Sequence[str]) -> tuple[str, ...]:
    """Labels: at most 64, each a short text, none empty or twice."""
    if len(values) > _MAX_LABELS:
        raise InvalidField(field, f"has {len(values)} labels; at most {_MAX_LABELS}")
    for value in values:
        if not value:
            raise InvalidField(field, "has an empty label; leave it out")
        text(field, value)
    return tuple(dict.fromkeys(values))


def pairs(field: str, values: Mapping[str, str], most: int = _MAX_LABELS) -> dict[str, str]:
    """A map of short texts."""
    if len(values) > most:
        raise InvalidField(field, f"has {len(values)} pairs; at most {most}")
    for key, value in values.items():
        text(f"{field}[{key[:40]!r}]", key)
        text(f"{field}[{key[:40]!r}]", value)
    return dict(values)


def context(values: Mapping[str, str]) -> dict[str, str]:
    """The caller's own facts of a check."""
    return pairs("context", values, _MAX_CONTEXT)


def request_id(value: str) -> str:
    """A UUID, or nothing.

    Raises:
        InvalidField: it is something else.
    """
    if value:
        try:
            return str(uuid.UUID(value))
        except ValueError:
            raise InvalidField("request_id", f"{value[:80]!r} is no UUID; make a new UUID4 for each change") from None
    return ""


def sha256(field: str, value: str) -> bytes:
    """The 32 bytes of a SHA-256 as hexadecimal digits."""
    if not _SHA256.fullmatch(value):
        raise InvalidField(field, f"{value[:80]!r} is no SHA-256: it has 64 hexadecimal digits")
    return bytes.fromhex(value)


def time_of(field: str, message: Message, name: str) -> datetime | None:
    """A timestamp field, or None where it is unset."""
    if not message.HasField(name):
        return None
    stamp: Timestamp = getattr(message, name)
    try:
        return stamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise InvalidField(field, "is no time between the years 1 and 9999") from None


def page_size(value: int) -> int:
    """How many a page: 100 unless asked, at most 1,000."""
    if value < 0:
        raise InvalidField("page_size", f"is {value}; send 1 to 1,000, or 0 for 100")
    return min(value, 1_000) or 100
