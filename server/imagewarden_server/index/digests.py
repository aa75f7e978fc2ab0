"""Digests by lookup: value to the keys that have it, one table a bank and type."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Pairs = list[tuple[bytes, "int | tuple[int, ...]"]]


class DigestTable:
    """Digests of one type in one bank; not thread-safe: the holder locks."""

    def __init__(self) -> None:
        # Nearly every digest has one key, and a tuple around it would cost half as much again as all the rest.
        self._keys: dict[bytes, int | tuple[int, ...]] = {}
        self._count = 0

    def __len__(self) -> int:
        """How many digests it holds."""
        return self._count

    @property
    def nbytes(self) -> int:
        """About how many bytes of memory it takes: the dictionary, its values and their keys."""
        if not self._keys:
            return sys.getsizeof(self._keys)
        value = next(iter(self._keys))
        return sys.getsizeof(self._keys) + len(self._keys) * sys.getsizeof(value) + self._count * 32

    def add(self, key: int, value: bytes) -> None:
        """Add a digest; one that is there already is left as it is."""
        held = self.find(value)
        if key in held:
            return
        self._keys[value] = (*held, key) if held else key
        self._count += 1

    def remove(self, key: int, value: bytes) -> None:
        """Remove a digest; one that is not there is no error."""
        held = self.find(value)
        if key not in held:
            return
        left = tuple(one for one in held if one != key)
        if left:
            self._keys[value] = left if len(left) > 1 else left[0]
        else:
            del self._keys[value]
        self._count -= 1

    def find(self, value: bytes) -> Sequence[int]:
        """The keys that have a digest."""
        held = self._keys.get(value, ())
        return (held,) if isinstance(held, int) else held

    def pairs(self) -> Pairs:
        """A quick copy of all there is; `arrays` makes of it what a snapshot keeps."""
        return list(self._keys.items())


def arrays(pairs: Pairs, length: int) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Keys int64 [n] and values uint8 [n, length] of what `DigestTable.pairs` gave."""
    keys: list[int] = []
    values: list[bytes] = []
    for value, held in pairs:
        for key in (held,) if isinstance(held, int) else held:
            keys.append(key)
            values.append(value)
    return np.array(keys, np.int64), np.frombuffer(b"".join(values), np.uint8).reshape(len(keys), length)
