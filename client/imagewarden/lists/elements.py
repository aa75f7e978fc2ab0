"""The elements of one array of a JSON document, one by one: the document may be large, and an element may be broken.

An element that is no JSON is given as it stands, for it to be refused; the next one is found by its brackets.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from imagewarden.lists.items import BadRecord, ListError, utf8

MAX_ELEMENT = 2**20
"""Bytes of an element; one that has more is skipped and never kept."""
_MAX_KEY = 1_024

# Possessive, and so in one pass over any bytes: an object whose values are nested at most two deep, which is what
# exchanges write. What is nested deeper is found bracket by bracket.
_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_FLAT = rb'[^{}\[\]"]*+(?:' + _STRING + rb'[^{}\[\]"]*+)*+'
_INNER = rb"[{\[]" + _FLAT + rb"[}\]]"
_NESTED = rb"[{\[]" + _FLAT + rb"(?:" + _INNER + _FLAT + rb")*+[}\]]"
_OBJECT = re.compile(rb"\{" + _FLAT + rb"(?:" + _NESTED + _FLAT + rb")*+\}", re.DOTALL)
_MARKS = re.compile(rb'["{}\[\]]')
_IN_STRING = re.compile(rb'["\\]')
_SCALAR_END = re.compile(rb"[,}\]\s]")
_BLANK = re.compile(rb"[ \t\r\n]*+")


class Elements:
    """The elements of the array under `key` of an object, or of an array that is the document itself.

    Several documents may follow one another, as the pages of an exchange do in one file.

    Args:
        blocks: the bytes of the document.
        key: of the array.
    """

    def __init__(self, blocks: Iterator[bytes], key: str) -> None:
        self._blocks = blocks
        self._key = key
        self._buffer = b""
        self._at = 0
        self._before = 0

    def __iter__(self) -> Iterator[bytes | None]:
        """Each element's bytes; None: it has more than are kept.

        Raises:
            ListError: the document is no JSON around its elements, is cut off, or has no such array.
        """
        arrays = 0
        while (first := self._peek()) is not None:
            if first == b"[":
                arrays += 1
                for _ in self._parts(b"]"):
                    yield self._element()
            elif first == b"{":
                for _ in self._parts(b"}"):
                    if self._member() == self._key and self._peek() == b"[":
                        arrays += 1
                        for _ in self._parts(b"]"):
                            yield self._element()
                    else:
                        self._value(0)
            else:
                raise self._broken("neither an object nor an array begins here")
        if not arrays:
            raise ListError(f"the JSON has no array {self._key!r}")

    def _parts(self, end: bytes) -> Iterator[None]:
        """Step into an object or an array, from comma to comma, and out of it; between, its user takes the parts."""
        self._at += 1
        if self._peek() == end:
            self._at += 1
            return
        while True:
            yield None
            mark = self._peek()
            if mark not in {b",", end}:
                raise self._broken(f"neither a comma nor {end.decode()} follows")
            self._at += 1
            if mark == end:
                return

    def _member(self) -> str:
        """Step over a key and its colon."""
        if self._peek() != b'"':
            raise self._broken("no key follows")
        raw = self._value(_MAX_KEY)
        if self._peek() != b":":
            raise self._broken("no colon follows the key")
        self._at += 1
        self._peek()
        try:
            return str(json.loads(raw)) if raw is not None else ""
        except ValueError:
            raise self._broken("a key is no JSON string") from None

    def _element(self) -> bytes | None:
        self._peek()
        found = _OBJECT.match(self._buffer, self._at)
        if found is not None and found.end() - self._at <= MAX_ELEMENT:
            self._at = found.end()
            return found[0]
        return self._value(MAX_ELEMENT)

    def _value(self, most: int) -> bytes | None:
        """Step over a value, bracket by bracket; its bytes, or None where they are more than that."""
        first = self._peek()
        if first is None:
            raise self._cut_off()
        scalar = first not in {b'"', b"{", b"["}
        kept: list[bytes] = []
        size = depth = begin = 0
        inside = False
        while True:
            end, begin, depth, inside = self._end_of(max(self._at, begin), depth, inside=inside, scalar=scalar)
            piece = self._buffer[self._at : len(self._buffer) if end is None else end]
            size += len(piece)
            if size <= most:
                kept.append(piece)
            if end is not None:
                if not size:
                    raise self._broken("a value is missing")
                self._at = end
                return b"".join(kept) if size <= most else None
            begin -= len(self._buffer)
            self._at = len(self._buffer)
            if not self._fill():
                raise self._cut_off()

    def _end_of(self, at: int, depth: int, *, inside: bool, scalar: bool) -> tuple[int | None, int, int, bool]:
        """Where in the buffer a value ends; or None, and from where on, how deep and whether in a string to go on."""
        if scalar:
            found = _SCALAR_END.search(self._buffer, at)
            return (None if found is None else found.start()), len(self._buffer), 0, False
        while (found := (_IN_STRING if inside else _MARKS).search(self._buffer, at)) is not None:
            mark, at = found[0], found.end()
            if mark == b"\\":
                at += 1  # whatever it is that is escaped, if need be in the next block
            elif mark == b'"':
                inside = not inside
            else:
                depth += 1 if mark in b"{[" else -1
            if not inside and depth <= 0:
                return at, at, depth, inside
        return None, max(at, len(self._buffer)), depth, inside

    def _peek(self) -> bytes | None:
        """The next byte that is no blank; None: there is none."""
        while True:
            found = _BLANK.match(self._buffer, self._at)
            if found is not None:
                self._at = found.end()
            if self._at < len(self._buffer):
                return self._buffer[self._at : self._at + 1]
            if not self._fill():
                return None

    def _fill(self) -> bool:
        """Get the next block, and let go of what was stepped over."""
        block = next(self._blocks, b"")
        self._before += self._at
        self._buffer, self._at = self._buffer[self._at :] + block, 0
        return bool(block)

    def _broken(self, what: str) -> ListError:
        if self._at >= len(self._buffer):
            return self._cut_off()
        return ListError(f"at byte {self._before + self._at:,} the JSON is broken: {what}")

    def _cut_off(self) -> ListError:
        return ListError(f"the JSON is cut off after {self._before + self._at:,} bytes")


def parsed(element: bytes | None) -> dict[str, Any]:
    """An element as an object.

    Raises:
        BadRecord: it is none, or it is too long.
    """
    if element is None:
        raise BadRecord(f"it has more than {MAX_ELEMENT:,} bytes")
    try:
        value = json.loads(utf8(element), parse_constant=_no_number)
    except RecursionError:
        raise BadRecord("it is nested too deep") from None
    except BadRecord:
        raise
    except ValueError as error:
        raise BadRecord(f"it is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadRecord("it is no JSON object")
    return value


def _no_number(word: str) -> Any:
    raise BadRecord(f"{word} is no number of JSON")
