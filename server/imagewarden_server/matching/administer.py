"""Keeping banks and entries: each change is acknowledged when the catalogue has it durably and the index has it too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from imagewarden_server.matching.listing import EntryFilter
from imagewarden_server.matching.patches import BankPatch, EntryPatch
from imagewarden_server.matching.pictures import Workers
from imagewarden_server.matching.ports import Catalog, Idempotency, Page, Written
from imagewarden_server.matching.revisions import Follower
from imagewarden_server.matching.types import Bank, BankKind, Entry, Policy
from imagewarden_server.matching.visible import Banks

T = TypeVar("T")


class Administrator:
    """Changes and lists banks and entries."""

    def __init__(self, catalog: Catalog, follower: Follower, workers: Workers) -> None:
        self._catalog = catalog
        self._follower = follower
        self._workers = workers

    async def _change(self, change: Callable[[], Written[T]]) -> Written[T]:
        return await self._follower.in_force(self._workers.run(change))

    async def create_bank(
        self,
        bank_id: str,
        kind: BankKind,
        *,
        policy: Policy,
        display_name: str,
        labels: Mapping[str, str],
        keep_images: bool,
        once: Idempotency | None,
    ) -> Written[Bank]:
        """Make a bank. Raises BankExists, RequestIdReused."""
        return await self._change(
            lambda: self._catalog.create_bank(
                bank_id,
                kind,
                policy=policy,
                display_name=display_name,
                labels=labels,
                keep_images=keep_images,
                once=once,
            )
        )

    async def get_bank(self, bank_id: str) -> Bank:
        """One bank. Raises BankNotFound."""
        return await self._workers.run(self._catalog.get_bank, bank_id)

    async def list_banks(self, after: int, limit: int, visible: Banks) -> Page[Bank]:
        """A page of the banks that the caller may see."""
        return await self._workers.run(lambda: self._catalog.list_banks(after=after, limit=limit, visible=visible))

    async def update_bank(self, bank: Bank, patch: BankPatch, *, once: Idempotency | None) -> Written[Bank]:
        """Change a bank, as it was read for the patch. Raises BankNotFound, RequestIdReused."""
        return await self._change(lambda: self._catalog.update_bank(bank.id, patch, bank_key=bank.key, once=once))

    async def delete_bank(self, bank_id: str, *, force: bool, once: Idempotency | None) -> Written[int]:
        """Delete a bank; answers how many entries went with it. Raises BankNotFound, BankNotEmpty, RequestIdReused."""
        return await self._change(lambda: self._catalog.delete_bank(bank_id, force=force, once=once))

    async def get_entry(self, bank_id: str, entry_id: str) -> Entry:
        """One entry. Raises BankNotFound, EntryNotFound."""
        return await self._workers.run(self._catalog.get_entry, bank_id, entry_id)

    async def list_entries(self, bank_id: str, *, after: int, limit: int, only: EntryFilter) -> Page[Entry]:
        """A page of a bank's entries. Raises BankNotFound."""
        return await self._workers.run(lambda: self._catalog.list_entries(bank_id, after=after, limit=limit, only=only))

    async def update_entry(
        self, bank_id: str, entry_id: str, patch: EntryPatch, *, once: Idempotency | None
    ) -> Written[Entry]:
        """Change an entry. Raises BankNotFound, EntryNotFound, RequestIdReused."""
        return await self._change(lambda: self._catalog.update_entry(bank_id, entry_id, patch, once=once))

    async def delete_entry(self, bank_id: str, entry_id: str, *, once: Idempotency | None) -> int:
        """Delete an entry; answers the revision. Raises BankNotFound, EntryNotFound, RequestIdReused."""
        written = await self._change(lambda: self._catalog.delete_entry(bank_id, entry_id, once=once))
        return written.revision
