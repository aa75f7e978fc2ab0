"""What a projection learns from: of each picture, itself and its edits, pooled where the picture is seen."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imagewarden_serving.fitting import edits
from imagewarden_serving.fitting.features import Array, Maps, Window, model_input, nearest, pooled
from imagewarden_serving.fitting.pictures import read

Progress = Callable[[int, int], None]

_MIN_OVERLAP = 0.6
"""Intersection over union from which on a window is taken to show what a box shows."""
_MIN_SHOWN = 0.5
"""The share of an edited picture from which on its whole vector is one of the original too."""
_HALF = 9 / 17
_OTHERS = 60
_SIZES = ((12, 12), (9, 9), (6, 6), (17, 12), (12, 17), (17, 9), (9, 17), (12, 9), (9, 12))
_GRID = 17


@dataclass(frozen=True, slots=True)
class Samples:
    """Pooled features.

    Attributes:
        features: float16 [n, C], of unit norm.
        pictures: int32 [n], the number of the picture that is seen.
        background: float16 [pictures, windows, C], of each picture as it is: all of it, and its four corners.
    """

    features: NDArray[np.float16]
    pictures: NDArray[np.int32]
    background: NDArray[np.float16]


def windows(cells: int) -> list[Window]:
    """Square and oblong windows of a map, at steps of about a quarter of a window; without the whole map."""
    found: dict[Window, None] = {}
    for height, width in _SIZES:
        tall, wide = (max(1, round(side * cells / _GRID)) for side in (height, width))
        found.update({(top, left, tall, wide): None for top in _steps(cells, tall) for left in _steps(cells, wide)})
    return list(found)


def collect(
    paths: Sequence[Path], maps: Maps, *, edits_each: int, seed: int, progress: Progress = lambda *_: None
) -> Samples:
    """Edit pictures and pool what comes of it.

    Args:
        paths: the pictures.
        maps: the network up to the layer.
        edits_each: how many edits of each picture, at most `len(EDITS)`.
        seed: of all that is left to chance.
        progress: told how many pictures of how many are done.

    Raises:
        FitError: a picture cannot be read.
    """
    chance = random.Random(seed)  # noqa: S311 -- no secret
    others = [read(path) for path in chance.sample(list(paths), min(_OTHERS, len(paths)))]
    features: list[Array] = []
    pictures: list[int] = []
    background: list[Array] = []
    for number, path in enumerate(paths):
        # Of its own chance, so that one picture more changes nothing in the others.
        made = versions(read(path), others, edits_each, random.Random(f"{seed} {number}"))  # noqa: S311 -- the same
        cells = maps(np.stack([model_input(one.picture) for one in made]))
        background.append(pooled(cells[0], corners(cells.shape[1])))
        for one, map_ in zip(made, cells, strict=True):
            seen = places(one, map_.shape[0])
            if seen:
                features.append(pooled(map_, seen))
                pictures += [number] * len(seen)
        progress(number + 1, len(paths))
    return Samples(
        np.concatenate(features).astype(np.float16),
        np.array(pictures, np.int32),
        np.stack(background).astype(np.float16),
    )


def corners(cells: int) -> list[Window]:
    """The whole map and its four corners of 12 of 17 cells."""
    side = max(1, round(12 * cells / _GRID))
    last = cells - side
    return [(0, 0, cells, cells), *((top, left, side, side) for top in (0, last) for left in (0, last))]


def versions(
    picture: Image.Image, others: Sequence[Image.Image], count: int, chance: random.Random
) -> list[edits.Edited]:
    """A picture, the picture at half size, and `count` edits of it."""
    made = [edits.Edited(picture), _half(picture)]
    made += [edit(picture, others, chance) for edit in chance.sample(edits.EDITS, count)]
    return made


def places(one: edits.Edited, cells: int) -> list[Window]:
    """Where on the map of an edited picture the original is seen: the whole map, a window, both, or nowhere."""
    whole: Window = (0, 0, cells, cells)
    if one.shown == edits.WHOLE:
        return [whole]
    left, top, right, bottom = one.shown
    window, overlap = nearest(one.shown, windows(cells), cells)
    seen = [window] if overlap >= _MIN_OVERLAP else []
    return [*seen, whole] if (right - left) * (bottom - top) >= _MIN_SHOWN else seen


def _half(picture: Image.Image) -> edits.Edited:
    """The picture at about half of its size on grey: as a registered view shows it, and as an inset shows it."""
    width, height = picture.size
    canvas = Image.new("RGB", (round(width / _HALF), round(height / _HALF)), (128, 128, 128))
    canvas.paste(picture, ((canvas.width - width) // 2, (canvas.height - height) // 2))
    low = (1 - _HALF) / 2
    return edits.Edited(canvas, (low, low, 1 - low, 1 - low))


def _steps(cells: int, size: int) -> list[int]:
    last = cells - size
    count = -(-4 * last // size) if last else 0
    return sorted({round(step * last / count) for step in range(count + 1)}) if count else [0]
