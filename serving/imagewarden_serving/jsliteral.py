"""Read a JavaScript object literal as minifiers write it, without running it: ECMA-262's literals, and nothing else."""

from __future__ import annotations

import re
from typing import Any

_TOKEN = re.compile(
    r"""
    [ \t\r\n]*+
    (?: (?P<punctuation>[{}\[\]:,])
    | (?P<string>"[^"\\\n]*")
    | (?P<number>-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?![\w$.])
    | (?P<constant>(?:!0|!1|null|true|false)(?![\w$]))
    | (?P<name>[A-Za-z_$][\w$]*) )
    """,
    re.VERBOSE | re.ASCII,
)
_CONSTANTS = {"!0": True, "!1": False, "true": True, "false": False, "null": None}
_MAX_DEPTH = 100


class LiteralError(Exception):
    """The text is no literal; the message says where."""


def parse_literal(text: str, begin: int = 0) -> Any:
    """Read the value that begins at a place in the text; what follows it is not looked at.

    Objects become dicts, arrays lists, `!0` and `!1` True and False; numbers may leave out the zero before the point.

    Raises:
        LiteralError: there is something else than objects, arrays, strings without escapes, numbers and constants.
    """
    value, _ = _value(text, begin, 0)
    return value


def _token(text: str, place: int) -> tuple[str, str, int]:
    found = _TOKEN.match(text, place)
    if found is None or found.lastgroup is None:
        raise LiteralError(f"no literal at character {place}: {text[place : place + 20]!r}")
    return found.lastgroup, found[found.lastgroup], found.end()


def _value(text: str, place: int, depth: int) -> tuple[Any, int]:
    if depth > _MAX_DEPTH:
        raise LiteralError(f"nested deeper than {_MAX_DEPTH} at character {place}")
    kind, lexeme, after = _token(text, place)
    if kind == "string":
        return lexeme[1:-1], after
    if kind == "number":
        return (float(lexeme) if re.search(r"[.eE]", lexeme) else int(lexeme)), after
    if kind == "constant":
        return _CONSTANTS[lexeme], after
    if lexeme == "{":
        return _object(text, after, depth)
    if lexeme == "[":
        return _array(text, after, depth)
    raise LiteralError(f"{lexeme!r} at character {place} begins no value")


def _object(text: str, place: int, depth: int) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {}
    kind, lexeme, after = _token(text, place)
    while lexeme != "}":
        if kind not in {"name", "string"}:
            raise LiteralError(f"{lexeme!r} at character {place} is no key")
        key = lexeme[1:-1] if kind == "string" else lexeme
        if key in found:
            raise LiteralError(f"the key {key!r} at character {place} comes twice")
        _, colon, after = _token(text, after)
        if colon != ":":
            raise LiteralError(f"{colon!r} where ':' belongs, before character {after}")
        found[key], after = _value(text, after, depth + 1)
        kind, lexeme, place, after = _next_item(text, after, "}")
    return found, after


def _array(text: str, place: int, depth: int) -> tuple[list[Any], int]:
    found: list[Any] = []
    _, lexeme, after = _token(text, place)
    while lexeme != "]":
        value, after = _value(text, place, depth + 1)
        found.append(value)
        _, lexeme, place, after = _next_item(text, after, "]")
    return found, after


def _next_item(text: str, place: int, close: str) -> tuple[str, str, int, int]:
    """What follows an item: the closing bracket, or the first token after the comma; with its begin and end."""
    kind, lexeme, after = _token(text, place)
    if lexeme == close:
        return kind, lexeme, place, after
    if lexeme != ",":
        raise LiteralError(f"{lexeme!r} at character {place} where ',' or {close!r} belongs")
    kind, lexeme, end = _token(text, after)
    if lexeme == close:
        raise LiteralError(f"no item between ',' and {close!r} at character {after}")
    return kind, lexeme, after, end
