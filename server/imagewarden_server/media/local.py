"""Local features: SIFT keypoints with RootSIFT descriptors, by one path for adding and checking."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from imagewarden_server.media.types import LocalFeatures

EXTRACTOR = "rootsift-1"
"""Names everything that decides the features: those of another name are never compared with these."""

KEYPOINTS = 300
"""What is stored of a picture."""

SIDE = 320
"""What the longer side of a stored picture is scaled to, in pixels."""

_CHECKED_KEYPOINTS = 700

DESCRIPTOR_SIZE = 128
UNIT = 512.0
"""The norm of a descriptor as it is stored: an element is at most 0.5 in practice, so that 512 fills a byte."""

_CANDIDATES = 2
"""As many times more keypoints are found as are kept, to choose from."""

_CONTRAST = 0.02
_GRID = 6
_BINS = 8
_CELLS = 4

# The workers that call this are as many as there are cores: a pool of OpenCV's own would only stand in their way.
cv2.setNumThreads(1)


def extract(pixels: NDArray[np.uint8], *, keypoints: int = KEYPOINTS, side: int = SIDE) -> LocalFeatures:
    """Keypoints and descriptors of a picture: the same for the same pixels, on any thread.

    SIFT (Lowe, 2004: Distinctive Image Features from Scale-Invariant Keypoints) on the picture scaled to one size, its
    descriptors as RootSIFT (Arandjelovic, Zisserman, CVPR 2012), quantised to bytes.

    Args:
        pixels: uint8 [height, width, 3], sRGB.
        keypoints: the most that are kept, the strongest, spread over the picture.
        side: what the longer side is scaled to, up or down, in pixels. SIFT's first octave doubles it.

    Returns:
        No keypoint at all for a plain picture, or one that is a few pixels wide.
    """
    height, width = pixels.shape[:2]
    aspect = width / height
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    grey = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
    grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    # One for each call: an object of OpenCV's is not made for two threads.
    sift = cv2.SIFT.create(nfeatures=_CANDIDATES * keypoints, contrastThreshold=_CONTRAST, enable_precise_upscale=True)
    found, raw = sift.detectAndCompute(grey, None)
    if not found:
        return LocalFeatures(np.empty((0, 4), np.float32), np.empty((0, DESCRIPTOR_SIZE), np.uint8), aspect)
    table = np.array([(*one.pt, one.size, one.angle, one.response) for one in found], np.float64)
    kept = _spread(table, size, keypoints)
    table = table[kept]
    points = np.empty((len(kept), 4), np.float32)
    # A pixel's coordinate is its middle's.
    points[:, 0] = (table[:, 0] + 0.5) / size[0] * min(1.0, aspect)
    points[:, 1] = (table[:, 1] + 0.5) / size[1] * min(1.0, 1 / aspect)
    points[:, 2] = table[:, 2] / side
    points[:, 3] = np.radians(table[:, 3])
    return LocalFeatures(points, _root(raw[kept].astype(np.float32)), aspect)


def extract_checked(pixels: NDArray[np.uint8]) -> LocalFeatures:
    """The features of a checked picture: larger and more than of a stored one, since a copy may be a small part of it.

    It is not scaled down at all, and up only to what a stored one is: beyond that come no new keypoints but its noise.

    Args:
        pixels: uint8 [height, width, 3], sRGB, as `Frame.small` is.
    """
    return extract(pixels, keypoints=_CHECKED_KEYPOINTS, side=max(SIDE, *pixels.shape[:2]))


def mirrored(features: LocalFeatures) -> LocalFeatures:
    """The features of the picture seen in a mirror, without a second look at its pixels.

    The 4 x 4 cells of a descriptor lie in the frame of the keypoint's orientation, and so do the 8 directions in each:
    a mirror turns the order of the cells across that orientation around, and direction d into -d. What differs from
    features of mirrored pixels is rounding only.
    """
    points = features.points.copy()
    points[:, 0] = min(1.0, features.aspect) - points[:, 0]
    points[:, 3] = (math.pi - points[:, 3]) % (2 * math.pi)
    cells = features.descriptors.reshape(-1, _CELLS, _CELLS, _BINS)
    directions = (_BINS - np.arange(_BINS)) % _BINS
    descriptors = np.ascontiguousarray(cells[:, ::-1][..., directions]).reshape(-1, DESCRIPTOR_SIZE)
    return LocalFeatures(points, descriptors, features.aspect)


def _root(raw: NDArray[np.float32]) -> NDArray[np.uint8]:
    """RootSIFT of SIFT descriptors [n, 128]: the square root of each one's share, so that a product is Hellinger's."""
    share = raw / np.maximum(raw.sum(1, keepdims=True), 1e-9)
    whole: NDArray[np.float32] = np.rint(UNIT * np.sqrt(share))
    return np.minimum(whole, 255).astype(np.uint8)


def _spread(table: NDArray[np.float64], size: tuple[int, int], keypoints: int) -> NDArray[np.intp]:
    """The strongest keypoints, so that no corner of the picture takes all: which rows, in a fixed order."""
    order = np.lexsort((table[:, 3], table[:, 2], table[:, 1], table[:, 0], -table[:, 4]))
    if len(order) <= keypoints:
        return order
    column = np.minimum((table[:, 0] * _GRID / size[0]).astype(np.int64), _GRID - 1)
    row = np.minimum((table[:, 1] * _GRID / size[1]).astype(np.int64), _GRID - 1)
    cell = np.maximum(row, 0)[order] * _GRID + np.maximum(column, 0)[order]
    by_cell = np.argsort(cell, kind="stable")
    begins = np.searchsorted(cell[by_cell], np.arange(_GRID * _GRID))
    rank = np.empty(len(order), np.int64)
    rank[by_cell] = np.arange(len(order)) - begins[cell[by_cell]]
    # The strongest half wherever they are, then the strongest of each cell in turn.
    half = keypoints // 2
    rank[:half] = -1
    chosen = np.argsort(rank, kind="stable")[:keypoints]
    return order[np.sort(chosen)]
