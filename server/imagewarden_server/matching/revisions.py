"""Revision tokens, and the index that follows the catalogue's changes."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from imagewarden_server.matching.errors import EntryExists, InvalidField
from imagewarden_server.matching.ports import Catalog, SearchIndex, Written

W = TypeVar("W", bound=Written[Any] | None)

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

    A change is acknowledged only after `catch_up`: so it is in force for the next check. Each is made by `in_force`.
    """

    def __init__(self, catalog: Catalog, index: SearchIndex) -> None:
        self._catalog = catalog
        self._index = index
        self._lock = asyncio.Lock()
        self._changes: set[asyncio.Task[Any]] = set()
        self.current_at = time.monotonic()
        """When the index was last known to have all of the catalogue's changes (monotonic seconds)."""

    async def in_force(self, change: Coroutine[Any, Any, W]) -> W:
        """Make a change and bring it into force, whether or not the caller waits for the end of it.

        A write that runs on a thread cannot be called back: were its caller's end the end of this too, it would be
        committed and no check would know.

        Args:
            change: makes it; None where there was nothing to change.
        """
        task = asyncio.create_task(self._in_force(change))
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        return await asyncio.shield(task)

    async def _in_force(self, change: Coroutine[Any, Any, W]) -> W:
        try:
            written = await change
        except EntryExists:
            # What is there may have been committed by somebody else just now: who is told so may count on it.
            await self.catch_up()
            raise
        if written is not None:
            await self.catch_up(written.revision)
        return written

    async def settle(self) -> None:
        """Wait for the changes that are being made."""
        await asyncio.gather(*self._changes, return_exceptions=True)

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
