"""NCMEC's hash sharing API, version 2: the XML that its `entries` answers.

    queryResult
    ├── images
    │   ├── image: member@id, timestamp, id, classification, fingerprints (md5, sha1, pdq, pdna, ...)
    │   └── deletedImage: member@id, timestamp, id
    ├── videos: video, deletedVideo
    └── paging: next

The XML is read as it comes. A document type, and with it every entity, is refused; so is what is nested too deep. What
is no XML ends the reading; a record that says what it should not, or too much, is refused alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn
from xml.parsers import expat

from imagewarden._enums import SignalType
from imagewarden._records import EntryRecord, RecordHash
from imagewarden.lists.items import (
    BadRecord,
    Item,
    ListError,
    NoPicture,
    Refused,
    Settings,
    hash_of,
    labels_of,
    metadata_of,
    name_of,
    shown,
)
from imagewarden.lists.source import Source

NCMEC = "ncmec"
ROOT = "queryResult"
_GROUPS = frozenset({"images", "videos"})
COMPARED = {"md5": SignalType.MD5, "sha1": SignalType.SHA1, "pdq": SignalType.PDQ, "sha256": SignalType.SHA256}
"""By their elements' names the fingerprints that can be compared."""
_FACTS = frozenset({"id", "member", "timestamp", "classification"})
# Of element names: the root, a group, a record, its facts and `fingerprints`, the fingerprints.
_RECORD_DEPTH, _FACT_DEPTH, _PRINT_DEPTH = 3, 4, 5
_MAX_DEPTH = 32
_MAX_TEXT = 1_024
_MAX_NAMES = 16
# The parser keeps what it has not understood yet: the bytes of one tag, at most so many.
_MAX_TAG = 2**20


class _Record:
    """One element of `images` or `videos`, as it is read."""

    def __init__(self, number: int, line: int, tag: str) -> None:
        self.number = number
        self.line = line
        self.tag = tag
        self.facts: dict[str, str] = {}
        self.prints: dict[str, str] = {}
        self.others: dict[str, None] = {}
        self.problem = ""

    def item(self, settings: Settings) -> Item:
        try:
            return self.number, self._record(settings)
        except BadRecord as error:
            begin = f"<{self.tag}> {self.facts.get('member_id', '')} {self.facts.get('id', '')}"
            return Refused(self.number, str(error), shown(begin), self.line)

    def _record(self, settings: Settings) -> EntryRecord:
        if self.problem:
            raise BadRecord(self.problem)
        return record_of(self.tag, self.facts, self.prints, self.others, settings)


def record_of(
    tag: str, facts: Mapping[str, str], prints: Mapping[str, str], others: Iterable[str], settings: Settings
) -> EntryRecord:
    """One element of `images` or `videos` as a record.

    Args:
        tag: its name, such as `deletedImage`.
        facts: id, member_id, member, timestamp and classification, as far as it has them.
        prints: those of its fingerprints that `COMPARED` has, as hexadecimal digits.
        others: the names of its other fingerprints.
        settings: what the caller says of the list.

    Raises:
        NoPicture: it is of a film.
        BadRecord: it says what it should not.
    """
    removed = tag.startswith("deleted")
    kind = tag.removeprefix("deleted").lower()
    if kind == "video":
        raise NoPicture(f"<{tag}> is no picture")
    if kind != "image":
        raise BadRecord(f"<{shown(tag, 40)}> is not known")
    member, name = facts.get("member_id", ""), facts.get("id", "")
    if not member or not name:
        raise BadRecord("it has no <member id> and <id>, by which it is known")
    external_id = name_of("id", f"{member}-{name}")
    origin = NCMEC if settings.source is None else settings.source
    if removed:
        return EntryRecord((), external_id, origin, removed=True)
    hashes = tuple(_hash(tag, text) for tag, text in prints.items())
    not_compared = " ".join(others)
    if not hashes:
        raise BadRecord(f"it has no md5, sha1 or pdq; {not_compared or 'nothing else'} cannot be compared here")
    metadata = metadata_of(
        {"member": facts.get("member", ""), "timestamp": facts.get("timestamp", ""), "not_compared": not_compared}
    )
    labels = labels_of(settings, [facts.get("classification", "")], metadata)
    return EntryRecord(hashes, external_id, origin, labels, metadata)


def _hash(tag: str, text: str) -> RecordHash:
    try:
        return hash_of(COMPARED[tag], text)
    except BadRecord as error:
        raise BadRecord(f"<{tag}>: {error}") from None


class _Handler:
    """What the parser tells, made into records."""

    def __init__(self, settings: Settings) -> None:
        self.found: deque[Item] = deque()
        self._settings = settings
        self._path: list[str] = []
        self._number = 0
        self._record: _Record | None = None
        self._text: list[str] = []
        self._text_depth = 0
        self._room = 0
        self.parser = expat.ParserCreate(namespace_separator=" ")
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters
        self.parser.StartDoctypeDeclHandler = self._refuse_doctype
        self.parser.EntityDeclHandler = self._refuse_doctype

    def _refuse_doctype(self, *_: Any) -> NoReturn:
        raise ListError(
            f"line {self.parser.CurrentLineNumber}: the XML has a document type, which NCMEC's has not; it is not read"
        )

    def _start(self, full: str, attributes: dict[str, str]) -> None:
        tag = full.rpartition(" ")[2]  # without its namespace
        self._path.append(tag)
        depth = len(self._path)
        line = self.parser.CurrentLineNumber
        if depth > _MAX_DEPTH:
            raise ListError(f"line {line}: elements are nested more than {_MAX_DEPTH} deep")
        if depth == 1 and tag != ROOT:
            raise ListError(f"line {line}: the XML's root is <{shown(tag, 40)}>, and NCMEC's is <{ROOT}>")
        if depth == _RECORD_DEPTH and self._path[1] in _GROUPS:
            self._number += 1
            self._record = _Record(self._number, line, tag)
        if self._record is None:
            return
        if depth == _FACT_DEPTH and tag in _FACTS:
            self._listen()
            if tag == "member":
                self._record.facts["member_id"] = attributes.get("id", "").strip()
        elif depth == _PRINT_DEPTH and self._path[3] == "fingerprints":
            if tag in COMPARED:
                self._listen()
            elif len(self._record.others) < _MAX_NAMES:
                self._record.others[shown(tag, 40)] = None

    def _listen(self) -> None:
        self._text, self._text_depth, self._room = [], len(self._path), _MAX_TEXT

    def _characters(self, text: str) -> None:
        if not self._text_depth:
            return
        self._room -= len(text)
        if self._room >= 0:
            self._text.append(text)
        elif self._record is not None:
            self._record.problem = f"<{self._path[-1]}> has more than {_MAX_TEXT:,} characters"

    def _end(self, _: str) -> None:
        depth = len(self._path)
        tag = self._path.pop()
        record = self._record
        if record is None:
            return
        if depth == self._text_depth:
            self._text_depth = 0
            text = "".join(self._text).strip()
            known = record.prints if depth == _PRINT_DEPTH else record.facts
            if text and known.setdefault(tag, text) != text:
                record.problem = record.problem or f"it has two different <{tag}>"
        elif depth == _RECORD_DEPTH:
            self._record = None
            self.found.append(record.item(self._settings))


def read(source: Source, settings: Settings) -> Iterator[Item]:
    """The records of such a list; their numbers count them, from 1.

    Raises:
        ListError: it is no such XML, or not to its end; it is gzip, and damaged or cut off.
        OSError: it cannot be read.
    """
    handler = _Handler(settings)
    fed = 0
    for block in source.blocks():
        fed += len(block)
        _feed(handler, block, last=False)
        if fed - max(handler.parser.CurrentByteIndex, 0) > _MAX_TAG + len(block):
            raise ListError(f"line {handler.parser.CurrentLineNumber}: a tag has more than {_MAX_TAG:,} bytes")
        while handler.found:
            yield handler.found.popleft()
    _feed(handler, b"", last=True)
    while handler.found:
        yield handler.found.popleft()


def _feed(handler: _Handler, block: bytes, *, last: bool) -> None:
    try:
        handler.parser.Parse(block, last)
    except expat.ExpatError as error:
        raise ListError(
            f"line {error.lineno}: the XML is broken or cut off there: {expat.ErrorString(error.code)}"
        ) from None
    except ListError:
        raise
    except (LookupError, ValueError) as error:
        # What the parser's encodings are made of says so itself.
        raise ListError(f"the XML's encoding cannot be read ({error}): save it as UTF-8") from None
