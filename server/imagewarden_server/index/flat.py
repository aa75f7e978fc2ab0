"""A flat scan over PDQ hashes: exact, and smaller and faster than any graph over 256 bits.

A graph of near neighbours found a hash at 31 bits 59% of the time; a scan finds all. The four words of the hashes lie
in a row each, so that a block is four passes over memory without gaps: six times as fast as summing along the hash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagewarden_server.index.errors import WrongShape

PDQ_BYTES = 32
MOST_HITS = 1_000
"""At most this many hits a query, the nearest: a flood of one picture's copies must not fill an answer."""

_WORDS = 4
_BLOCK = 32_768
_LEAST_ROOM = 16
_GROWTH = 1.5

Keys = NDArray[np.int64]
Words = NDArray[np.uint64]
Arrays = Mapping[str, NDArray[Any]]
Found = tuple[Keys, NDArray[np.int64]]


def as_words(hashes: Sequence[bytes]) -> Words:
    """Hashes of 32 bytes as uint64 [4, n].

    Raises:
        WrongShape: one of them is not of 32 bytes.
    """
    for value in hashes:
        if len(value) != PDQ_BYTES:
            raise WrongShape(f"a PDQ hash has {PDQ_BYTES} bytes, and one of {len(value)} was given")
    return np.frombuffer(b"".join(hashes), np.uint64).reshape(len(hashes), _WORDS).T


class FlatHammingIndex:
    """Hashes of 256 bits by key, compared by Hamming distance; not thread-safe: the holder locks."""

    def __init__(self) -> None:
        self._words: Words = np.empty((_WORDS, _LEAST_ROOM), np.uint64)
        self._keys: Keys = np.empty(_LEAST_ROOM, np.int64)
        self._entries: Keys = np.empty(_LEAST_ROOM, np.int64)
        self._count = 0
        self._greatest = -1

    def __len__(self) -> int:
        """How many hashes it holds."""
        return self._count

    def __contains__(self, key: int) -> bool:
        """Whether it holds a key."""
        return bool((self._keys[: self._count] == key).any())

    @property
    def nbytes(self) -> int:
        """How many bytes of memory it takes."""
        return self._words.nbytes + self._keys.nbytes + self._entries.nbytes

    def add(self, keys: Sequence[int], entries: Sequence[int], hashes: Sequence[bytes]) -> None:
        """Add hashes of 32 bytes, each with the entry that has it; keys that are there already are left as they are.

        Raises:
            WrongShape: a hash is not of 32 bytes; nothing was added.
        """
        words = as_words(hashes)
        new, first = np.unique(np.asarray(keys, np.int64), return_index=True)
        if len(new) and new[0] <= self._greatest:
            # Keys grow, so this is the rare case: an entry that is enabled again, or a change that comes again.
            there = self._keys[self._places(new)]
            fresh = ~np.isin(new, there)
            new, first = new[fresh], first[fresh]
        if not len(new):
            return
        end = self._count + len(new)
        if end > len(self._keys):
            self._resize(max(end, int(_GROWTH * len(self._keys))))
        self._words[:, self._count : end] = words[:, first]
        self._keys[self._count : end] = new
        self._entries[self._count : end] = np.asarray(entries, np.int64)[first]
        self._count = end
        self._greatest = max(self._greatest, int(new[-1]))

    def remove(self, keys: Sequence[int]) -> None:
        """Remove keys: the last ones move into the gaps; keys that are not there are no error."""
        gone = self._places(np.asarray(keys, np.int64))
        if not len(gone):
            return
        left = self._count - len(gone)
        tail = np.arange(left, self._count)
        movers = tail[~np.isin(tail, gone)]
        holes = gone[gone < left]
        self._words[:, holes] = self._words[:, movers]
        self._keys[holes] = self._keys[movers]
        self._entries[holes] = self._entries[movers]
        self._count = left
        if left < len(self._keys) // 4:
            self._resize(max(_LEAST_ROOM, int(_GROWTH * left)))

    def _places(self, keys: Keys) -> NDArray[np.intp]:
        """Where keys are, in ascending order."""
        return np.flatnonzero(np.isin(self._keys[: self._count], keys))

    def _resize(self, room: int) -> None:
        words, keys, entries = np.empty((_WORDS, room), np.uint64), np.empty(room, np.int64), np.empty(room, np.int64)
        words[:, : self._count] = self._words[:, : self._count]
        keys[: self._count] = self._keys[: self._count]
        entries[: self._count] = self._entries[: self._count]
        self._words, self._keys, self._entries = words, keys, entries

    def search(self, queries: Sequence[bytes], distance: int) -> list[Found]:
        """Keys int64 and distances in bits of all hashes within `distance`, nearest first, at most `MOST_HITS` a query.

        Raises:
            WrongShape: a query is not of 32 bytes.
        """
        wanted = as_words(queries)
        found: list[list[Found]] = [[] for _ in queries]
        room = min(_BLOCK, self._count)
        differing, bits, distances = np.empty(room, np.uint64), np.empty(room, np.uint8), np.empty(room, np.uint16)
        for begin in range(0, self._count, _BLOCK):
            end = min(begin + _BLOCK, self._count)
            size = end - begin
            for query, hits in enumerate(found):
                distances[:size] = 0
                for word in range(_WORDS):
                    np.bitwise_xor(self._words[word, begin:end], wanted[word, query], out=differing[:size])
                    np.bitwise_count(differing[:size], out=bits[:size])
                    distances[:size] += bits[:size]
                near = np.flatnonzero(distances[:size] <= distance)
                if len(near):
                    hits.append((self._keys[begin:end][near], distances[near].astype(np.int64)))
        return [_nearest(hits) for hits in found]

    def distances(self, entries: Sequence[int], queries: Sequence[bytes]) -> tuple[Keys, Keys, NDArray[np.int64]]:
        """The given entries that have a hash here, with the nearest query's row and its distance in bits; exact.

        Raises:
            WrongShape: a query is not of 32 bytes.
        """
        wanted = as_words(queries)
        places = np.flatnonzero(np.isin(self._entries[: self._count], np.asarray(entries, np.int64)))
        if not len(places) or not len(queries):
            nothing = np.empty(0, np.int64)
            return nothing, nothing, nothing
        differing = np.bitwise_count(self._words[:, places, None] ^ wanted[:, None, :]).sum(axis=0, dtype=np.int64)
        query, owners = differing.argmin(axis=1), self._entries[places]
        bits = differing.min(axis=1)
        order = np.lexsort((query, bits, owners))
        first = order[np.unique(owners[order], return_index=True)[1]]
        return owners[first], query[first], bits[first]

    def arrays(self) -> Arrays:
        """Copies of keys and entries int64 [n] and hashes uint8 [n, 32]: what a snapshot keeps."""
        words = np.ascontiguousarray(self._words[:, : self._count].T)
        return {
            "keys": self._keys[: self._count].copy(),
            "entries": self._entries[: self._count].copy(),
            "values": words.view(np.uint8).reshape(self._count, PDQ_BYTES),
        }

    @classmethod
    def of(cls, arrays: Arrays) -> FlatHammingIndex:
        """An index of what `arrays` gave.

        Raises:
            WrongShape: these are not n keys, entries and hashes uint8 [n, 32].
        """
        keys, hashes = arrays["keys"], arrays["values"]
        if arrays["entries"].shape != keys.shape:
            raise WrongShape(f"{len(arrays['entries'])} entries are not those of {len(keys)} PDQ hashes")
        if hashes.dtype != np.uint8 or hashes.shape != (len(keys), PDQ_BYTES):
            raise WrongShape(f"{hashes.dtype} {hashes.shape} are not {len(keys)} PDQ hashes of {PDQ_BYTES} bytes")
        made = cls()
        made._words = np.ascontiguousarray(np.ascontiguousarray(hashes).view(np.uint64).T)
        made._keys, made._entries = keys.astype(np.int64), arrays["entries"].astype(np.int64)
        made._count = len(keys)
        made._greatest = int(keys.max()) if len(keys) else -1
        return made


def _nearest(hits: list[Found]) -> Found:
    if not hits:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    keys = np.concatenate([one for one, _ in hits])
    distances = np.concatenate([one for _, one in hits])
    order = np.lexsort((keys, distances))[:MOST_HITS]
    return keys[order], distances[order]
