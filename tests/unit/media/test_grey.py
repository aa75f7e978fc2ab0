"""The small grey picture that pixels are compared with."""

from __future__ import annotations

import numpy as np
import pytest

from imagewarden_server import media


@pytest.mark.parametrize(
    ("size", "small"), [((64, 96), (64, 96)), ((600, 400), (96, 64)), ((100, 331), (29, 96)), ((20, 2000), (8, 96))]
)
def test_it_comes_out_as_it_went_in(size: tuple[int, int], small: tuple[int, int]) -> None:
    levels = np.random.default_rng(1).integers(0, 256, size, np.uint8)
    packed = media.grey(np.repeat(levels[..., None], 3, axis=2))
    assert packed.points.shape == (len(packed.descriptors), 4)
    assert packed.descriptors.shape[1:] == (128,)
    assert packed.points[:, :2].min() >= 0
    assert packed.points[:, :2].max() < 1
    unpacked = media.unpacked(packed)
    assert unpacked.shape == small
    if size == small:
        assert (unpacked == levels).all()


def test_it_is_the_picture_made_small() -> None:
    ramp = np.tile(np.linspace(0, 255, 480).astype(np.uint8), (320, 1))
    small = media.unpacked(media.grey(np.repeat(ramp[..., None], 3, axis=2)))
    assert np.abs(small.astype(int) - np.linspace(0, 255, 96)[None]).max() < 3
