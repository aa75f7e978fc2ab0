"""Nearest neighbours among unit vectors by cosine similarity: the Protocol, and the exact implementation.

An index holds the vectors of one bank, one space and one model, so that a bank's filter can lose no result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from imagewarden_server.index.errors import DuplicateKey, NotUnitVector, WrongScale, WrongShape

Matrix = NDArray[np.float32]
Keys = NDArray[np.int64]
Arrays = Mapping[str, NDArray[Any]]
"""What a snapshot keeps of an index: arrays by name, without pickled objects."""

UNIT_TOLERANCE = 1e-2
"""How far a norm may be from 1: as much as is allowed of what the model answers."""


class VectorIndex(Protocol):
    """Vectors by key; not thread-safe: the holder locks."""

    @property
    def dimensions(self) -> int:
        """The vectors' number of dimensions."""

    @property
    def nbytes(self) -> int:
        """How many bytes of memory it takes."""

    def __len__(self) -> int:
        """How many vectors it holds."""

    def __contains__(self, key: int) -> bool:
        """Whether it holds a key."""

    def add(self, keys: Sequence[int], vectors: Matrix) -> None:
        """Add float32 vectors [n, dimensions] of norm 1.

        Raises:
            IndexRefused: a shape, a norm or a key is not as it must be; nothing was added.
        """

    def remove(self, keys: Sequence[int]) -> None:
        """Remove keys; those that are not there are no error."""

    def search(self, queries: Matrix, k: int) -> tuple[list[Keys], list[Matrix]]:
        """The k nearest to each query [q, dimensions]: keys int64 and cosine similarities float32, nearest first.

        Raises:
            IndexRefused: the queries are not unit vectors of the index's dimensions, or k is less than 1.
        """

    def arrays(self) -> Arrays:
        """A copy of all there is, for `of`: quick, since changes wait for it."""

    @classmethod
    def of(cls, arrays: Arrays, dimensions: int) -> VectorIndex:
        """An index of what `arrays` gave.

        Raises:
            ValueError: the arrays are not of such an index. Arrays whose bytes were changed may kill the process:
                their digest is checked before.
        """

    def save(self, path: Path) -> None:
        """Write `arrays` to a file."""

    @classmethod
    def load(cls, path: Path, dimensions: int) -> VectorIndex:
        """An index of what `save` wrote; see `of`."""


def write_arrays(path: Path, arrays: Arrays) -> None:
    """Write arrays as .npz."""
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **dict(arrays))


def read_arrays(path: Path) -> Arrays:
    """Read arrays from .npz; pickled objects are refused."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def check_vectors(vectors: Matrix, count: int, dimensions: int) -> None:
    """Refuse what would poison an index: a NaN ranks first in usearch's results, and a zero vector has no direction.

    Raises:
        WrongShape: these are not [count, dimensions].
        NotUnitVector: one of them is not finite or not of norm 1.
    """
    if vectors.shape != (count, dimensions):
        raise WrongShape(f"vectors of shape {vectors.shape} came, and ({count}, {dimensions}) was expected")
    norms = np.linalg.norm(vectors, axis=1)
    wrong = np.flatnonzero(~(np.abs(norms - 1.0) <= UNIT_TOLERANCE))  # NaN compares False, and is refused with the rest
    if len(wrong):
        raise NotUnitVector(f"vector {wrong[0]} has norm {norms[wrong[0]]}, and 1 was expected")


Scales = NDArray[np.float32]


def check_scale(means: Scales, deviations: Scales) -> None:
    """Refuse a scale that would make a score of nothing, or of everything.

    Raises:
        WrongScale: a mean is not finite, or a deviation not finite and positive.
    """
    good = np.isfinite(means) & np.isfinite(deviations) & (deviations > 0)
    if not good.all():
        wrong = int(np.flatnonzero(~good)[0])
        raise WrongScale(
            f"vector {wrong} of those given has mean {means[wrong]} and deviation {deviations[wrong]}: a finite and a "
            "positive number were expected"
        )


def check_keys(index: VectorIndex, keys: Sequence[int]) -> None:
    """Refuse keys that are there already.

    Raises:
        DuplicateKey: one is in the index, or twice among `keys`.
    """
    if len(set(keys)) != len(keys):
        raise DuplicateKey("a key is given twice")
    for key in keys:
        if key in index:
            raise DuplicateKey(f"vector {key} is there already: remove it first")


def check_queries(queries: Matrix, k: int, dimensions: int) -> None:
    """Refuse a search that has no sound answer.

    Raises:
        WrongShape: the queries have other dimensions, or k is less than 1.
        NotUnitVector: one of them is not finite or not of norm 1.
    """
    if k < 1:
        raise WrongShape(f"the {k} nearest were asked for, and at least 1 was expected")
    check_vectors(queries, len(queries), dimensions)


class ExactVectorIndex:
    """A matrix and a product: misses nothing, and is the oracle that the graph is tested against."""

    def __init__(self, dimensions: int) -> None:
        self._dimensions = dimensions
        self._keys: list[int] = []
        self._places: dict[int, int] = {}
        self._matrix: Matrix = np.empty((16, dimensions), np.float32)

    @property
    def dimensions(self) -> int:
        """The vectors' number of dimensions."""
        return self._dimensions

    @property
    def nbytes(self) -> int:
        """How many bytes the matrix takes."""
        return self._matrix.nbytes

    def __len__(self) -> int:
        """How many vectors it holds."""
        return len(self._keys)

    def __contains__(self, key: int) -> bool:
        """Whether it holds a key."""
        return key in self._places

    def add(self, keys: Sequence[int], vectors: Matrix) -> None:
        """Add vectors."""
        check_vectors(vectors, len(keys), self._dimensions)
        check_keys(self, keys)
        begin, end = len(self._keys), len(self._keys) + len(keys)
        if end > len(self._matrix):
            grown = np.empty((max(end, 2 * len(self._matrix)), self._dimensions), np.float32)
            grown[:begin] = self._matrix[:begin]
            self._matrix = grown
        self._matrix[begin:end] = vectors
        self._keys += keys
        self._places.update(zip(keys, range(begin, end), strict=True))

    def remove(self, keys: Sequence[int]) -> None:
        """Remove keys: the last row moves into the gap."""
        for key in keys:
            place = self._places.pop(key, None)
            if place is None:
                continue
            last = self._keys.pop()
            if last != key:
                self._matrix[place] = self._matrix[len(self._keys)]
                self._keys[place] = last
                self._places[last] = place

    def search(self, queries: Matrix, k: int) -> tuple[list[Keys], list[Matrix]]:
        """The k nearest, exactly."""
        check_queries(queries, k, self._dimensions)
        similarities = np.clip(queries @ self._matrix[: len(self._keys)].T, -1.0, 1.0)
        order = np.argsort(-similarities, axis=1, kind="stable")[:, :k]
        keys = np.asarray(self._keys, np.int64)
        return list(keys[order]), list(np.take_along_axis(similarities, order, axis=1))

    def arrays(self) -> Arrays:
        """Keys and matrix."""
        return {"keys": np.array(self._keys, np.int64), "vectors": self._matrix[: len(self._keys)].copy()}

    @classmethod
    def of(cls, arrays: Arrays, dimensions: int) -> ExactVectorIndex:
        """An index of keys and matrix."""
        made = cls(dimensions)
        made.add(arrays["keys"].tolist(), arrays["vectors"])
        return made

    def save(self, path: Path) -> None:
        """Write keys and matrix."""
        write_arrays(path, self.arrays())

    @classmethod
    def load(cls, path: Path, dimensions: int) -> ExactVectorIndex:
        """Read keys and matrix."""
        return cls.of(read_arrays(path), dimensions)
