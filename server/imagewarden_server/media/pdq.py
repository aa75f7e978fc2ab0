"""PDQ, the perceptual hash of the exchanges, of a picture of any size and of its eight turns and flips.

Meta, 2019: The TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm. The picture is blurred twice by a
box, sampled at 64 x 64 points, and its lowest 16 x 16 frequencies are compared with their median.

Every step before the median is linear, and apart in rows and columns. So blur and sampling are one matrix a side, of
whose rows only a band is not zero, and each pixel is touched once: the hash is the reference's, of the full size, in a
tenth of its time (docs/media.md).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagewarden_server.media.types import PdqHash

Floats = NDArray[np.float32]

_GRID = 64
_KEPT = 16
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
# The reference says nothing of fewer pixels a side.
_MIN_SIDE = 5
_AT_ONCE = 2**20
"""So many values are widened at once."""

_frequencies = np.arange(1, _KEPT + 1)[:, None]
_COSINES: Floats = (
    np.sqrt(2 / _GRID) * np.cos(np.pi / (2 * _GRID) * _frequencies * (2 * np.arange(_GRID) + 1))
).astype(np.float32)
# What a flip of an axis does to its frequencies: those that are odd change their sign.
_FLIP: Floats = np.where(np.arange(_KEPT) % 2, 1.0, -1.0).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class _Axis:
    """How 64 samples of an axis are made of its pixels: of which, and with what weights.

    Attributes:
        pixels: intp [64, n]: the band of each sample; of shorter bands the last pixel again.
        weights: float32 [64, n], 0 for those.
    """

    pixels: NDArray[np.intp]
    weights: Floats

    def matrix(self, length: int) -> Floats:
        """The same as one matrix [64, length]."""
        made = np.zeros((_GRID, length), np.float32)
        np.add.at(made, (np.arange(_GRID)[:, None], self.pixels), self.weights)
        return made


def pdq(pixels: NDArray[np.uint8]) -> tuple[PdqHash, tuple[bytes, ...]]:
    """PDQ of a picture, and of its eight turns and flips from one transform of it, its own first.

    Args:
        pixels: uint8 [height, width, 3], sRGB.

    Returns:
        The hash with its quality, 0 to 100 (0 for a picture of under 5 pixels a side, whose bits are 0 then); and eight
        times 32 bytes: as it is; turned by a quarter, a half, three quarters; mirrored at four axes.
    """
    if min(pixels.shape[:2]) < _MIN_SIDE:
        return PdqHash(bytes(32), 0), (bytes(32),) * 8
    samples = _sampled(pixels)
    low = _COSINES @ samples @ _COSINES.T
    rows, columns = _FLIP[:, None], _FLIP[None, :]
    turns = (
        low,
        (low * columns).T,
        low * rows * columns,
        (low * rows).T,
        low * rows,
        low * columns,
        low.T,
        (low * rows * columns).T,
    )
    hashes = tuple(_bits(one) for one in turns)
    return PdqHash(hashes[0], _quality(samples)), hashes


def _sampled(pixels: NDArray[np.uint8]) -> Floats:
    """The luma, blurred, at 64 x 64 points."""
    height, width = pixels.shape[:2]
    down = _axis(height)
    rows = np.empty((_GRID, 1, width * 3), np.float32)
    flat = pixels.reshape(height, -1)
    # Of a small picture all bands at once: a call for each takes longer than its work does.
    group = max(1, _AT_ONCE // (down.pixels.shape[1] * flat.shape[1]))
    for begin in range(0, _GRID, group):
        part = slice(begin, begin + group)
        np.matmul(down.weights[part, None], flat[down.pixels[part]].astype(np.float32), out=rows[part])
    samples: Floats = rows.reshape(_GRID, width, 3) @ _LUMA @ _axis(width).matrix(width).T
    return samples


@functools.lru_cache(maxsize=256)
def _axis(length: int) -> _Axis:
    """The weights of an axis of so many pixels: a box of its 128th part, rounded up, twice; then every 64th sampled."""
    window = -(-length // (2 * _GRID))
    # An even window reaches further to the end than to the beginning; at the edges it is cut.
    ahead = (window + 2) // 2
    first = np.maximum(np.arange(length) - (window - ahead), 0)
    last = np.minimum(np.arange(length) + ahead, length)
    bands = []
    for place in range(_GRID):
        middle = int((place + 0.5) * length / _GRID)
        boxes = range(int(first[middle]), int(last[middle]))
        start, end = int(first[boxes[0]]), int(last[boxes[-1]])
        row = np.zeros(end - start, np.float64)
        for box in boxes:
            row[first[box] - start : last[box] - start] += 1 / (len(boxes) * (last[box] - first[box]))
        bands.append((start, row))
    longest = max(len(row) for _, row in bands)
    weights = np.stack([np.pad(row, (0, longest - len(row))) for _, row in bands]).astype(np.float32)
    places = np.stack([np.minimum(start + np.arange(longest), start + len(row) - 1) for start, row in bands])
    return _Axis(places, weights)


def _bits(low: NDArray[np.floating[Any]]) -> bytes:
    values = low.ravel()
    # The lower of the two middle values, as the reference takes it.
    median = np.partition(values, values.size // 2 - 1)[values.size // 2 - 1]
    # Bit 16 i + j is the coefficient's (i, j), and the highest bit is written first.
    return np.packbits((values > median)[::-1]).tobytes()


def _quality(samples: Floats) -> int:
    """How much is to be seen, 0 to 100: the differences of neighbours, in hundredths of white, rounded down."""
    steps = (np.abs(np.trunc(np.diff(samples, axis=axis) * 100 / 255)).sum() for axis in (0, 1))
    return min(100, int(sum(steps)) // 90)
