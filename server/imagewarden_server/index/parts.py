"""What leaves the index: parts for a snapshot, figures for metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from imagewarden_server.index.vectors import Arrays
from imagewarden_server.matching.types import SignalType, VectorSpace


@dataclass(frozen=True, slots=True)
class HashPart:
    """All hashes of one type in one bank.

    Attributes:
        arrays: keys int64 [n] and values uint8 [n, bytes of the type]; of PDQ also entries int64 [n].
    """

    bank: int
    type: SignalType
    arrays: Arrays


@dataclass(frozen=True, slots=True)
class VectorPart:
    """All vectors of one place in one bank, as `EntryVectors.arrays` gives them; `count` are not removed."""

    bank: int
    space: VectorSpace
    model: str
    dimensions: int
    count: int
    arrays: Arrays


@dataclass(frozen=True, slots=True)
class LocalPart:
    """All local features of one extractor in one bank, as `LocalIndex.arrays` gives them; `count` sets."""

    bank: int
    extractor: str
    count: int
    arrays: Arrays


Part = HashPart | VectorPart | LocalPart


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """How much an index has.

    Attributes:
        banks: how many banks have had an entry.
        hashes: how many hashes, by type.
        vectors: how many vectors, by space.
        locals: how many sets of local features.
        hash_bytes: the memory of the hashes.
        vector_bytes: the memory of the vectors.
        local_bytes: the memory of the local features.
    """

    revision: int
    banks: int
    hashes: Mapping[SignalType, int]
    vectors: Mapping[VectorSpace, int]
    locals: int
    hash_bytes: int
    vector_bytes: int
    local_bytes: int
