"""Hand-crafted features: their shapes, what does not change them, and that what does is seen."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray

from imagewarden_eval import handcrafted

SIZES = {"hog": 1764, "lbp": 140, "gabor": 240, "colour": 256}
WHOLE_LBP, WHOLE_GABOR = 28, 48


@pytest.fixture(scope="module")
def photograph() -> NDArray[np.uint8]:
    """300 x 451 pixels of a cat; dim, so that it can be made lighter without a pixel at the end of its range."""
    picture: NDArray[np.uint8] = (skimage.data.chelsea() // 2).astype(np.uint8)
    return picture


@pytest.fixture(scope="module")
def square(photograph: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same at the side that features are taken at: a turn of it is exact."""
    side = (handcrafted.SIDE, handcrafted.SIDE)
    return np.asarray(cv2.resize(photograph, side, interpolation=cv2.INTER_AREA), np.uint8)


@pytest.mark.parametrize("name", SIZES)
def test_every_picture_gives_the_same_size(name: str, photograph: NDArray[np.uint8]) -> None:
    feature = handcrafted.FEATURES[name]
    for picture in (photograph, photograph[:40, :300], photograph[:5, :3], np.zeros((20, 20, 3), np.uint8)):
        found = feature(picture)
        assert found.shape == (SIZES[name],)
        assert found.dtype == np.float32
        assert np.isfinite(found).all()


def test_the_table_has_all_features() -> None:
    assert set(handcrafted.FEATURES) == set(SIZES)


@pytest.mark.parametrize("name", SIZES)
def test_the_same_picture_gives_the_same_feature_and_another_one_another(
    name: str, photograph: NDArray[np.uint8]
) -> None:
    feature = handcrafted.FEATURES[name]
    before = feature(photograph)
    assert np.array_equal(before, feature(photograph.copy()))
    assert distance(feature, photograph, skimage.data.coffee()) > 0.15 * float(np.linalg.norm(before))


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((10, 10), np.uint8),
        np.zeros((10, 10, 4), np.uint8),
        np.zeros((10, 10, 3), np.float32),
        np.zeros((0, 10, 3), np.uint8),
    ],
    ids=["grey", "alpha", "float", "empty"],
)
def test_what_is_no_picture_is_refused_with_what_it_is(name: str, picture: NDArray[np.uint8]) -> None:
    with pytest.raises(handcrafted.NoPicture, match=f"not of {picture.dtype} \\({picture.shape[0]}, "):
        handcrafted.FEATURES[name](picture)


def test_hog_lbp_and_gabor_do_not_see_the_light(photograph: NDArray[np.uint8]) -> None:
    lighter = (photograph + 60).astype(np.uint8)
    for feature in (handcrafted.hog_feature, handcrafted.lbp_feature, handcrafted.gabor_feature):
        assert distance(feature, photograph, lighter) < 0.002 * float(np.linalg.norm(feature(photograph)))


def test_hog_and_gabor_do_not_see_the_contrast(photograph: NDArray[np.uint8]) -> None:
    stronger = (photograph * 2).astype(np.uint8)
    # Where nearly nothing is to be seen HOG's own small constant counts beside it.
    for feature, most in ((handcrafted.hog_feature, 0.1), (handcrafted.gabor_feature, 0.01)):
        assert distance(feature, photograph, stronger) < most * float(np.linalg.norm(feature(photograph)))


def test_colour_sees_the_light_and_the_hue(photograph: NDArray[np.uint8]) -> None:
    lighter = (photograph + 60).astype(np.uint8)
    assert distance(handcrafted.colour_feature, photograph, lighter) > 0.5
    assert distance(handcrafted.colour_feature, photograph, photograph[..., ::-1].copy()) > 0.5


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_no_quarter_turn_changes_colours_or_the_lbp_of_the_whole(square: NDArray[np.uint8], turns: int) -> None:
    turned = np.rot90(square, turns).copy()
    assert np.allclose(handcrafted.colour_feature(square), handcrafted.colour_feature(turned), atol=1e-6)
    # Sixteen points on a ring are interpolated, and their last digit may fall on another side after a turn.
    before, after = handcrafted.lbp_feature(square)[:WHOLE_LBP], handcrafted.lbp_feature(turned)[:WHOLE_LBP]
    assert np.abs(before - after).max() < 0.02
    assert distance(handcrafted.hog_feature, square, turned) > 3.5


def test_a_mirror_exchanges_quarters_of_the_lbp(square: NDArray[np.uint8]) -> None:
    parts = handcrafted.lbp_feature(square).reshape(5, WHOLE_LBP)
    mirrored = handcrafted.lbp_feature(square[:, ::-1].copy()).reshape(5, WHOLE_LBP)
    # Borders within a quarter see the neighbouring one, so that the parts are the same to a row of pixels.
    assert np.abs(parts[[0, 2, 1, 4, 3]] - mirrored).max() < 0.02
    assert np.abs(parts - mirrored).max() > 0.02


def test_histograms_sum_to_one(photograph: NDArray[np.uint8]) -> None:
    assert float((handcrafted.colour_feature(photograph) ** 2).sum()) == pytest.approx(1, abs=1e-5)
    for part in handcrafted.lbp_feature(photograph).reshape(5, WHOLE_LBP):
        assert float((part[:10] ** 2).sum()) == pytest.approx(1, abs=1e-5)
        assert float((part[10:] ** 2).sum()) == pytest.approx(1, abs=1e-5)


def test_a_red_picture_has_one_colour() -> None:
    red = np.zeros((30, 20, 3), np.uint8)
    red[..., 0] = 255
    found = handcrafted.colour_feature(red)
    # Hue 0, saturation and value in the last bins.
    assert int(found.argmax()) == 3 * 4 + 3
    assert float(found[3 * 4 + 3]) == pytest.approx(1)
    assert np.count_nonzero(found) == 1


def test_a_grating_is_strongest_in_its_own_gabor_filter() -> None:
    x = np.arange(handcrafted.SIDE)
    wave = 127 + 100 * np.sin(2 * np.pi * 0.1 * x)
    across = np.broadcast_to(wave[None, :, None], (handcrafted.SIDE, handcrafted.SIDE, 3)).astype(np.uint8)
    means = handcrafted.gabor_feature(across)[:WHOLE_GABOR:2].reshape(4, 6)
    assert divmod(int(means.argmax()), 6) == (1, 0)
    down = handcrafted.gabor_feature(np.swapaxes(across, 0, 1).copy())[:WHOLE_GABOR:2].reshape(4, 6)
    assert divmod(int(down.argmax()), 6) == (1, 3)


def test_an_edge_across_is_hog_of_one_orientation() -> None:
    half = np.zeros((handcrafted.SIDE, handcrafted.SIDE, 3), np.uint8)
    half[:, 72:] = 255
    found = handcrafted.hog_feature(half).reshape(7, 7, 2, 2, 9)
    # The gradient points across: the first orientation, in the cells that have the edge and nowhere else.
    assert set(np.nonzero(found)[4].tolist()) == {0}
    assert set(np.nonzero(found)[1].tolist()) == {3, 4}


def test_a_plain_picture_has_no_texture() -> None:
    plain = np.full((50, 50, 3), 90, np.uint8)
    assert not handcrafted.hog_feature(plain).any()
    assert not handcrafted.gabor_feature(plain).any()


def distance(
    feature: Callable[[NDArray[np.uint8]], NDArray[np.float32]], one: NDArray[np.uint8], other: NDArray[np.uint8]
) -> float:
    return float(np.linalg.norm(feature(one) - feature(other)))
