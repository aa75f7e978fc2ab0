"""The windows that logos are looked for in, and how a map's cells are pooled over them. Imports no TensorFlow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

SCALES = (0.14, 0.20, 0.28, 0.40, 0.56, 0.80)
"""The windows' sizes: the square root of their area, as a fraction of the input's side."""

ASPECTS = (1.0, 0.62, 1.6)
"""Their shapes, width by height: pictures are squeezed to a square, so a square logo is seldom square to the model."""

STEP = 0.5
"""How far one window is from the next, in windows."""

_LEAST = 0.5


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the cells of a map lie in the input: cell i has its middle at pixel `first` + i * `stride`."""

    cells: int
    stride: int
    first: int


def boxes(
    scales: Sequence[float] = SCALES, aspects: Sequence[float] = ASPECTS, step: float = STEP
) -> list[tuple[float, float, float, float]]:
    """All windows as left, top, right, bottom, fractions of the input: a grid of each size and shape."""
    made = []
    for scale in scales:
        for aspect in aspects:
            width, height = min(1.0, scale * math.sqrt(aspect)), min(1.0, scale / math.sqrt(aspect))
            for top in _steps(height, step):
                for left in _steps(width, step):
                    right, bottom = min(1.0, left + width), min(1.0, top + height)
                    made.append((round(left, 6), round(top, 6), round(right, 6), round(bottom, 6)))
    return made


def _steps(size: float, step: float) -> list[float]:
    count = math.ceil((1 - size) / (size * step) - 1e-9) + 1
    return [float(edge) for edge in np.linspace(0, 1 - size, count)]


def averaging(windows: Sequence[Sequence[float]], grid: Grid, side: int) -> Array:
    """What averages a map over windows, each cell by how much of it a window covers: float32 [windows, cells * cells].

    Args:
        windows: left, top, right, bottom as fractions of the input.
        grid: where the map's cells lie.
        side: the input's side in pixels.
    """
    edges = np.asarray(windows, np.float64).reshape(-1, 4)
    across = _axis(edges[:, 0], edges[:, 2], grid, side)
    down = _axis(edges[:, 1], edges[:, 3], grid, side)
    return (down[:, :, None] * across[:, None, :]).reshape(len(edges), -1).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Bands:
    """`averaging`, taken apart: rows of cells are averaged first, once for all windows of one height and place.

    Each window touches a few hundredths of a map, so that a product with all of `averaging` is mostly one with zeros.

    Attributes:
        down: float32 [bands, cells]: what averages the rows of each band.
        across: float32 [bands, most, cells]: what averages a band over each of its windows; zeros where it has fewer.
        places: int32 [windows]: where each window is among the bands' windows, put one after the other.
    """

    down: Array
    across: Array
    places: NDArray[np.int32]


def bands(windows: Sequence[Sequence[float]], grid: Grid, side: int) -> Bands:
    """What `averaging` does, in two steps: see there for the arguments."""
    edges = np.asarray(windows, np.float64).reshape(-1, 4)
    across = _axis(edges[:, 0], edges[:, 2], grid, side)
    down, band_of = np.unique(_axis(edges[:, 1], edges[:, 3], grid, side).round(6), axis=0, return_inverse=True)
    band_of = band_of.reshape(-1)
    most = int(np.bincount(band_of).max())
    padded = np.zeros((len(down), most, grid.cells), np.float32)
    filled = np.zeros(len(down), np.intp)
    places = np.empty(len(edges), np.int32)
    for window, band in enumerate(band_of):
        padded[band, filled[band]] = across[window]
        places[window] = band * most + filled[band]
        filled[band] += 1
    return Bands(down.astype(np.float32), padded, places)


def _axis(low: NDArray[np.float64], high: NDArray[np.float64], grid: Grid, side: int) -> NDArray[np.float64]:
    """Each cell's share of an interval along one side, at least half a cell of it: [n, cells]."""
    begin = np.clip((low * side - grid.first) / grid.stride + 0.5, 0, grid.cells - _LEAST)
    end = np.clip((high * side - grid.first) / grid.stride + 0.5, _LEAST, grid.cells)
    end = np.maximum(end, begin + _LEAST)
    cells = np.arange(grid.cells)
    share = np.clip(np.minimum(end[:, None], cells + 1) - np.maximum(begin[:, None], cells), 0, None)
    return np.asarray(share / share.sum(1, keepdims=True), np.float64)


def quarters(windows: Sequence[Sequence[float]]) -> list[tuple[float, float, float, float]]:
    """The four quarters of each window: all top left ones, then top right, bottom left, bottom right."""
    made = []
    for bottom in (0, 1):
        for right in (0, 1):
            for left, top, far, low in windows:
                middle, centre = (left + far) / 2, (top + low) / 2
                made.append(
                    (
                        middle if right else left,
                        centre if bottom else top,
                        far if right else middle,
                        low if bottom else centre,
                    )
                )
    return made
