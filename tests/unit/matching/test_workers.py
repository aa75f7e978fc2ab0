"""The threads: what takes long holds up nothing short, and what its caller gave up never runs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from imagewarden_server.matching.pictures import Workers


@pytest.fixture
def workers() -> Iterator[Workers]:
    made = Workers(1, looking=1)
    yield made
    made.close()


async def test_what_is_short_does_not_wait_for_looks(workers: Workers) -> None:
    go_on = threading.Event()
    looks = [asyncio.create_task(workers.look(go_on.wait, 30)) for _ in range(3)]
    try:
        async with asyncio.timeout(10):
            assert await workers.run(lambda: "short") == "short"
        assert not any(look.done() for look in looks)
    finally:
        go_on.set()
    assert await asyncio.gather(*looks) == [True] * 3


async def test_a_look_that_was_given_up_before_its_turn_never_runs(workers: Workers) -> None:
    go_on = threading.Event()
    ran: list[int] = []
    first = asyncio.create_task(workers.look(go_on.wait, 30))
    second = asyncio.create_task(workers.look(ran.append, 2))
    await asyncio.sleep(0.05)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    go_on.set()
    assert await first
    await workers.look(time.monotonic)
    assert ran == []
