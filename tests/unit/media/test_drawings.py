"""A logo's small drawing, and the pieces of a picture that are held against it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from tests.support.pictures import opened

from imagewarden_server import media
from imagewarden_server.catalog.features import decode_features, encode_features
from imagewarden_server.media.drawings import LONG, SIDE
from imagewarden_server.media.types import Rendering


def rendering(height: int, width: int) -> Rendering:
    logo = np.random.default_rng(3).integers(0, 256, (height, width, 4), np.uint8)
    return Rendering(logo, (255, 255, 255))


@pytest.mark.parametrize(("size", "box"), [((42, 42), (3, 3, 42, 42)), ((84, 42), (3, 13, 42, 21))])
def test_a_drawing_lies_in_the_middle_and_comes_back_from_the_catalogue(
    size: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    packed = media.drawing(rendering(*size))
    drawn = media.undrawn(decode_features(encode_features(packed)))
    assert drawn.shape == (SIDE, SIDE, 4)
    top, left, high, wide = box
    inside = np.zeros((SIDE, SIDE), bool)
    inside[top : top + high, left : left + wide] = True
    assert not drawn[~inside].any()
    assert drawn[inside][:, 3].mean() > 100
    if size == (LONG, LONG):
        logo = rendering(*size).logo.astype(float)
        expected = np.dstack([logo[..., :3] * logo[..., 3:] / 255, logo[..., 3]])
        np.testing.assert_allclose(drawn[inside].reshape(*size, 4), expected, atol=0.51)


def test_its_points_are_places_in_the_square() -> None:
    points = media.drawing(rendering(50, 70)).points
    assert points[:, :2].min() >= 0
    assert points[:, :2].max() < 1
    assert len(np.unique(points[:, :2], axis=0)) == len(points)


@pytest.mark.parametrize("long", [21.0, 42.0, 168.0])
@pytest.mark.parametrize("turn", [0.0, 12.0])
def test_a_piece_shows_the_logo_as_its_drawing_does(
    colour_logo: Callable[[str], bytes], long: float, turn: float
) -> None:
    shown = media.render_logo(colour_logo("firefox"), media.Limits())[0]
    logo = Image.fromarray(shown.logo).resize(
        (
            round(long * shown.logo.shape[1] / max(shown.logo.shape[:2])),
            round(long * shown.logo.shape[0] / max(shown.logo.shape[:2])),
        )
    )
    logo = logo.rotate(turn, Image.Resampling.BICUBIC, expand=True)
    picture = Image.new("RGB", (420, 330), "black")
    picture.paste(logo, (200 - logo.width // 2, 150 - logo.height // 2), logo)
    piece = media.Pieces(np.asarray(picture)).cut(media.Pose(200, 150, long, turn)).astype(float)
    drawn = media.undrawn(media.drawing(shown))[..., :3].astype(float)
    assert np.corrcoef(piece.ravel(), drawn.ravel())[0, 1] > 0.9
    other = media.Pieces(np.asarray(picture)).cut(media.Pose(200 + long, 150, long, turn)).astype(float)
    assert np.corrcoef(other.ravel(), drawn.ravel())[0, 1] < 0.5


def test_a_piece_may_lie_outside(photographs: dict[str, bytes]) -> None:
    picture = np.asarray(opened(photographs["french-alpine-landscape"]).convert("RGB"))
    for pose in (media.Pose(-20, -20, 30, 5), media.Pose(10_000, 5, 9_000, 0), media.Pose(3, 3, 1, 0)):
        assert media.Pieces(picture).cut(pose).shape == (SIDE, SIDE, 3)
    assert media.Pieces(np.zeros((1, 1, 3), np.uint8)).cut(media.Pose(0, 0, 5, 0)).max() == 0
