"""ReportMatch: people say what they found of a match, and an entry of which they say too little good is quarantined."""

from __future__ import annotations

import dataclasses
from typing import Protocol

from imagewarden_server.matching.opinions import Opinion
from imagewarden_server.matching.pictures import Workers
from imagewarden_server.matching.ports import Catalog, Idempotency, Written
from imagewarden_server.matching.quarantine import Quarantiner, over_reported
from imagewarden_server.matching.types import Bank, Entry


class ReportStore(Protocol):
    """Where reports are kept; blocking. A report has its event, and is no change that a check sees."""

    def report(
        self, bank_id: str, entry_id: str, sha256: bytes, opinion: Opinion, note: str, *, once: Idempotency | None
    ) -> Written[Entry]:
        """Keep what who acts now found of a picture, in the place of what they found of it before.

        Raises BankNotFound, EntryNotFound, RequestIdReused.
        """


class ReportObserver(Protocol):
    """Who counts reports."""

    def reported(self, bank_id: str, opinion: Opinion) -> None:
        """One report of a match of a bank."""


class Reporter:
    """Takes reports."""

    def __init__(
        self,
        catalog: Catalog,
        reports: ReportStore,
        quarantiner: Quarantiner,
        workers: Workers,
        observer: ReportObserver,
    ) -> None:
        self._catalog = catalog
        self._quarantiner = quarantiner
        self._reports = reports
        self._workers = workers
        self._observer = observer

    async def bank(self, bank_id: str) -> Bank:
        """The bank of an entry. Raises BankNotFound."""
        return await self._workers.run(self._catalog.get_bank, bank_id)

    async def report(
        self, bank_id: str, entry_id: str, sha256: bytes, opinion: Opinion, note: str, *, once: Idempotency | None
    ) -> Written[Entry]:
        """Take a report; answers the entry with its reports counted, and quarantined where they are reason for it.

        See `ReportStore.report`. A repeat finishes what the first call was kept from.
        """
        written = await self._workers.run(
            lambda: self._reports.report(bank_id, entry_id, sha256, opinion, note, once=once)
        )
        if not written.replayed:
            self._observer.reported(bank_id, opinion)
        entry = written.value
        if entry.quarantine is not None:
            # Another call put it there, and may not have come so far as to have it in force.
            await self._quarantiner.settle()
        elif over_reported((await self.bank(bank_id)).policy, entry):
            put = await self._quarantiner.put_reported(bank_id, entry_id)
            return await self._workers.run(self._as_it_is, bank_id, entry_id, written) if put is None else put
        return written

    def _as_it_is(self, bank_id: str, entry_id: str, written: Written[Entry]) -> Written[Entry]:
        """What a report answers of an entry that others changed meanwhile."""
        entry = self._catalog.get_entry(bank_id, entry_id)
        return dataclasses.replace(written, value=entry, revision=self._catalog.revision())
