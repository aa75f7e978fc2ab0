"""What format a list has, by how it begins, and why that is said; what is not clear is not guessed."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from imagewarden.lists import hashes, ncmec, own, tables
from imagewarden.lists.exchanges import STOPNCII_KEY, TAT_KEY
from imagewarden.lists.items import BYTES, BadRecord, Format, ListError, shown

_LINES = 50
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_ROOT = re.compile(rb"<(?:[\w.-]+:)?([A-Za-z_][\w.-]*)")
_KEYS = re.compile(rb'"((?:[^"\\]|\\.){1,40})"\s*:')
_OTHERS = (
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"\x89PNG", "a PNG picture"),
    (b"GIF8", "a GIF picture"),
    (b"PK\x03\x04", "a ZIP file: unpack it"),
    (b"BZh", "a bzip2 file: unpack it"),
    (b"\xfd7zXZ", "an xz file: unpack it"),
    (b"(\xb5/\xfd", "a zstd file: unpack it"),
    (b"SQLite format 3", "a SQLite database"),
    (b"%PDF", "a PDF document"),
    (b"\x80\x04", "a Python pickle, which is never read: export it with `tx dataset --print-signals --csv`"),
)
_DIGITS = frozenset(2 * count for count in BYTES.values())


@dataclass(frozen=True, slots=True)
class Detected:
    """A format, and why it is that, for people."""

    format: Format
    why: str


def detect(head: bytes) -> Detected:
    """The format of a list that begins so.

    Raises:
        ListError: it is not clear; the message says what could be said.
    """
    text = head.lstrip()
    if not text:
        raise ListError("the list is empty")
    if head.startswith(_UTF16):
        raise ListError("the list is UTF-16, as PowerShell's > writes it: save it as UTF-8")
    for mark, what in _OTHERS:
        if head.startswith(mark):
            raise ListError(f"this is no list: it begins as {what}")
    if text.startswith(b"<"):
        return _xml(text)
    if text.startswith((b"{", b"[")):
        return _json(text)
    return _lines(head)


def _xml(text: bytes) -> Detected:
    plain = re.sub(rb"<!--.*?-->|<[?!][^>]*>", b"", text, flags=re.DOTALL)
    root = _ROOT.search(plain)
    name = root[1].decode() if root is not None else ""
    if name == ncmec.ROOT:
        return Detected(Format.NCMEC, f"it is XML whose root is <{ncmec.ROOT}>")
    raise ListError(f"it is XML whose root is <{name}>, and <{ncmec.ROOT}> of NCMEC is the only one that can be read")


def _json(text: bytes) -> Detected:
    first = text.partition(b"\n")[0]
    try:
        said = json.loads(first)
    except (ValueError, RecursionError):
        said = None
    if isinstance(said, dict) and own.HEADER_KEY in said:
        return Detected(Format.JSONL, f'its first line says "{own.HEADER_KEY}"')
    keys = dict.fromkeys(found.decode(errors="replace") for found in _KEYS.findall(text))
    stopncii = {STOPNCII_KEY, "hashValue"} & keys.keys()
    tat = {"hash_digest"} & keys.keys() or ({TAT_KEY} if {TAT_KEY, "checkpoint"} <= keys.keys() else set())
    if stopncii and not tat:
        return Detected(Format.STOPNCII, f"it is JSON with {stopncii.pop()!r}")
    if tat and not stopncii:
        return Detected(Format.TAT, f"it is JSON with {tat.pop()!r}")
    named = ", ".join(shown(key, 40) for key in tuple(keys)[:8]) or "no keys"
    raise ListError(
        f"it is JSON with {named}: neither of StopNCII ({STOPNCII_KEY!r}), nor of Tech Against Terrorism ({TAT_KEY!r} "
        f"with 'hash_digest'), nor an export ({own.HEADER_KEY!r} in the first line); say which with --format"
    )


def _lines(head: bytes) -> Detected:
    lines = [line.strip() for line in head.splitlines()[:_LINES]]
    said = [line for line in lines if line and not line.startswith(b"#")]
    if not said:
        raise ListError("the list begins with comments only: say what it is with --format")
    if b"signal_type" in said[0] and b"signal_str" in said[0]:
        return Detected(Format.TX_CSV, "its first line is the header of `tx dataset --csv`")
    if any(_is_cache(line) for line in said):
        return Detected(Format.THREATEXCHANGE, "its lines are a hash, a descriptor, a time and labels")
    if any(_is_hash(line) for line in said):
        return Detected(Format.HASHES, "its lines are hashes")
    raise ListError(
        f"its first line is {shown(said[0], 60)!r}, which is no hash, no CSV of `threatexchange`, no XML and no JSON; "
        f"if it is one of {', '.join(Format)} all the same, say which with --format"
    )


def _is_cache(line: bytes) -> bool:
    try:
        row = tables.cells(line)
    except BadRecord:
        return False
    return len(row) == 4 and len(row[0]) in _DIGITS and row[1].strip().lstrip("-").isdigit()


def _is_hash(line: bytes) -> bool:
    if re.fullmatch(rb"[0-9A-Fa-f]+", line) and len(line) in _DIGITS:
        return True  # of what type, --type says, or the line is refused
    try:
        hashes.parse(line, None, 0)
    except BadRecord:
        return False
    return True
