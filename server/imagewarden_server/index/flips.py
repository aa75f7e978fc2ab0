"""PDQ hashes by the parity of their frequencies: what is known of one hash is known of its mirror images too.

Bit 16 i + j of a PDQ hash says whether the coefficient of the frequencies i + 1 and j + 1 of a cosine transform is over
the median of all. To mirror a picture turns the sign of its odd columns or rows around, to turn it by a half that of
both (Davis, Rosen, 2019: The TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm). So in the mirrored
picture's hash the bits of odd columns are the opposite ones, but for the few whose coefficient is near the median, and
the others stay.

Here a hash is four words, one for each parity of row and column. The distance to a mirror image then differs from the
distance to the picture in whole words, which differ in n bits of the one where they differ in 64 - n of the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]

WORDS = 4
BOUNDING = 2
"""So many words, the first, bound the distance: that of even rows and columns, which no mirror changes, and that of
even rows and odd columns."""

_ROWS = 16
_EVEN, _ODD = np.uint64(0xAAAA_AAAA_AAAA_AAAA), np.uint64(0x5555_5555_5555_5555)
"""The bits of even and of odd frequencies, as they are written."""
_ONE = np.uint64(1)
_ALL = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
_MIRRORED: Words = np.array([0, _ALL], np.uint64)
"""What a mirror at the upright axis, or a half turn, changes of the bounding words; one at the level axis changes none
of them."""

_NEAR = 12
"""At most so many of the bounding bits may be near the median: then the bound still leaves few hashes over."""


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Queries that one look at the bounding words bounds.

    Attributes:
        words: uint64 [BOUNDING] of the first of them.
        queries: the places of all of them.
        mirrored: whether one of them has the bits of odd columns turned around.
        slack: how many bits one of them differs from that at most.
    """

    words: Words
    queries: list[int]
    mirrored: bool
    slack: int


def by_parity(hashes: NDArray[np.uint8]) -> Words:
    """Hashes uint8 [n, 32] as uint64 [4, n]: the bits of (even, even), (even, odd), (odd, even), (odd, odd)."""
    rows = np.ascontiguousarray(hashes).reshape(-1, _ROWS, 2)
    words = np.empty((WORDS, len(hashes)), np.uint64)
    # The highest bit is written first: the first row is that of frequency 16, and so is the first bit of each row.
    for parity in (0, 1):
        one, two = np.ascontiguousarray(rows[:, parity::2]).reshape(-1, _ROWS).view(np.uint64).T
        words[2 * parity] = ((one & _EVEN) >> _ONE) | (two & _EVEN)
        words[2 * parity + 1] = (one & _ODD) | ((two & _ODD) << _ONE)
    return words


def as_written(words: Words) -> NDArray[np.uint8]:
    """What `by_parity` was given: uint8 [n, 32]."""
    rows = np.empty((words.shape[1], _ROWS, 2), np.uint8)
    for parity in (0, 1):
        even, odd = words[2 * parity], words[2 * parity + 1]
        one = ((even & _ODD) << _ONE) | (odd & _ODD)
        two = (even & _EVEN) | ((odd & _EVEN) >> _ONE)
        rows[:, parity::2] = np.stack([one, two], axis=1).view(np.uint8).reshape(-1, _ROWS // 2, 2)
    return rows.reshape(-1, 2 * _ROWS)


def grouped(queries: Words) -> list[Group]:
    """Queries uint64 [4, n], mirror images together."""
    bounding = queries[:BOUNDING].T
    groups: list[Group] = []
    left = np.arange(len(bounding))
    while len(left):
        first = bounding[left[0]]
        apart = [_apart(bounding[left], first ^ change) for change in (np.zeros_like(_MIRRORED), _MIRRORED)]
        bits = np.minimum(*apart)
        near = bits <= _NEAR
        mirrored = bool((near & (apart[1] < apart[0])).any())
        groups.append(Group(first, left[near].tolist(), mirrored, int(bits[near].max())))
        left = left[~near]
    return groups


def _apart(words: Words, other: Words) -> NDArray[np.int64]:
    differing: NDArray[np.int64] = np.bitwise_count(words ^ other).sum(axis=1, dtype=np.int64)
    return differing


def bound(group: Group, words: Words, room: tuple[Words, NDArray[np.uint8], NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """At least how many bits hashes differ from the nearest of a group, its slack not taken off: uint8 [n].

    Args:
        group: the queries.
        words: uint64 [BOUNDING, n] of the hashes.
        room: arrays of n at least, which the answer is a part of.
    """
    size = words.shape[1]
    differing, one, two = (array[:size] for array in room)
    for word, wanted, bits in zip(words, group.words, (one, two), strict=True):
        np.bitwise_xor(word, wanted, out=differing)
        np.bitwise_count(differing, out=bits)
    if group.mirrored:
        turned = differing.view(np.uint8)[:size]
        np.minimum(two, np.subtract(np.uint8(64), two, out=turned), out=two)
    return np.add(one, two, out=one)
