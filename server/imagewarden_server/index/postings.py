"""Postings of a range of sets of local features: which of them have a descriptor of a word, and how near is it?

A posting is a descriptor: the place of its set, its signature of 64 bits and how its keypoint is turned and sized.
Those of a word stand next to each other. Where words have many, those of a word whose signatures begin with the same
few bits do, and of a query only the groups are compared that its like may be in: those whose bits differ from its own
where it lies near the word's medians, so that a little change turns them (multi-probe: Lv, Josephson, Wang, Charikar,
Li, VLDB 2007: Multi-Probe LSH). The lists that are asked are copied one after the other into pieces that stay in the
processor's cache, and compared piece by piece: some 2.6 ns a pair and 1.4 us a list. To compare list by list costs 5 us
for each; to gather by rows takes twice as long where lists are long.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_PAIRS = 131_072
"""Pairs compared at once: as many as are in a megabyte."""

PARTING_BITS = 6
"""By so many first bits of their signatures the postings of a word are parted at most."""

_GROUP = 256
"""So many postings a group has at least, in the mean: a shorter list costs more to copy than to compare."""

_LEAST_BITS = 3
"""Words are not parted by fewer bits: there the groups that are asked are half of all, and the loss is as large."""

_DOUBT = 3.5
"""A group is asked where the margins of the bits that differ add up to at most so much for each parting bit."""

Near = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]
"""Of each pair that is near: the place of the query, the row of the posting, the bits that differ."""


@dataclass(frozen=True, slots=True, eq=False)
class Queries:
    """Descriptors in the words where they are looked for.

    Attributes:
        words: int64 [q].
        signatures: uint64 [q], in these words.
        margins: float32 [q, PARTING_BITS]: how far from the median that decides on each of the first bits.
    """

    words: NDArray[np.int64]
    signatures: NDArray[np.uint64]
    margins: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Lists:
    """What is compared with what: the place of a query, ascending, and rows [begins, ends) of postings; int64 [m]."""

    asked: NDArray[np.int64]
    begins: NDArray[np.int64]
    ends: NDArray[np.int64]

    def before(self, query: int) -> Lists:
        """Those of the queries before one."""
        count = int(np.searchsorted(self.asked, query))
        return Lists(self.asked[:count], self.begins[:count], self.ends[:count])


@dataclass(frozen=True, slots=True, eq=False)
class Postings:
    """The postings of the sets in places [first, last), by word and group of the word.

    Those of group g of word w are rows [begins[r], begins[r + 1]), where r is w << bits | g.

    Attributes:
        bits: by how many first bits of their signatures the postings of a word are parted.
        begins: int64 [(words << bits) + 1].
        places: int32 [n].
        signatures: uint64 [n].
        poses: float32 [n, 2]: orientation and size as the bins count them.
    """

    first: int
    last: int
    bits: int
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
        bits = _parting_bits(len(words) / vocabulary)
        groups = _groups(signatures, bits)
        # By groups, then by words: numpy sorts numbers of 16 bits and less by radix, many times as fast.
        order = np.argsort(groups, kind="stable")
        order = order[np.argsort(words[order], kind="stable")]
        count = np.bincount(words.astype(np.int64) << bits | groups, minlength=vocabulary << bits)
        begins = np.concatenate([[0], np.cumsum(count)])
        return cls(first, last, bits, begins, places[order], signatures[order], poses[order])

    @property
    def nbytes(self) -> int:
        """How many bytes of memory they take."""
        return self.begins.nbytes + self.places.nbytes + self.signatures.nbytes + self.poses.nbytes

    def lists(self, queries: Queries) -> Lists:
        """The lists that each query is compared with."""
        # Of each group, seen from a query's own, the bits that differ; the first bit of a signature is the highest.
        which = (np.arange(1 << self.bits)[:, None] >> np.arange(self.bits)[::-1]) & 1
        doubt = queries.margins[:, : self.bits] @ which.T.astype(np.float32)
        asked, turned = np.nonzero(doubt <= _DOUBT * self.bits)
        group = _groups(queries.signatures, self.bits)[asked] ^ turned
        rows = queries.words[asked] << self.bits | group
        return Lists(asked, self.begins[rows], self.begins[rows + 1])

    def near(self, lists: Lists, signatures: NDArray[np.uint64], radius: int) -> Near:
        """The postings of some lists whose signature differs in at most so many bits from the query's.

        Args:
            lists: of these postings.
            signatures: uint64 [q], of the queries.
            radius: in bits of 64.
        """
        lengths = lists.ends - lists.begins
        pairs = np.concatenate([[0], np.cumsum(lengths)])
        bounds = zip(lists.begins.tolist(), lists.ends.tolist(), strict=True)
        parts = [self.signatures[begin:end] for begin, end in bounds]
        mine = signatures[lists.asked]
        found: list[Near] = [_NOTHING]
        for first, last in itertools.pairwise(_cuts(pairs)):
            differ = np.concatenate(parts[first:last])
            differ ^= np.repeat(mine[first:last], lengths[first:last])
            bits = np.bitwise_count(differ)
            near = np.flatnonzero(bits <= radius)
            at = np.searchsorted(pairs, near + pairs[first], side="right") - 1
            found.append((lists.asked[at], near + (pairs[first] - pairs[at] + lists.begins[at]), bits[near]))
        asked, rows, bits = (np.concatenate(part) for part in zip(*found, strict=True))
        return asked, rows, bits


_NOTHING: Near = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.uint8)


def _parting_bits(mean: float) -> int:
    """By how many bits words of so many postings in the mean are parted.

    It is of a segment: once segments are merged, or made anew by a start, other votes than before may be left out.
    """
    bits = min(int(np.log2(max(mean, 1) / _GROUP)), PARTING_BITS) if mean > _GROUP else 0
    return bits if bits >= _LEAST_BITS else 0


def _groups(signatures: NDArray[np.uint64], bits: int) -> NDArray[np.uint8]:
    """The first so many bits of signatures as a number: the highest of the lowest byte, as `Vocabulary.sign` packs."""
    if bits == 0:
        return np.zeros(len(signatures), np.uint8)
    return (signatures & np.uint64(0xFF)).astype(np.uint8) >> np.uint8(8 - bits)


def _cuts(pairs: NDArray[np.int64]) -> list[int]:
    """Where to cut lists, before each of which there are so many pairs, into pieces of about `_PAIRS`."""
    places = np.searchsorted(pairs, np.arange(0, pairs[-1], _PAIRS))
    return [int(place) for place in np.unique(np.append(places, len(pairs) - 1))]
