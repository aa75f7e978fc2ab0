"""NCMEC's hash sharing API, version 2.

The package's own conversion keeps PDQ of pictures and MD5 of films alone; pictures have MD5 and SHA-1 too, so its
updates are read as NCMEC's files are.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from threatexchange.exchanges.clients.ncmec.hash_api import NCMECEnvironment
from threatexchange.exchanges.impl import ncmec_api

from imagewarden import EntryRecord
from imagewarden.lists.ncmec import COMPARED, record_of
from imagewarden_sync.config import ExchangeConfig
from imagewarden_sync.errors import ConfigError
from imagewarden_sync.exchanges import credentials
from imagewarden_sync.exchanges.base import Adapter, Delta

# The fetcher never asks for the seconds just past, and cannot go on in a range that ends in them.
_LATEST_SECONDS = 5


@dataclasses.dataclass(frozen=True, slots=True)
class _Address:
    """An environment of somebody's own, such as a proxy: the client reads an environment's value, its address."""

    value: str


class Ncmec(Adapter):
    """One of NCMEC's databases."""

    def __init__(self, config: ExchangeConfig) -> None:
        super().__init__(config)
        known = {one.name: one for one in NCMECEnvironment}
        name = config.settings["environment"]
        if name not in known:
            raise ConfigError(f"{config.name}: environment {name!r} is not known; {', '.join(known)} are")
        url = config.settings.get("url")
        self._members = frozenset(config.settings.get("only_esp_ids", ()))
        found = credentials.find(config, ncmec_api.NCMECCredentials, ncmec_api.NCMECSignalExchangeAPI)
        collaboration = ncmec_api.NCMECCollabConfig(
            name=config.name, environment=known[name] if url is None else _Address(url)
        )
        self._api = ncmec_api.NCMECSignalExchangeAPI(collaboration, found.user, found.password)

    @property
    def checkpoint_class(self) -> Any:
        """The fetcher's own."""
        return ncmec_api.NCMECCheckpoint

    def pages(self, checkpoint: Any) -> Iterator[Any]:
        """The fetcher's deltas."""
        within = checkpoint.paging_info if checkpoint is not None else None
        if within is not None and within.paging_end_ts >= int(time.time()) - _LATEST_SECONDS:
            # Begun within the second that a run was killed in: its range begins again.
            checkpoint = dataclasses.replace(checkpoint, paging_info=None)
        yield from self._api.fetch_iter((), checkpoint)

    def delta(self, page: Any) -> Delta:
        """The updates of pictures."""
        found = Delta(page.checkpoint)
        for name, update in page.updates.items():
            if self._members and update.member_id not in self._members:
                found.skipped += 1
            else:
                found.take(name, partial(self._record, update))
        return found

    def _record(self, update: Any) -> EntryRecord:
        tag = ("deleted" if update.deleted else "") + update.entry_type.value
        facts = {
            "member_id": str(update.member_id),
            "id": update.id.strip(),
            "classification": update.classification or "",
        }
        prints = {key: text.strip() for key, text in update.fingerprints.items() if key in COMPARED}
        others = [key for key in update.fingerprints if key not in COMPARED]
        return record_of(tag, facts, prints, others, self.list_settings)
