"""The edits that a projection is fitted on: each leaves the picture where it says."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import skimage
from PIL import Image

from imagewarden_serving.fitting import edits
from imagewarden_serving.fitting.edits import EDITS, MAX_SIDE, WHOLE, Edit, opened

DISTINCT = sorted(set(EDITS), key=lambda edit: edit.__name__)
PLACED = [edits.caption, edits.frame, edits.screenshot, edits.inset, edits.collage]


def photograph(name: str) -> Image.Image:
    with Image.open(Path(skimage.__file__).parent / "data" / name) as image:
        return opened(image)


@pytest.fixture(scope="module")
def coffee() -> Image.Image:
    return photograph("coffee.png")


@pytest.fixture(scope="module")
def others() -> list[Image.Image]:
    return [photograph("chelsea.png"), photograph("rocket.jpg")]


def drawn(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 -- no secret


def likeness(one: Image.Image, other: Image.Image) -> float:
    """Correlation of two pictures' grey values at 48 x 48 pixels."""
    first, second = (np.asarray(image.convert("L").resize((48, 48)), np.float64).ravel() for image in (one, other))
    return float(np.corrcoef(first, second)[0, 1])


def test_a_picture_is_opened_upright_without_transparency_and_not_large() -> None:
    assert photograph("coffee.png").size == (512, 341)
    glass = Image.new("RGBA", (900, 300), (255, 0, 0, 0))
    assert opened(glass).size == (MAX_SIDE, 171)
    assert opened(glass).getpixel((5, 5)) == (255, 255, 255)


@pytest.mark.parametrize("edit", DISTINCT, ids=lambda edit: edit.__name__)
def test_every_edit_changes_the_picture_and_leaves_the_given_one_alone(
    edit: Edit, coffee: Image.Image, others: list[Image.Image]
) -> None:
    before = coffee.tobytes(), [other.tobytes() for other in others]
    made = edit(coffee, others, drawn(3))
    assert made.picture.mode == "RGB"
    assert made.picture.tobytes() != coffee.tobytes()
    left, top, right, bottom = made.shown
    assert 0 <= left < right <= 1
    assert 0 <= top < bottom <= 1
    assert before == (coffee.tobytes(), [other.tobytes() for other in others])


@pytest.mark.parametrize("edit", PLACED, ids=lambda edit: edit.__name__)
def test_where_a_picture_is_placed_is_where_it_is_seen(
    edit: Edit, coffee: Image.Image, others: list[Image.Image]
) -> None:
    for seed in range(8):
        made = edit(coffee, others, drawn(seed))
        assert made.shown != WHOLE
        width, height = made.picture.size
        left, top, right, bottom = made.shown
        box = (round(left * width), round(top * height), round(right * width), round(bottom * height))
        assert likeness(made.picture.crop(box), coffee) > 0.98
        assert likeness(made.picture, coffee) < 0.98


def test_the_same_chance_makes_the_same_edit(coffee: Image.Image, others: list[Image.Image]) -> None:
    for edit in DISTINCT:
        one, same = (edit(coffee, others, drawn(5)) for _ in range(2))
        assert one.shown == same.shown, edit.__name__
        assert one.picture.tobytes() == same.picture.tobytes(), edit.__name__


def test_tiny_and_narrow_pictures_can_be_edited(others: list[Image.Image]) -> None:
    for size in ((17, 17), (400, 20)):
        picture = Image.new("RGB", size, (10, 90, 200))
        for edit in DISTINCT:
            for seed in range(3):
                made = edit(picture, others, drawn(seed))
                assert min(made.picture.size) > 0, edit.__name__
