"""Each format gives the same picture: its size, its hash, its pixels, whichever way up it was stored."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from tests.unit.media.crafted import ENCODINGS, encoded, hamming, oriented

from imagewarden_server.media import Header, ImageFormat, Limits, Picture, decode, inspect

LIMITS = Limits()
# How each orientation is undone, by what stores it: ITU-T T.871 leaves it to EXIF 2.32, 4.6.4.
STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
WITH_EXIF = [ImageFormat.JPEG, ImageFormat.PNG, ImageFormat.WEBP, ImageFormat.TIFF, ImageFormat.HEIC, ImageFormat.AVIF]


def same(one: Picture, other: Picture, *, bits: int = 12, levels: float = 6.0) -> bool:
    left, right = one.frames[0], other.frames[0]
    difference = np.abs(left.model_input.astype(int) - right.model_input.astype(int)).mean()
    return hamming(left.pdq.bits, right.pdq.bits) <= bits and float(difference) <= levels


@pytest.mark.parametrize("format_", ENCODINGS)
def test_a_photograph_is_the_same_in_each_format(coffee: Image.Image, format_: ImageFormat) -> None:
    data = encoded(coffee, format_)
    picture = decode(data, LIMITS)
    assert picture.header == inspect(data, LIMITS) == Header(format_, 600, 400, 1)
    (frame,) = picture.frames
    assert frame.index == 0
    assert frame.model_input.shape == (299, 299, 3)
    assert frame.model_input.dtype == np.uint8
    assert (len(frame.pdq.bits), frame.pdq.quality) == (32, 100)
    assert frame.pdq.hex() == frame.pdq.bits.hex()
    assert frame.deviation == pytest.approx(np.asarray(coffee.convert("L")).std(), rel=0.1)
    assert same(picture, decode(encoded(coffee, ImageFormat.PNG), LIMITS))


def test_different_photographs_are_not_the_same(coffee: Image.Image, chelsea: Image.Image) -> None:
    one, other = (decode(encoded(image, ImageFormat.PNG), LIMITS) for image in (coffee, chelsea))
    assert hamming(one.frames[0].pdq.bits, other.frames[0].pdq.bits) > 80


@pytest.mark.parametrize("value", STORED)
@pytest.mark.parametrize("format_", WITH_EXIF)
def test_orientation_is_undone(coffee: Image.Image, format_: ImageFormat, value: int) -> None:
    data = encoded(coffee.transpose(STORED[value]), format_, exif=oriented(value))
    picture = decode(data, LIMITS)
    assert picture.header == inspect(data, LIMITS) == Header(format_, 600, 400, 1)
    assert same(picture, decode(encoded(coffee, ImageFormat.PNG), LIMITS))


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
        b"Exif\0\0junk",
        oriented(1),
        oriented(9),
        oriented(0),
    ],
    ids=["empty", "far away", "many fields", "junk", "upright", "nine", "nought"],
)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_broken_exif_leaves_the_picture_as_it_is(coffee: Image.Image, exif: bytes) -> None:
    data = encoded(coffee, ImageFormat.JPEG)
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2) + exif
    picture = decode(data[:2] + segment + data[2:], LIMITS)
    assert (picture.header.width, picture.header.height) == (600, 400)
    assert same(picture, decode(data, LIMITS), bits=0, levels=0)


def test_orientation_counts_for_a_jpeg_that_is_scaled_while_it_is_decoded(rocket: Image.Image) -> None:
    large = rocket.resize((4096, 2736), Image.Resampling.LANCZOS)
    stored = large.transpose(Image.Transpose.ROTATE_90)
    turned = decode(encoded(stored, ImageFormat.JPEG, exif=oriented(6)), LIMITS)
    assert (turned.header.width, turned.header.height) == (4096, 2736)
    assert same(turned, decode(encoded(rocket, ImageFormat.PNG), LIMITS))


def test_threads_get_what_one_gets(coffee: Image.Image, chelsea: Image.Image) -> None:
    files = [encoded(image, format_) for image in (coffee, chelsea) for format_ in ENCODINGS]
    alone = [decode(data, LIMITS).frames[0] for data in files]
    with ThreadPoolExecutor(8) as pool:
        together = [picture.frames[0] for picture in pool.map(lambda data: decode(data, LIMITS), files * 4)]
    for one, other in zip(alone * 4, together, strict=True):
        assert one.pdq == other.pdq
        assert np.array_equal(one.model_input, other.model_input)
