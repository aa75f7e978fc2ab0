"""Local features as bytes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagewarden_server.catalog.errors import CatalogError, DamagedFeatures
from imagewarden_server.catalog.features import MOST_KEYPOINTS, decode_features, encode_features
from imagewarden_server.matching.types import LocalFeatures


def features(count: int, seed: int = 1) -> LocalFeatures:
    generator = np.random.default_rng(seed)
    points = generator.uniform(0, 1, (count, 4)).astype(np.float32)
    points[:, 2] *= 0.2
    points[:, 3] *= 2 * np.pi
    return LocalFeatures(points, generator.integers(0, 256, (count, 128), dtype=np.uint8), 4 / 3)


@given(count=st.integers(0, 300), seed=st.integers(0, 2**32 - 1))
def test_they_come_back_as_near_as_the_format_says(count: int, seed: int) -> None:
    given_ = features(count, seed)
    data = encode_features(given_)
    assert len(data) == 136 * count + 20
    again = decode_features(data)
    np.testing.assert_array_equal(again.descriptors, given_.descriptors)
    assert again.points.dtype == np.float32
    assert again.points.shape == (count, 4)
    np.testing.assert_allclose(again.points[:, :2], given_.points[:, :2], atol=0.51 / 65_535)
    np.testing.assert_allclose(again.points[:, 2], given_.points[:, 2], rtol=1 / 2_048, atol=1e-7)
    turned = np.angle(np.exp(1j * (again.points[:, 3] - given_.points[:, 3])))
    np.testing.assert_allclose(turned, 0, atol=1.02 * np.pi / 65_536)
    assert again.aspect == pytest.approx(4 / 3)
    assert encode_features(again) == data, "what was rounded once is not rounded again"


def test_a_frozen_one_is_read_for_ever() -> None:
    """One keypoint in the middle of the longer side, a quarter turn, in version 1."""
    frozen = "49574c4601800000010000000000c03fff7fffff00280040" + "ab" * 128
    data = bytes.fromhex(frozen) + (0x394B2532).to_bytes(4, "little")
    read = decode_features(data)
    np.testing.assert_allclose(read.points, [[0.5, 1.0, 0.03125, np.pi / 2]], atol=1e-5)
    assert read.aspect == 1.5
    assert (read.descriptors == 0xAB).all()
    assert encode_features(read) == data


def test_orientations_may_be_of_any_turn_and_places_on_the_edge() -> None:
    one = features(1)
    for angle in (-np.pi, -1e-6, 0.0, 2 * np.pi, 7.0):
        points = np.array([[1.004, -0.004, 0.1, angle]], np.float32)
        again = decode_features(encode_features(replace(one, points=points)))
        assert again.points[0, :2].tolist() == [1.0, 0.0]
        assert abs(np.angle(np.exp(1j * (again.points[0, 3] - angle)))) < 1e-4
        assert 0 <= again.points[0, 3] < 2 * np.pi


def test_a_flipped_bit_anywhere_is_refused() -> None:
    data = encode_features(features(4))
    for place in range(len(data)):
        for bit in (1, 0x80):
            damaged = data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :]
            with pytest.raises(DamagedFeatures):
                decode_features(damaged)


@given(data=st.binary(max_size=400))
def test_what_is_none_is_refused(data: bytes) -> None:
    for one in (data, b"IWLF\x01\x80\x00\x00" + data):
        with pytest.raises(CatalogError):
            decode_features(one)


@pytest.mark.parametrize("cut", [0, 1, 15, 19, 20, 155])
def test_a_truncated_or_longer_one_is_refused(cut: int) -> None:
    data = encode_features(features(1))
    with pytest.raises(DamagedFeatures):
        decode_features(data[:cut])
    with pytest.raises(DamagedFeatures):
        decode_features(data + bytes(max(1, cut)))


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"points": np.zeros((2, 3), np.float32)}, r"\(2, 3\)"),
        ({"points": np.zeros((3, 4), np.float32)}, r"\(2, 128\)"),
        ({"descriptors": np.zeros((2, 64), np.uint8)}, r"\(2, 64\)"),
        ({"descriptors": np.zeros((2, 128), np.float32)}, "float32"),
        ({"points": np.full((2, 4), np.nan, np.float32)}, "not finite"),
        ({"points": np.full((2, 4), 1.02, np.float32)}, "outside"),
        ({"points": np.full((2, 4), -0.02, np.float32)}, "outside"),
        ({"points": np.array([[0, 0, 5, 0]] * 2, np.float32)}, "sizes"),
        ({"aspect": 0.0}, "aspect of 0"),
        ({"aspect": np.nan}, "aspect of nan"),
    ],
)
def test_what_cannot_be_kept_is_not_stored(bad: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        encode_features(replace(features(2), **bad))  # type: ignore[arg-type]


def test_more_keypoints_than_a_picture_has_are_refused() -> None:
    points, descriptors = np.zeros((1, 4), np.float32), np.zeros((1, 128), np.uint8)
    many = MOST_KEYPOINTS + 1
    with pytest.raises(ValueError, match="65,537"):
        encode_features(LocalFeatures(points.repeat(many, 0), descriptors.repeat(many, 0), 1.0))
