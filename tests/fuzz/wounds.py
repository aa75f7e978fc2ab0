"""Changes of files that know how they are made: lengths and checksums are right again afterwards."""

from __future__ import annotations

import json
import random
import struct
import zlib
from collections.abc import Sequence
from typing import Any

from tests.fuzz.target import Flip, Mutate

_NUMBERS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63, 10**40, 1.5, float("nan"), float("inf"), "", "\x00", "\ud800", "png"),
    json.loads("[" * 400 + "]" * 400),
    *([], {}, [[]], [1, 2, 3], [0, 0, 0], [-1, 4, 3], [1, 30_000, 3], ["2", 4, 3]),
)
_PNG_HEAD = b"\x89PNG\r\n\x1a\n"


def plain(chance: random.Random) -> Flip:
    """The changes that need no fuzzer, one at a time."""

    def flip(data: bytes) -> bytes:
        changed = bytearray(data)
        # Half of them near the head, where what decides stands.
        reach = min(len(changed), 64) if chance.random() < 0.5 else len(changed)
        place = chance.randrange(reach) if reach else 0
        match chance.randrange(6):
            case 0:
                changed[place : place + 1] = bytes([chance.randrange(256)])
            case 1:
                width = chance.choice((1, 2, 4))
                value = chance.choice(_NUMBERS) % 256**width
                changed[place : place + width] = value.to_bytes(width, chance.choice(("big", "little")))
            case 2:
                del changed[place : place + chance.randint(1, 40)]
            case 3:
                changed[place:place] = chance.randbytes(chance.randint(1, 20))
            case 4:
                changed[place:place] = changed[place : place + chance.randint(1, 200)]
            case _:
                del changed[place + 1 :]
        return bytes(changed)

    return flip


def png(data: bytes, chance: random.Random, flip: Flip) -> bytes:
    """One chunk changed, doubled, moved or left out; pixels by what they are before they are packed; each CRC right."""
    if not data.startswith(_PNG_HEAD):
        return flip(data)
    chunks = _png_chunks(data)
    if not chunks:
        return flip(data)
    place = chance.randrange(len(chunks))
    kind, body = chunks[place]
    match chance.randrange(8):
        case 0:
            chunks.insert(place, chunks[place])
        case 1:
            del chunks[place]
        case 2:
            chunks[place] = (flip(kind)[:4].ljust(4, b"x"), body)
        case 3:
            chunks.append(chunks.pop(place))
        case 4 if kind in {b"IDAT", b"iCCP", b"zTXt"}:
            # Behind a name and the way it is packed, where there is one.
            skipped = 0 if kind == b"IDAT" else body.find(b"\0") + 2
            chunks[place] = (kind, body[:skipped] + zlib.compress(flip(_unpacked(body[skipped:])), 1))
        case _:
            chunks[place] = (kind, flip(body))
    return _PNG_HEAD + b"".join(_png_chunk(*one) for one in chunks)


def _png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    chunks = []
    place = len(_PNG_HEAD)
    while place + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += length + 12
    return chunks


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _unpacked(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, 2**20)
    except zlib.error:
        return data


def riff(data: bytes, chance: random.Random, flip: Flip) -> bytes:
    """One chunk of a WebP file changed, doubled or left out; all lengths right."""
    if data[:4] != b"RIFF":
        return flip(data)
    chunks = []
    place = 12
    while place + 8 <= len(data):
        (length,) = struct.unpack_from("<I", data, place + 4)
        chunks.append((data[place : place + 4], data[place + 8 : place + 8 + length]))
        place += 8 + length + length % 2
    changed = _one_changed(chunks, chance, flip)
    packed = [kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2) for kind, body in changed]
    body = b"WEBP" + b"".join(packed)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def boxes(data: bytes, chance: random.Random, flip: Flip) -> bytes:
    """One box of an AVIF or HEIC file (ISO/IEC 14496-12) changed, doubled or left out, however deep; lengths right."""
    parts = _boxes(data)
    return flip(data) if not parts else b"".join(_box(*one) for one in _boxes_changed(parts, chance, flip))


# Boxes of boxes, with how many bytes stand before the first of those.
_NESTED = {b"meta": 4, b"iprp": 0, b"ipco": 0, b"iinf": 6, b"moov": 0, b"trak": 0, b"mdia": 0, b"minf": 0, b"stbl": 0}


def _boxes(data: bytes) -> list[tuple[bytes, bytes]]:
    found = []
    place = 0
    while place + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        if length < 8:
            length = len(data) - place
        found.append((data[place + 4 : place + 8], data[place + 8 : place + length]))
        place += length
    return found


def _boxes_changed(parts: list[tuple[bytes, bytes]], chance: random.Random, flip: Flip) -> list[tuple[bytes, bytes]]:
    place = chance.randrange(len(parts))
    kind, body = parts[place]
    skipped = _NESTED.get(kind)
    inner = _boxes(body[skipped:]) if skipped is not None else []
    if inner and chance.random() < 0.8:
        deeper = b"".join(_box(*one) for one in _boxes_changed(inner, chance, flip))
        return [*parts[:place], (kind, body[:skipped] + deeper), *parts[place + 1 :]]
    return _one_changed(parts, chance, flip)


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body) + 8) + kind + body


def _one_changed(parts: Sequence[tuple[bytes, bytes]], chance: random.Random, flip: Flip) -> list[tuple[bytes, bytes]]:
    changed = list(parts)
    if not changed:
        return changed
    place = chance.randrange(len(changed))
    kind, body = changed[place]
    match chance.randrange(6):
        case 0:
            changed.insert(place, changed[place])
        case 1:
            del changed[place]
        case _:
            changed[place] = (kind, flip(body))
    return changed


def checked_by_crc(data: bytes, chance: random.Random, flip: Flip) -> bytes:
    """Bytes that end with the CRC-32 of all before it, little-endian; now and then it is left wrong."""
    body = flip(data[:-4])
    return body + (data[-4:] if chance.random() < 0.05 else struct.pack("<I", zlib.crc32(body)))


def json_text(data: bytes, chance: random.Random, flip: Flip) -> bytes:
    """A JSON text with one value changed, left out or doubled, however deep; now and then its bytes alone."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return flip(data)
    if chance.random() < 0.1:
        return flip(data)
    return json.dumps(_value_changed(value, chance, flip)).encode()


def _value_changed(value: Any, chance: random.Random, flip: Flip) -> Any:
    if isinstance(value, dict) and value and chance.random() < 0.9:
        return _object_changed(value, chance, flip)
    if isinstance(value, list) and value and chance.random() < 0.9:
        return _array_changed(value, chance, flip)
    if isinstance(value, str) and chance.random() < 0.5:
        return flip(value.encode("utf-8", "replace")).decode("utf-8", "replace")
    if isinstance(value, int) and chance.random() < 0.5:
        return value + chance.choice((-1, 1, 2**16, -(2**16)))
    return chance.choice(_VALUES)


def _object_changed(value: dict[str, Any], chance: random.Random, flip: Flip) -> dict[str, Any]:
    key = chance.choice(list(value))
    match chance.randrange(8):
        case 0:
            return {name: one for name, one in value.items() if name != key}
        case 1:
            return value | {flip(key.encode("utf-8", "replace")).decode("utf-8", "replace"): value[key]}
    return value | {key: _value_changed(value[key], chance, flip)}


def _array_changed(value: list[Any], chance: random.Random, flip: Flip) -> list[Any]:
    place = chance.randrange(len(value))
    match chance.randrange(8):
        case 0:
            return value[:place] + value[place + 1 :]
        case 1:
            return [*value, value[place]]
    return [*value[:place], _value_changed(value[place], chance, flip), *value[place + 1 :]]


def one_line(change: Mutate) -> Mutate:
    """Changes one line of several by itself, doubles it, or leaves it out."""

    def mutate(data: bytes, chance: random.Random, flip: Flip) -> bytes:
        lines = data.split(b"\n")
        place = chance.randrange(len(lines))
        match chance.randrange(8):
            case 0:
                del lines[place]
            case 1:
                lines.insert(place, lines[place])
            case _:
                lines[place] = change(lines[place], chance, flip)
        return b"\n".join(lines)

    return mutate


def behind(count: int, change: Mutate) -> Mutate:
    """Changes what stands behind so many bytes, and now and then those."""

    def mutate(data: bytes, chance: random.Random, flip: Flip) -> bytes:
        if chance.random() < 0.15:
            return flip(data[:count])[:count].ljust(count, b"\0") + data[count:]
        return data[:count] + change(data[count:], chance, flip)

    return mutate


def several(change: Mutate) -> Mutate:
    """One to four of such changes, one after the other."""

    def mutate(data: bytes, chance: random.Random, flip: Flip) -> bytes:
        for _ in range(chance.choice((1, 1, 1, 2, 4))):
            data = change(data, chance, flip)
        return data

    return mutate


def blind(data: bytes, chance: random.Random, flip: Flip) -> bytes:
    """Bytes changed without knowing what they are."""
    del chance
    return flip(data)
