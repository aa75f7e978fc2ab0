"""Tech Against Terrorism's hash list, version 2.

The package's own conversion keeps PDQ and MD5 of films alone; its client's entries are read as the exchange's files
are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import Any

from threatexchange.exchanges.clients.techagainstterrorism.api import TATHashListAPI
from threatexchange.exchanges.impl import techagainstterrorism_api as tat_api

from imagewarden.lists.exchanges import tat_record
from imagewarden_sync.config import ExchangeConfig
from imagewarden_sync.exchanges import credentials
from imagewarden_sync.exchanges.base import Adapter, Delta


class Tat(Adapter):
    """Tech Against Terrorism's hashes of pictures."""

    def __init__(self, config: ExchangeConfig) -> None:
        super().__init__(config)
        found = credentials.find(config, tat_api.TATCredentials, tat_api.TATSignalExchangeAPI)
        self._client = TATHashListAPI(found.username, found.password)
        url = config.settings.get("url")
        if url is not None:
            # Of its class it is a constant, and of an instance what its methods read.
            self._client.BASE_URL = f"{url}/"

    @property
    def checkpoint_class(self) -> Any:
        """The fetcher's own."""
        return tat_api.TATCheckpoint

    def pages(self, checkpoint: Any) -> Iterator[Any]:
        """The client's answers, each asked for by the checkpoint of the one before.

        The client's own iteration counts records from one checkpoint on, and would step over some where others are
        changed meanwhile, which moves them to the end.
        """
        after = "" if checkpoint is None else checkpoint.checkpoint
        while True:
            answer = self._client.fetch_hashes(after=after)
            yield answer
            if not answer.next:
                return
            if not answer.checkpoint or answer.checkpoint == after:
                raise ValueError("the hash list says that there is more, and no checkpoint after which")
            after = answer.checkpoint

    def delta(self, page: Any) -> Delta:
        """The entries of pictures."""
        found = Delta(self.checkpoint_class(page.checkpoint) if page.checkpoint else None)
        for entry in page.results:
            found.take(str(entry.id), partial(tat_record, dataclasses.asdict(entry), self.list_settings))
        return found
