"""What leaves the index: parts for a snapshot, figures for metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imagewarden_server.index.vectors import Arrays
from imagewarden_server.matching.types import SignalType, VectorSpace


@dataclass(frozen=True, slots=True)
class HashPart:
    """All hashes of one type in one bank.

    Attributes:
        keys: int64 [n].
        values: uint8 [n, bytes of the type].
    """

    bank: int
    type: SignalType
    keys: NDArray[np.int64]
    values: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class VectorPart:
    """All vectors of one model and space in one bank, as `VectorIndex.arrays` gives them; `count` are not removed."""

    bank: int
    space: VectorSpace
    model: str
    dimensions: int
    count: int
    arrays: Arrays


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """How much an index has.

    Attributes:
        banks: how many banks have had an entry.
        hashes: how many hashes, by type.
        vectors: how many vectors, by space.
        hash_bytes: the memory of the hashes.
        vector_bytes: the memory of the vectors.
    """

    revision: int
    banks: int
    hashes: Mapping[SignalType, int]
    vectors: Mapping[VectorSpace, int]
    hash_bytes: int
    vector_bytes: int
