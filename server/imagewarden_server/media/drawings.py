"""A logo's drawing in its colours, small, and pieces of a checked picture in its frame: what is compared at the end.

The drawing travels as a set of local features does, so that it is kept, rebuilt and removed as they are: each row is
32 of its pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from imagewarden_server.media.types import LocalFeatures, Rendering

DRAWINGS = "drawing-1"
"""Names everything that decides the drawing: those of another name are never compared with these."""

SIDE = 48
"""The side of the square, in pixels."""

LONG = 42
"""The logo's longer side in it."""

_ROW = 128
_CHANNELS = 4
_SMALLEST = 24
# A picture is halved until a pixel of the frame is between 0.78 and 1.57 of its own.
_HALVING = 0.35


@dataclass(frozen=True, slots=True)
class Pose:
    """How a logo lies in a picture: its middle and its longer side in pixels, and degrees against the clock."""

    x: float
    y: float
    long: float
    turn: float


def drawing(rendering: Rendering) -> LocalFeatures:
    """The drawing of a logo, packed."""
    logo = rendering.logo.astype(np.float32)
    height, width = logo.shape[:2]
    logo[..., :3] *= logo[..., 3:] / 255
    scale = LONG / max(height, width)
    size = (max(2, round(width * scale)), max(2, round(height * scale)))
    small = cv2.resize(logo, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    square = np.zeros((SIDE, SIDE, _CHANNELS), np.float32)
    left, top = (SIDE - size[0]) // 2, (SIDE - size[1]) // 2
    square[top : top + size[1], left : left + size[0]] = small
    rows = np.clip(np.rint(square), 0, 255).astype(np.uint8).reshape(-1, _ROW)
    points = np.zeros((len(rows), 4), np.float32)
    # Where the row's first pixel is, as a fraction of the square; a row's size is the square's, and it is not turned.
    points[:, 1], points[:, 0] = np.divmod(np.arange(len(rows)) * _ROW // _CHANNELS, SIDE)
    points[:, :2] /= SIDE
    points[:, 2] = 1
    return LocalFeatures(points, rows, width / height)


def undrawn(features: LocalFeatures) -> NDArray[np.uint8]:
    """The drawing that was packed: uint8 [48, 48, 4], red, green and blue multiplied by alpha."""
    return features.descriptors.reshape(SIDE, SIDE, _CHANNELS)


class Pieces:
    """A checked picture, of which pieces are cut in the frame of a drawing."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        """Of uint8 [height, width, 3], sRGB."""
        self._levels = [pixels]
        while min(self._levels[-1].shape[:2]) > _SMALLEST:
            height, width = self._levels[-1].shape[:2]
            size = (max(1, width // 2), max(1, height // 2))
            self._levels.append(np.asarray(cv2.resize(self._levels[-1], size, interpolation=cv2.INTER_AREA), np.uint8))

    def cut(self, pose: Pose) -> NDArray[np.uint8]:
        """The piece in which a logo with this pose would lie as its drawing does: uint8 [48, 48, 3]."""
        step = pose.long / LONG
        level = math.floor(math.log2(max(step, 1e-6)) + _HALVING)
        picture = self._levels[min(len(self._levels) - 1, max(0, level))]
        down, across = (side / whole for side, whole in zip(picture.shape[:2], self._levels[0].shape[:2], strict=True))
        turn = math.radians(pose.turn)
        cosine, sine = math.cos(turn) * step, math.sin(turn) * step
        lay = np.array([[cosine * across, sine * across, 0], [-sine * down, cosine * down, 0]])
        # A pixel's coordinate is its middle's.
        lay[:, 2] = np.array([pose.x * across, pose.y * down]) - 0.5 - lay[:, :2].sum(1) * (SIDE - 1) / 2
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        piece = cv2.warpAffine(picture, lay, (SIDE, SIDE), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(piece, np.uint8)
