"""Lists in and out over an asyncio channel, as `_lists_sync` has them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Self

import grpc

from imagewarden._errors import ImageWardenError
from imagewarden._lists import MAX_UNANSWERED, AnyRecords, Chunk, Exported, Import
from imagewarden._records import EntryRecord, ImportAnswer
from imagewarden.v1 import bank_service_pb2 as pb

Failed = Callable[[grpc.RpcError], ImageWardenError]
Outbox = asyncio.Queue[pb.ImportEntriesRequest | None]


async def send(
    work: Import,
    records: AnyRecords,
    begin: Callable[[AsyncIterator[pb.ImportEntriesRequest]], Any],
    failed: Failed,
) -> AsyncIterator[ImportAnswer]:
    """As `_lists_sync.send`; the records may come from an asynchronous iterator."""
    outbox: Outbox = asyncio.Queue()
    waiting: deque[Chunk] = deque()
    chunks = work.chunks_of(records)
    failure: Exception | None = None
    call: Any = None
    answers: Any = None
    more = True
    try:
        while more or waiting:
            if more and len(waiting) < MAX_UNANSWERED:
                try:
                    chunk = await anext(chunks, None)
                except Exception as error:  # noqa: BLE001 -- the caller's own: raised below, after the answers
                    chunk, failure = None, error
                if chunk is None:
                    more = False
                    outbox.put_nowait(None)
                    continue
                waiting.append(chunk)
                if chunk.sent:
                    outbox.put_nowait(chunk.message)
                    if call is None:
                        call = begin(_requests(outbox))
                        answers = aiter(call)
                continue
            chunk = waiting.popleft()
            yield work.answer(chunk, await _next(answers, failed) if chunk.sent else None)
        if answers is not None:
            await _next(answers, failed)  # the end of the call, which may be an error, too
    finally:
        outbox.put_nowait(None)  # the task of grpc's that waits for requests ends
        if call is not None:
            call.cancel()
    if failure is not None:
        raise failure


async def _requests(outbox: Outbox) -> AsyncIterator[pb.ImportEntriesRequest]:
    while (message := await outbox.get()) is not None:
        yield message


async def _next(answers: Any, failed: Failed) -> Any:
    try:
        return await anext(answers, None)
    except grpc.aio.AioRpcError as raised:
        raise failed(raised) from raised


class AsyncExport(Exported):
    """The entries of a bank, in the order they were made: an asynchronous iterator.

    Attributes:
        entry_count: how many entries the bank has: 0 until the first ones are here.
        revision: the state of the catalogue that those have which came last.
    """

    def __init__(self, begin: Callable[[], Any], failed: Failed, request_id: str) -> None:
        super().__init__(request_id)
        self._begin = begin
        self._call: Any = None
        self._answers: Any = None
        self._failed = failed
        self._here: Iterator[EntryRecord] = iter(())

    def __aiter__(self) -> Self:
        """Itself."""
        return self

    async def __anext__(self) -> EntryRecord:
        """The next entry."""
        if self._call is None:
            self._call = self._begin()
            self._answers = aiter(self._call)
        while True:
            record = next(self._here, None)
            if record is not None:
                return record
            message = await _next(self._answers, self._failed)
            if message is None:
                raise StopAsyncIteration
            self._here = self.records(message)

    async def close(self) -> None:
        """End it early."""
        if self._call is not None:
            self._call.cancel()
