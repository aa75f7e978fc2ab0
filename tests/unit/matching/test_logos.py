"""What a logo is recognised by: where its drawings go, which vectors stand for them, and how scores are made alike."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from imagewarden_server.matching.logos import PROTOTYPES, layouts, prototypes, without
from imagewarden_server.matching.types import Box


def windows() -> list[Box]:
    """Sizes and shapes as a model has them: squares, wide and tall boxes of three sizes, each on a grid."""
    return [
        Box(left, top, left + width, top + height)
        for scale, stretch in itertools.product((0.2, 0.4, 0.8), (1.0, 1.265, 1 / 1.265))
        for width, height in [(min(1.0, scale * stretch), min(1.0, scale / stretch))]
        for top in steps(height)
        for left in steps(width)
    ]


def steps(side: float) -> list[float]:
    return [float(edge) for edge in np.linspace(0, 1 - side, max(2, round(2 / side) - 1))]


WINDOWS = windows()


def shape(box: Box) -> tuple[float, float]:
    return round(box.right - box.left, 3), round(box.bottom - box.top, 3)


def overlap(one: Box, two: Box) -> bool:
    return one.left < two.right and two.left < one.right and one.top < two.bottom and two.top < one.bottom


@pytest.mark.parametrize("aspect", [0.1, 0.62, 0.8, 1.0, 1.3, 1.6, 9.0])
def test_each_size_is_drawn_once_in_the_shape_that_suits_and_nothing_overlaps(aspect: float) -> None:
    drawings = layouts(WINDOWS, aspect)
    places = [place for drawing in drawings for place in drawing]
    areas = sorted(width * height for width, height in map(shape, (WINDOWS[place] for place in places)))
    assert areas == pytest.approx([0.04, 0.16, 0.64], rel=0.02)
    for place in places:
        width, height = shape(WINDOWS[place])
        of_its_size = {shape(box) for box in WINDOWS if abs(np.log2(np.prod(shape(box)) / (width * height))) < 0.05}
        best = min(of_its_size, key=lambda one: abs(np.log(one[0] / one[1] / aspect)))
        assert (width, height) == best
    for drawing in drawings:
        for one, two in itertools.combinations(drawing, 2):
            assert not overlap(WINDOWS[one], WINDOWS[two])


def test_as_few_drawings_as_the_windows_leave_room_for() -> None:
    small, middle = Box(0.0, 0.0, 0.2, 0.2), Box(0.5, 0.5, 0.9, 0.9)
    assert layouts([small, middle], 1.0) == [[1, 0]]
    assert layouts([small, Box(0.1, 0.1, 0.5, 0.5)], 1.0) == [[1], [0]], "those in each other's way are drawn apart"
    assert layouts([small, Box(0.21, 0.0, 0.61, 0.4)], 1.0) == [[1], [0]], "and those that touch"


def unit(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    made: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)
    return made


def test_few_vectors_stand_for_themselves() -> None:
    vectors = unit(np.random.default_rng(1).normal(size=(PROTOTYPES, 5)))
    assert prototypes(vectors, PROTOTYPES) is vectors


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1_000), st.integers(1, 60), st.integers(1, 10))
def test_prototypes_are_unit_vectors_and_always_the_same(seed: int, count: int, most: int) -> None:
    vectors = unit(np.random.default_rng(seed).normal(size=(count, 6)))
    made = prototypes(vectors, most)
    assert made.shape == (min(count, most), 6)
    assert made.dtype == np.float32
    assert np.allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)
    assert made.tobytes() == prototypes(vectors.copy(), most).tobytes()


def test_prototypes_are_the_middles_of_what_lies_together() -> None:
    chance = np.random.default_rng(2)
    centres = np.eye(4)[:3]
    groups = [unit(centre + chance.normal(0, 0.05, (20, 4))) for centre in centres]
    made = prototypes(np.concatenate(groups), 3)
    likeness = made @ centres.T
    assert sorted(likeness.argmax(1)) == [0, 1, 2], "one for each group"
    for prototype in made:
        group = groups[int((centres @ prototype).argmax())]
        assert np.allclose(prototype, unit(group.sum(0, keepdims=True).astype(np.float64))[0], atol=1e-5)


def test_many_equal_vectors_are_no_trouble() -> None:
    made = prototypes(np.repeat(unit(np.ones((1, 4))), 20, axis=0), 3)
    assert np.allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)


def test_scores_are_held_against_pictures_without_the_logo() -> None:
    logo = np.array([[1, 0], [0, 1]], np.float32)
    background = np.array(
        [
            [[0.6, 0.8], [0.8, 0.6]],  # its best windows: 0.8 and 0.8
            [[0.0, 1.0], [-1.0, 0.0]],  # 0.0 and 1.0
            [[0.28, 0.96], [0.28, -0.96]],  # 0.28 and 0.96
        ],
        np.float32,
    )
    means, deviations = without(logo, background)
    assert means == pytest.approx([(0.8 + 0.0 + 0.28) / 3, (0.8 + 1.0 + 0.96) / 3], abs=1e-6)
    assert deviations == pytest.approx([0.3314614, 0.0864099], abs=1e-6), "over all pictures, not n - 1"


def test_without_a_background_scores_stay_cosine_similarities() -> None:
    logo = unit(np.ones((3, 4)))
    assert without(logo, np.empty((0, 7, 4), np.float32)) == ([0.0] * 3, [1.0] * 3)


def test_a_background_of_one_picture_makes_no_endless_scores() -> None:
    logo = unit(np.ones((1, 4)))
    _, (deviation,) = without(logo, np.repeat(logo[None], 2, axis=1))
    assert deviation == pytest.approx(1e-3)
