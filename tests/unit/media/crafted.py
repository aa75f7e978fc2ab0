"""Files made for tests: real photographs in each format, and files that no encoder writes."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image, ImageCms
from tests.support.heic import save_heic

from imagewarden_server.media import ImageFormat

ENCODINGS: dict[ImageFormat, tuple[str, dict[str, Any]]] = {
    ImageFormat.JPEG: ("JPEG", {"quality": 92}),
    ImageFormat.PNG: ("PNG", {}),
    ImageFormat.WEBP: ("WEBP", {"quality": 90}),
    ImageFormat.GIF: ("GIF", {}),
    ImageFormat.BMP: ("BMP", {}),
    ImageFormat.TIFF: ("TIFF", {"compression": "tiff_lzw"}),
    ImageFormat.HEIC: ("HEIF", {"quality": 90}),
    ImageFormat.AVIF: ("AVIF", {"quality": 90, "speed": 10}),
}
"""The raster formats, by Pillow's name and options."""


def encoded(image: Image.Image, format_: ImageFormat, **options: Any) -> bytes:
    name, usual = ENCODINGS[format_]
    if format_ is ImageFormat.HEIC:
        return save_heic(image, **{**usual, **options})
    buffer = io.BytesIO()
    image.save(buffer, name, **{**usual, **options})
    return buffer.getvalue()


def animated(frames: list[Image.Image], format_: ImageFormat, **options: Any) -> bytes:
    return encoded(frames[0], format_, save_all=True, append_images=frames[1:], **options)


def oriented(value: int) -> bytes:
    """EXIF data that states an orientation."""
    exif = Image.Exif()
    exif[0x0112] = value
    return exif.tobytes()


def hamming(one: bytes, other: bytes) -> int:
    return (int.from_bytes(one) ^ int.from_bytes(other)).bit_count()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, rows: bytes = b"", kind: int = 2) -> bytes:
    """A PNG that claims a size, whatever its rows are: kind 0 is grey, 2 is RGB."""
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    chunks = (png_chunk(b"IHDR", header), png_chunk(b"IDAT", zlib.compress(rows, 9)), png_chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, *[0] * 6)


def webp(width: int, height: int) -> bytes:
    canvas = b"\0\0\0\0" + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", len(canvas)) + canvas
    return b"RIFF" + struct.pack("<I", len(body)) + body


def gif(width: int, height: int, frames: Iterable[tuple[int, int]], *, ending: bytes = b";") -> bytes:
    """A GIF whose frames, each of a size of its own, hold one pixel of data."""
    screen = struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    blocks = (b"," + struct.pack("<4HB", 0, 0, wide, high, 0) + b"\x02\x02\x4c\x01\x00" for wide, high in frames)
    return b"GIF89a" + screen + b"".join(blocks) + ending


def tiff(pages: Iterable[dict[int, int]], *, next_of_last: int = 0) -> bytes:
    """A TIFF of pages that are nothing but their fields, each one number of 32 bits."""
    data = b"II*\0" + struct.pack("<I", 8)
    for fields in pages:
        here = len(data)
        data += struct.pack("<H", len(fields))
        data += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(fields.items()))
        data += struct.pack("<I", here + 6 + 12 * len(fields))
    return data[:-4] + struct.pack("<I", next_of_last)


def with_jpeg_size(data: bytes, width: int, height: int) -> bytes:
    """A baseline JPEG whose frame header lies about its size."""
    place = data.index(b"\xff\xc0")
    return data[: place + 5] + struct.pack(">HH", height, width) + data[place + 9 :]


def red_for_blue() -> bytes:
    """An ICC profile under which red numbers mean blue light: what ignores profiles shows the wrong colour."""
    raw = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # Under another name, since profiles that are called sRGB are taken for what they say.
    raw = raw.replace("sRGB".encode("utf-16-be"), "test".encode("utf-16-be"))
    return raw.replace(b"rXYZ", b"xXYZ").replace(b"bXYZ", b"rXYZ").replace(b"xXYZ", b"bXYZ")


def noise(width: int, height: int, seed: int = 1) -> Image.Image:
    """A picture that compresses badly and has structure at every size."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((width, height))
    fine = Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))
    return Image.blend(coarse, fine, 0.2)
