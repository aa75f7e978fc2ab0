"""What a head learns from: photographs with logos in them, and logos drawn on plain grounds."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from tests.unit.serving.logo_material import PHOTOGRAPHS

from imagewarden_server.matching.logos import layouts as server_layouts
from imagewarden_server.matching.types import Box
from imagewarden_serving.fitting.logos_drawing import Rendering, contrast, draw, layouts, place, renderings
from imagewarden_serving.fitting.logos_scenes import Scene, compose, overlap, paste, shown, sized
from imagewarden_serving.logo_windows import boxes

WINDOWS = boxes((0.15, 0.3, 0.62), (1.0, 0.6, 1.67), 0.6)


def chance(seed: object) -> random.Random:
    return random.Random(str(seed))  # noqa: S311 -- no secret


@pytest.fixture(scope="module")
def photograph() -> Image.Image:
    with Image.open(PHOTOGRAPHS[1]) as image:
        return sized(image.convert("RGB"))


def logo(number: int) -> Image.Image:
    """A full rectangle, so that its edges are its box's: red, green, or blue and twice as wide."""
    size, colour = (((120, 120), "#ff0000"), ((120, 120), "#00ff00"), ((200, 100), "#0000ff"))[number]
    return Image.new("RGBA", size, colour)


def scenes(photograph: Image.Image, seeds: range, picture: Callable[[int], Image.Image] = logo) -> list[Scene]:
    return [compose(photograph, picture, 3, chance(seed)) for seed in seeds]


def test_the_same_seed_makes_the_same_scene_and_another_does_not(photograph: Image.Image) -> None:
    once, again, other = compose(photograph, logo, 3, chance(1)), compose(photograph, logo, 3, chance(1)), None
    assert once.picture.shape == (299, 299, 3)
    assert once.picture.dtype == np.uint8
    assert (once.boxes, once.logos) == (again.boxes, again.logos)
    np.testing.assert_array_equal(once.picture, again.picture)
    other = compose(photograph, logo, 3, chance(2))
    assert other.boxes != once.boxes


@pytest.mark.parametrize("seed", range(12))
def test_what_a_paste_changes_lies_in_its_box_and_reaches_its_edges(photograph: Image.Image, seed: int) -> None:
    before = np.asarray(photograph).astype(int)
    pasted, box = paste(photograph, logo(seed % 3), 0.1 + 0.07 * seed, chance(seed))
    np.testing.assert_array_equal(np.asarray(photograph), before)
    changed = np.abs(np.asarray(pasted).astype(int) - before).max(-1) > 24
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    height, width = changed.shape
    left, top, right, bottom = box[0] * width, box[1] * height, box[2] * width, box[3] * height
    assert left <= columns[0]
    assert columns[-1] < right
    assert top <= rows[0]
    assert rows[-1] < bottom
    # At times a fifth of its width is covered by the photograph, at one side.
    assert columns[-1] + 1 - columns[0] >= 0.75 * (right - left) - 3
    assert rows[-1] + 1 - rows[0] >= 0.75 * (bottom - top) - 3


def test_logos_of_a_scene_are_seen_where_it_says(photograph: Image.Image) -> None:
    plain = Image.new("RGB", photograph.size, (128, 128, 128))
    hits = total = 0
    for scene in scenes(plain, range(40)):
        for box, number in zip(scene.boxes, scene.logos, strict=True):
            left, top, right, bottom = (round(299 * edge) for edge in box)
            inside = scene.picture[top:bottom, left:right].reshape(-1, 3).astype(int)
            outside = np.abs(scene.picture[max(0, top - 9) : max(0, top - 5), left:right].astype(int) - 128)
            assert not outside.size or np.median(outside) < 20 or len(scene.boxes) > 1
            total += 1
            # In its own colour, where it is not printed in white, black or grey.
            hits += int(np.median(inside[:, number]) > 200 and np.median(inside[:, (number + 1) % 3]) < 60)
    assert total > 40
    assert 0.3 < hits / total < 0.8


def test_logos_of_a_scene_do_not_overlap_and_stay_inside(photograph: Image.Image) -> None:
    made = scenes(photograph, range(40))
    assert {len(scene.boxes) for scene in made} >= {1, 2}
    for scene in made:
        assert len(scene.boxes) == len(scene.logos)
        assert all(0 <= edge <= 1 for box in scene.boxes for edge in box)
        assert all(overlap([one], [two])[0, 0] == 0 for one, two in itertools.combinations(scene.boxes, 2))


def test_a_logo_that_cannot_be_seen_is_not_said_to_be_there() -> None:
    red = Image.new("RGB", (448, 300), "#ff0000")
    for scene in scenes(red, range(20), lambda _: logo(0)):
        for box in scene.boxes:
            left, top, right, bottom = (round(299 * edge) for edge in box)
            inside = scene.picture[top:bottom, left:right].astype(int)
            # In white or black, or in grey.
            assert np.abs(inside - [255, 0, 0]).max(-1).mean() > 30


def test_overlaps_are_intersections_over_unions() -> None:
    one = (0.0, 0.0, 0.5, 0.5)
    found = overlap([one, (0.5, 0.5, 1.0, 1.0)], [one, (0.25, 0.0, 0.75, 0.5), (0.0, 0.0, 1.0, 1.0)])
    np.testing.assert_allclose(found, [[1, 1 / 3, 1 / 4], [0, 0, 1 / 4]], atol=1e-9)
    assert overlap([one], []).shape == (1, 0)


def test_windows_show_the_logo_they_lie_on_and_none_where_there_is_none() -> None:
    # On a window exactly, and one far from it.
    there = WINDOWS.index(next(box for box in WINDOWS if box[2] - box[0] == pytest.approx(0.3) and box[0] > 0.3))
    scene = Scene(np.zeros((299, 299, 3), np.uint8), (WINDOWS[there], (0.0, 0.0, 0.15, 0.15)), (5, 9))
    rows = shown(scene, WINDOWS, chance(3))
    assert rows[0] == (there, 5)
    assert rows == shown(scene, WINDOWS, chance(3))
    assert rows != shown(scene, WINDOWS, chance(4))
    owners = [owner for _, owner in rows]
    assert 1 < owners.count(5) <= 4
    assert 1 <= owners.count(9) <= 4
    assert owners.count(-1) == 7
    alike = overlap(WINDOWS, scene.boxes)
    for window, owner in rows:
        if owner == -1:
            assert alike[window].max() < 0.2
        else:
            assert alike[window, (5, 9).index(owner)] > 0.35


def test_a_scene_without_logos_teaches_nothing() -> None:
    assert shown(Scene(np.zeros((299, 299, 3), np.uint8), (), ()), WINDOWS, chance(1)) == []


@pytest.mark.parametrize("aspect", [0.3, 1.0, 3.0])
def test_layouts_fill_a_window_of_each_size_and_shape_that_suits(aspect: float) -> None:
    made = layouts(WINDOWS, aspect)
    filled = [number for numbers in made for number in numbers]
    assert len(filled) == len(set(filled)) == 3
    for number in filled:
        left, top, right, bottom = WINDOWS[number]
        shape = (right - left) / (bottom - top)
        assert shape == pytest.approx({0.3: 0.6, 1.0: 1.0, 3.0: 1.67}[aspect], rel=0.01)
    for numbers in made:
        assert all(overlap([WINDOWS[a]], [WINDOWS[b]])[0, 0] == 0 for a, b in itertools.combinations(numbers, 2))


def test_a_logo_is_placed_as_large_as_fits_in_the_middle() -> None:
    wide = Rendering(logo(2), (255, 255, 255))
    picture = place(wide, [(0.1, 0.1, 0.5, 0.5)], side=100)
    rows, columns = np.nonzero((picture == [0, 0, 255]).all(-1))
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (10, 49, 20, 39)
    # Squeezed to half its width, it is as wide as it is high.
    picture = place(wide, [(0.1, 0.1, 0.5, 0.5)], squeeze=0.5, side=100)
    rows, columns = np.nonzero((picture == [0, 0, 255]).all(-1))
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (10, 49, 10, 49)


def test_a_logo_is_drawn_only_where_it_can_be_seen() -> None:
    red, white = renderings(logo(0)), renderings(Image.new("RGBA", (60, 60), "white"))
    for one in (*red, *white):
        assert contrast(one.logo, one.ground) >= 24
    assert {one.ground for one in red} > {(255, 255, 255), (24, 24, 24)}
    colours = {one.logo.getpixel((5, 5)) for one in red}
    assert (255, 0, 0, 255) in colours
    assert any(isinstance(colour, tuple) and colour[0] == colour[1] for colour in colours)
    assert contrast(Image.new("RGBA", (9, 9)), (0, 0, 0)) == 0


def test_a_drawing_fills_the_windows_that_it_names() -> None:
    windows = boxes((0.15, 0.21, 0.30, 0.43, 0.62, 0.85), (1.0, 0.6), 0.6)
    seen = set()
    for seed in range(30):
        picture, filled = draw(logo(2), windows, chance(seed))
        assert picture.shape == (299, 299, 3)
        ground = np.median(picture.reshape(-1, 3), axis=0) if len(filled) > 1 else picture[-1, -1]
        drawn = np.abs(picture.astype(int) - ground).max(-1) > 8
        for number in filled:
            left, top, right, bottom = (round(299 * edge) for edge in windows[number])
            inside = drawn[top:bottom, left:right]
            assert inside.any(1).mean() > 0.3
            assert inside.any(0).mean() > 0.3
            drawn[max(0, top - 1) : bottom + 1, max(0, left - 1) : right + 1] = False
        assert not drawn.any(), "nothing is drawn outside of them"
        seen.add(tuple(filled))
    assert len(seen) >= 3


@pytest.mark.parametrize("aspect", [0.3, 0.67, 1.0, 1.5, 4.0])
def test_a_head_learns_from_the_very_windows_that_a_registration_fills(aspect: float) -> None:
    registered = [Box(*box) for box in WINDOWS]
    assert layouts(WINDOWS, aspect) == server_layouts(registered, aspect)
