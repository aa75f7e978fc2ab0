"""Lists into banks and out of them, some records at a time, beside checks that go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from imagewarden_server.matching.embedder import Embedder, check_dimensions
from imagewarden_server.matching.errors import InvalidField
from imagewarden_server.matching.lists import (
    MAX_RECORDS,
    Exported,
    Imported,
    ListRecord,
    RefusedRecord,
    check_record,
)
from imagewarden_server.matching.pictures import Workers
from imagewarden_server.matching.ports import Catalog, Written
from imagewarden_server.matching.revisions import Follower
from imagewarden_server.matching.types import Bank

T = TypeVar("T")

Read = Callable[[], tuple[list[ListRecord], list[RefusedRecord]]]
"""What reads a message's records: those that could be read, and those that could not."""


class Importer:
    """Takes lists in and gives them out.

    One message of all callers at a time: each is a transaction, and who waits for the writer's turn must not hold the
    threads that checks need.
    """

    def __init__(self, catalog: Catalog, follower: Follower, workers: Workers, embedder: Embedder) -> None:
        self._catalog = catalog
        self._follower = follower
        self._workers = workers
        self._embedder = embedder
        self._turn = asyncio.Lock()

    async def bank(self, bank_id: str) -> Bank:
        """The bank that a list is for. Raises BankNotFound."""
        return await self._workers.run(self._catalog.get_bank, bank_id)

    async def take(self, bank: Bank, count: int, read: Read, *, validate_only: bool) -> Written[Imported]:
        """Bring the records of one message into a bank; they are in force when this returns.

        Args:
            bank: the bank, as it was when the list began: its kind and key never change.
            count: how many records the message has.
            read: reads them, on a worker.
            validate_only: tell what would become of them, and change nothing.

        Raises:
            BankNotFound: the bank was deleted meanwhile, whether or not another one has its name now.
            InvalidField: too many records, or none.
        """
        if not 1 <= count <= MAX_RECORDS:
            raise InvalidField("records", f"has {count:,} records; send 1 to {MAX_RECORDS:,} a message")
        # Who gives up while others have their turn changes nothing; who has it keeps it until the thread is done.
        await self._turn.acquire()
        return await self._follower.in_force(self._take_in_turn(bank, read, validate_only=validate_only))

    async def _take_in_turn(self, bank: Bank, read: Read, *, validate_only: bool) -> Written[Imported]:
        try:
            return await self._workers.run(lambda: self._take(bank, read, validate_only=validate_only))
        finally:
            self._turn.release()

    def _take(self, bank: Bank, read: Read, *, validate_only: bool) -> Written[Imported]:
        records, refused = read()
        model = self._embedder.model
        good: list[ListRecord] = []
        for record in records:
            try:
                check_record(bank, record)
                if model is not None and not record.removed:
                    check_dimensions(model, record.entry)
            except InvalidField as error:
                refused.append(RefusedRecord(record.number, error.field, error.description))
            else:
                good.append(record)
        return self._catalog.import_records(bank.id, good, refused, bank_key=bank.key, validate_only=validate_only)

    async def give(self, bank_id: str, write: Callable[[Exported], T]) -> AsyncIterator[T]:
        """All entries of a bank, some at a time, as `write` has them, which runs on a worker. Raises BankNotFound."""
        after: int | None = 0
        while after is not None:
            page = await self._workers.run(self._catalog.export_records, bank_id, after)
            yield await self._workers.run(write, page)
            after = page.next_after
