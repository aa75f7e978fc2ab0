"""Every edit on a real photograph: a valid picture, the same for the same seed, another for another picture."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import skimage
from PIL import Image

from imagewarden_eval.attacks import ATTACKS, BY_NAME, CANVAS, Attack, attacked, homography

DATA = Path(skimage.__file__).parent / "data"


@pytest.fixture(scope="module")
def photograph() -> Image.Image:
    image = Image.open(DATA / "astronaut.png").convert("RGB")
    return image.crop((60, 0, 460, 300))


@pytest.fixture(scope="module")
def pool() -> list[Image.Image]:
    return [Image.open(DATA / name).convert("RGB") for name in ("coffee.png", "chelsea.png", "rocket.jpg")]


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def test_there_are_at_least_25_edits_of_different_names() -> None:
    assert len(BY_NAME) == len(ATTACKS) >= 25


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda one: one.name)
def test_an_edit_gives_a_picture_that_is_the_same_for_the_same_seed(
    attack: Attack, photograph: Image.Image, pool: list[Image.Image]
) -> None:
    openers = [one.copy for one in pool]
    before = photograph.tobytes()
    made = attacked(attack, photograph, "a.jpg", 1, openers)
    assert made == attacked(attack, photograph, "a.jpg", 1, openers)
    assert photograph.tobytes() == before  # edited is a copy
    picture = opened(made)
    assert min(picture.size) >= 8
    assert np.asarray(picture.convert("L")).std() > 4  # still a picture, not one colour
    # Something is changed, even where the size is not.
    if picture.size == photograph.size:
        difference = np.abs(np.asarray(picture, np.int16) - np.asarray(photograph, np.int16)).mean()
        assert difference > 0.5, attack.name


def test_what_is_left_to_chance_differs_between_pictures_and_seeds(photograph: Image.Image) -> None:
    made = {
        attacked(BY_NAME["crop-40"], photograph, name, seed) for name in ("a.jpg", "b.jpg", "c.jpg") for seed in (1, 2)
    }
    assert len(made) == 6


def test_crops_are_shares_of_the_area(photograph: Image.Image) -> None:
    for share in (0.8, 0.6, 0.4):
        picture = opened(attacked(BY_NAME[f"crop-{share * 100:.0f}"], photograph, "a", 1))
        assert picture.width * picture.height == pytest.approx(share * 400 * 300, rel=0.02)


def test_an_inset_is_a_share_of_the_width_of_another_photograph(
    photograph: Image.Image, pool: list[Image.Image]
) -> None:
    red = Image.new("RGB", photograph.size, (255, 0, 0))
    for share in (0.7, 0.5):
        picture = opened(attacked(BY_NAME[f"inset-{share * 100:.0f}"], red, "a", 1, [pool[1].copy]))
        assert picture.width == CANVAS
        pixels = np.asarray(picture, np.int16)
        inside = (pixels[..., 0] > 240) & (pixels[..., 1:].max(axis=-1) < 20)
        columns = np.flatnonzero(inside.sum(axis=0) > 100)
        assert columns[-1] - columns[0] + 1 == pytest.approx(CANVAS * share, abs=6)


def test_a_homography_takes_corners_to_corners() -> None:
    corners = np.array([[10.0, 5.0], [90.0, 12.0], [80.0, 70.0], [4.0, 60.0]])
    a, b, c, d, e, f, g, h = homography(corners, (100, 50))
    for (x, y), (u, v) in zip(corners, ((0, 0), (100, 0), (100, 50), (0, 50)), strict=True):
        scale = g * x + h * y + 1
        assert ((a * x + b * y + c) / scale, (d * x + e * y + f) / scale) == pytest.approx((u, v), abs=1e-6)
