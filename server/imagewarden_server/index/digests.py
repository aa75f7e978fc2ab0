"""Digests by lookup: value to the keys that have it, one table a bank and type."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


class DigestTable:
    """Digests of one type in one bank; not thread-safe: the holder locks."""

    def __init__(self) -> None:
        self._keys: dict[bytes, tuple[int, ...]] = {}
        self._count = 0

    def __len__(self) -> int:
        """How many digests it holds."""
        return self._count

    def add(self, key: int, value: bytes) -> None:
        """Add a digest; one that is there already is left as it is."""
        held = self._keys.get(value, ())
        if key not in held:
            self._keys[value] = (*held, key)
            self._count += 1

    def remove(self, key: int, value: bytes) -> None:
        """Remove a digest; one that is not there is no error."""
        held = self._keys.get(value, ())
        if key not in held:
            return
        left = tuple(one for one in held if one != key)
        if left:
            self._keys[value] = left
        else:
            del self._keys[value]
        self._count -= 1

    def find(self, value: bytes) -> Sequence[int]:
        """The keys that have a digest."""
        return self._keys.get(value, ())

    def items(self) -> Iterator[tuple[int, bytes]]:
        """All keys with their digests."""
        for value, keys in self._keys.items():
            for key in keys:
                yield key, value
