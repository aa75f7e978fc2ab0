"""Every mode, depth and profile shows the same photograph; nothing is clipped, nothing is taken for something else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageCms
from tests.unit.media.crafted import encoded, hamming, red_for_blue

from imagewarden_server.media import Frame, ImageFormat, Limits, decode

LIMITS = Limits()
PNG, JPEG, TIFF, WEBP = ImageFormat.PNG, ImageFormat.JPEG, ImageFormat.TIFF, ImageFormat.WEBP


def frame_of(data: bytes) -> Frame:
    return decode(data, LIMITS).frames[0]


def grey(image: Image.Image) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    return np.asarray(image.convert("L"))


def lab(image: Image.Image) -> Image.Image:
    made = ImageCms.profileToProfile(
        image, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert made is not None
    return made


IN_COLOUR: dict[str, Callable[[Image.Image], bytes]] = {
    "CMYK JPEG": lambda image: encoded(image.convert("CMYK"), JPEG),
    "CMYK TIFF": lambda image: encoded(image.convert("CMYK"), TIFF),
    "YCbCr TIFF": lambda image: encoded(image.convert("YCbCr"), TIFF, compression=None),
    "Lab TIFF": lambda image: encoded(lab(image), TIFF, compression=None),
    "JPEG in TIFF": lambda image: encoded(image, TIFF, compression="jpeg"),
    "palette PNG": lambda image: encoded(image.quantize(256), PNG),
    "RGBA PNG": lambda image: encoded(image.convert("RGBA"), PNG),
    "RGBA WebP": lambda image: encoded(image.convert("RGBA"), WEBP),
    "progressive JPEG": lambda image: encoded(image, JPEG, progressive=True),
}

IN_GREY: dict[str, Callable[[Image.Image], bytes]] = {
    "8 bits": lambda image: encoded(image.convert("L"), PNG),
    "grey JPEG": lambda image: encoded(image.convert("L"), JPEG),
    "grey and alpha": lambda image: encoded(image.convert("LA"), PNG),
    "1 bit, dithered": lambda image: encoded(image.resize((1200, 800)).convert("1"), PNG),
    "16 bits PNG": lambda image: encoded(Image.fromarray(grey(image).astype(np.uint16) * 257), PNG),
    "16 bits TIFF": lambda image: encoded(Image.fromarray(grey(image).astype(np.uint16) * 257), TIFF),
    "16 bits TIFF, big-endian": lambda image: encoded(Image.fromarray(grey(image).astype(">u2") * 257), TIFF),
    "32 bits, all used": lambda image: encoded(
        Image.fromarray((grey(image).astype(np.int64) * 16_843_009).astype(np.uint32).view(np.int32)), TIFF
    ),
    "32 bits, 16 used": lambda image: encoded(Image.fromarray(grey(image).astype(np.int32) * 257), TIFF),
    "32 bits, 8 used": lambda image: encoded(Image.fromarray(grey(image).astype(np.int32)), TIFF),
    "reals to 1": lambda image: encoded(Image.fromarray(grey(image).astype(np.float32) / 255), TIFF),
    "reals to 255": lambda image: encoded(Image.fromarray(grey(image).astype(np.float32)), TIFF),
    "reals to 65,535": lambda image: encoded(Image.fromarray(grey(image).astype(np.float32) * 257), TIFF),
}


@pytest.mark.parametrize("made", IN_COLOUR.values(), ids=IN_COLOUR.keys())
def test_colour_modes_show_the_same_photograph(coffee: Image.Image, made: Callable[[Image.Image], bytes]) -> None:
    frame, plain = frame_of(made(coffee)), frame_of(encoded(coffee, PNG))
    assert hamming(frame.pdq.bits, plain.pdq.bits) <= 14
    assert np.abs(frame.model_input.astype(int) - plain.model_input.astype(int)).mean() < 6


@pytest.mark.parametrize("made", IN_GREY.values(), ids=IN_GREY.keys())
def test_greys_of_any_depth_show_the_same_photograph(coffee: Image.Image, made: Callable[[Image.Image], bytes]) -> None:
    frame, plain = frame_of(made(coffee)), frame_of(encoded(coffee.convert("L"), PNG))
    assert hamming(frame.pdq.bits, plain.pdq.bits) <= 14
    assert frame.deviation == pytest.approx(plain.deviation, rel=0.03)
    assert np.abs(frame.model_input.astype(int) - plain.model_input.astype(int)).mean() < 8


def test_colours_of_16_bits_are_scaled(coffee: Image.Image) -> None:
    # Pillow writes none, so the file is made by hand: RGB, 16 bits, big-endian rows without a filter.
    from tests.unit.media.crafted import png, png_chunk

    rows = np.asarray(coffee).astype(">u2") * 257
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rows)
    data = png(600, 400, raw)
    header = data[16:24] + b"\x10\x02\0\0\0"
    data = data[:8] + png_chunk(b"IHDR", header) + data[33:]
    assert hamming(frame_of(data).pdq.bits, frame_of(encoded(coffee, PNG)).pdq.bits) <= 2


def test_reals_that_are_no_numbers_are_black() -> None:
    values = np.full((64, 64), 0.5, np.float32)
    values[:32] = np.nan
    values[0] = np.inf
    frame = frame_of(encoded(Image.fromarray(values), TIFF, compression=None))
    assert frame.model_input[20, 150].tolist() == [0, 0, 0]
    assert frame.model_input[280, 150].tolist() == [127, 127, 127]


@pytest.mark.parametrize("format_", [PNG, WEBP, TIFF])
def test_transparency_is_laid_on_white(coffee: Image.Image, format_: ImageFormat) -> None:
    half = coffee.convert("RGBA")
    half.paste((0, 0, 0, 0), (0, 0, 300, 400))
    on_white = coffee.copy()
    on_white.paste("white", (0, 0, 300, 400))
    options = {"lossless": True} if format_ is WEBP else {}
    frame, plain = frame_of(encoded(half, format_, **options)), frame_of(encoded(on_white, PNG))
    assert frame.pdq == plain.pdq
    assert np.array_equal(frame.model_input, plain.model_input)


def test_half_transparency_is_mixed_with_white() -> None:
    frame = frame_of(encoded(Image.new("RGBA", (80, 80), (0, 0, 0, 128)), PNG))
    assert abs(int(frame.model_input[150, 150, 0]) - 127) <= 1


def test_a_palette_with_a_transparent_colour_is_laid_on_white() -> None:
    image = Image.new("P", (80, 80), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.paste(0, (0, 0, 40, 80))
    for data in (encoded(image, PNG, transparency=0), encoded(image, ImageFormat.GIF, transparency=0)):
        frame = frame_of(data)
        assert frame.model_input[150, 50].tolist() == [255, 255, 255]
        assert frame.model_input[150, 250].tolist() == [0, 0, 255]


@pytest.mark.parametrize("format_", [PNG, JPEG, TIFF, WEBP, ImageFormat.AVIF, ImageFormat.HEIC])
def test_the_embedded_profile_says_what_the_numbers_mean(format_: ImageFormat) -> None:
    data = encoded(Image.new("RGB", (96, 96), (250, 5, 5)), format_, icc_profile=red_for_blue())
    red, _, blue = frame_of(data).model_input[150, 150].tolist()
    assert blue > 200
    assert red < 60


def test_a_profile_keeps_transparency() -> None:
    image = Image.new("RGBA", (96, 96), (250, 5, 5, 255))
    image.paste((0, 0, 0, 0), (0, 0, 48, 96))
    frame = frame_of(encoded(image, PNG, icc_profile=red_for_blue()))
    assert frame.model_input[150, 50].tolist() == [255, 255, 255]
    assert frame.model_input[150, 250, 2] > 200


@pytest.mark.parametrize("profile", [b"junk", red_for_blue()[:300], b"\0" * 3000])
def test_a_broken_profile_is_as_if_there_were_none(coffee: Image.Image, profile: bytes) -> None:
    assert frame_of(encoded(coffee, PNG, icc_profile=profile)).pdq == frame_of(encoded(coffee, PNG)).pdq


def test_a_profile_of_another_colour_space_is_ignored(coffee: Image.Image) -> None:
    cmyk = encoded(coffee.convert("CMYK"), JPEG, icc_profile=red_for_blue())
    assert frame_of(cmyk).pdq == frame_of(encoded(coffee.convert("CMYK"), JPEG)).pdq
