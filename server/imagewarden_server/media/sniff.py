"""Which format bytes are, by their first bytes alone: a file's name or declared type is never asked."""

from __future__ import annotations

import struct

from imagewarden_server.media.types import ImageFormat

_MAGIC = (
    (b"\xff\xd8\xff", ImageFormat.JPEG),
    (b"\x89PNG\r\n\x1a\n", ImageFormat.PNG),
    (b"GIF87a", ImageFormat.GIF),
    (b"GIF89a", ImageFormat.GIF),
    (b"II*\0", ImageFormat.TIFF),
    (b"MM\0*", ImageFormat.TIFF),
    (b"BM", ImageFormat.BMP),
)
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})


def sniff(data: bytes) -> ImageFormat | None:
    """The format, or None where the bytes begin like none that is read."""
    for magic, format_ in _MAGIC:
        if data.startswith(magic):
            return format_
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return ImageFormat.WEBP
    if data[4:8] == b"ftyp":
        return _iso_media(data)
    head = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n")
    if head.startswith((b"<svg", b"<?xml", b"<!--", b"<!DOCTYPE svg")) and b"<svg" in data[:65_536]:
        return ImageFormat.SVG
    return None


def _iso_media(data: bytes) -> ImageFormat | None:
    """AVIF or HEIC by the brands of the ftyp box (ISO/IEC 14496-12): the major one, then the compatible ones."""
    (size,) = struct.unpack(">I", data[:4])
    end = min(size, 256, len(data))
    brands = [data[8:12], *(data[place : place + 4] for place in range(16, end, 4))]
    for known, format_ in ((_AVIF_BRANDS, ImageFormat.AVIF), (_HEIC_BRANDS, ImageFormat.HEIC)):
        if brands[0] in known and brands[0] not in {b"mif1", b"msf1"}:
            return format_
    for known, format_ in ((_AVIF_BRANDS, ImageFormat.AVIF), (_HEIC_BRANDS, ImageFormat.HEIC)):
        if known.intersection(brands):
            return format_
    return None
