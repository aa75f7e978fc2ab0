"""What containers say of their frames, read without a decoder: decoders find out by doing the work.

Each walk takes time in proportion to the file's size, and raises MediaError where the file would cost a decoder more.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from imagewarden_server.media.types import MediaError, MediaProblem

MAX_JPEG_SCANS = 64
"""Progressive pictures have about ten. Each costs the decoder a pass over the whole picture, however short it is."""

MAX_TIFF_PAGES = 4_096
MAX_TIFF_FIELDS = 100_000

_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_TIFF_COUNTS = {1: "B", 3: "H", 4: "I"}
_IMAGE_WIDTH, _IMAGE_LENGTH, _TILE_WIDTH, _TILE_LENGTH = 256, 257, 322, 323
_ORIENTATION = 274


@dataclass(frozen=True, slots=True)
class Extent:
    """How many frames, and the size in pixels that holds each of them."""

    frames: int
    width: int
    height: int


def check_jpeg(data: bytes) -> None:
    """Refuse a JPEG file of more scans than any encoder makes (ITU-T T.81, B.2).

    Raises:
        MediaError: OVER_LIMITS.
    """
    place = 2
    scans = 0
    while found := _JPEG_MARKER.search(data, place):
        marker = found[0][1]
        place = found.end()
        if marker == 0xD9:
            return
        if marker == 0xDA:
            scans += 1
        if scans > MAX_JPEG_SCANS:
            raise MediaError(
                MediaProblem.OVER_LIMITS,
                f"the JPEG file has more than {MAX_JPEG_SCANS} scans; save the picture again",
            )
        # TEM and SOI stand alone; all others that come here state their length.
        if marker not in {0x01, 0xD8}:
            place += int.from_bytes(data[place : place + 2])


def gif_extent(data: bytes) -> Extent:
    """Count the frames of a GIF file (GIF89a, appendix B), and find the canvas that holds all of them.

    Raises:
        MediaError: UNDECODABLE: the file ends inside a frame, or has none.
    """
    try:
        return _walk_gif(data)
    except (IndexError, struct.error) as error:
        raise _cut_short("GIF") from error


def _walk_gif(data: bytes) -> Extent:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    place = 13 + _palette_bytes(flags)
    frames = 0
    while place < len(data):
        block = data[place]
        if block == 0x21:
            place = _after_blocks(data, place + 2)
        elif block == 0x2C:
            left, top, wide, high, flags = struct.unpack_from("<4HB", data, place + 1)
            width, height = max(width, left + wide), max(height, top + high)
            place = _after_blocks(data, place + 11 + _palette_bytes(flags))
            frames += 1
        else:
            # The trailer, or bytes that are none of GIF's: viewers stop here too.
            break
    if not frames:
        raise _cut_short("GIF")
    return Extent(frames, width, height)


def _palette_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _after_blocks(data: bytes, place: int) -> int:
    """The place behind a chain of sub-blocks, each with its length before it, 0 at the end."""
    while length := data[place]:
        place += length + 1
    return place + 1


def tiff_extent(data: bytes) -> Extent:
    """Count the pages of a TIFF file (TIFF 6.0, section 2), and find the size that holds each of them and their tiles.

    Raises:
        MediaError: UNDECODABLE, or OVER_LIMITS: more pages or fields than a picture has.
    """
    order = "<" if data[:2] == b"II" else ">"
    seen: set[int] = set()
    fields = width = height = 0
    try:
        (place,) = struct.unpack_from(f"{order}I", data, 4)
        # A chain that comes back to a page it has been at ends there, as the decoder has it.
        while place and place not in seen:
            seen.add(place)
            (count,) = struct.unpack_from(f"{order}H", data, place)
            fields += count
            if len(seen) > MAX_TIFF_PAGES or fields > MAX_TIFF_FIELDS:
                raise MediaError(
                    MediaProblem.OVER_LIMITS,
                    f"the TIFF file has more than {MAX_TIFF_PAGES:,} pages, or more than {MAX_TIFF_FIELDS:,} fields; "
                    "send its pages as pictures of their own",
                )
            for tag, value in _numbers(data, order, place + 2, count):
                if tag in {_IMAGE_WIDTH, _TILE_WIDTH}:
                    width = max(width, value)
                elif tag in {_IMAGE_LENGTH, _TILE_LENGTH}:
                    height = max(height, value)
            (place,) = struct.unpack_from(f"{order}I", data, place + 2 + 12 * count)
    except struct.error as error:
        raise _cut_short("TIFF") from error
    return Extent(len(seen), width, height)


def _numbers(data: bytes, order: str, place: int, count: int) -> Iterator[tuple[int, int]]:
    """The fields of an image file directory that are one whole number each: tag and value."""
    for tag, kind, values, raw in struct.iter_unpack(f"{order}HHI4s", data[place : place + 12 * count]):
        code = _TIFF_COUNTS.get(kind)
        if code and values == 1:
            yield tag, struct.unpack_from(order + code, raw)[0]


def exif_orientation(exif: bytes) -> int:
    """The orientation of EXIF data (CIPA DC-008, 4.6.4): 1 to 8, and 1 where it states none or is broken.

    It is read here since Pillow's parser reads every field of the block, and warns of each that is broken.
    """
    block = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None:
        return 1
    try:
        (place,) = struct.unpack_from(f"{order}I", block, 4)
        (count,) = struct.unpack_from(f"{order}H", block, place)
        values = [value for tag, value in _numbers(block, order, place + 2, count) if tag == _ORIENTATION]
    except struct.error:
        return 1
    return values[0] if values and 1 <= values[0] <= 8 else 1


def webp_size(data: bytes) -> tuple[int, int]:
    """The canvas of a WebP file by its first chunk (RFC 9649, 2.7).

    It is read here since the decoder allots its canvas as soon as it is opened.

    Raises:
        MediaError: UNDECODABLE.
    """
    kind = data[12:16]
    if kind == b"VP8X" and len(data) >= 30:
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L" and len(data) >= 25:
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 " and len(data) >= 30:
        width, height = struct.unpack("<HH", data[26:30])
        return width & 0x3FFF, height & 0x3FFF
    raise _cut_short("WebP")


def _cut_short(name: str) -> MediaError:
    return MediaError(
        MediaProblem.UNDECODABLE, f"the {name} file is broken or cut short; send the whole file as it was saved"
    )
