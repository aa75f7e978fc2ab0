from __future__ import annotations

import pytest
from PIL import Image
from tests.unit.media.crafted import ENCODINGS, encoded

from imagewarden_server.media import ImageFormat
from imagewarden_server.media.sniff import sniff


@pytest.mark.parametrize("format_", ENCODINGS)
def test_each_format_is_known_by_its_first_bytes(chelsea: Image.Image, format_: ImageFormat) -> None:
    data = encoded(chelsea, format_)
    assert sniff(data) is format_
    assert sniff(data[:64]) is format_, "what stands behind is never asked"


@pytest.mark.parametrize(
    ("major", "compatible", "expected"),
    [
        (b"avif", [b"mif1", b"miaf"], ImageFormat.AVIF),
        (b"avis", [b"msf1", b"avif"], ImageFormat.AVIF),
        (b"mif1", [b"avif"], ImageFormat.AVIF),
        (b"heic", [b"mif1"], ImageFormat.HEIC),
        (b"mif1", [b"heic"], ImageFormat.HEIC),
        (b"mp42", [b"isom"], None),
        (b"qt  ", [], None),
    ],
)
def test_the_brands_of_an_iso_media_file_decide(
    major: bytes, compatible: list[bytes], expected: ImageFormat | None
) -> None:
    box = b"ftyp" + major + b"\0\0\0\0" + b"".join(compatible)
    assert sniff((len(box) + 4).to_bytes(4) + box + b"more") is expected


@pytest.mark.parametrize(
    "data",
    [
        b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        b'<?xml version="1.0"?>\n<svg/>',
        b"<!-- drawn by hand -->\n<svg/>",
        b"\xef\xbb\xbf  <svg/>",
    ],
)
def test_svg_is_known_by_its_root(data: bytes) -> None:
    assert sniff(data) is ImageFormat.SVG


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 64, b"%PDF-1.7", b"<html><svg/></html>", b"<?xml version='1.0'?><rss/>", b"RIFF\0\0\0\0WAVE"]
)
def test_what_is_no_picture_is_none(data: bytes) -> None:
    assert sniff(data) is None
