"""Who uses a loaded version: it is closed only when nobody does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from imagewarden_serving.host.servable import Servable


class Handle:
    """A loaded version and its users; of the event loop's thread alone."""

    def __init__(self, servable: Servable) -> None:
        self.servable = servable
        self._users = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @contextmanager
    def hold(self) -> Iterator[Servable]:
        """Keep the version loaded for the length of the block."""
        self._enter()
        try:
            yield self.servable
        finally:
            self._leave()

    def hold_until(self, future: asyncio.Future[Any]) -> None:
        """Keep the version loaded until this future is done, and take note of its error, if any."""
        self._enter()

        def done(finished: asyncio.Future[Any]) -> None:
            if not finished.cancelled():
                finished.exception()
            self._leave()

        future.add_done_callback(done)

    async def idle(self) -> None:
        """Wait until nobody uses it."""
        await self._idle.wait()

    def _enter(self) -> None:
        self._users += 1
        self._idle.clear()

    def _leave(self) -> None:
        self._users -= 1
        if not self._users:
            self._idle.set()
