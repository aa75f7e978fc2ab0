"""SIFT as a bag of words: local descriptors, a vocabulary learned on training pictures, and histograms of its words.

Sivic and Zisserman (Video Google, 2003) counted words at keypoints; Lazebnik, Schmid and Ponce (Beyond Bags of
Features, 2006) on a dense grid and in a pyramid of places, which was the state of the art on Caltech101 before
networks. Both are here. Descriptors are RootSIFT (Arandjelovic and Zisserman, 2012).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans
from threadpoolctl import threadpool_limits

from imagewarden_eval.handcrafted import Feature, Picture, check

LONG_EDGE = 300
"""Pictures are brought to this length of their longer edge, in pixels, up or down."""
WORDS = 500
DIMENSIONS = 128

_MOST_KEYPOINTS = 500
_GRID_STEP, _GRID_SIZE = 8, 16.0
_LEARN_FROM = 60_000
_FLOOR = 1e-7


class TooFewDescriptors(ValueError):
    """A vocabulary cannot be learned of so little; the message says of how little."""


@dataclasses.dataclass(frozen=True, slots=True)
class Local:
    """The local descriptors of one picture.

    Attributes:
        descriptors: RootSIFT times 512, uint8 [n, 128]; n may be 0 for a plain picture.
        places: x and y of each as fractions of the picture's width and height, float32 [n, 2], 0 to under 1.
    """

    descriptors: NDArray[np.uint8]
    places: NDArray[np.float32]


def keypoint_sift(picture: Picture) -> Local:
    """RootSIFT at up to 500 of the keypoints that SIFT finds (Lowe, 2004), each at its own scale and orientation."""
    image = _scaled(picture)
    return _described(image, list(cv2.SIFT.create(nfeatures=_MOST_KEYPOINTS).detect(image, None)))


def dense_sift(picture: Picture) -> Local:
    """Upright RootSIFT on a grid of 8 pixels, 16 pixels across."""
    image = _scaled(picture)
    height, width = image.shape
    points = [
        cv2.KeyPoint(float(x), float(y), _GRID_SIZE, 0.0)
        for y in range(_GRID_STEP, height - _GRID_STEP + 1, _GRID_STEP)
        for x in range(_GRID_STEP, width - _GRID_STEP + 1, _GRID_STEP)
    ]
    return _described(image, points)


@dataclasses.dataclass(frozen=True, slots=True)
class Vocabulary:
    """Visual words.

    Attributes:
        words: the centres, float32 [W, 128], in the descriptors' unit.
        levels: of the pyramid of places: 1: the whole; 3: also its 4 quarters and its 16 sixteenths.
    """

    words: NDArray[np.float32]
    levels: int

    @property
    def dimensions(self) -> int:
        """D of the histograms: W times the cells of all levels."""
        return len(self.words) * sum(1 << (2 * level) for level in range(self.levels))

    def histogram(self, local: Local) -> Feature:
        """How often each word occurs in each cell: float32 [D].

        A level's histograms sum to its weight in the pyramid match (1/4, 1/4, 1/2 of three levels), and their root is
        taken, so that the Euclidean distance is Hellinger's. All zeros where there are no descriptors.
        """
        counts = []
        words = self.assign(local.descriptors)
        for level in range(self.levels):
            side = 2**level
            cells = (local.places * side).astype(np.int64)
            slots = (cells[:, 1] * side + cells[:, 0]) * len(self.words) + words
            found = np.bincount(slots, minlength=side * side * len(self.words))
            counts.append(found * self._weight(level) / max(len(words), 1))
        return np.sqrt(np.concatenate(counts)).astype(np.float32)

    def assign(self, descriptors: NDArray[np.uint8]) -> NDArray[np.int64]:
        """The nearest word of each descriptor: int64 [n]."""
        # |d - w|^2 less |d|^2, which is the same for all words.
        distances = (self.words**2).sum(axis=1) - 2 * (descriptors.astype(np.float32) @ self.words.T)
        nearest: NDArray[np.int64] = distances.argmin(axis=1)
        return nearest

    def _weight(self, level: int) -> float:
        # Lazebnik et al., equation 3: 1 / 2^L for level 0 and 1 / 2^(L - l + 1) above.
        last = self.levels - 1
        return float(1 / 2**last if level == 0 else 1 / 2 ** (last - level + 1))


def learn(locals_: Sequence[Local], *, words: int = WORDS, levels: int = 1, seed: int = 0) -> Vocabulary:
    """Learn a vocabulary by k-means (Sculley's mini-batches, 2010) on at most 60,000 of the descriptors.

    Args:
        locals_: of the training pictures, and of no other.
        words: how many.
        levels: of the pyramid, see `Vocabulary`.
        seed: of the choice of descriptors and of the first centres.

    Raises:
        TooFewDescriptors: there are fewer descriptors than words.
    """
    everything = np.concatenate([one.descriptors for one in locals_]) if locals_ else np.empty((0, DIMENSIONS))
    if len(everything) < words:
        raise TooFewDescriptors(
            f"{len(everything)} descriptors of {len(locals_)} pictures are too few for {words} words; "
            "give more pictures, or ask for fewer words"
        )
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(everything), min(_LEARN_FROM, len(everything)), replace=False)
    means = MiniBatchKMeans(words, batch_size=4096, n_init=1, max_iter=40, random_state=seed)
    # One thread: sums by several come out in another order each time, and a busy machine stalls them.
    with threadpool_limits(1):
        means.fit(everything[chosen].astype(np.float32))
    return Vocabulary(np.asarray(means.cluster_centers_, np.float32), levels)


def _scaled(picture: Picture) -> NDArray[np.uint8]:
    check(picture)
    image = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    factor = LONG_EDGE / max(image.shape)
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=how), np.uint8)


def _described(image: NDArray[np.uint8], points: Sequence[cv2.KeyPoint]) -> Local:
    kept, found = cv2.SIFT.create().compute(image, list(points)) if points else ((), None)
    if found is None or not len(found):
        return Local(np.empty((0, DIMENSIONS), np.uint8), np.empty((0, 2), np.float32))
    sums = np.maximum(found.sum(axis=1, keepdims=True), _FLOOR)
    root = np.sqrt(found / sums)
    height, width = image.shape
    places = np.asarray([(point.pt[0] / width, point.pt[1] / height) for point in kept], np.float32)
    # A keypoint may be found on the very edge; it is of the last cell.
    inside = np.minimum(places, np.nextafter(np.float32(1), np.float32(0)))
    return Local(np.minimum(np.round(root * 512), 255).astype(np.uint8), inside)
