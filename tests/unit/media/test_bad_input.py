"""Bytes that give no pixels: each gets its problem and a message, in little time, and nothing is decoded first."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.unit.media import crafted
from tests.unit.media.crafted import ENCODINGS, encoded

from imagewarden_server.media import Header, ImageFormat, Limits, MediaError, MediaProblem, decode, inspect

LIMITS = Limits()
EMPTY, UNRECOGNISED = MediaProblem.EMPTY, MediaProblem.UNRECOGNISED
UNDECODABLE, OVER_LIMITS = MediaProblem.UNDECODABLE, MediaProblem.OVER_LIMITS
WIDTH, HEIGHT, BITS, STRIPS, SAMPLES, STRIP_BYTES, TILE_WIDTH, TILE_HEIGHT = 256, 257, 258, 273, 277, 279, 322, 323


def problem_of(data: bytes, limits: Limits = LIMITS) -> MediaError:
    with pytest.raises(MediaError) as caught:
        decode(data, limits)
    assert caught.value.message == str(caught.value)
    return caught.value


@pytest.mark.parametrize("function", [decode, inspect])
def test_nothing_is_empty(function: Callable[[bytes, Limits], object]) -> None:
    with pytest.raises(MediaError, match="send the file's bytes") as caught:
        function(b"", LIMITS)
    assert caught.value.problem is EMPTY


@pytest.mark.parametrize(
    "data", [b"\0", b"no picture", b"%PDF-1.7\n", b"\xff\xd8", b"PK\3\4" + bytes(100), b"II+\0" + bytes(64)]
)
def test_other_bytes_are_not_recognised(data: bytes) -> None:
    error = problem_of(data)
    assert error.problem is UNRECOGNISED
    assert "JPEG" in error.message


def test_formats_that_pillow_reads_and_we_do_not_are_not_recognised(chelsea: Image.Image) -> None:
    import io

    for name in ("PPM", "TGA", "ICO", "PCX", "EPS", "JPEG2000"):
        buffer = io.BytesIO()
        chelsea.save(buffer, name)
        assert problem_of(buffer.getvalue()).problem is UNRECOGNISED, name


def test_svg_is_for_logos_only() -> None:
    error = problem_of(b'<svg xmlns="http://www.w3.org/2000/svg"/>')
    assert error.problem is UNRECOGNISED
    assert "SVG is accepted for logos only" in error.message


def test_a_file_over_the_limit_of_bytes_says_both_numbers(chelsea: Image.Image) -> None:
    error = problem_of(encoded(chelsea, ImageFormat.BMP), Limits(max_bytes=1_000))
    assert error.problem is OVER_LIMITS
    assert "406," in error.message
    assert "1,000" in error.message


@pytest.mark.parametrize("format_", ENCODINGS)
@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9])
def test_a_truncated_file_is_undecodable(chelsea: Image.Image, format_: ImageFormat, share: float) -> None:
    data = encoded(chelsea, format_)
    error = problem_of(data[: max(16, int(len(data) * share))])
    assert error.problem is UNDECODABLE
    assert "whole file" in error.message


@pytest.mark.parametrize("format_", [ImageFormat.GIF, ImageFormat.WEBP, ImageFormat.PNG, ImageFormat.TIFF])
def test_a_truncated_animation_is_undecodable(chelsea: Image.Image, format_: ImageFormat) -> None:
    data = crafted.animated([chelsea.rotate(9 * number) for number in range(6)], format_)
    assert problem_of(data[: len(data) * 2 // 3]).problem is UNDECODABLE


HUGE: dict[str, bytes] = {
    "PNG": crafted.png(20_000, 20_000, bytes(1_000_000)),
    "PNG, one side": crafted.png(2_000_000_000, 1),
    "BMP": crafted.bmp(20_000, 20_000),
    "BMP, upside down": crafted.bmp(20_000, -20_000),
    "WebP": crafted.webp(16_000, 16_000),
    "GIF screen": crafted.gif(65_535, 65_535, [(1, 1)]),
    "GIF first frame": crafted.gif(10, 10, [(65_535, 65_535)]),
    "GIF frame in the midst": crafted.gif(10, 10, [(10, 10), (65_535, 65_535), *[(10, 10)] * 30]),
    "TIFF": crafted.tiff([{WIDTH: 20_000, HEIGHT: 20_000, BITS: 8, SAMPLES: 1, STRIPS: 8, STRIP_BYTES: 9}]),
    "TIFF, third page": crafted.tiff([{WIDTH: 8, HEIGHT: 8}, {WIDTH: 8, HEIGHT: 8}, {WIDTH: 90_000, HEIGHT: 8}]),
    "TIFF tiles": crafted.tiff([{WIDTH: 8, HEIGHT: 8, TILE_WIDTH: 65_536, TILE_HEIGHT: 65_536}]),
    "AVIF": b"",
    "HEIC": b"",
    "JPEG": b"",
}


def huge(name: str, small: Image.Image) -> bytes:
    """Those whose header lies deeper in are real files with other numbers in them."""
    if name == "JPEG":
        return crafted.with_jpeg_size(encoded(small, ImageFormat.JPEG), 40_000, 40_000)
    if name in {"AVIF", "HEIC"}:
        data = encoded(small, ImageFormat[name])
        place = data.index(b"ispe") + 8
        return data[:place] + (20_000).to_bytes(4) + (20_000).to_bytes(4) + data[place + 8 :]
    return HUGE[name]


@pytest.mark.parametrize("name", HUGE)
def test_a_header_over_the_limits_ends_it_before_a_pixel_is_decoded(chelsea: Image.Image, name: str) -> None:
    data = huge(name, chelsea)
    tracemalloc.start()
    began = time.perf_counter()
    with pytest.raises(MediaError) as caught:
        decode(data, LIMITS)
    seconds = time.perf_counter() - began
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    if name in {"AVIF", "HEIC"}:
        # Their decoders hold the number against the stream's own before they tell it.
        assert caught.value.problem in {OVER_LIMITS, UNDECODABLE}
    else:
        assert caught.value.problem is OVER_LIMITS
        assert "send a smaller one" in caught.value.message
    assert seconds < 1
    assert peak < 10_000_000


def peak_of_process() -> int:
    """The most memory that this process has had, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the process's memory from /proc")
def test_400_megapixels_in_few_bytes_cost_no_memory() -> None:
    data = crafted.png(20_000, 20_000, bytes(20_001 * 20_000), kind=0)
    assert len(data) < 1_000_000
    before = peak_of_process()
    error = problem_of(data)
    assert error.problem is OVER_LIMITS
    assert "20000 x 20000" in error.message
    assert peak_of_process() - before < 20_000_000


@pytest.mark.parametrize(
    "data",
    [
        crafted.png(4_000, 4_000, bytes(1_000)),
        crafted.bmp(4_000, 4_000) + bytes(1_000),
        crafted.webp(4_000, 4_000),
        crafted.gif(10, 10, []),
        crafted.tiff([{WIDTH: 4_000, HEIGHT: 4_000, BITS: 8, SAMPLES: 1, STRIPS: 8, STRIP_BYTES: 9}]),
        crafted.tiff([{WIDTH: 4_000}]),
        crafted.png(0, 10),
        crafted.tiff([{WIDTH: 0, HEIGHT: 0}]),
        b"GIF89a",
        b"GIF89a" + bytes(7) + b"!\xf9\x04",
        b"II*\0\xff\xff\xff\xff",
        b"MM\0*\0\0\0\0",
        b"RIFF\0\0\0\0WEBP",
        b"BM",
        b"\0\0\0\x18ftypavif\0\0\0\0avifmif1",
        b"\0\0\0\x18ftypheic\0\0\0\0heicmif1",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0",
    ],
    ids=lambda data: data[:12].hex() + f"-{len(data)}",
)
def test_a_header_that_promises_more_than_there_is_is_undecodable(data: bytes) -> None:
    assert problem_of(data).problem is UNDECODABLE


def test_a_jpeg_whose_header_lies_is_what_viewers_show(chelsea: Image.Image) -> None:
    # The stream ends in order, only early: the rest is grey, in a browser as here.
    picture = decode(crafted.with_jpeg_size(encoded(chelsea, ImageFormat.JPEG), 4_000, 4_000), LIMITS)
    assert (picture.header.width, picture.header.height) == (4_000, 4_000)
    assert np.ptp(picture.frames[0].model_input[250:]) <= 2


def test_a_jpeg_of_a_thousand_scans_is_over_the_limits() -> None:
    data = encoded(Image.new("L", (2_000, 2_000), 128), ImageFormat.JPEG, progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    assert decode(data, LIMITS).header.width == 2_000
    error = problem_of(data[:-2] + scan * 1_000 + b"\xff\xd9")
    assert error.problem is OVER_LIMITS
    assert "scans" in error.message


def test_a_tiff_chain_that_comes_back_ends_there(chelsea: Image.Image) -> None:
    data = bytearray(encoded(chelsea, ImageFormat.TIFF))
    first = int.from_bytes(data[4:8], "little")
    fields = int.from_bytes(data[first : first + 2], "little")
    end = first + 2 + 12 * fields
    data[end : end + 4] = data[4:8]
    assert inspect(bytes(data), LIMITS) == Header(ImageFormat.TIFF, 451, 300, 1)
    assert len(decode(bytes(data), LIMITS).frames) == 1


def test_a_tiff_of_very_many_pages_is_over_the_limits() -> None:
    began = time.perf_counter()
    error = problem_of(crafted.tiff([{WIDTH: 8, HEIGHT: 8}] * 5_000))
    assert error.problem is OVER_LIMITS
    assert "pages" in error.message
    assert time.perf_counter() - began < 1


def test_a_tiff_of_overlapping_fields_is_over_the_limits() -> None:
    # Each page begins two bytes into the one before it, and has 65,535 fields: quadratic work for who reads them all.
    body = b"\xff\xff" * 500_000
    assert problem_of(b"II*\0\x08\0\0\0" + body).problem in {OVER_LIMITS, UNDECODABLE}


def test_a_picture_in_another_is_not_looked_for(chelsea: Image.Image) -> None:
    inner = encoded(chelsea, ImageFormat.PNG)
    assert problem_of(b"BM" + inner).problem is UNDECODABLE
    assert problem_of(b"GIF89a" + inner).problem is UNDECODABLE
    assert problem_of(b"\xff\xd8\xff" + inner).problem is UNDECODABLE


@pytest.mark.parametrize("format_", ENCODINGS)
def test_one_pixel_is_a_picture(format_: ImageFormat) -> None:
    picture = decode(encoded(Image.new("RGB", (1, 1), "red"), format_), LIMITS)
    assert (picture.header.width, picture.header.height) == (1, 1)
    (frame,) = picture.frames
    assert frame.model_input.shape == (299, 299, 3)
    assert frame.pdq.quality == 0
    assert frame.deviation == 0


@pytest.mark.parametrize("size", [(1, 3_000), (3_000, 1), (2, 2), (7, 9), (64, 5)])
def test_small_and_thin_pictures_are_pictures(size: tuple[int, int]) -> None:
    picture = decode(encoded(crafted.noise(*size), ImageFormat.PNG), LIMITS)
    assert (picture.header.width, picture.header.height) == size
    assert picture.frames[0].model_input.shape == (299, 299, 3)


@pytest.mark.parametrize("colour", ["white", "black", "grey"])
@pytest.mark.parametrize("format_", ENCODINGS)
def test_a_plain_picture_says_how_plain_it_is(format_: ImageFormat, colour: str) -> None:
    (frame,) = decode(encoded(Image.new("RGB", (300, 200), colour), format_), LIMITS).frames
    assert frame.deviation == 0
    assert frame.pdq.quality == 0
    assert np.ptp(frame.model_input) <= 2


def test_the_limit_of_pixels_lets_through_what_it_says() -> None:
    data = encoded(Image.new("RGB", (100, 50)), ImageFormat.PNG)
    assert inspect(data, Limits(max_pixels=5_000, max_side=100)).width == 100
    for limits in (Limits(max_pixels=4_999), Limits(max_side=99)):
        assert problem_of(data, limits).problem is OVER_LIMITS
