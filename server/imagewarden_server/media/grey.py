"""A small grey picture of what is stored: what a match by keypoints is held against, pixel by pixel.

It travels as a set of local features does, so that it is kept, rebuilt and removed as they are: each row is a block of
8 x 16 pixels.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from imagewarden_server.media.types import LocalFeatures

GREYS = "grey-1"
"""Names everything that decides the picture: those of another name are never compared with these."""

SIDE = 96
"""The longer side, in pixels. A copy that is a fifth of a page of 576 pixels still has as many."""

_DOWN, _ACROSS = 8, 16


def grey(pixels: NDArray[np.uint8]) -> LocalFeatures:
    """The small grey picture of a picture, packed.

    Args:
        pixels: uint8 [height, width, 3], sRGB.
    """
    height, width = pixels.shape[:2]
    aspect = width / height
    across, down = _size(aspect)
    small = cv2.resize(luma(pixels), (across, down), interpolation=cv2.INTER_AREA)
    high, wide = -(-down // _DOWN), -(-across // _ACROSS)
    padded = np.pad(small, ((0, high * _DOWN - down), (0, wide * _ACROSS - across)), mode="edge")
    blocks = padded.reshape(high, _DOWN, wide, _ACROSS).transpose(0, 2, 1, 3).reshape(high * wide, -1)
    row, column = (axis.ravel() for axis in np.meshgrid(np.arange(high), np.arange(wide), indexing="ij"))
    step = 1 / max(high, wide)
    points = np.stack([column * step, row * step, np.full(len(row), step), np.zeros(len(row))], axis=1)
    return LocalFeatures(points.astype(np.float32), np.ascontiguousarray(blocks), aspect)


def luma(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The grey levels of a picture (ITU-R BT.601): uint8 [height, width] of uint8 [height, width, 3], sRGB."""
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY), np.uint8)


def unpacked(features: LocalFeatures) -> NDArray[np.uint8]:
    """The small grey picture: uint8 [height, width]."""
    across, down = _size(features.aspect)
    high, wide = -(-down // _DOWN), -(-across // _ACROSS)
    blocks = features.descriptors.reshape(high, wide, _DOWN, _ACROSS).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(blocks.reshape(high * _DOWN, wide * _ACROSS)[:down, :across])


def _size(aspect: float) -> tuple[int, int]:
    """Width and height in pixels, neither under a block's height."""
    return max(_DOWN, round(SIDE * min(1.0, aspect))), max(_DOWN, round(SIDE * min(1.0, 1 / aspect)))
