"""A flat scan over PDQ hashes: exact, and smaller and faster than any graph over 256 bits.

A graph of near neighbours found a hash at 31 bits 59% of the time; a scan finds all. The four words of the hashes lie
in a row each, so that a block is passes over memory without gaps. Two of the words tell nearly all hashes apart: their
distance is a lower bound of the whole one (as in a partial distance search, Bei and Gray, 1985), and the other two are
read for the few hashes only that it leaves. The eight turns of a picture are bounded by two looks: see `flips`.

Hashes are in the order of their keys, which grow: so a key is found by bisection, and so are the hashes of an entry.
What is removed stays as a tombstone until a quarter is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagewarden_server.index.errors import WrongShape
from imagewarden_server.index.flips import BOUNDING, WORDS, Words, as_written, bound, by_parity, grouped

PDQ_BYTES = 32
MOST_HITS = 1_000
"""At most this many hits a query, the nearest: a flood of one picture's copies must not fill an answer."""

_BLOCK = 32_768
_LEAST_ROOM = 16
_GROWTH = 1.25

Keys = NDArray[np.int64]
Arrays = Mapping[str, NDArray[Any]]
Found = tuple[Keys, NDArray[np.int64]]


def as_words(hashes: Sequence[bytes]) -> Words:
    """Hashes of 32 bytes as uint64 [4, n], by parity.

    Raises:
        WrongShape: one of them is not of 32 bytes.
    """
    for value in hashes:
        if len(value) != PDQ_BYTES:
            raise WrongShape(f"a PDQ hash has {PDQ_BYTES} bytes, and one of {len(value)} was given")
    return by_parity(np.frombuffer(b"".join(hashes), np.uint8).reshape(len(hashes), PDQ_BYTES))


class FlatHammingIndex:
    """Hashes of 256 bits by key, compared by Hamming distance; not thread-safe: the holder locks."""

    def __init__(self) -> None:
        self._words: Words = np.empty((WORDS, _LEAST_ROOM), np.uint64)
        self._keys: Keys = np.empty(_LEAST_ROOM, np.int64)
        self._entries: Keys = np.empty(_LEAST_ROOM, np.int64)
        self._gone: NDArray[np.bool_] = np.empty(_LEAST_ROOM, np.bool_)
        self._count = 0
        self._tombstones = 0
        # Whether entries grow with the keys of their hashes, as they do where a catalogue numbers both.
        self._entries_grow = True

    def __len__(self) -> int:
        """How many hashes it holds."""
        return self._count - self._tombstones

    def __contains__(self, key: int) -> bool:
        """Whether it holds a key."""
        places, there = self._places(np.array([key], np.int64))
        return bool(there[0] and not self._gone[places[0]])

    @property
    def nbytes(self) -> int:
        """How many bytes of memory it takes."""
        return self._words.nbytes + self._keys.nbytes + self._entries.nbytes + self._gone.nbytes

    def add(self, keys: Sequence[int], entries: Sequence[int], hashes: Sequence[bytes]) -> None:
        """Add hashes of 32 bytes, each with the entry that has it; keys that are there already are left as they are.

        Raises:
            WrongShape: a hash is not of 32 bytes; nothing was added.
        """
        words = as_words(hashes)
        new, first = np.unique(np.asarray(keys, np.int64), return_index=True)
        words, owners = words[:, first], np.asarray(entries, np.int64)[first]
        if len(new) and self._count and new[0] <= self._keys[self._count - 1]:
            # Keys grow, so this is the rare case: an entry that is enabled again, or a change that comes again.
            places, there = self._places(new)
            revived = there & self._gone[np.minimum(places, self._count - 1)]
            self._put(places[revived], new[revived], owners[revived], words[:, revived])
            self._tombstones -= int(revived.sum())
            new, owners, words = new[~there], owners[~there], words[:, ~there]
        if not len(new):
            return
        begin, end = self._count, self._count + len(new)
        if end > len(self._keys):
            self._move(np.arange(begin), max(end, int(_GROWTH * len(self._keys))))
        self._put(np.arange(begin, end), new, owners, words)
        self._count = end
        if begin and new[0] < self._keys[begin - 1]:
            self._move(np.argsort(self._keys[:end]), len(self._keys))
            self._look_at_entries()
        elif self._entries_grow:
            self._look_at_entries(max(begin - 1, 0))

    def remove(self, keys: Sequence[int]) -> None:
        """Remove keys; keys that are not there are no error."""
        places, there = self._places(np.unique(np.asarray(keys, np.int64)))
        places = places[there]
        self._tombstones += int(np.count_nonzero(~self._gone[places]))
        self._gone[places] = True
        if self._tombstones > self._count // 4:
            left = np.flatnonzero(~self._gone[: self._count])
            shrinks = len(left) < len(self._keys) // 4
            self._move(left, max(_LEAST_ROOM, int(_GROWTH * len(left))) if shrinks else len(self._keys))

    def _places(self, keys: Keys) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Where keys are or would be, and whether they are there, removed or not."""
        places = np.searchsorted(self._keys[: self._count], keys)
        there = places < self._count
        there[there] = self._keys[places[there]] == keys[there]
        return places, there

    def _places_of(self, entries: Sequence[int]) -> NDArray[np.intp]:
        """Where the hashes of entries are, in ascending order."""
        wanted, held = np.unique(np.asarray(entries, np.int64)), self._entries[: self._count]
        if self._entries_grow:
            begins, ends = np.searchsorted(held, wanted), np.searchsorted(held, wanted, "right")
            spans = [np.arange(begin, end) for begin, end in zip(begins, ends, strict=True)]
            places = np.concatenate([np.empty(0, np.intp), *spans])
        else:
            places = np.flatnonzero(np.isin(held, wanted))
        return np.asarray(places[~self._gone[places]], np.intp)

    def _put(self, places: NDArray[np.intp], keys: Keys, entries: Keys, words: Words) -> None:
        self._words[:, places] = words
        self._keys[places] = keys
        self._entries[places] = entries
        self._gone[places] = False

    def _move(self, places: NDArray[np.intp], room: int) -> None:
        """Keep the hashes at these places alone, in this order, in room for so many."""
        count = len(places)
        words, gone = np.empty((WORDS, room), np.uint64), np.empty(room, np.bool_)
        keys, entries = np.empty(room, np.int64), np.empty(room, np.int64)
        words[:, :count], gone[:count] = self._words[:, places], self._gone[places]
        keys[:count], entries[:count] = self._keys[places], self._entries[places]
        self._words, self._keys, self._entries, self._gone = words, keys, entries, gone
        self._count, self._tombstones = count, int(np.count_nonzero(gone[:count]))

    def _look_at_entries(self, begin: int = 0) -> None:
        held = self._entries[begin : self._count]
        self._entries_grow = bool((held[1:] >= held[:-1]).all())

    def search(self, queries: Sequence[bytes], distance: int) -> list[Found]:
        """Keys int64 and distances in bits of all hashes within `distance`, nearest first, at most `MOST_HITS` a query.

        Raises:
            WrongShape: a query is not of 32 bytes.
        """
        wanted = as_words(queries)
        found: list[list[Found]] = [[] for _ in queries]
        block = min(_BLOCK, self._count)
        room = np.empty(block, np.uint64), np.empty(block, np.uint8), np.empty(block, np.uint8)
        groups = grouped(wanted)
        for begin in range(0, self._count, _BLOCK):
            words = self._words[:BOUNDING, begin : min(begin + _BLOCK, self._count)]
            for group in groups:
                least = bound(group, words, room)
                if least.min() > distance + group.slack:
                    continue
                places = begin + np.flatnonzero(least <= distance + group.slack)
                for query in group.queries:
                    found[query].append(self._within(places, wanted[:, query], distance))
        return [_nearest(hits) for hits in found]

    def _within(self, places: NDArray[np.intp], wanted: NDArray[np.uint64], distance: int) -> Found:
        """Of these places, the keys and the distances of the hashes that are near enough."""
        places = places[~self._gone[places]]
        distances = np.bitwise_count(self._words[:, places] ^ wanted[:, None]).sum(axis=0, dtype=np.int64)
        near = distances <= distance
        return self._keys[places[near]], distances[near]

    def distances(self, entries: Sequence[int], queries: Sequence[bytes]) -> tuple[Keys, Keys, NDArray[np.int64]]:
        """The given entries that have a hash here, with the nearest query's row and its distance in bits; exact.

        Raises:
            WrongShape: a query is not of 32 bytes.
        """
        wanted = as_words(queries)
        places = self._places_of(entries)
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
        return self.copying()()

    def copying(self) -> Callable[[], Arrays]:
        """What makes `arrays` of all that is here now, and may run without the lock."""
        held = slice(self._count)
        words, left = self._words[:, held].copy(), ~self._gone[held]
        keys, entries = self._keys[held].copy(), self._entries[held].copy()
        return lambda: {"keys": keys[left], "entries": entries[left], "values": as_written(words[:, left])}

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
        order = np.argsort(keys, kind="stable")
        made = cls()
        made._words = by_parity(hashes[order])
        made._keys, made._entries = keys[order].astype(np.int64), arrays["entries"][order].astype(np.int64)
        made._gone = np.zeros(len(keys), np.bool_)
        made._count = len(keys)
        made._look_at_entries()
        return made


def _nearest(hits: list[Found]) -> Found:
    if not hits:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    keys = np.concatenate([one for one, _ in hits])
    distances = np.concatenate([one for _, one in hits])
    order = np.lexsort((keys, distances))[:MOST_HITS]
    return keys[order], distances[order]
