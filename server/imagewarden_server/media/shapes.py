"""Shapes: which way edges run, in cells, of a logo's drawing and of a checked picture. Colours play no part.

A cell says how strong edges of each of eight directions are in it, light to dark being the same as dark to light (as
in Dalal, Triggs, CVPR 2005), each pixel's edge against the edges around it: a pale print counts as a bold one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from imagewarden_server.media.types import Rendering

SHAPES = "shape-1"
"""Names everything that decides the cells: those of another name are never compared with these."""

DIRECTIONS = 8
CELL = 4
"""A cell's side in pixels."""

SIDE = 48
"""The longer side of a logo as it is drawn, in pixels: a logo of a tenth of a photograph's width is hardly larger."""

TURNS = (-12, -6, 0, 6, 12)
"""Degrees that a logo is drawn turned by: cells tell six degrees apart, and not three."""

PICTURE_SIDE = 384
"""The most pixels a side that a picture is seen at: a logo of an eighth of it is as large as it is drawn."""

LEVELS = 4
"""Levels of a pyramid an octave."""

PADDING = 8
"""Empty cells around each level, for logos that the picture's edge cuts."""

# A pixel's edge is held against the mean within this many pixels, and against a difference that is noise, 0 to 255.
_AROUND = 21
_NOISE = 8.0
# Around a drawing, for the edge of the logo itself.
_BORDER = 6
# What of a drawing is compared: the logo, gaps in it that are smaller than this, and a rim.
_GAP = 11
_RIM = 7
_OPAQUE = 0.98
_ALIKE = 0.97
_VISIBLE = 64
_SMALLEST = 16


@dataclass(frozen=True, slots=True)
class Outline:
    """A logo's drawing in cells, at each turn of `TURNS`.

    Attributes:
        cells: float32 [turns, rows, columns, 8], 0 to 1; the logo lies in the middle.
        inside: bool [turns, rows, columns]: which cells are the logo's.
        aspect: the logo's width divided by its height, before it is turned.
    """

    cells: NDArray[np.float32]
    inside: NDArray[np.bool_]
    aspect: float


@dataclass(frozen=True, slots=True)
class Level:
    """A picture in cells at one scale.

    Attributes:
        cells: float32 [rows + 2 * PADDING, columns + 2 * PADDING, 8].
        across: cells in the picture's width.
        down: cells in its height.
    """

    cells: NDArray[np.float32]
    across: int
    down: int


def outlines(rendering: Rendering) -> list[Outline]:
    """A logo as it is met in its colours, and where that is something else as its silhouette."""
    logo = rendering.logo.astype(np.float32)
    height, width = logo.shape[:2]
    scale = SIDE / max(height, width)
    size = (max(CELL, round(width * scale)), max(CELL, round(height * scale)))
    alpha = logo[..., 3:] / 255
    logo[..., :3] *= alpha
    drawn = cv2.resize(logo, size, interpolation=cv2.INTER_AREA)
    edge = (_BORDER,) * 4
    drawn = cv2.copyMakeBorder(drawn, *edge, cv2.BORDER_CONSTANT, value=(0, 0, 0, 0))
    silhouette = drawn[..., 3]
    colours = drawn[..., :3] + np.array(rendering.ground, np.float32) * (1 - silhouette[..., None] / 255)
    pictures: list[NDArray[Any]] = [colours]
    if (rendering.logo[..., 3] < 255).mean() > 1 - _OPAQUE:
        # Where a part has the ground's colour, the silhouette still ends there.
        pictures = [np.dstack([colours, silhouette]), silhouette[..., None]]
        one, two = (directions(picture) for picture in pictures)
        if (one * two).sum() > _ALIKE * math.sqrt((one * one).sum() * (two * two).sum()):
            pictures.pop()
    support = _support(silhouette)
    return [_turned(picture, support, size) for picture in pictures]


def frame_cells(aspect: float) -> tuple[int, int, tuple[float, float]]:
    """Rows and columns of the drawings of a logo of an aspect, and the logo's width and height in cells."""
    width = max(CELL, round(SIDE * min(1.0, aspect)))
    height = max(CELL, round(SIDE * min(1.0, 1 / aspect)))
    turn = math.radians(max(TURNS))
    across = max(width, width * math.cos(turn) + height * math.sin(turn))
    down = max(height, width * math.sin(turn) + height * math.cos(turn))
    return math.ceil((down + 2) / CELL), math.ceil((across + 2) / CELL), (width / CELL, height / CELL)


class Shapes:
    """A checked picture in cells, at as many scales as are asked for; one thread at a time."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        """Nothing is made of uint8 [height, width, 3], sRGB, before a level is asked for."""
        scale = PICTURE_SIDE / max(pixels.shape[:2])
        if scale < 1:
            size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
            pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
        self._pixels = pixels
        self._octaves: dict[int, NDArray[np.float32]] = {}
        self._levels: dict[int, Level] = {}

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """The picture as it is seen: uint8 [height, width, 3]."""
        return self._pixels

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self._pixels.shape[1], self._pixels.shape[0]

    def level(self, number: int) -> Level:
        """The picture smaller by 2 ** (number / LEVELS) times, in cells."""
        if number not in self._levels:
            octave, step = divmod(number, LEVELS)
            maps = self._octave(octave)
            cell = CELL * 2 ** (step / LEVELS)
            down, across = (max(1, round(side / cell)) for side in maps.shape[:2])
            cells = _pooled(maps, down, across)
            padded = np.pad(cells, ((PADDING, PADDING), (PADDING, PADDING), (0, 0)))
            self._levels[number] = Level(padded, across, down)
        return self._levels[number]

    def _octave(self, octave: int) -> NDArray[np.float32]:
        if octave not in self._octaves:
            width, height = (max(_SMALLEST, round(side / 2**octave)) for side in self.size)
            # Edges of a small picture are not the small picture of edges: each octave has its own.
            small = cv2.resize(self._pixels, (width, height), interpolation=cv2.INTER_AREA) if octave else self._pixels
            self._octaves[octave] = directions(small)
        return self._octaves[octave]


def directions(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """How strong edges of each direction are at each pixel, 0 to 1, of the channel where they are strongest.

    Args:
        pixels: uint8 or float32 [height, width, channels], 0 to 255.

    Returns:
        float32 [height, width, 8].
    """
    across = np.atleast_3d(cv2.Sobel(pixels, cv2.CV_32F, 1, 0, ksize=3, scale=0.25))
    down = np.atleast_3d(cv2.Sobel(pixels, cv2.CV_32F, 0, 1, ksize=3, scale=0.25))
    x, y = across[..., 0], down[..., 0]
    most = x * x + y * y
    for channel in range(1, across.shape[2]):
        other = across[..., channel] ** 2 + down[..., channel] ** 2
        stronger = other > most
        x, y = np.where(stronger, across[..., channel], x), np.where(stronger, down[..., channel], y)
        most = np.maximum(most, other)
    strength, angle = cv2.cartToPolar(x, y)
    around = cv2.blur(strength, (_AROUND, _AROUND), borderType=cv2.BORDER_REFLECT)
    strength /= strength + around + _NOISE
    # Each edge is shared by the two directions it lies between.
    angle *= DIRECTIONS / math.pi
    low = angle.astype(np.int32)
    share = (angle - low) * strength
    maps = np.zeros((*strength.shape, DIRECTIONS), np.float32)
    flat = maps.reshape(-1)
    first = np.arange(0, maps.size, DIRECTIONS, dtype=np.int64).reshape(strength.shape)
    flat[first + low % DIRECTIONS] = strength - share
    flat[first + (low + 1) % DIRECTIONS] += share
    return maps


def _pooled(maps: NDArray[np.float32], down: int, across: int) -> NDArray[np.float32]:
    # OpenCV resizes four channels at most.
    halves = [
        cv2.resize(np.ascontiguousarray(maps[..., half : half + 4]), (across, down), interpolation=cv2.INTER_AREA)
        for half in range(0, DIRECTIONS, 4)
    ]
    pooled: NDArray[np.float32] = np.concatenate([half.reshape(down, across, 4) for half in halves], axis=2)
    return pooled


def _support(silhouette: NDArray[Any]) -> NDArray[np.uint8]:
    far = 2 * _GAP
    solid = cv2.copyMakeBorder((silhouette > _VISIBLE).astype(np.uint8), far, far, far, far, cv2.BORDER_CONSTANT)
    solid = cv2.morphologyEx(solid, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_GAP, _GAP)))
    solid = cv2.dilate(solid, np.ones((_RIM, _RIM), np.uint8))
    return np.ascontiguousarray(solid[far:-far, far:-far])


def _turned(picture: NDArray[Any], support: NDArray[np.uint8], size: tuple[int, int]) -> Outline:
    rows, columns, _ = frame_cells(size[0] / size[1])
    width, height = columns * CELL, rows * CELL
    ground = tuple(float(value) for value in picture[0, 0])
    cells, inside = [], []
    for turn in TURNS:
        middle = (picture.shape[1] / 2 - 0.5, picture.shape[0] / 2 - 0.5)
        lay = cv2.getRotationMatrix2D(middle, turn, 1.0)
        lay[:, 2] += (width / 2 - 0.5 - middle[0], height / 2 - 0.5 - middle[1])
        laid = cv2.warpAffine(picture, lay, (width, height), borderValue=ground)
        cells.append(_pooled(directions(np.atleast_3d(laid)), rows, columns))
        covered = cv2.warpAffine(support, lay, (width, height)).astype(np.float32)
        inside.append(cv2.resize(covered, (columns, rows), interpolation=cv2.INTER_AREA) > 0.5)
    return Outline(np.stack(cells), np.stack(inside), size[0] / size[1])
