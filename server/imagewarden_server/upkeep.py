"""What the server does by itself, again and again: snapshots of the index; what has had its time is let go."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from imagewarden_server import logs
from imagewarden_server.catalog import SqlCatalog
from imagewarden_server.index import IndexSet, save_snapshot
from imagewarden_server.matching.lookup import utc_now
from imagewarden_server.matching.revisions import Follower
from imagewarden_server.matching.window import Window


class Snapshotter:
    """Saves the index when it has changed since it was last saved."""

    def __init__(self, index: IndexSet, directory: Path, catalog_id: str) -> None:
        self._index = index
        self._directory = directory
        self._catalog_id = catalog_id
        self._saved = -1

    async def save(self) -> None:
        """Save, if there is something new; a failure is logged, since the catalogue has everything."""
        revision = self._index.revision
        if revision == self._saved:
            return
        try:
            await asyncio.to_thread(save_snapshot, self._index, self._directory, self._catalog_id)
        except OSError as error:
            logs.logger().error("snapshot failed", error=str(error), directory=str(self._directory))
        else:
            self._saved = revision


async def expire(catalog: SqlCatalog, follower: Follower, window: Window) -> None:
    """Forget the pictures that were checked too long ago, and take out of checks the entries whose time has passed."""
    window.shrink()
    # A bank's at a time.
    while await asyncio.to_thread(catalog.expire, utc_now()):
        await follower.catch_up()


async def every(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    """Do something again and again; one failure is logged and does not end it."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await work()
        except Exception:  # noqa: BLE001 -- a background task that died silently would be worse than any bug in it
            logs.logger().exception("background work failed")


async def cancel(task: asyncio.Task[None]) -> None:
    """End a task, and wait for its end."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
