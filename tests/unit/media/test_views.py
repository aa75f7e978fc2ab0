"""The views that a banned picture is stored as."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageOps

from imagewarden_server.media import View, copy_views


def pixels(image: Image.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.asarray(image.resize((299, 299), Image.Resampling.BILINEAR))


def test_there_are_twelve_and_each_is_an_input_of_the_model(coffee: Image.Image) -> None:
    views = copy_views(coffee)
    assert len(views) == 12
    assert {(view.pixels.shape, view.pixels.dtype.name) for view in views} == {((299, 299, 3), "uint8")}
    assert len({view.pixels.tobytes() for view in views}) == 12, "no view is another one again"


def test_the_picture_itself_comes_first_and_its_mirror_second(coffee: Image.Image) -> None:
    first, second, *_ = copy_views(coffee)
    assert first.window is None
    np.testing.assert_array_equal(first.pixels, pixels(coffee))
    np.testing.assert_array_equal(second.pixels, pixels(ImageOps.mirror(coffee)))


def test_small_views_are_drawn_where_their_window_is_and_nowhere_else(coffee: Image.Image) -> None:
    small = [view for view in copy_views(coffee) if view.window is not None]
    assert [round((view.window[2] - view.window[0]) * 17) for view in small if view.window] == [9, 6, 6]
    for view in small:
        assert view.window is not None
        left, top, right, bottom = (round(edge * 299) for edge in view.window)
        inside = view.pixels[top:bottom, left:right].astype(np.float32)
        assert np.abs(inside - 128).mean() > 20, "the picture is in its window"
        margin = 18 + 1
        outside = view.pixels.astype(np.float32).copy()
        outside[top - margin : bottom + margin, left - margin : right + margin] = 128
        assert not (outside - 128).any(), "and grey ground around it"


def test_no_view_depends_on_the_size_it_is_given_in(coffee: Image.Image) -> None:
    large = coffee.resize((1200, 800), Image.Resampling.LANCZOS)
    for one, other in zip(copy_views(coffee), copy_views(large), strict=True):
        difference = np.abs(one.pixels.astype(np.float32) - other.pixels.astype(np.float32)).mean()
        assert difference < 3, "of 255 levels"


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (700, 2)])
def test_the_narrowest_pictures_have_views_too(size: tuple[int, int]) -> None:
    views = copy_views(Image.new("RGB", size, (200, 30, 30)))
    assert all(isinstance(view, View) for view in views)
    assert len(views) == 12
