"""Features from before networks learned them: HOG, LBP, Gabor filters and colour histograms.

Each takes one RGB picture, uint8 [h, w, 3], of any size and gives float32 [D], the same D for every picture. They are
what learned features are compared with, so each is made as its paper or its library's example has it, with nothing
left out that is known to help it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.feature import hog, local_binary_pattern
from skimage.filters import gabor_kernel

Picture = NDArray[np.uint8]
Feature = NDArray[np.float32]

SIDE = 128
"""HOG, LBP and Gabor filters see the picture at this height and width; the aspect ratio is not kept, as the model's."""

_HOG_ORIENTATIONS, _HOG_CELL, _HOG_BLOCK = 9, 16, 2
_LBP_RINGS = ((8, 1), (16, 2))
_GABOR_FREQUENCIES = (0.05, 0.1, 0.2, 0.35)
_GABOR_ORIENTATIONS = 6
_COLOUR_BINS = (16, 4, 4)
_FLAT = 1e-6


class NoPicture(ValueError):
    """What was given is no RGB picture; the message says what it is."""


def grey(picture: Picture) -> NDArray[np.float32]:
    """The luma (ITU-R BT.601) of a picture at SIDE x SIDE, averaged down: float32, 0 to 1.

    Raises:
        NoPicture: not uint8 [h, w, 3] with pixels.
    """
    check(picture)
    small = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.float32) / np.float32(255)


def check(picture: Picture) -> None:
    """Refuse what is no RGB picture.

    Raises:
        NoPicture: not uint8 [h, w, 3] with pixels.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise NoPicture(f"features are taken of uint8 [h, w, 3] RGB pictures, not of {picture.dtype} {picture.shape}")


def hog_feature(picture: Picture) -> Feature:
    """Histograms of oriented gradients (Dalal and Triggs, 2005): float32 [1764].

    Nine orientations in cells of 16 x 16 of 128 x 128 pixels, normalised in blocks of 2 x 2 cells (L2-Hys): the shape,
    whatever the light.
    """
    found = hog(
        grey(picture),
        orientations=_HOG_ORIENTATIONS,
        pixels_per_cell=(_HOG_CELL, _HOG_CELL),
        cells_per_block=(_HOG_BLOCK, _HOG_BLOCK),
        block_norm="L2-Hys",
        feature_vector=True,
    )
    return np.asarray(found, np.float32)


def lbp_feature(picture: Picture) -> Feature:
    """Histograms of uniform local binary patterns (Ojala, Pietikainen and Maenpaa, 2002): float32 [140].

    8 neighbours at 1 pixel and 16 at 2, rotation-invariant and uniform: 10 and 18 codes. First of the whole, which no
    quarter turn changes, then of its quarters; each histogram sums to 1, and its root is taken, so that the Euclidean
    distance is Hellinger's.
    """
    # Whole numbers: of values between them rounding would decide which of two equal neighbours is the greater.
    image = np.round(grey(picture) * 255).astype(np.uint8)
    parts = []
    codes = [(points, local_binary_pattern(image, points, radius, "uniform")) for points, radius in _LBP_RINGS]
    for place in _places():
        for points, of_all in codes:
            counts = np.bincount(of_all[place].astype(np.int64).ravel(), minlength=points + 2)
            parts.append(np.sqrt(counts / counts.sum()))
    return np.concatenate(parts).astype(np.float32)


def gabor_feature(picture: Picture) -> Feature:
    """Means and deviations of a bank of Gabor filters' magnitudes (Manjunath and Ma, 1996): float32 [240].

    Four frequencies by six orientations, over the whole and over its quarters. Neither the light's level nor its
    strength counts: the kernels sum to zero, and the picture is brought to a deviation of 1.
    """
    image = grey(picture)
    deviation = float(image.std())
    # A plain picture has no texture: noise of rounding is not blown up to look like some.
    image = (image - image.mean()) / deviation if deviation > _FLAT else np.zeros_like(image)
    parts = []
    magnitudes = [_magnitude(image, *pair) for pair in _gabor_bank()]
    for place in _places():
        for magnitude in magnitudes:
            parts += [magnitude[place].mean(), magnitude[place].std()]
    return np.asarray(parts, np.float32)


def colour_feature(picture: Picture) -> Feature:
    """A histogram of colours in hue, saturation and value (Swain and Ballard, 1991): float32 [256].

    16 x 4 x 4 bins that sum to 1, and the root of each (Hellinger's distance). No turn, mirror or shift of things
    changes it.
    """
    check(picture)
    hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)
    counts = cv2.calcHist([hsv], [0, 1, 2], None, list(_COLOUR_BINS), [0, 180, 0, 256, 0, 256]).ravel()
    return np.asarray(np.sqrt(counts / counts.sum()), np.float32)


FEATURES: Mapping[str, Callable[[Picture], Feature]] = MappingProxyType(
    {"hog": hog_feature, "lbp": lbp_feature, "gabor": gabor_feature, "colour": colour_feature}
)
"""Those that need nothing learned, by name; the bag of words is in `handcrafted_sift`."""


def _places() -> tuple[tuple[slice, slice], ...]:
    """The whole picture and its four quarters."""
    half = SIDE // 2
    first, second = slice(0, half), slice(half, SIDE)
    return (
        (slice(0, SIDE), slice(0, SIDE)),
        *((rows, columns) for rows in (first, second) for columns in (first, second)),
    )


@cache
def _gabor_bank() -> tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]:
    bank = []
    for frequency in _GABOR_FREQUENCIES:
        for step in range(_GABOR_ORIENTATIONS):
            kernel = gabor_kernel(frequency, theta=step * np.pi / _GABOR_ORIENTATIONS, bandwidth=1.0)
            # A real part that sums to something would answer to plain brightness.
            envelope = np.abs(kernel)
            real = kernel.real - envelope * (kernel.real.sum() / envelope.sum())
            bank.append((real.astype(np.float32), kernel.imag.astype(np.float32)))
    return tuple(bank)


def _magnitude(
    image: NDArray[np.float32], real: NDArray[np.float32], imaginary: NDArray[np.float32]
) -> NDArray[np.float32]:
    parts = [cv2.filter2D(image, cv2.CV_32F, kernel, borderType=cv2.BORDER_REFLECT) for kernel in (real, imaginary)]
    return np.asarray(np.hypot(*parts), np.float32)
