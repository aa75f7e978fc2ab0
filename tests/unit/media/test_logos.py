"""Logos: drawn, trimmed, and laid on the grounds they can be seen on."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from tests.unit.media.crafted import encoded, oriented, red_for_blue

from imagewarden_server.media import (
    ImageFormat,
    Limits,
    MediaError,
    MediaProblem,
    Rendering,
    place_logo,
    render_logo,
    thumbnail,
)

LIMITS = Limits()
LIGHT, DARK, MID = (255, 255, 255), (24, 24, 24), (128, 128, 128)
HALVES = (
    b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 400 400">'
    b'<rect x="100" y="150" width="100" height="100" fill="#e00000"/>'
    b'<circle cx="250" cy="200" r="50" fill="#0000e0"/></svg>'
)


def svg(body: str, attributes: str = 'width="100" height="100"') -> bytes:
    return f'<svg xmlns="http://www.w3.org/2000/svg" {attributes}>{body}</svg>'.encode()


def circle(colour: str) -> bytes:
    return svg(f'<circle cx="50" cy="50" r="40" fill="{colour}"/>')


def test_an_svg_is_drawn_and_trimmed_on_each_ground() -> None:
    renderings = render_logo(HALVES, LIMITS)
    assert [one.ground for one in renderings] == [LIGHT, DARK, MID]
    for one in renderings:
        height, width, channels = one.logo.shape
        assert channels == 4
        assert one.logo.dtype == np.uint8
        assert (width, height) == (pytest.approx(256, abs=3), pytest.approx(128, abs=3)), "200 of 400, 100 of 400"
        assert one.logo[64, 60].tolist() == [224, 0, 0, 255]
        assert one.logo[64, 190].tolist() == [0, 0, 224, 255]
        assert one.logo[2, 253, 3] == 0, "outside of the circle"


@pytest.mark.parametrize(
    ("colour", "grounds"),
    [("#ffffff", [DARK, MID]), ("#000000", [LIGHT, MID]), ("#808080", [LIGHT, DARK]), ("#1a1a1a", [LIGHT, MID])],
)
def test_grounds_that_a_logo_vanishes_into_are_left_out(colour: str, grounds: list[tuple[int, int, int]]) -> None:
    assert [one.ground for one in render_logo(circle(colour), LIMITS)] == grounds


def test_a_logo_without_transparency_is_drawn_once_on_the_colour_of_its_edge(coffee: Image.Image) -> None:
    card = Image.new("RGB", (300, 200), (10, 120, 30))
    card.paste(coffee.resize((200, 100)), (50, 50))
    (rendering,) = render_logo(encoded(card, ImageFormat.PNG), LIMITS)
    assert rendering.ground == (10, 120, 30)
    assert rendering.logo.shape == (200, 300, 4)
    (rendering,) = render_logo(svg('<rect width="100" height="100" fill="#0f0"/>'), LIMITS)
    assert rendering.ground == (0, 255, 0)


@pytest.mark.parametrize("format_", [ImageFormat.PNG, ImageFormat.WEBP, ImageFormat.GIF, ImageFormat.TIFF])
def test_rasters_are_trimmed_to_what_is_visible(format_: ImageFormat) -> None:
    image = Image.new("RGBA", (200, 100), (255, 255, 255, 0))
    image.paste((200, 0, 0, 255), (120, 10, 160, 90))
    image.putpixel((0, 0), (0, 0, 0, 255 if format_ is ImageFormat.GIF else 8))
    renderings = render_logo(encoded(image, format_), LIMITS)
    if format_ is not ImageFormat.GIF:
        # All of what is left is opaque: a rectangle.
        assert [one.logo.shape for one in renderings] == [(80, 40, 4)]
    else:
        assert {one.logo.shape for one in renderings} == {(90, 160, 4)}


def test_a_raster_is_turned_and_its_profile_heeded() -> None:
    image = Image.new("RGB", (40, 20), (250, 5, 5))
    data = encoded(image, ImageFormat.PNG, exif=oriented(6), icc_profile=red_for_blue())
    (rendering,) = render_logo(data, LIMITS)
    assert rendering.logo.shape == (40, 20, 4)
    assert rendering.logo[5, 5, 2] > 200


def test_large_rasters_are_kept_small() -> None:
    image = Image.new("RGBA", (3_000, 1_500))
    image.paste((200, 0, 0, 255), (0, 0, 3_000, 700))
    image.paste((0, 0, 200, 255), (0, 800, 3_000, 1_500))
    assert {one.logo.shape for one in render_logo(encoded(image, ImageFormat.PNG), LIMITS)} == {(256, 512, 4)}


def test_a_logo_of_nothing_is_undecodable() -> None:
    nothing = encoded(Image.new("RGBA", (50, 50)), ImageFormat.PNG)
    for data in (svg(""), svg('<text x="5" y="50">Acme</text>'), nothing):
        with pytest.raises(MediaError, match="draws nothing") as caught:
            render_logo(data, LIMITS)
        assert caught.value.problem is MediaProblem.UNDECODABLE


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", MediaProblem.EMPTY),
        (b"no picture", MediaProblem.UNRECOGNISED),
        (b"\x89PNG\r\n\x1a\n", MediaProblem.UNDECODABLE),
    ],
)
def test_bytes_that_are_no_logo(data: bytes, problem: MediaProblem) -> None:
    with pytest.raises(MediaError) as caught:
        render_logo(data, LIMITS)
    assert caught.value.problem is problem


def test_a_logo_is_placed_as_large_as_fits_in_the_middle_of_its_box() -> None:
    wide = Rendering(np.full((10, 20, 4), (200, 0, 0, 255), np.uint8), LIGHT)
    picture = place_logo(wide, (0.25, 0.0, 0.75, 1.0), side=200)
    assert picture.shape == (200, 200, 3)
    assert picture.dtype == np.uint8
    red = (picture == (200, 0, 0)).all(axis=2)
    rows, columns = np.flatnonzero(red.any(1)), np.flatnonzero(red.any(0))
    assert (columns[0], columns[-1] + 1) == (50, 150), "as wide as the box"
    assert (rows[0], rows[-1] + 1) == (75, 125), "half as high, in the middle"
    assert (picture[~red] == 255).all(), "the ground"


@pytest.mark.parametrize("box", [(0.0, 0.0, 1.0, 1.0), (0.0, 0.0, 0.01, 0.01), (0.99, 0.99, 1.0, 1.0)])
def test_a_logo_fits_any_box(box: tuple[float, float, float, float]) -> None:
    for shape in ((1, 400, 4), (400, 1, 4), (3, 3, 4)):
        picture = place_logo(Rendering(np.full(shape, 255, np.uint8), DARK), box, side=299)
        assert picture.shape == (299, 299, 3)
        assert (picture == 255).any(), "something of it is seen"


def test_a_thumbnail_is_a_small_png() -> None:
    data = thumbnail(render_logo(HALVES, LIMITS)[0])
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.size, image.mode) == ("PNG", (256, 256), "RGB")
        assert image.getpixel((64, 128)) == (224, 0, 0)
        assert image.getpixel((2, 2)) == (255, 255, 255)
