"""A stream of pictures: what it holds, and what it counts."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest

from imagewarden.v1 import moderation_service_pb2 as pb
from imagewarden_server import access
from imagewarden_server.api.moderation import ModerationServicer
from imagewarden_server.matching.errors import InvalidField
from imagewarden_server.matching.load import Room


class Context:
    def time_remaining(self) -> None:
        return None


class Checker:
    """Looks at pictures once it is let, and refuses each."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.asked = 0

    async def check(self, _: Any) -> Any:
        self.asked += 1
        await self.open.wait()
        raise InvalidField("image", "is a test's")


def servicer(checker: Checker, room: Room) -> ModerationServicer:
    other: Any = None
    looking: Any = checker
    return ModerationServicer(
        looking, other, other, catalog_id="c", metrics=other, room=room, at_once=2, default_deadline=10.0
    )


def picture(number: int, more: bytes = b"") -> pb.StreamCheckImagesRequest:
    """A message with a picture of one byte, and whatever else."""
    data = pb.StreamCheckImagesRequest(correlation_id=str(number), request=pb.CheckImageRequest(image=b"x"))
    return pb.StreamCheckImagesRequest.FromString(data.SerializeToString() + more)


async def settle() -> None:
    """Let all that can go on go on."""
    for _ in range(1_000):
        await asyncio.sleep(0)


def unknown(size: int) -> bytes:
    """Bytes of a field that the API does not have: number 1,000, of so many bytes."""
    head = bytes([0xC2, 0x3E]) + bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14])
    return head + bytes(size)


@pytest.mark.parametrize("more", [b"", unknown(100_000)])
def test_all_of_a_message_is_counted_while_its_picture_is_looked_at(more: bytes) -> None:
    async def run() -> None:
        access.begin(access.OPEN)
        room, checker = Room(10**9), Checker()
        size = picture(1, more).ByteSize()
        assert size >= len(more)

        async def requests() -> AsyncIterator[pb.StreamCheckImagesRequest]:
            for number in range(5):
                yield picture(number, more)
            await asyncio.Event().wait()

        answers = servicer(checker, room).StreamCheckImages(requests(), Context())
        first = asyncio.ensure_future(anext(answers))
        await settle()
        assert room.held == 5 * size
        assert checker.asked == 2, "the others wait for their turn, and are counted as well"
        checker.open.set()
        await first
        for _ in range(4):
            assert (await anext(answers)).error.message
        assert room.held == 0
        await answers.aclose()  # type: ignore[attr-defined]  # it is a generator

    asyncio.run(run())


def test_an_open_stream_holds_no_message_that_was_answered() -> None:
    class Item:
        """A message that can be watched."""

        def __init__(self, number: int) -> None:
            message = picture(number)
            self.correlation_id, self.request, self.ByteSize = message.correlation_id, message.request, message.ByteSize

    async def run() -> None:
        access.begin(access.OPEN)
        checker = Checker()
        checker.open.set()
        alive: weakref.WeakSet[Item] = weakref.WeakSet()

        async def requests() -> AsyncIterator[Any]:
            for number in range(3):
                item = Item(number)
                alive.add(item)
                yield item
                del item
            await asyncio.Event().wait()

        answers = servicer(checker, Room(10**9)).StreamCheckImages(requests(), Context())
        for _ in range(3):
            await anext(answers)
        await asyncio.sleep(0)
        assert not alive
        await answers.aclose()  # type: ignore[attr-defined]  # it is a generator

    gc.disable()  # large messages do not hasten the collector: what waits for it is held
    try:
        asyncio.run(run())
    finally:
        gc.enable()


def test_a_stream_whose_answers_nobody_reads_holds_no_picture_that_it_has_no_place_for() -> None:
    async def run() -> None:
        access.begin(access.OPEN)
        checker = Checker()
        checker.open.set()
        given = 0

        async def requests() -> AsyncIterator[pb.StreamCheckImagesRequest]:
            nonlocal given
            for number in range(100):
                given += 1
                yield picture(number)

        room = Room(10**9)
        answers = servicer(checker, room).StreamCheckImages(requests(), Context())
        await anext(answers)
        await settle()
        assert (given, room.held) == (32, 0)
        await answers.aclose()  # type: ignore[attr-defined]  # it is a generator

    asyncio.run(run())
