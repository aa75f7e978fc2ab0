"""Shapes: cells say which way edges run, whatever colours are on either side, at every scale alike."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.support.pictures import opened

from imagewarden_server.media import Limits, Shapes, outlines, render_logo
from imagewarden_server.media.shapes import DIRECTIONS, PADDING, TURNS, directions, frame_cells

SIDE = 64


def edge(degrees: float, dark: float = 40, light: float = 200) -> NDArray[np.float32]:
    """Two halves, the edge between them turned: 0 stands upright."""
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2 + 0.5
    across = x * math.cos(math.radians(degrees)) + y * math.sin(math.radians(degrees))
    ramp = np.clip(across + 0.5, 0, 1)[..., None]
    return np.asarray(dark + (light - dark) * ramp, np.float32)


@pytest.mark.parametrize("number", range(DIRECTIONS))
def test_an_edge_is_told_by_its_direction(number: int) -> None:
    strength = directions(edge(number * 180 / DIRECTIONS)).sum((0, 1))
    assert int(strength.argmax()) == number
    assert strength[number] > 0.7 * strength.sum()


def test_light_on_dark_is_as_dark_on_light() -> None:
    np.testing.assert_allclose(directions(edge(30)), directions(edge(30, 200, 40)), atol=1e-3)


def test_a_pale_edge_counts_nearly_as_a_bold_one() -> None:
    middle = (slice(16, 48), slice(16, 48))
    bold, pale = (directions(edge(0, 40, light))[middle].max() for light in (240, 90))
    assert 0.6 < pale / bold < 1


def test_a_plain_picture_has_no_edges() -> None:
    assert Shapes(np.full((100, 150, 3), 90, np.uint8)).level(0).cells.max() == 0


def test_each_level_is_smaller_than_the_one_before(photographs: dict[str, bytes]) -> None:
    picture = Shapes(np.asarray(opened(photographs["french-alpine-landscape"]).resize((512, 340))))
    sizes = [(picture.level(number).across, picture.level(number).down) for number in range(9)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == (96, 64), "no picture is seen larger than 384 pixels"
    assert sizes[4] == (48, 32)
    level = picture.level(3)
    assert level.cells.shape == (level.down + 2 * PADDING, level.across + 2 * PADDING, DIRECTIONS)
    assert 0 <= level.cells.min() <= level.cells.max() < 1


@pytest.mark.parametrize("slug", ["firefox", "spotify-icon", "google"])
def test_a_drawing_lies_in_the_middle_at_every_turn(colour_logo: Callable[[str], bytes], slug: str) -> None:
    found = outlines(render_logo(colour_logo(slug), Limits())[0])
    assert 1 <= len(found) <= 2
    for one in found:
        rows, columns, size = frame_cells(one.aspect)
        assert one.cells.shape == (len(TURNS), rows, columns, DIRECTIONS)
        assert max(size) == 12
        straight = one.inside[TURNS.index(0)]
        middle = [float(axis.mean()) for axis in np.nonzero(straight)]
        np.testing.assert_allclose(middle, [(rows - 1) / 2, (columns - 1) / 2], atol=0.8)
        assert one.cells[one.inside].sum() > 0.8 * one.cells.sum()
