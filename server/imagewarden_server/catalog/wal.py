"""What SQLite's write-ahead log has: the pages that whole transactions wrote, as far as the log can be believed.

SQLite believes a log up to the last frame that ends a transaction and whose checksum, which goes on from that of all
frames before it, is right; so does this. What comes after is dropped without a word: after a kill it is half a
transaction, after a flipped byte it is every change from that byte on. See https://sqlite.org/walformat.html.
"""

from __future__ import annotations

import functools
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_HEADER = struct.Struct(">8I")
_SUMMED = 24
"""So many bytes of the header are under its checksum."""
_FRAME = struct.Struct(">6I")
_MAGIC = 0x377F0682
"""Its lowest bit says in which order the bytes of a word are summed."""
_VERSION = 3_007_000
_FEWEST, _MOST = 16, 1_024
"""So many frames are read at once: few at first, since old ones, which say nothing, may follow."""
_WORD = 2**32

Numbers = NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a log, where a transaction ends.

    Attributes:
        salts: 8 bytes that a log has since it last began anew.
        frames: how many come before.
        checksum: of the last of them.
    """

    salts: bytes
    frames: int
    checksum: tuple[int, int]


NOWHERE = Position(bytes(8), 0, (0, 0))
"""Before any log."""


class Written(NamedTuple):
    """What whole transactions wrote.

    Attributes:
        pages: their numbers from 1, one a frame, in the order of the frames; later ones count.
        sums: CRC-32 of each of them.
        size: how many pages the database has after the last transaction; 0: there is none.
        position: where the last transaction ends.
    """

    pages: Numbers
    sums: Numbers
    size: int
    position: Position


def read_log(path: Path, page_size: int, after: Position = NOWHERE) -> Written:
    """What a log has after a position; all that it has, where it has begun anew since.

    Args:
        path: the log; it need not be there.
        page_size: of the database, in bytes.
        after: where reading begins.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return _nothing(after)
    with file:
        begun = _begin(file.read(_HEADER.size), page_size)
        if begun is None:
            return _nothing(after)
        order, start = begun
        first = at = after if after.salts == start.salts else start
        frame_size = _FRAME.size + page_size
        pages, sums = [_NONE], [_NONE]
        size, end = 0, first
        file.seek(_HEADER.size + first.frames * frame_size)
        frames = _FEWEST
        while block := file.read(frames * frame_size):
            heads, checksums = _good(block, frame_size, order, at)
            pages.append(heads[:, 0])
            sums.append(_crcs(block, frame_size, len(heads)))
            for place in np.flatnonzero(heads[:, 1])[-1:]:
                size, end = int(heads[place, 1]), Position(at.salts, at.frames + int(place) + 1, checksums[place])
            if not len(heads) or len(heads) * frame_size < len(block):
                break
            at = Position(at.salts, at.frames + len(heads), checksums[-1])
            frames = min(4 * frames, _MOST)
    if not size:
        return _nothing(after)
    # Of frames after the last one that ends a transaction nothing counts.
    whole = end.frames - first.frames
    return Written(np.concatenate(pages)[:whole], np.concatenate(sums)[:whole], size, end)


_NONE: Numbers = np.empty(0, np.uint32)


def _nothing(after: Position) -> Written:
    return Written(_NONE, _NONE, 0, after)


def _crcs(block: bytes, frame_size: int, count: int) -> Numbers:
    view = memoryview(block)
    ends = range(frame_size, (count + 1) * frame_size, frame_size)
    return np.fromiter((zlib.crc32(view[end - frame_size + _FRAME.size : end]) for end in ends), np.uint32, count)


def _begin(header: bytes, page_size: int) -> tuple[str, Position] | None:
    """The order of bytes and the place before the first frame; None: SQLite takes the log for an empty one."""
    if len(header) < _HEADER.size:
        return None
    magic, version, size, _, _, _, *checksum = _HEADER.unpack(header)
    if magic & ~1 != _MAGIC or version != _VERSION or size != page_size:
        return None
    order = ">" if magic & 1 else "<"
    one = two = 0
    for first, second in struct.iter_unpack(f"{order}2I", header[:_SUMMED]):
        one = (one + first + two) % _WORD
        two = (two + second + one) % _WORD
    if [one, two] != checksum:
        return None
    return order, Position(header[16:24], 0, (one, two))


def _good(block: bytes, frame_size: int, order: str, at: Position) -> tuple[Numbers, list[tuple[int, int]]]:
    """Of the frames of a block that can be believed the page's number and the size, and their checksums."""
    count = len(block) // frame_size
    frames = np.frombuffer(block, np.uint8, count * frame_size).reshape(count, frame_size)
    heads = np.ascontiguousarray(frames[:, : _FRAME.size]).view(">u4").astype(np.uint32)
    salts = np.frombuffer(at.salts, ">u4").astype(np.uint32)
    odd = np.flatnonzero((heads[:, 2:4] != salts).any(axis=1) | (heads[:, 0] == 0))
    count = int(odd[0]) if len(odd) else count
    # Of a frame its number, its size and its page are summed; the sum is linear, so all frames' are made together.
    summed = np.concatenate([frames[:count, :8], frames[:count, _FRAME.size :]], axis=1).view(f"{order}u4")
    weights, ((a, b), (c, d)) = _weights(frame_size - _FRAME.size)
    shares = (summed.astype(np.uint32, copy=False) @ weights).tolist()
    checksums: list[tuple[int, int]] = []
    one, two = at.checksum
    for (first, second), said in zip(shares, heads[:count, 4:6].tolist(), strict=True):
        one, two = (a * one + b * two + first) % _WORD, (c * one + d * two + second) % _WORD
        if [one, two] != said:
            break
        checksums.append((one, two))
    return heads[: len(checksums), :2], checksums


@functools.cache
def _weights(page_size: int) -> tuple[Numbers, tuple[tuple[int, int], tuple[int, int]]]:
    """By how much each word of a frame counts in its checksum, and the checksum before it.

    A step of the sum takes two words: one += first + two, and then two += second + one.
    """
    steps = (8 + page_size) // 8
    weights: list[tuple[int, int]] = []
    a, b, c, d = 1, 0, 0, 1
    for _ in range(steps):
        weights += [(b, d), ((a + b) % _WORD, (c + d) % _WORD)]
        a, b, c, d = (a + b) % _WORD, (a + 2 * b) % _WORD, (c + d) % _WORD, (c + 2 * d) % _WORD
    return np.array(weights[::-1], np.uint32), ((a, b), (c, d))
