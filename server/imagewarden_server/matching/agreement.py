"""The last look at a match by keypoints: do the pixels agree where the transform says that the picture lies?

A copy's pixels do, but for what lies over it. A person, a statue or a piano photographed again has keypoints in common,
and other pixels. The checked picture is drawn into the frame of the stored one, aligned once more (Evangelidis,
Psarakis: Parametric Image Alignment Using Enhanced Correlation Coefficient Maximization, PAMI 2008), and compared by
the normalised cross-correlation of cells.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from imagewarden_server.matching.types import Transform

_CELL = 8
# The deviation of grey levels under which a cell has no structure to compare.
_PLAIN = 4.0
_FAINT = 2.0
_OPAQUE = 250
_STEPS = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 30, 1e-3)
_BLUR = 3
_LEAST_KEPT = 0.5

_LEAST_CELLS = 12
_AGREES, _SAME, _MOST = 0.75, 0.95, 3.0


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far the pixels agree.

    Attributes:
        value: the mean correlation of the cells, each by its contrast: 1 for the same pixels, about 0 for others.
        cells: how many cells have any structure.
    """

    value: float
    cells: int


def agreement(luma: NDArray[np.uint8], stored: NDArray[np.uint8], transform: Transform) -> Agreement | None:
    """Hold a stored picture against the checked one, pixel by pixel.

    Args:
        luma: uint8 [height, width] of the checked picture.
        stored: uint8 [height, width], the small grey picture of the stored one.
        transform: from the stored picture to the checked one.

    Returns:
        None where the part in common has no cell with any structure.
    """
    drawn, seen = _drawn(luma, stored.shape, transform)
    drawn, seen = _aligned(stored, drawn, seen)
    down, across = (side // _CELL for side in stored.shape)
    if not down or not across:
        return None
    left, right, whole = (_cells(one, down, across) for one in (stored, drawn, seen))
    left -= left.mean(-1, keepdims=True)
    right -= right.mean(-1, keepdims=True)
    contrast = np.linalg.norm(left, axis=-1)
    used = whole.all(-1) & (contrast >= _PLAIN * _CELL)
    if not used.any():
        return None
    other = np.maximum(np.linalg.norm(right, axis=-1), _FAINT * _CELL)
    # The mean of each cell's correlation by its contrast: the contrast of the stored cell falls out.
    value = ((left * right).sum(-1) / other)[used].sum() / contrast[used].sum()
    return Agreement(float(value), int(used.sum()))


def stronger(score: float, found: Agreement | None) -> float:
    """LOCAL's value of a picture: its score, and up to three times as much where the pixels agree.

    Things photographed again agree at 0.75 at most, but by chance in a few cells; of the copies that score 20 and more
    nine in ten agree at over 0.9: docs/local-features.md. What does not agree loses nothing, since much may lie over
    a copy.
    """
    if found is None or found.cells < _LEAST_CELLS:
        return score
    part = min(1.0, max(0.0, (found.value - _AGREES) / (_SAME - _AGREES)))
    return float(score * _MOST**part)


def _drawn(
    luma: NDArray[np.uint8], shape: tuple[int, ...], transform: Transform
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The checked picture in the frame of the stored one, and 255 where it is seen."""
    down, across = shape
    height, width = luma.shape
    affine = np.array(transform.coefficients, np.float64).reshape(2, 3)
    affine *= np.array([[width], [height]])
    affine[:, :2] /= np.array([across, down])
    scale = math.sqrt(abs(float(np.linalg.det(affine[:, :2]))))
    if scale > 1:
        # By area first: the warp looks at four pixels only.
        size = max(1, round(width / scale)), max(1, round(height / scale))
        luma = np.asarray(cv2.resize(luma, size, interpolation=cv2.INTER_AREA), np.uint8)
        affine *= np.array([[size[0] / width], [size[1] / height]])
    affine[:, 2] += affine[:, :2] @ [0.5, 0.5] - 0.5
    return _warped(luma, np.full(luma.shape, 255, np.uint8), affine, (across, down))


def _warped(
    luma: NDArray[np.uint8], seen: NDArray[np.uint8], affine: NDArray[np.float64], size: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    drawn = cv2.warpAffine(luma, affine, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    within = cv2.warpAffine(seen, affine, size, flags=flags)
    return np.asarray(drawn, np.uint8), np.where(within > _OPAQUE, 255, 0).astype(np.uint8)


def _aligned(
    stored: NDArray[np.uint8], drawn: NDArray[np.uint8], seen: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Both moved by a pixel or two to where they fit best; as they are where nothing fits."""
    start = np.eye(2, 3, dtype=np.float32)
    try:
        _, found = cv2.findTransformECC(stored, drawn, start, cv2.MOTION_AFFINE, _STEPS, seen, _BLUR)
    except cv2.error:
        # It does not converge: the pictures have nothing in common.
        return drawn, seen
    moved, within = _warped(drawn, seen, np.asarray(found, np.float64), (stored.shape[1], stored.shape[0]))
    return (moved, within) if within.sum() > _LEAST_KEPT * seen.sum() else (drawn, seen)


def _cells(picture: NDArray[np.uint8], down: int, across: int) -> NDArray[np.float32]:
    cells = picture[: down * _CELL, : across * _CELL].reshape(down, _CELL, across, _CELL).transpose(0, 2, 1, 3)
    return cells.reshape(down, across, -1).astype(np.float32)
