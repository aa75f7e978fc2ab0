"""Postings of a range of sets of local features: which of them have a descriptor of a word, and how near is it?

A posting is a descriptor: the place of its set, its signature of 64 bits and how its keypoint is turned and sized.
Those of a word stand next to each other. The lists that are asked are copied one after the other into pieces that stay
in the processor's cache, and compared piece by piece: some 2.6 ns a pair, however long or short the lists are, where a
list by itself costs 5 us more and gathering by rows takes twice as long.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_PAIRS = 131_072
"""Pairs compared at once: as many as are in a megabyte."""

Near = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]
"""Of each pair that is near: the place of the query, the row of the posting, the bits that differ."""


@dataclass(frozen=True, slots=True, eq=False)
class Postings:
    """The postings of the sets in places [first, last), by word: those of word w are rows [begins[w], begins[w + 1]).

    Attributes:
        begins: int64 [words + 1].
        places: int32 [n].
        signatures: uint64 [n].
        poses: float32 [n, 2]: orientation and size as the bins count them.
    """

    first: int
    last: int
    begins: NDArray[np.int64]
    places: NDArray[np.int32]
    signatures: NDArray[np.uint64]
    poses: NDArray[np.float32]

    @classmethod
    def of(
        cls,
        first: int,
        last: int,
        words: NDArray[np.uint16],
        places: NDArray[np.int32],
        signatures: NDArray[np.uint64],
        poses: NDArray[np.float32],
        vocabulary: int,
    ) -> Postings:
        """Sort descriptors, of a vocabulary of so many words, into postings."""
        order = np.argsort(words, kind="stable")
        begins = np.searchsorted(words[order], np.arange(vocabulary + 1)).astype(np.int64)
        return cls(first, last, begins, places[order], signatures[order], poses[order])

    @property
    def nbytes(self) -> int:
        """How many bytes of memory they take."""
        return self.begins.nbytes + self.places.nbytes + self.signatures.nbytes + self.poses.nbytes

    def near(self, words: NDArray[np.int64], signatures: NDArray[np.uint64], radius: int) -> Near:
        """The postings of each query's word whose signature differs in at most so many bits.

        Args:
            words: int64 [q].
            signatures: uint64 [q], of the same queries in these words.
            radius: in bits of 64.
        """
        begins, ends = self.begins[words], self.begins[words + 1]
        lengths = ends - begins
        pairs = np.concatenate([[0], np.cumsum(lengths)])
        lists = [self.signatures[begin:end] for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]
        found: list[Near] = [_NOTHING]
        for first, last in itertools.pairwise(_cuts(pairs)):
            differ = np.concatenate(lists[first:last])
            differ ^= np.repeat(signatures[first:last], lengths[first:last])
            bits = np.bitwise_count(differ)
            near = np.flatnonzero(bits <= radius)
            asked = np.searchsorted(pairs, near + pairs[first], side="right") - 1
            found.append((asked, near + (pairs[first] - pairs[asked] + begins[asked]), bits[near]))
        asked, rows, bits = (np.concatenate(part) for part in zip(*found, strict=True))
        return asked, rows, bits


_NOTHING: Near = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.uint8)


def _cuts(pairs: NDArray[np.int64]) -> list[int]:
    """Where to cut queries, before each of which there are so many pairs, into pieces of about `_PAIRS`."""
    places = np.searchsorted(pairs, np.arange(0, pairs[-1], _PAIRS))
    return [int(place) for place in np.unique(np.append(places, len(pairs) - 1))]
