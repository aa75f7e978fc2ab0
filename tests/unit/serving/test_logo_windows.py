"""The geometry of windows, against values found by hand."""

from __future__ import annotations

import numpy as np
import pytest

from imagewarden_serving.logo_windows import Grid, averaging, bands, boxes, quarters

# Cell i covers pixels 2i to 2i + 2 of 8.
SMALL = Grid(4, 2, 1)


@pytest.mark.parametrize(
    ("window", "across", "down"),
    [
        ((0, 0, 1, 1), [1 / 4] * 4, [1 / 4] * 4),
        ((0.25, 0, 0.75, 0.5), [0, 1 / 2, 1 / 2, 0], [1 / 2, 1 / 2, 0, 0]),
        # Three pixels: one cell and a half of the next.
        ((0, 0, 0.375, 0.25), [2 / 3, 1 / 3, 0, 0], [1, 0, 0, 0]),
        # From the middle of a cell to the middle of the one after the next.
        ((0.125, 0.5, 0.625, 1), [1 / 4, 1 / 2, 1 / 4, 0], [0, 0, 1 / 2, 1 / 2]),
        # Of no size: half a cell all the same.
        ((0.5, 0.5, 0.5, 0.5), [0, 0, 1, 0], [0, 0, 1, 0]),
        ((1, 1, 1, 1), [0, 0, 0, 1], [0, 0, 0, 1]),
    ],
)
def test_a_cell_counts_by_how_much_of_it_a_window_covers(
    window: tuple[float, ...], across: list[float], down: list[float]
) -> None:
    weights = averaging([window], SMALL, 8)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights.reshape(4, 4), np.outer(down, across), atol=1e-6)


def test_the_first_cell_of_inceptions_map_does_not_begin_at_the_edge() -> None:
    # Cell i of 35 covers pixels 9 + 8i to 17 + 8i of 299: what is left of the first and right of the last is theirs.
    grid = Grid(35, 8, 13)
    whole, edge, two = averaging([(0, 0, 1, 1), (0, 0, 9 / 299, 1), (17 / 299, 0, 29 / 299, 1)], grid, 299)
    np.testing.assert_allclose(whole, 1 / 35**2, atol=1e-7)
    np.testing.assert_allclose(edge.reshape(35, 35)[0], [1 / 35] + [0] * 34, atol=1e-7)
    np.testing.assert_allclose(35 * two.reshape(35, 35)[20, :4], [0, 2 / 3, 1 / 3, 0], atol=1e-5)


def test_weights_of_all_windows_are_averages() -> None:
    for grid in (Grid(35, 8, 13), Grid(17, 16, 21)):
        weights = averaging(quarters(boxes()), grid, 299)
        assert (weights >= 0).all()
        np.testing.assert_allclose(weights.sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("grid", [Grid(35, 8, 13), Grid(17, 16, 21)])
def test_bands_are_the_same_averages_in_two_steps(grid: Grid) -> None:
    windows = boxes((0.15, 0.43), (1.0, 0.6), 0.6)
    over = bands(windows, grid, 299)
    assert len(over.down) < len(windows) / 3
    whole = np.einsum("bd,bma->bmda", over.down, over.across).reshape(-1, grid.cells**2)
    np.testing.assert_allclose(whole[over.places], averaging(windows, grid, 299), atol=1e-5)


def test_quarters_are_grouped_by_their_place() -> None:
    windows = [(0.0, 0.0, 1.0, 0.5), (0.5, 0.5, 1.0, 1.0)]
    assert quarters(windows) == [
        (0.0, 0.0, 0.5, 0.25),
        (0.5, 0.5, 0.75, 0.75),
        (0.5, 0.0, 1.0, 0.25),
        (0.75, 0.5, 1.0, 0.75),
        (0.0, 0.25, 0.5, 0.5),
        (0.5, 0.75, 0.75, 1.0),
        (0.5, 0.25, 1.0, 0.5),
        (0.75, 0.75, 1.0, 1.0),
    ]


def test_windows_lie_at_steps_that_reach_both_edges() -> None:
    assert boxes((0.5,), (1.0,), 0.5) == [
        (left, top, left + 0.5, top + 0.5) for top in (0.0, 0.25, 0.5) for left in (0.0, 0.25, 0.5)
    ]
    # Twice as wide as the root of its area, half as high: it has nowhere to go across.
    assert boxes((0.5,), (4.0,), 0.5) == [(0.0, top / 8, 1.0, top / 8 + 0.25) for top in range(7)]
    assert boxes((1.0,), (1.0,), 0.5) == [(0.0, 0.0, 1.0, 1.0)]


@pytest.mark.parametrize("step", [0.4, 0.5, 0.6])
def test_no_logo_falls_between_windows(step: float) -> None:
    made = np.array(boxes((0.15, 0.3, 0.62), (1.0, 0.6, 1.67), step))
    assert (made >= 0).all()
    assert (made <= 1).all()
    sizes = (made[:, 2:] - made[:, :2]).round(3)
    for size in np.unique(sizes, axis=0):
        of_size = made[(sizes == size).all(1)]
        for axis in (0, 1):
            edges = np.unique(of_size[:, axis])
            assert edges[0] == 0
            assert of_size[:, axis + 2].max() == 1
            assert np.diff(edges, append=edges[-1]).max() <= step * size[axis] + 1e-3
