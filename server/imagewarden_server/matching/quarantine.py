"""Quarantine: an entry that is doubted goes on to match, and blocks nothing until a person has looked at it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Protocol

from imagewarden_server.matching.errors import BankNotFound, EntryNotFound
from imagewarden_server.matching.flood import Floods
from imagewarden_server.matching.lookup import Now, utc_now
from imagewarden_server.matching.opinions import Quarantine, QuarantineReason
from imagewarden_server.matching.pictures import Workers
from imagewarden_server.matching.ports import Catalog, Written
from imagewarden_server.matching.revisions import Follower
from imagewarden_server.matching.types import Entry, Policy

Reason = Callable[[Policy, Entry], str]
"""Why an entry is quarantined, with the numbers; empty: there is no reason, or none any longer."""


class QuarantineStore(Protocol):
    """Where quarantine is kept; blocking. It is a change of the server's own, with its event and its revision."""

    def quarantine(
        self, bank_id: str, entry_id: str, why: Quarantine, reason: Reason | None = None
    ) -> Written[Entry] | None:
        """Put an entry under quarantine; None where it is already. Raises BankNotFound, EntryNotFound.

        Args:
            bank_id: the bank's.
            entry_id: the entry's.
            why: what is told of it.
            reason: asked in the transaction that writes: what it says is told; None is answered where it says nothing.
        """


class QuarantineObserver(Protocol):
    """Who counts."""

    def quarantined(self, bank_id: str, reason: QuarantineReason) -> None:
        """One entry of a bank was put under quarantine by the server."""

    def left_flooded(self, bank_id: str) -> None:
        """One entry of a bank was flooded and left as it is, since a person had confirmed it."""


def over_reported(policy: Policy, entry: Entry) -> str:
    """Why an entry's reports are reason to quarantine it, with the numbers; empty where they are not.

    What was reported until it was last released is forgiven.
    """
    said = entry.feedback
    surplus = said.false_positives - said.confirmed - entry.forgiven
    if not policy.quarantine_false_positives or surplus < policy.quarantine_false_positives:
        return ""
    forgiven = f", of which {entry.forgiven} were forgiven at its release" if entry.forgiven else ""
    return (
        f"{said.false_positives} pictures were reported as false positives and {said.confirmed} as confirmed{forgiven};"
        f" the bank's policy says {policy.quarantine_false_positives} more"
    )


def vouched_for(entry: Entry) -> bool:
    """Whether a person has said that the entry is right, and nobody the contrary that was not forgiven.

    Such an entry is never quarantined for a flood: what one asks, that person has answered.
    """
    return entry.feedback.confirmed > 0 and entry.feedback.false_positives <= entry.forgiven


class Quarantiner:
    """Puts entries under quarantine."""

    def __init__(
        self,
        catalog: Catalog,
        store: QuarantineStore,
        follower: Follower,
        workers: Workers,
        observer: QuarantineObserver,
        now: Now = utc_now,
    ) -> None:
        self._catalog = catalog
        self._store = store
        self._follower = follower
        self._workers = workers
        self._observer = observer
        self._now = now

    async def put(self, bank_id: str, entry_id: str, reason: QuarantineReason, message: str) -> Written[Entry] | None:
        """Put an entry under quarantine, in force for the next check; None where it is already.

        Raises BankNotFound, EntryNotFound.
        """
        return await self._put(bank_id, entry_id, Quarantine(reason, message, self._now()))

    async def put_reported(self, bank_id: str, entry_id: str) -> Written[Entry] | None:
        """Put an entry under quarantine where its reports are reason for it; None where it is already, or they are not.

        They are counted as it is written: who released it, or changed his mind, a moment ago is not overridden. In any
        case what others made of it is in force for the next check. Raises BankNotFound, EntryNotFound.
        """
        why = Quarantine(QuarantineReason.FALSE_POSITIVES, "", self._now())
        return await self._put(bank_id, entry_id, why, over_reported)

    async def settle(self) -> None:
        """Have in force for the next check what others changed, who may not have come so far."""
        await self._follower.catch_up()

    async def _put(
        self, bank_id: str, entry_id: str, why: Quarantine, reason: Reason | None = None
    ) -> Written[Entry] | None:
        writing = self._workers.run(self._store.quarantine, bank_id, entry_id, why, reason)
        written = await self._follower.in_force(writing)
        if written is None:
            await self.settle()
        else:
            self._observer.quarantined(bank_id, why.reason)
        return written

    async def put_flooded(self, floods: Floods) -> None:
        """Put the entries under quarantine that were flooded; those are left that a person vouched for, or are gone."""
        left = floods.take()
        try:
            for (bank_id, entry_id), message in list(left.items()):
                with contextlib.suppress(BankNotFound, EntryNotFound):
                    if vouched_for(await self._workers.run(self._catalog.get_entry, bank_id, entry_id)):
                        self._observer.left_flooded(bank_id)
                    else:
                        await self.put(bank_id, entry_id, QuarantineReason.FLOOD, message)
                del left[bank_id, entry_id]
        finally:
            # None of them is found again before twice as many pictures match.
            floods.put_back(left)
