"""The second look for a logo: does the drawing's outline lie in the picture where the embedding sees the logo?

The cells of the drawing (`media.shapes`), at some turns, are laid over the cells of the picture around a window, at
some scales and every place. The likeness is the cosine of both within the logo, each without what any picture has: an
edge too many, in a busy texture, counts against it as an edge that is missing does.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imagewarden_server import media
from imagewarden_server.matching.types import Box, LocalFeatures, LocalSignal
from imagewarden_server.media import Outline, Pose, Rendering, Shapes
from imagewarden_server.media.local import DESCRIPTOR_SIZE
from imagewarden_server.media.shapes import CELL, DIRECTIONS, LEVELS, PADDING, SIDE, TURNS, frame_cells

BACKGROUND = Path(__file__).parent / "data" / "shape-background.npz"

# A block of a stored drawing: 4 x 4 cells of 8 directions are the 128 bytes of a descriptor.
_BLOCK = 4
_FULL = 254.0
# Levels above and below the one where the logo fills the window, and how far from its middle, in windows.
_SCALES = (-2, -1, 0, 1, 2)
_REACH = 0.35
# Where the picture has next to no edges, no direction of them means anything.
_FLOOR = 0.1
# So many places of the background make one picture's best.
_GROUP = 5
# Few logos differ less than this from picture to picture, and those only for want of pictures.
_MIN_DEVIATION = 0.08
# A disc is no logo: what plain shapes are like counts as this many deviations.
_PLAIN = 2.5


@dataclass(frozen=True, slots=True)
class Template:
    """A stored drawing, ready to be laid over pictures.

    Attributes:
        rows: float32 [cells down, cells across * 8, turns]: the drawing without the background, of unit norm.
        inside: float32 [cells, turns], 0 or 1.
        aspect: the logo's width divided by its height.
        mean: the likeness of pictures without the logo.
        deviation: how much it varies.
    """

    rows: NDArray[np.float32]
    inside: NDArray[np.float32]
    aspect: float
    mean: float
    deviation: float


@dataclass(frozen=True, slots=True)
class Laid:
    """Where a drawing fits best.

    Attributes:
        score: deviations above pictures without it.
        box: of the logo.
        pose: how it lies there, in pixels of the picture as it is seen.
    """

    score: float
    box: Box
    pose: Pose


@dataclass(frozen=True, slots=True)
class Background:
    """What pictures without logos have.

    Attributes:
        mean: float32 [8], of all cells.
        patches: float32 [n, cells, cells, 8], of photographs.
        plain: float32 [m, cells, cells, 8], of plain shapes.
    """

    mean: NDArray[np.float32]
    patches: NDArray[np.float32]
    plain: NDArray[np.float32]


@functools.cache
def background(path: Path = BACKGROUND) -> Background:
    """The shipped background, made by tools/fit_shape_background.py, read once."""
    with np.load(path, allow_pickle=False) as stored:
        patches, plain = (stored[name].astype(np.float32) / 255 for name in ("patches", "plain"))
        return Background(stored["mean"].astype(np.float32), patches, plain)


def describe(rendering: Rendering) -> tuple[LocalSignal, ...]:
    """What is stored of a logo for the second look: one set for its drawing, and one for its silhouette.

    The first row of a set has no block: its point is the mean and the deviation of pictures without it, both less than
    1 as places are. Each other row is a block of 4 x 4 cells: where its first cell is and its side, as fractions of
    all blocks' longer side, and the turn in radians; its 128 bytes are 1 and more within the logo, by 254ths, and 0
    outside.
    """
    return tuple(LocalSignal(media.SHAPES, _normed(_packed(one))) for one in media.outlines(rendering))


def unpack(features: LocalFeatures) -> Template:
    """A stored set, ready for use."""
    down, across, _ = frame_cells(features.aspect)
    high, wide = (-(-side // _BLOCK) for side in (down, across))
    blocks = features.descriptors[1:].reshape(len(TURNS), high, wide, _BLOCK, _BLOCK, DIRECTIONS)
    stored = blocks.transpose(0, 1, 3, 2, 4, 5).reshape(len(TURNS), high * _BLOCK, wide * _BLOCK, DIRECTIONS)
    stored = stored[:, :down, :across]
    inside = (stored[..., 0] > 0).astype(np.float32)
    cells = ((stored.astype(np.float32) - 1) / _FULL - background().mean) * inside[..., None]
    flat = cells.reshape(len(TURNS), -1)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    rows = np.ascontiguousarray(flat.reshape(len(TURNS), down, -1).transpose(1, 2, 0))
    mean, deviation = (float(value) for value in features.points[0, :2])
    return Template(rows, np.ascontiguousarray(inside.reshape(len(TURNS), -1).T), features.aspect, mean, deviation)


def look(picture: Shapes, templates: Sequence[Template], window: Box) -> Laid | None:
    """Lay the drawings of one logo over a picture around a window; the best place, None where none has room."""
    width, height = picture.size
    across, down = (window.right - window.left) * width, (window.bottom - window.top) * height
    middle = ((window.left + window.right) / 2, (window.top + window.bottom) / 2)
    best: Laid | None = None
    for template in templates:
        _, _, (wide, high) = frame_cells(template.aspect)
        # Between what fits into the window, and what has its area.
        pixels = math.sqrt(min(across / wide, down / high) * math.sqrt(across * down / (wide * high))) / CELL
        fitting = round(math.log2(max(pixels, 1e-6)) * LEVELS)
        for number in sorted({max(0, fitting + step) for step in _SCALES}):
            level = picture.level(number)
            reach = (window.right - window.left) * _REACH, (window.bottom - window.top) * _REACH
            laid = _lay(picture.size, level, template, middle, reach)
            if laid is not None and (best is None or laid.score > best.score):
                best = laid
    return best


def _lay(
    size: tuple[int, int],
    level: media.ShapeLevel,
    template: Template,
    middle: tuple[float, float],
    reach: tuple[float, float],
) -> Laid | None:
    down, across, (wide, high) = frame_cells(template.aspect)
    spans = []
    for place, side, cells, allowed in (
        (middle[0], level.across, across, reach[0]),
        (middle[1], level.down, down, reach[1]),
    ):
        first = max(0, math.floor((place - allowed) * side - cells / 2 + PADDING))
        last = min(side + 2 * PADDING - cells, math.ceil((place + allowed) * side - cells / 2 + PADDING))
        if last < first:
            return None
        spans.append((first, last))
    (left, right), (top, bottom) = spans
    region = level.cells[top : bottom + down, left : right + across] - background().mean
    likeness = _likeness(region, template)
    best = int(likeness.argmax())
    row, column, turn = np.unravel_index(best, likeness.shape)
    # The logo lies in the middle of its cells, turned.
    angle = math.radians(abs(TURNS[int(turn)]))
    half_wide = (wide * math.cos(angle) + high * math.sin(angle)) / 2
    half_high = (wide * math.sin(angle) + high * math.cos(angle)) / 2
    x, y = left + int(column) - PADDING + across / 2, top + int(row) - PADDING + down / 2
    edges = (
        (x - half_wide) / level.across,
        (y - half_high) / level.down,
        (x + half_wide) / level.across,
        (y + half_high) / level.down,
    )
    box = Box(*(min(1.0, max(0.0, edge)) for edge in edges))
    wide_cell, high_cell = size[0] / level.across, size[1] / level.down
    long = SIDE / CELL * math.sqrt(wide_cell * high_cell)
    pose = Pose(x * wide_cell, y * high_cell, long, float(TURNS[int(turn)]))
    return Laid((float(likeness.flat[best]) - template.mean) / template.deviation, box, pose)


def _likeness(region: NDArray[np.float32], template: Template) -> NDArray[np.float32]:
    """The cosine at every place of a region without its background [rows, columns, 8]: [places, places, turns]."""
    down = len(template.rows)
    across = template.rows.shape[1] // DIRECTIONS
    region = np.ascontiguousarray(region, dtype=np.float32)
    high, wide = region.shape[0] - down + 1, region.shape[1] - across + 1
    steps = region.strides
    # A row of a drawing is one run of numbers in the picture: a product a row, and no copy of each place.
    runs = _strided(region, (region.shape[0], wide, across * DIRECTIONS), (steps[0], steps[1], steps[2]))
    turns = template.rows.shape[2]
    products = np.zeros((high * wide, turns), np.float32)
    for row in range(down):
        products += runs[row : row + high].reshape(high * wide, -1) @ template.rows[row]
    energy = (region * region).sum(2)
    steps = energy.strides
    places = _strided(energy, (high, wide, down, across), (steps[0], steps[1], steps[0], steps[1]))
    norms = np.sqrt(places.reshape(high * wide, -1) @ template.inside)
    least = _FLOOR * np.sqrt(template.inside.sum(0))
    likeness: NDArray[np.float32] = (products / np.maximum(norms, np.maximum(least, 1e-6))).reshape(high, wide, turns)
    return likeness


def _strided(array: NDArray[np.float32], shape: tuple[int, ...], strides: tuple[int, ...]) -> NDArray[np.float32]:
    view: NDArray[np.float32] = np.lib.stride_tricks.as_strided(array, shape, strides, writeable=False)
    return np.ascontiguousarray(view)


def _packed(outline: Outline) -> LocalFeatures:
    """A drawing as a set of local features, its first row empty."""
    down, across = outline.inside.shape[1:]
    high, wide = (-(-side // _BLOCK) for side in (down, across))
    stored = np.zeros((len(TURNS), high * _BLOCK, wide * _BLOCK, DIRECTIONS), np.uint8)
    within = 1 + np.rint(np.clip(outline.cells, 0, 1) * _FULL)
    stored[:, :down, :across] = np.where(outline.inside[..., None], within, 0)
    blocks = stored.reshape(len(TURNS), high, _BLOCK, wide, _BLOCK, DIRECTIONS).transpose(0, 1, 3, 2, 4, 5)
    descriptors = np.concatenate([np.zeros((1, DESCRIPTOR_SIZE), np.uint8), blocks.reshape(-1, DESCRIPTOR_SIZE)])
    turn, row, column = (
        axis.ravel() for axis in np.meshgrid(np.radians(TURNS), np.arange(high), np.arange(wide), indexing="ij")
    )
    step = 1 / max(high, wide)
    points = np.stack([column * step, row * step, np.full(len(turn), step), turn], axis=1)
    points = np.concatenate([[[0.0, 1.0, 1.0, 0.0]], points]).astype(np.float32)
    return LocalFeatures(points, descriptors, outline.aspect)


def _normed(features: LocalFeatures) -> LocalFeatures:
    """The set with what pictures without the logo are like in its first row."""
    template = unpack(features)
    known = background()
    best = np.array([_likeness(_room(patch - known.mean, template), template).max() for patch in known.patches])
    groups = best[: len(best) // _GROUP * _GROUP].reshape(-1, _GROUP).max(1)
    plain = max(float(_likeness(_room(patch - known.mean, template), template).max()) for patch in known.plain)
    mean = max(0.0, float(groups.mean()))
    deviation = max(float(groups.std()), _MIN_DEVIATION, (plain - mean) / _PLAIN)
    points = features.points.copy()
    points[0, :2] = mean, deviation
    return LocalFeatures(points, features.descriptors, features.aspect)


def _room(region: NDArray[np.float32], template: Template) -> NDArray[np.float32]:
    """The region, with empty cells around it where the drawing is larger."""
    down, across = len(template.rows), template.rows.shape[1] // DIRECTIONS
    lacking = ((0, max(0, down - region.shape[0])), (0, max(0, across - region.shape[1])), (0, 0))
    return np.pad(region, lacking)
