"""Logos: drawn, trimmed, and laid on the grounds they can be seen on."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
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


def is_grey(rendering: Rendering) -> bool:
    """Whether a drawing has no colour where it is seen."""
    seen = rendering.logo[rendering.logo[..., 3] > 0][:, :3].astype(int)
    return bool((seen.max(1) == seen.min(1)).all())


def is_flat(rendering: Rendering) -> bool:
    """Whether a drawing is of one colour."""
    return len(np.unique(rendering.logo[..., :3].reshape(-1, 3), axis=0)) == 1


def test_an_svg_is_drawn_and_trimmed_on_each_ground() -> None:
    renderings = render_logo(HALVES, LIMITS)
    coloured = [one for one in renderings if not is_grey(one)]
    assert [one.ground for one in coloured] == [LIGHT, DARK, MID]
    for one in coloured:
        assert one.logo[64, 60].tolist() == [224, 0, 0, 255]
        assert one.logo[64, 190].tolist() == [0, 0, 224, 255]
    for one in renderings:
        height, width, channels = one.logo.shape
        assert channels == 4
        assert one.logo.dtype == np.uint8
        assert (width, height) == (pytest.approx(256, abs=3), pytest.approx(128, abs=3)), "200 of 400, 100 of 400"
        assert one.logo[2, 253, 3] == 0, "outside of the circle"


def test_a_logo_is_drawn_in_grey_too_and_in_one_colour() -> None:
    renderings = render_logo(HALVES, LIMITS)
    mono = [one for one in renderings if is_flat(one)]
    grey = [one for one in renderings if is_grey(one) and not is_flat(one)]
    assert len(renderings) == 3 + 1 + 2
    (one,) = grey
    # ITU-R BT.601 luma of the two halves.
    assert one.logo[64, 60, 0] == pytest.approx(67, abs=1)
    assert one.logo[64, 190, 0] == pytest.approx(26, abs=1)
    assert one.ground == LIGHT
    assert {(int(one.logo[64, 60, 0]), one.ground) for one in mono} == {
        (16, LIGHT),
        (255, (32, 32, 32)),
    }


def test_what_looks_like_an_earlier_drawing_is_not_drawn_again() -> None:
    renderings = render_logo(circle("#505050"), LIMITS)
    grounds = [one.ground for one in renderings if one.logo[120, 120, 0] == 0x50]
    assert len(grounds) == len(set(grounds)), "grey is the grey of itself"


@pytest.mark.parametrize(
    ("colour", "grounds"),
    [("#ffffff", [DARK, MID]), ("#000000", [LIGHT, MID]), ("#808080", [LIGHT, DARK]), ("#1a1a1a", [LIGHT, MID])],
)
def test_grounds_that_a_logo_vanishes_into_are_left_out(colour: str, grounds: list[tuple[int, int, int]]) -> None:
    drawn = render_logo(circle(colour), LIMITS)
    assert [one.ground for one in drawn[:-2]] == grounds
    for one in drawn:
        ink, ground = int(one.logo[one.logo.shape[0] // 2, one.logo.shape[1] // 2, 0]), one.ground[0]
        assert abs(ink - ground) >= 24, "the ink in one colour is seen too"


def test_a_logo_without_transparency_is_drawn_in_colour_and_grey_on_the_colour_of_its_edge(coffee: Image.Image) -> None:
    card = Image.new("RGB", (300, 200), (10, 120, 30))
    card.paste(coffee.resize((200, 100)), (50, 50))
    colour, grey = render_logo(encoded(card, ImageFormat.PNG), LIMITS)
    assert colour.ground == (10, 120, 30)
    assert colour.logo.shape == grey.logo.shape == (200, 300, 4)
    assert grey.ground == (77, 77, 77), "of the card's edge in grey"
    assert is_grey(grey)
    (lone,) = render_logo(encoded(card.convert("L"), ImageFormat.PNG), LIMITS)
    assert is_grey(lone), "what is grey already is drawn once"
    colour, _ = render_logo(svg('<rect width="100" height="100" fill="#0f0"/>'), LIMITS)
    assert colour.ground == (0, 255, 0)


@pytest.mark.parametrize("format_", [ImageFormat.PNG, ImageFormat.WEBP, ImageFormat.GIF, ImageFormat.TIFF])
def test_rasters_are_trimmed_to_what_is_visible(format_: ImageFormat) -> None:
    image = Image.new("RGBA", (200, 100), (255, 255, 255, 0))
    image.paste((200, 0, 0, 255), (120, 10, 160, 90))
    image.putpixel((0, 0), (0, 0, 0, 255 if format_ is ImageFormat.GIF else 8))
    renderings = render_logo(encoded(image, format_), LIMITS)
    if format_ is not ImageFormat.GIF:
        # All of what is left is opaque: a rectangle.
        assert {one.logo.shape for one in renderings} == {(80, 40, 4)}
    else:
        assert {one.logo.shape for one in renderings} == {(90, 160, 4)}


def test_a_raster_is_turned_and_its_profile_heeded() -> None:
    image = Image.new("RGB", (40, 20), (250, 5, 5))
    data = encoded(image, ImageFormat.PNG, exif=oriented(6), icc_profile=red_for_blue())
    rendering = render_logo(data, LIMITS)[0]
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


def extent(picture: NDArray[np.uint8], colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of what has a colour, in pixels."""
    seen = (picture == colour).all(axis=2)
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


RED = (200, 0, 0)
WIDE = Rendering(np.full((10, 20, 4), (*RED, 255), np.uint8), LIGHT)


def test_a_logo_is_placed_as_large_as_fits_in_the_middle_of_its_box() -> None:
    picture = place_logo(WIDE, [(0.25, 0.0, 0.75, 1.0)], side=200)
    assert picture.shape == (200, 200, 3)
    assert picture.dtype == np.uint8
    # As wide as the box, half as high, in the middle.
    assert extent(picture, RED) == (50, 75, 150, 125)
    assert (picture[~(picture == RED).all(axis=2)] == 255).all(), "the ground"


def test_a_logo_is_drawn_into_each_box() -> None:
    picture = place_logo(WIDE, [(0.0, 0.0, 0.5, 0.25), (0.5, 0.5, 1.0, 1.0)], side=200)
    assert extent(picture[:100], RED) == (0, 0, 100, 50)
    assert extent(picture[100:], RED) == (100, 25, 200, 75)
    assert int((picture == RED).all(axis=2).sum()) == 2 * 100 * 50


@pytest.mark.parametrize(
    ("squeeze", "expected"), [(0.5, (50, 50, 150, 150)), (1.0, (50, 75, 150, 125)), (2.0, (50, 88, 150, 112))]
)
def test_a_squeeze_is_of_the_width_alone(squeeze: float, expected: tuple[int, int, int, int]) -> None:
    picture = place_logo(WIDE, [(0.25, 0.25, 0.75, 0.75)], squeeze, side=200)
    assert extent(picture, RED) == pytest.approx(expected, abs=1)


@pytest.mark.parametrize("box", [(0.0, 0.0, 1.0, 1.0), (0.0, 0.0, 0.01, 0.01), (0.99, 0.99, 1.0, 1.0)])
def test_a_logo_fits_any_box(box: tuple[float, float, float, float]) -> None:
    for shape, squeeze in itertools.product(((1, 400, 4), (400, 1, 4), (3, 3, 4)), (1.0, 2 / 3, 1.5)):
        picture = place_logo(Rendering(np.full(shape, 255, np.uint8), DARK), [box], squeeze, side=299)
        assert picture.shape == (299, 299, 3)
        assert (picture == 255).any(), "something of it is seen"


def test_a_thumbnail_is_a_small_png() -> None:
    data = thumbnail(render_logo(HALVES, LIMITS)[0])
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.size, image.mode) == ("PNG", (256, 256), "RGB")
        assert image.getpixel((64, 128)) == (224, 0, 0)
        assert image.getpixel((2, 2)) == (255, 255, 255)
