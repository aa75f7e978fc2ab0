"""The geometric check on real photographs: what it finds, where, and what it refuses."""

from __future__ import annotations

import functools
import math
from pathlib import Path

import numpy as np
import pytest
import skimage
from numpy.typing import NDArray
from PIL import Image, ImageOps

from imagewarden_server.matching.geometry import Verified, verify, verify_many
from imagewarden_server.media.local import extract
from imagewarden_server.media.types import LocalFeatures

PHOTOGRAPHS = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "motorcycle_left.png")
ENOUGH = 8


@functools.cache
def photograph(name: str) -> Image.Image:
    with Image.open(Path(skimage.__file__).parent / "data" / name) as image:
        return image.convert("RGB")


def features(image: Image.Image) -> LocalFeatures:
    return extract(np.asarray(image))


@functools.cache
def stored(name: str) -> LocalFeatures:
    return features(photograph(name))


def found(query: Image.Image, name: str = "coffee.png") -> Verified:
    answer = verify(features(query), stored(name))
    assert answer is not None
    assert answer.inliers >= ENOUGH
    assert answer.inliers <= answer.matches
    return answer


def corners(answer: Verified) -> NDArray[np.float64]:
    a, b, c, d, e, f = answer.transform.coefficients
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float64)
    return np.asarray(square @ np.array([[a, d], [b, e]]) + np.array([c, f]))


def test_the_picture_itself_lies_where_it_is() -> None:
    answer = found(photograph("coffee.png"))
    assert not answer.transform.mirrored
    assert np.allclose(answer.transform.coefficients, (1, 0, 0, 0, 1, 0), atol=0.002)
    assert (answer.box.left, answer.box.top) == pytest.approx((0, 0), abs=0.002)
    assert (answer.box.right, answer.box.bottom) == pytest.approx((1, 1), abs=0.002)


@pytest.mark.parametrize("share", [0.35, 0.5, 0.7])
def test_an_inset_is_found_with_its_box(share: float) -> None:
    host = photograph("motorcycle_left.png").resize((741, 497))
    width = round(share * host.width)
    small = photograph("coffee.png").resize((width, round(width * 400 / 600)))
    host.paste(small, (90, 60))
    box = found(host).box
    assert (box.left, box.top) == pytest.approx((90 / 741, 60 / 497), abs=0.01)
    assert (box.right, box.bottom) == pytest.approx(((90 + width) / 741, (60 + small.height) / 497), abs=0.01)


def test_a_crop_reaches_over_the_edges() -> None:
    answer = found(photograph("coffee.png").crop((150, 100, 450, 340)))
    assert (answer.box.left, answer.box.top, answer.box.right, answer.box.bottom) == pytest.approx((0, 0, 1, 1))
    # The whole picture is twice as wide as the crop, and begins before it.
    assert np.allclose(corners(answer)[0], (-150 / 300, -100 / 240), atol=0.02)
    assert np.allclose(corners(answer)[2], (450 / 300, 300 / 240), atol=0.02)


@pytest.mark.parametrize(
    ("turn", "expected"),
    [
        (Image.Transpose.ROTATE_90, ((0, 1), (0, 0), (1, 0), (1, 1))),
        (Image.Transpose.ROTATE_180, ((1, 1), (0, 1), (0, 0), (1, 0))),
        (Image.Transpose.ROTATE_270, ((1, 0), (1, 1), (0, 1), (0, 0))),
    ],
)
def test_a_turned_picture_is_found_turned(turn: Image.Transpose, expected: tuple[tuple[int, int], ...]) -> None:
    answer = found(photograph("coffee.png").transpose(turn))
    assert not answer.transform.mirrored
    assert np.allclose(corners(answer), expected, atol=0.01)


def test_a_mirrored_crop_is_found_mirrored() -> None:
    crop = ImageOps.mirror(photograph("coffee.png").crop((0, 0, 400, 400)))
    answer = found(crop)
    assert answer.transform.mirrored
    assert np.allclose(corners(answer), [[1.0, 0.0], [-0.5, 0.0], [-0.5, 1.0], [1.0, 1.0]], atol=0.02)
    assert verify(features(crop), stored("coffee.png"), mirrored=True) == answer
    plain = verify(features(crop), stored("coffee.png"), mirrored=False)
    assert plain is None or plain.inliers < ENOUGH / 2


def test_another_aspect_is_found_stretched() -> None:
    answer = found(photograph("coffee.png").resize((500, 500)))
    assert np.allclose(answer.transform.coefficients, (1, 0, 0, 0, 1, 0), atol=0.01)


def test_a_turn_of_ten_degrees_is_measured() -> None:
    turned = photograph("coffee.png").rotate(10, Image.Resampling.BICUBIC, expand=True)
    a, _, _, d, _, _ = found(turned).transform.coefficients
    assert math.degrees(math.atan2(d * turned.height, a * turned.width)) == pytest.approx(-10, abs=0.5)


def test_other_photographs_are_not_found() -> None:
    for query in PHOTOGRAPHS:
        answers = verify_many(stored(query), [stored(name) for name in PHOTOGRAPHS if name != query])
        for answer in answers:
            assert answer is None or answer.inliers < ENOUGH / 2


def test_many_at_once_answer_as_one_by_one() -> None:
    host = photograph("motorcycle_left.png").copy()
    host.paste(photograph("coffee.png").resize((300, 200)), (20, 20))
    host.paste(ImageOps.mirror(photograph("chelsea.png")).resize((300, 200)), (400, 250))
    query = features(host)
    many = verify_many(query, [stored(name) for name in PHOTOGRAPHS])
    assert many == [verify(query, stored(name)) for name in PHOTOGRAPHS]
    mirrors = [one.transform.mirrored if one is not None and one.inliers >= ENOUGH else None for one in many]
    assert mirrors == [None, False, True, None, False]


def test_one_keypoint_many_times_proves_nothing() -> None:
    """A flood of like keypoints at one place, or on one line, agrees with any transform."""
    one = stored("coffee.png")
    for offsets in (np.zeros((40, 2)), np.stack([np.linspace(0, 0.5, 40), np.zeros(40)], axis=1)):
        points = np.repeat(one.points[:1], 40, axis=0)
        points[:, :2] = 0.2 + offsets
        crowd = LocalFeatures(points.astype(np.float32), one.descriptors[:40], 1.5)
        assert verify(crowd, crowd) is None


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_keypoints_find_nothing(count: int) -> None:
    whole = stored("coffee.png")
    few = LocalFeatures(whole.points[:count], whole.descriptors[:count], whole.aspect)
    assert verify(few, whole) is None
    assert verify(whole, few) is None
    assert verify(few, few) is None
