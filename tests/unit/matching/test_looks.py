"""What the model is given of a picture: the whole, and for a thorough check its corners and its middle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage
from PIL import Image

from imagewarden_server.matching.pictures import Look, looks
from imagewarden_server.matching.types import Box
from imagewarden_server.media.perceptual import Frame, close_look, frame_of


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    """Two frames of different photographs, with numbers that are not their places."""
    data = Path(skimage.__file__).parent / "data"
    names = {0: "coffee.png", 5: "chelsea.png"}
    return [frame_of(number, Image.open(data / name).convert("RGB")) for number, name in names.items()]


def test_a_check_gives_each_frame_as_it_is(frames: list[Frame]) -> None:
    given = looks(frames, thorough=False)
    assert [(look.frame, look.window) for look in given] == [(0, None), (5, None)]
    assert all(look.pixels is frame.model_input for look, frame in zip(given, frames, strict=True))


def test_a_thorough_check_looks_closer_at_the_corners_and_the_middle_of_each(frames: list[Frame]) -> None:
    given = looks(frames, thorough=True)
    assert [look.frame for look in given] == [0, 5, *[0] * 5, *[5] * 5]
    for frame in frames:
        windows = [look.window for look in given if look.frame == frame.index and look.window is not None]
        assert [(box.left, box.top) for box in windows] == [(0, 0), (0.4, 0), (0, 0.4), (0.4, 0.4), (0.2, 0.2)]
        assert [(box.right, box.bottom) for box in windows] == [
            pytest.approx((box.left + 0.6, box.top + 0.6)) for box in windows
        ]
        for box in windows:
            (look,) = [one for one in given if one.frame == frame.index and one.window == box]
            expected = close_look(frame, (box.left, box.top, box.right, box.bottom))
            assert look.pixels.tobytes() == expected.tobytes()
            assert look.pixels.shape == (299, 299, 3)
            assert look.pixels.dtype == np.uint8


def test_a_box_of_a_look_is_told_in_the_whole_frame() -> None:
    box = Box(0.25, 0.5, 0.75, 1.0)
    pixels = np.zeros((299, 299, 3), np.uint8)
    assert Look(0, None, pixels).place(box) == box
    close = Look(0, Box(0.4, 0.2, 0.9, 0.6), pixels)
    placed = close.place(box)
    assert (placed.left, placed.top, placed.right, placed.bottom) == pytest.approx((0.525, 0.4, 0.775, 0.6))
    whole = close.place(Box(0, 0, 1, 1))
    assert (whole.left, whole.top, whole.right, whole.bottom) == pytest.approx((0.4, 0.2, 0.9, 0.6))
