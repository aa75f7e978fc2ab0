"""Lists in and out over a blocking channel."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any, Self

import grpc

from imagewarden._errors import ImageWardenError
from imagewarden._lists import MAX_UNANSWERED, Chunk, Exported, Import, Records
from imagewarden._records import EntryRecord, ImportAnswer
from imagewarden.v1 import bank_service_pb2 as pb

Failed = Callable[[grpc.RpcError], ImageWardenError]


def send(
    work: Import, records: Records, begin: Callable[[Iterator[pb.ImportEntriesRequest]], Any], failed: Failed
) -> Iterator[ImportAnswer]:
    """Send an import and answer what became of it, message by message.

    The records are read on the caller's thread, between answers: what their iterator raises is raised here as it is,
    once what was sent before it is answered.

    Args:
        work: what is sent.
        records: of what.
        begin: begins the call with its requests.
        failed: the error that a broken call stands for.
    """
    outbox: SimpleQueue[pb.ImportEntriesRequest | None] = SimpleQueue()
    waiting: deque[Chunk] = deque()
    chunks = work.chunks(records)
    failure: Exception | None = None
    answers: Any = None
    more = True
    try:
        while more or waiting:
            if more and len(waiting) < MAX_UNANSWERED:
                try:
                    chunk = next(chunks, None)
                except Exception as error:  # noqa: BLE001 -- the caller's own: raised below, after the answers
                    chunk, failure = None, error
                if chunk is None:
                    more = False
                    outbox.put(None)
                    continue
                waiting.append(chunk)
                if chunk.sent:
                    outbox.put(chunk.message)
                    # Nothing is begun before there is something to send: an empty import is no import.
                    if answers is None:
                        answers = begin(iter(outbox.get, None))
                continue
            chunk = waiting.popleft()
            yield work.answer(chunk, _next(answers, failed) if chunk.sent else None)
        if answers is not None:
            _next(answers, failed)  # the end of the call, which may be an error, too
    finally:
        outbox.put(None)  # the thread of grpc's that waits for requests ends
        if answers is not None:
            answers.cancel()
    if failure is not None:
        raise failure


def _next(answers: Any, failed: Failed) -> Any:
    try:
        return next(answers, None)
    except grpc.RpcError as raised:
        raise failed(raised) from raised


class Export(Exported):
    """The entries of a bank, in the order they were made: an iterator.

    Attributes:
        entry_count: how many entries the bank has: 0 until the first ones are here.
        revision: the state of the catalogue that those have which came last.
    """

    def __init__(self, begin: Callable[[], Any], failed: Failed, request_id: str) -> None:
        super().__init__(request_id)
        self._begin = begin
        self._answers: Any = None
        self._failed = failed
        self._here: Iterator[EntryRecord] = iter(())

    def __iter__(self) -> Self:
        """Itself."""
        return self

    def __next__(self) -> EntryRecord:
        """The next entry."""
        if self._answers is None:
            self._answers = self._begin()
        while True:
            record = next(self._here, None)
            if record is not None:
                return record
            message = _next(self._answers, self._failed)
            if message is None:
                raise StopIteration
            self._here = self.records(message)

    def close(self) -> None:
        """End it early."""
        if self._answers is not None:
            self._answers.cancel()
