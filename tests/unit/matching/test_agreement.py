"""Whether pixels agree where a transform says that a stored picture lies."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data

from imagewarden_server import media
from imagewarden_server.matching.agreement import Agreement, agreement, stronger
from imagewarden_server.matching.types import Transform

WHOLE = Transform((1, 0, 0, 0, 1, 0))
CAT = np.asarray(data.chelsea())
CUP = np.asarray(data.coffee())


def small(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return media.unpacked(media.grey(pixels))


def looked(luma: NDArray[np.uint8], stored: NDArray[np.uint8], transform: Transform) -> Agreement:
    found = agreement(luma, stored, transform)
    assert found is not None
    return found


def test_the_same_picture_agrees_wholly() -> None:
    found = looked(media.luma(CAT), small(CAT), WHOLE)
    assert found.value > 0.98
    assert found.cells >= 60


def test_another_picture_does_not() -> None:
    cup = np.asarray(cv2.resize(CUP, (CAT.shape[1], CAT.shape[0])))
    assert looked(media.luma(cup.astype(np.uint8)), small(CAT), WHOLE).value < 0.4


def test_an_inset_agrees_where_the_transform_says_that_it_lies_and_nowhere_else() -> None:
    page = CUP.copy()
    page[100:250, 200:425] = cv2.resize(CAT, (225, 150))
    height, width = page.shape[:2]
    there = Transform((225 / width, 0, 200 / width, 0, 150 / height, 100 / height))
    elsewhere = Transform((225 / width, 0, 0, 0, 150 / height, 0))
    assert looked(media.luma(page), small(CAT), there).value > 0.9
    assert looked(media.luma(page), small(CAT), elsewhere).value < 0.4


def test_a_mirrored_and_turned_copy_agrees() -> None:
    mirrored = Transform((-1, 0, 1, 0, 1, 0), mirrored=True)
    assert looked(media.luma(CAT[:, ::-1]), small(CAT), mirrored).value > 0.98
    turned = Transform((0, -1, 1, 1, 0, 0))
    assert looked(media.luma(np.rot90(CAT, -1)), small(CAT), turned).value > 0.95


def test_a_transform_that_is_a_little_off_is_mended() -> None:
    off = Transform((1.01, 0.005, 0.006, -0.004, 0.99, -0.008))
    assert looked(media.luma(CAT), small(CAT), off).value > 0.97


def test_a_crop_is_compared_in_what_both_show() -> None:
    height, width = CAT.shape[:2]
    crop = CAT[: height // 2, : width // 2]
    whole, half = (
        looked(media.luma(CAT), small(CAT), WHOLE),
        looked(media.luma(crop), small(CAT), Transform((2, 0, 0, 0, 2, 0))),
    )
    assert half.value > 0.95
    assert half.cells < 0.4 * whole.cells


def test_flat_pictures_have_nothing_to_compare() -> None:
    flat = np.full((100, 100, 3), 90, np.uint8)
    assert agreement(media.luma(CAT), small(flat), WHOLE) is None
    assert looked(media.luma(flat), small(CAT), WHOLE).value == pytest.approx(0, abs=0.01)


def test_nothing_is_seen_of_a_picture_that_lies_outside() -> None:
    assert agreement(media.luma(CAT), small(CAT), Transform((1, 0, 5, 0, 1, 5))) is None


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (None, 10),
        (Agreement(1.0, 11), 10),
        (Agreement(0.5, 60), 10),
        (Agreement(0.75, 60), 10),
        (Agreement(0.85, 60), 10 * 3**0.5),
        (Agreement(0.95, 12), 30),
        (Agreement(1.0, 60), 30),
    ],
)
def test_agreement_raises_a_score_and_never_lowers_it(found: Agreement | None, expected: float) -> None:
    assert stronger(10.0, found) == pytest.approx(expected)


def test_whatever_the_pictures_and_the_transform_the_answer_is_a_number_or_none() -> None:
    random = np.random.default_rng(0)
    for turn in range(120):
        height, width, down, across = (int(side) for side in random.integers(1, 120, 4))
        stored = small(random.integers(0, 256, (down, across, 3), np.uint8))
        luma = random.integers(0, 256, (height, width), np.uint8) if turn % 4 else np.full((height, width), 7, np.uint8)
        a, b, c, d, e, f = (float(one) for one in random.normal(0, 1, 6) * 10.0 ** random.integers(-2, 2))
        found = agreement(luma, stored, Transform((a, b, c, d, e, f), mirrored=bool(turn % 2)))
        assert found is None or -1.01 < found.value < 1.01
