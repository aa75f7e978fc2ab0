"""The second look for a logo: its drawing lies on its picture, in any ink, and on no other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from tests.support.pictures import exported, in_grey, pasted, turned

from imagewarden_server import media
from imagewarden_server.catalog.features import decode_features, encode_features
from imagewarden_server.matching.shapes import Template, background, describe, look, unpack
from imagewarden_server.matching.types import Box

SLUGS = ("firefox", "slack-icon", "android-icon", "npm-icon")
PLACE = (0.55, 0.5)
SHARE = 0.25
WINDOW = Box(0.4, 0.32, 0.72, 0.74)


@pytest.fixture(scope="module")
def templates(colour_logo: Callable[[str], bytes]) -> dict[str, list[Template]]:
    return {
        slug: [unpack(one.features) for one in describe(media.render_logo(colour_logo(slug), media.Limits())[0])]
        for slug in SLUGS
    }


@pytest.fixture(scope="module")
def drawn(colour_logo: Callable[[str], bytes]) -> Callable[[str], Image.Image]:
    return lambda slug: exported(colour_logo(slug))


def score(picture: Image.Image, templates: list[Template], window: Box = WINDOW) -> float:
    laid = look(media.Shapes(np.asarray(picture)), templates, window)
    assert laid is not None
    return laid.score


def test_a_set_is_stored_as_local_features(colour_logo: Callable[[str], bytes]) -> None:
    for signal in describe(media.render_logo(colour_logo("firefox"), media.Limits())[0]):
        features = signal.features
        assert signal.extractor == media.SHAPES
        assert features.points.dtype == np.float32
        assert features.points.shape == (len(features.descriptors), 4)
        assert features.descriptors.dtype == np.uint8
        assert features.descriptors.shape[1] == 128
        assert not features.descriptors[0].any()
        template = unpack(features)
        np.testing.assert_allclose((template.rows**2).sum((0, 1)), 1, rtol=1e-4)
        assert 0 < template.mean < 0.6
        assert 0.08 <= template.deviation < 0.4


@pytest.mark.parametrize("ink", [lambda logo: logo, in_grey, turned])
@pytest.mark.parametrize("slug", SLUGS)
def test_its_own_drawing_fits_best(
    templates: dict[str, list[Template]],
    scene: Image.Image,
    drawn: Callable[[str], Image.Image],
    slug: str,
    ink: Callable[[Image.Image], Image.Image],
) -> None:
    picture = pasted(scene, ink(drawn(slug)), SHARE, PLACE)
    scores = {other: score(picture, one) for other, one in templates.items()}
    assert max(scores, key=lambda other: scores[other]) == slug
    assert scores[slug] > score(scene, templates[slug]) + 0.5


def test_the_box_is_where_the_logo_is(
    templates: dict[str, list[Template]], scene: Image.Image, drawn: Callable[[str], Image.Image]
) -> None:
    logo = drawn("firefox")
    laid = look(media.Shapes(np.asarray(pasted(scene, logo, SHARE, PLACE))), templates["firefox"], WINDOW)
    assert laid is not None
    height = SHARE * scene.width * logo.height / logo.width / scene.height
    truth = (PLACE[0] - SHARE / 2, PLACE[1] - height / 2, PLACE[0] + SHARE / 2, PLACE[1] + height / 2)
    box = laid.box
    width, high = min(box.right, truth[2]) - max(box.left, truth[0]), min(box.bottom, truth[3]) - max(box.top, truth[1])
    both = SHARE * height + (box.right - box.left) * (box.bottom - box.top)
    assert width * high / (both - width * high) > 0.6
    size = media.Shapes(np.asarray(scene)).size
    assert (laid.pose.x / size[0], laid.pose.y / size[1]) == pytest.approx(PLACE, abs=0.03)
    assert laid.pose.long == pytest.approx(SHARE * size[0] * max(1, logo.height / logo.width), rel=0.2)


def test_a_disc_says_little_of_a_logo_on_a_disc(colour_logo: Callable[[str], bytes]) -> None:
    spotify = [
        unpack(one.features) for one in describe(media.render_logo(colour_logo("spotify-icon"), media.Limits())[0])
    ]
    y, x = np.mgrid[:340, :512]
    disc = np.where((x - 282) ** 2 + (y - 170) ** 2 < 64**2, 220, 40).astype(np.uint8)
    assert score(Image.fromarray(np.dstack([disc] * 3)), spotify) < 3


def test_a_window_at_the_edge_and_a_tiny_picture_are_no_error(templates: dict[str, list[Template]]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    for window in (Box(0, 0, 0.15, 0.15), Box(0.85, 0.85, 1, 1), Box(0, 0, 1, 1)):
        for one in templates.values():
            laid = look(media.Shapes(noise), one, window)
            assert laid is None or (laid.score < 6 and 0 <= laid.box.left <= laid.box.right <= 1)


def test_a_set_comes_back_from_the_catalogue(colour_logo: Callable[[str], bytes]) -> None:
    for slug in SLUGS:
        for signal in describe(media.render_logo(colour_logo(slug), media.Limits())[0]):
            stored = unpack(signal.features)
            again = unpack(decode_features(encode_features(signal.features)))
            np.testing.assert_array_equal(again.rows, stored.rows)
            np.testing.assert_allclose((again.mean, again.deviation), (stored.mean, stored.deviation), atol=1e-4)


def test_the_background_is_of_the_right_kind() -> None:
    known = background()
    assert known.mean.shape == (8,)
    assert len(known.patches) >= 100
    assert known.patches.max() <= 1
