"""The visual vocabulary: which of a few thousand words a descriptor is, and 64 bits that say where in the word it lies.

Hamming embedding (Jegou, Douze, Schmid, ECCV 2008: Hamming Embedding and Weak Geometric Consistency for Large Scale
Image Search): a descriptor is projected, the nearest centroid is its word, and each bit of its signature says on which
side of the word's median it is in one dimension. Two descriptors of one word are alike where few bits differ.

`tools/fit_local_vocabulary.py` makes the file: see docs/local-features.md.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imagewarden_server.index.errors import WrongShape

VOCABULARY = Path(__file__).parent / "data" / "local-vocabulary.npz"
BITS = 64

Words = NDArray[np.uint16]
Signatures = NDArray[np.uint64]

_DESCRIPTOR = 128
_BLOCK = 256


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """What `load_vocabulary` read.

    Attributes:
        mean: float32 [128], in the unit of descriptors.
        projection: float32 [128, 64]: orthonormal columns.
        centroids: float32 [words, 64].
        medians: float32 [words, 64]: of the projected descriptors of each word.
        idf: float32 [words]: how much a word says: the logarithm of how few pictures have it, about 1 in the mean.
        fingerprint: of all of these; words and signatures of other vocabularies are not comparable.
    """

    mean: NDArray[np.float32]
    projection: NDArray[np.float32]
    centroids: NDArray[np.float32]
    medians: NDArray[np.float32]
    idf: NDArray[np.float32]
    fingerprint: str

    @property
    def words(self) -> int:
        """How many words there are."""
        return len(self.centroids)

    def project(self, descriptors: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Descriptors uint8 [n, 128] as float32 [n, 64].

        Raises:
            WrongShape: these are other descriptors.
        """
        if descriptors.dtype != np.uint8 or descriptors.shape[1:] != (_DESCRIPTOR,):
            raise WrongShape(f"local descriptors are uint8 [n, 128], and {descriptors.dtype} {descriptors.shape} came")
        rows: NDArray[np.float32] = descriptors.astype(np.float32) - self.mean
        projected: NDArray[np.float32] = rows @ self.projection
        return projected

    def nearest(self, projected: NDArray[np.float32], count: int = 1) -> NDArray[np.int64]:
        """The `count` nearest words of each row, nearest first: int64 [n, count]."""
        # Of the squared distance what differs from word to word, halved and its sign turned, as one product.
        words = np.concatenate([self.centroids, -(self.centroids**2).sum(1, keepdims=True) / 2], axis=1).T
        rows = np.concatenate([projected, np.ones((len(projected), 1), np.float32)], axis=1)
        answer = np.empty((len(projected), count), np.int64)
        for begin in range(0, len(rows), _BLOCK):
            closeness = rows[begin : begin + _BLOCK] @ words
            each = np.arange(len(closeness))
            for place in range(count):
                nearest = closeness.argmax(1)
                answer[begin : begin + _BLOCK, place] = nearest
                closeness[each, nearest] = -np.inf
        return answer

    def sign(self, projected: NDArray[np.float32], words: NDArray[np.int64]) -> Signatures:
        """The signatures of projected rows [n, 64] in words [n] or [n, m]: uint64 of the shape of `words`."""
        rows = projected if words.ndim == 1 else projected[:, None]
        bits = np.packbits(rows > self.medians[words], axis=-1)
        return np.ascontiguousarray(bits).view(np.uint64)[..., 0]


@functools.cache
def load_vocabulary(path: Path = VOCABULARY) -> Vocabulary:
    """Read a vocabulary, once."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with np.load(path, allow_pickle=False) as stored:
        return Vocabulary(
            stored["mean"].astype(np.float32),
            stored["projection"].astype(np.float32),
            stored["centroids"].astype(np.float32),
            stored["medians"].astype(np.float32),
            stored["idf"].astype(np.float32),
            digest,
        )
