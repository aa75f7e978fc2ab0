"""The visual vocabulary: which of a few thousand words a descriptor is, and 64 bits that say where in the word it lies.

Hamming embedding (Jegou, Douze, Schmid, ECCV 2008: Hamming Embedding and Weak Geometric Consistency for Large Scale
Image Search): a descriptor is projected, the nearest centroid is its word, and each bit of its signature says on which
side of the word's median it is in one dimension. Two descriptors of one word are alike where few bits differ.

Words are many, so that the descriptors of one are few. To find the nearest of them, a descriptor's cell is found first,
of which there are as many as a hundredth, and then the nearest of the words that are near anything in that cell: it is
the nearest of all in 0.985, in a quarter of the time.

`tools/fit_local_vocabulary.py` makes the file: see docs/local-features.md.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
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


class Points:
    """Points in space, to find the nearest of.

    Args:
        points: float32 [n, dimensions].
    """

    def __init__(self, points: NDArray[np.float32]) -> None:
        # Of the squared distance what differs from point to point, halved and its sign turned, as one product.
        halves = (points**2).sum(1, keepdims=True) / 2
        self._product = np.ascontiguousarray(np.concatenate([points, -halves], axis=1).T)

    def nearest(self, rows: NDArray[np.float32], count: int = 1) -> NDArray[np.int64]:
        """The places of the `count` points nearest to each row [m, dimensions], nearest first: int64 [m, count].

        There must be as many points as that.
        """
        rows = np.concatenate([rows, np.ones((len(rows), 1), np.float32)], axis=1)
        answer = np.empty((len(rows), count), np.int64)
        for begin in range(0, len(rows), _BLOCK):
            closeness = rows[begin : begin + _BLOCK] @ self._product
            each = np.arange(len(closeness))
            for place in range(count):
                nearest = closeness.argmax(1)
                answer[begin : begin + _BLOCK, place] = nearest
                closeness[each, nearest] = -np.inf
        return answer


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """A part of the space of descriptors: the words int64 [n] that are near anything in it, and where they are."""

    words: NDArray[np.int64]
    points: Points


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """What `load_vocabulary` read.

    Attributes:
        mean: float32 [128], in the unit of descriptors.
        projection: float32 [128, 64]: orthonormal columns.
        middles: of the cells.
        cells: as many as there are middles.
        medians: float32 [words, 64]: of the projected descriptors of each word.
        idf: float32 [words]: how much a word says: the logarithm of how few pictures have it, about 1 in the mean.
        fingerprint: of all of these; words and signatures of other vocabularies are not comparable.
    """

    mean: NDArray[np.float32]
    projection: NDArray[np.float32]
    middles: Points
    cells: tuple[Cell, ...]
    medians: NDArray[np.float32]
    idf: NDArray[np.float32]
    fingerprint: str

    @property
    def words(self) -> int:
        """How many words there are."""
        return len(self.medians)

    def project(self, descriptors: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Descriptors uint8 [n, 128] as float32 [n, 64].

        Raises:
            WrongShape: these are other descriptors.
        """
        if descriptors.dtype != np.uint8 or descriptors.shape[1:] != (_DESCRIPTOR,):
            raise WrongShape(f"local descriptors are uint8 [n, 128], and {descriptors.dtype} {descriptors.shape} came")
        return project(descriptors, self.mean, self.projection)

    def nearest(self, projected: NDArray[np.float32], count: int = 1) -> NDArray[np.int64]:
        """The `count` nearest words of each row, of those of its cell, nearest first: int64 [n, count]."""
        homes = self.middles.nearest(projected)[:, 0]
        order = np.argsort(homes, kind="stable")
        rows = projected[order]
        found = np.empty((len(rows), count), np.int64)
        counts = np.bincount(homes, minlength=len(self.cells))
        ends = np.cumsum(counts)
        for home in np.flatnonzero(counts).tolist():
            part = slice(ends[home] - counts[home], ends[home])
            cell = self.cells[home]
            found[part] = cell.words[cell.points.nearest(rows[part], count)]
        answer = np.empty_like(found)
        answer[order] = found
        return answer

    def sign(self, projected: NDArray[np.float32], words: NDArray[np.int64]) -> Signatures:
        """The signatures of projected rows [n, 64] in words [n] or [n, m]: uint64 of the shape of `words`."""
        rows = projected if words.ndim == 1 else projected[:, None]
        bits = np.packbits(rows > self.medians[words], axis=-1)
        return np.ascontiguousarray(bits).view(np.uint64)[..., 0]

    def margins(self, projected: NDArray[np.float32], words: NDArray[np.int64], bits: int) -> NDArray[np.float32]:
        """How far projected rows [n, 64] are, in words [n, m], from what decides on the first bits: [n, m, bits]."""
        apart: NDArray[np.float32] = np.abs(projected[:, None, :bits] - self.medians[words, :bits])
        return apart


def project(
    descriptors: NDArray[np.uint8], mean: NDArray[np.float32], projection: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Descriptors uint8 [n, 128] as float32 [n, 64], by a mean [128] and a projection [128, 64]."""
    rows: NDArray[np.float32] = descriptors.astype(np.float32) - mean
    projected: NDArray[np.float32] = rows @ projection
    return projected


@functools.cache
def load_vocabulary(path: Path = VOCABULARY) -> Vocabulary:
    """Read a vocabulary, once."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with np.load(path, allow_pickle=False) as stored:
        wide = {name: stored[name].astype(np.float32) for name in ("mean", "projection", "middles", "medians", "idf")}
        centroids, members = stored["centroids"].astype(np.float32), stored["members"].astype(np.int64)
        ends = stored["member_ends"].tolist()
    near = [members[begin:end] for begin, end in itertools.pairwise([0, *ends])]
    cells = tuple(Cell(words, Points(centroids[words])) for words in near)
    return Vocabulary(
        wide["mean"], wide["projection"], Points(wide["middles"]), cells, wide["medians"], wide["idf"], digest
    )
