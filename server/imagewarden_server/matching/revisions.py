"""Revision tokens, and the index that follows the catalogue's changes."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from imagewarden_server.matching.errors import InvalidField
from imagewarden_server.matching.ports import Catalog, SearchIndex

T = TypeVar("T")
Run = Callable[..., Awaitable[T]]

_PREFIX = "r1"
# As it is written, and no larger than the catalogue counts.
_NUMBER = re.compile(r"0|[1-9a-f][0-9a-f]{0,14}")
_POLL_SECONDS = 0.02


def encode_revision(catalog_id: str, revision: int) -> str:
    """The opaque token of a revision: bound to its catalogue, so that another one's is refused, not misread."""
    return f"{_PREFIX}.{catalog_id[:12]}.{revision:x}"


def decode_revision(catalog_id: str, token: str) -> int:
    """The number of a token's revision.

    Raises:
        InvalidField: the token is none of this catalogue's.
    """
    parts = token.split(".")
    if len(parts) != 3 or parts[0] != _PREFIX:
        raise InvalidField("at_least_revision", f"{token[:80]!r} is no revision token; pass one that a change answered")
    if parts[1] != catalog_id[:12]:
        raise InvalidField(
            "at_least_revision", f"{token[:80]!r} is of another catalogue; pass a token that this server answered"
        )
    if _NUMBER.fullmatch(parts[2]) is None:
        raise InvalidField("at_least_revision", f"{token[:80]!r} is no revision token; pass one that a change answered")
    return int(parts[2], 16)


class Follower:
    """Brings the catalogue's committed changes into the index, one reader at a time.

    A change is acknowledged only after `catch_up`: so it is in force for the next check.
    """

    def __init__(self, catalog: Catalog, index: SearchIndex) -> None:
        self._catalog = catalog
        self._index = index
        self._lock = asyncio.Lock()
        self.current_at = time.monotonic()
        """When the index was last known to have all of the catalogue's changes (monotonic seconds)."""

    async def catch_up(self, to: int | None = None) -> None:
        """Apply what the catalogue has and the index has not; `to`: nothing is read where the index has it already."""
        if to is not None and self._index.revision >= to:
            return
        async with self._lock:
            if to is not None and self._index.revision >= to:
                return
            await asyncio.to_thread(self._apply)

    def _apply(self) -> None:
        while changes := self._catalog.changes(self._index.revision):
            self._index.apply(changes)
        self.current_at = time.monotonic()

    async def reach(self, revision: int, until: float) -> bool:
        """Wait until the index has a revision, or until a monotonic time; whether it has it."""
        while self._index.revision < revision:
            await self.catch_up()
            if self._index.revision >= revision:
                break
            if time.monotonic() + _POLL_SECONDS >= until:
                return False
            await asyncio.sleep(_POLL_SECONDS)
        return True
