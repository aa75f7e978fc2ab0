"""Local features of real photographs: the same everywhere, and mirrored without a second look."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from imagewarden_server.media.local import KEYPOINTS, UNIT, extract, mirrored
from imagewarden_server.media.types import LocalFeatures


def pixels(image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(image.convert("RGB"))


def nearest(left: LocalFeatures, right: LocalFeatures) -> NDArray[np.intp]:
    """For each keypoint of one the keypoint of the other that is at its place, of its size and direction."""
    place = np.hypot(*(left.points[:, None, :2] - right.points[None, :, :2]).transpose(2, 0, 1))
    size = np.abs(np.log(left.points[:, None, 2] / right.points[None, :, 2]))
    turn = 1 - np.cos(left.points[:, None, 3] - right.points[None, :, 3])
    return np.asarray((400 * place + size + turn).argmin(1))


def same_place(left: LocalFeatures, right: LocalFeatures, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
    return np.asarray(np.hypot(*(left.points[:, :2] - right.points[rows, :2]).T) < 1 / 640)


def cosines(left: LocalFeatures, right: LocalFeatures, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    product = left.descriptors.astype(np.float64) * right.descriptors[rows].astype(np.float64)
    return np.asarray(product.sum(1) / UNIT**2)


def test_a_photograph_gives_as_many_keypoints_as_are_kept(astronaut: Image.Image, coffee: Image.Image) -> None:
    for image in (astronaut, coffee):
        features = extract(pixels(image))
        assert features.points.shape == (KEYPOINTS, 4)
        assert features.points.dtype == np.float32
        assert features.descriptors.shape == (KEYPOINTS, 128)
        assert features.descriptors.dtype == np.uint8
        assert features.aspect == pytest.approx(image.width / image.height)


def test_places_are_fractions_of_the_longer_side(coffee: Image.Image) -> None:
    wide, tall = extract(pixels(coffee)), extract(pixels(coffee.transpose(Image.Transpose.ROTATE_90)))
    assert wide.points[:, 0].max() > 0.9
    assert 0.6 < wide.points[:, 1].max() <= 400 / 600
    assert tall.points[:, 1].max() > 0.9
    assert tall.points[:, 0].max() <= 400 / 600
    # What a quarter turn does to each keypoint, in these units.
    turned = LocalFeatures(
        np.stack(
            [
                wide.points[:, 1],
                1 - wide.points[:, 0],
                wide.points[:, 2],
                wide.points[:, 3] - math.pi / 2,
            ],
            axis=1,
        ).astype(np.float32),
        wide.descriptors,
        1 / wide.aspect,
    )
    rows = nearest(turned, tall)
    there = same_place(turned, tall, rows)
    assert there.mean() > 0.8
    assert np.median(cosines(turned, tall, rows)[there]) > 0.98


def test_descriptors_are_of_one_norm(chelsea: Image.Image) -> None:
    norms = np.linalg.norm(extract(pixels(chelsea)).descriptors.astype(np.float64), axis=1)
    assert np.abs(norms / UNIT - 1).max() < 0.01


def test_a_mirrored_photograph_has_the_mirrored_features(
    astronaut: Image.Image, coffee: Image.Image, chelsea: Image.Image, rocket: Image.Image
) -> None:
    for image in (astronaut, coffee, chelsea, rocket):
        ours = mirrored(extract(pixels(image)))
        truth = extract(pixels(ImageOps.mirror(image)))
        rows = nearest(ours, truth)
        there = same_place(ours, truth, rows)
        assert there.mean() > 0.85
        alike = cosines(ours, truth, rows)[there]
        assert np.median(alike) > 0.99
        # Without the permutation they are far from each other.
        plain = LocalFeatures(ours.points, extract(pixels(image)).descriptors, ours.aspect)
        assert np.median(cosines(plain, truth, rows)[there]) < 0.9


def test_mirrored_twice_is_as_before(rocket: Image.Image) -> None:
    features = extract(pixels(rocket))
    again = mirrored(mirrored(features))
    assert np.array_equal(again.descriptors, features.descriptors)
    assert np.allclose(again.points[:, :3], features.points[:, :3], atol=1e-6)
    assert np.allclose(np.cos(again.points[:, 3] - features.points[:, 3]), 1)
    assert again.aspect == features.aspect


def test_threads_give_the_same_features(astronaut: Image.Image, coffee: Image.Image) -> None:
    pictures = [pixels(astronaut), pixels(coffee)] * 4
    alone = [extract(one) for one in pictures]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(extract, pictures))
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one.points, other.points)
        assert np.array_equal(one.descriptors, other.descriptors)


def test_no_corner_takes_all_keypoints(astronaut: Image.Image, chelsea: Image.Image) -> None:
    """A quarter of the picture is full of detail, the rest is a blurred photograph, and still has its share."""
    canvas = chelsea.resize((600, 400)).resize((60, 40)).resize((600, 400), Image.Resampling.BICUBIC)
    canvas.paste(astronaut.resize((300, 200)), (0, 0))
    points = extract(pixels(canvas)).points
    outside = (points[:, 0] > 0.5) | (points[:, 1] > 1 / 3)
    assert outside.mean() > 0.15


def test_a_plain_picture_has_no_keypoints() -> None:
    features = extract(np.full((200, 300, 3), 128, np.uint8))
    assert features.points.shape == (0, 4)
    assert features.descriptors.shape == (0, 128)
    assert mirrored(features).points.shape == (0, 4)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 3000), (3000, 1), (2, 2), (9, 5)])
def test_odd_sizes_are_no_error(height: int, width: int) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8)
    features = extract(noise)
    assert len(features.points) == len(features.descriptors) <= KEYPOINTS
    assert np.isfinite(features.points).all()


def test_fewer_keypoints_are_the_callers_choice(coffee: Image.Image) -> None:
    assert len(extract(pixels(coffee), keypoints=50).points) == 50
