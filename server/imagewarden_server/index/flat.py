"""A flat scan over PDQ hashes: exact, and smaller and faster than any graph over 256 bits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_WORDS = 4
_BLOCK = 65_536
MOST_HITS = 1_000
"""At most this many hits a query: the nearest."""

Words = NDArray[np.uint64]


def as_words(hashes: Sequence[bytes]) -> Words:
    """Hashes of 32 bytes as uint64 [n, 4]."""
    return np.frombuffer(b"".join(hashes), np.uint64).reshape(len(hashes), _WORDS)


class FlatHammingIndex:
    """Hashes of 256 bits by key, compared by Hamming distance; not thread-safe: the holder locks."""

    def __init__(self) -> None:
        self._words: Words = np.empty((16, _WORDS), np.uint64)
        self._keys: NDArray[np.int64] = np.empty(16, np.int64)
        self._places: dict[int, int] = {}

    def __len__(self) -> int:
        """How many hashes it holds."""
        return len(self._places)

    def __contains__(self, key: int) -> bool:
        """Whether it holds a key."""
        return key in self._places

    def add(self, keys: Sequence[int], hashes: Sequence[bytes]) -> None:
        """Add hashes of 32 bytes; keys that are there already are left as they are."""
        fresh = [place for place, key in enumerate(keys) if key not in self._places]
        if not fresh:
            return
        begin, end = len(self._places), len(self._places) + len(fresh)
        if end > len(self._keys):
            size = max(end, 2 * len(self._keys))
            words, held = np.empty((size, _WORDS), np.uint64), np.empty(size, np.int64)
            words[:begin], held[:begin] = self._words[:begin], self._keys[:begin]
            self._words, self._keys = words, held
        self._words[begin:end] = as_words([hashes[place] for place in fresh])
        for offset, place in enumerate(fresh, begin):
            self._keys[offset] = keys[place]
            self._places[keys[place]] = offset

    def remove(self, keys: Sequence[int]) -> None:
        """Remove keys; those that are not there are no error."""
        for key in keys:
            place = self._places.pop(key, None)
            if place is None:
                continue
            last = len(self._places)
            if place != last:
                self._words[place] = self._words[last]
                self._keys[place] = self._keys[last]
                self._places[int(self._keys[last])] = place

    def search(self, query: bytes, distance: int) -> list[tuple[int, int]]:
        """Keys and distances of all hashes within a distance, nearest first, at most `MOST_HITS`."""
        count = len(self._places)
        wanted = as_words([query])
        found: list[tuple[int, int]] = []
        for begin in range(0, count, _BLOCK):
            block = self._words[begin : min(begin + _BLOCK, count)]
            distances = np.bitwise_count(block ^ wanted).sum(axis=1, dtype=np.int64)
            found += [
                (int(self._keys[begin + place]), int(distances[place]))
                for place in np.flatnonzero(distances <= distance)
            ]
        found.sort(key=lambda hit: hit[1])
        return found[:MOST_HITS]

    def arrays(self) -> tuple[NDArray[np.int64], Words]:
        """Copies of keys int64 [n] and words uint64 [n, 4]: what a snapshot keeps."""
        count = len(self._places)
        return self._keys[:count].copy(), self._words[:count].copy()

    @classmethod
    def of(cls, keys: NDArray[np.int64], words: Words) -> FlatHammingIndex:
        """An index of what `arrays` gave."""
        made = cls()
        made._keys, made._words = keys.astype(np.int64), np.ascontiguousarray(words, np.uint64)
        made._places = {int(key): place for place, key in enumerate(keys)}
        return made
