"""What is committed is in force, whoever went away meanwhile: over the real catalogue and index."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar, cast

import pytest
from tests.support.checking import NoModel, Service, sha256

from imagewarden_server.matching.administer import Administrator
from imagewarden_server.matching.embedder import Embedder
from imagewarden_server.matching.enroll import Enroller
from imagewarden_server.matching.errors import EntryExists
from imagewarden_server.matching.importer import Importer
from imagewarden_server.matching.lists import ListRecord, RefusedRecord
from imagewarden_server.matching.load import Turns
from imagewarden_server.matching.opinions import QuarantineReason
from imagewarden_server.matching.patches import BankPatch
from imagewarden_server.matching.pictures import Workers
from imagewarden_server.matching.quarantine import Quarantiner
from imagewarden_server.matching.types import HashSignal, NewEntry, SignalType, Verdict

T = TypeVar("T")

FILE, OTHER = b"no picture at all", b"another"


class Leaving(Workers):
    """Threads whose caller goes away as soon as a change is written, and before anything else is done."""

    def __init__(self, service: Service) -> None:
        super().__init__(2)
        self._catalog = service.catalog
        self.caller: asyncio.Task[object] | None = None

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        before = self._catalog.revision()
        result = await super().run(function, *arguments)
        if self._catalog.revision() > before and self.caller is not None:
            self.caller.cancel()
            await asyncio.sleep(0)
        return result


def banned(data: bytes) -> NewEntry:
    return NewEntry(hashes=(HashSignal(SignalType.SHA256, sha256(data)),))


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    made.bank("a")
    made.ban("a", SignalType.SHA256, sha256(OTHER))
    yield made
    made.close()


class NotCounted:
    def quarantined(self, bank_id: str, reason: QuarantineReason) -> None:
        pass

    def left_flooded(self, bank_id: str) -> None:
        pass


async def add_hashes(service: Service, workers: Workers) -> None:
    model = cast("Embedder", NoModel())
    enroller = Enroller(
        catalog=service.catalog,
        follower=service.follower,
        embedder=model,
        workers=workers,
        decoder=service.decoder,
        turns=Turns(10, 1),
    )
    await enroller.add_hashes("a", [banned(FILE)], once=None, validate_only=False)


async def update_bank(service: Service, workers: Workers) -> None:
    administrator = Administrator(service.catalog, service.follower, workers)
    await administrator.update_bank(service.catalog.get_bank("a"), BankPatch(display_name="a"), once=None)


async def bring_in(service: Service, workers: Workers) -> None:
    importer = Importer(service.catalog, service.follower, workers, service.embedder)
    records = [ListRecord(1, banned(FILE))]
    await importer.take(await importer.bank("a"), 1, lambda: (records, []), validate_only=False)


async def quarantine(service: Service, workers: Workers) -> None:
    quarantiner = Quarantiner(service.catalog, service.catalog.reports, service.follower, workers, NotCounted())
    (entry,) = service.catalog.list_entries("a").items
    await quarantiner.put("a", entry.id, QuarantineReason.FLOOD, "as the test says")


@pytest.mark.parametrize("change", [add_hashes, update_bank, bring_in, quarantine])
def test_a_change_whose_caller_goes_away_is_in_force(
    service: Service, change: Callable[[Service, Workers], Awaitable[None]]
) -> None:
    workers = Leaving(service)
    before = service.catalog.revision()

    async def work() -> None:
        workers.caller = asyncio.ensure_future(change(service, workers))
        with pytest.raises(asyncio.CancelledError):
            await workers.caller
        await asyncio.wait_for(service.follower.settle(), 30)

    asyncio.run(work())
    workers.close()
    assert service.index.revision == service.catalog.revision() == before + 1
    if change in {add_hashes, bring_in}:
        assert service.check(FILE).verdict is Verdict.MATCH


def test_who_is_told_that_an_entry_exists_may_count_on_it(service: Service) -> None:
    service.catalog.add_entry("a", banned(FILE))

    async def again() -> None:
        await service.follower.in_force(service.workers.run(lambda: service.catalog.add_entry("a", banned(FILE))))

    with pytest.raises(EntryExists):
        asyncio.run(again())
    assert service.check(FILE).verdict is Verdict.MATCH


def test_lists_come_in_one_after_the_other_though_callers_go_away(service: Service) -> None:
    """What was given up keeps its turn until it is written: else each would take a thread that checks need."""
    running: list[int] = []
    most: list[int] = []

    def read(number: int) -> tuple[list[ListRecord], list[RefusedRecord]]:
        running.append(number)
        most.append(len(running))
        time.sleep(0.05)
        running.remove(number)
        return [ListRecord(1, banned(b"%d" % number))], []

    async def work() -> None:
        importer = Importer(service.catalog, service.follower, service.workers, service.embedder)
        bank = await importer.bank("a")
        for number in range(3):
            task = asyncio.ensure_future(importer.take(bank, 1, functools.partial(read, number), validate_only=False))
            await asyncio.sleep(0.01)
            task.cancel()
        await asyncio.wait_for(importer.take(bank, 1, functools.partial(read, 9), validate_only=False), 30)

    asyncio.run(work())
    assert max(most) == 1
    # Who had no turn yet when they gave up changed nothing.
    found = [bool(service.check(b"%d" % number).matches) for number in (0, 1, 2, 9)]
    assert found == [True, False, False, True]
