"""StopNCII.org's API.

The package's client fetches, and its records are read as StopNCII's files are. The package's own conversion of them (of
threatexchange 1.2.17) is not used: it looks for the words Withdrawn and Deleted in `hashValue` in the place of
`hashStatus`, where they never are, and so what was taken back would stay.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import Any

from threatexchange.exchanges.clients.stopncii.api import StopNCIIAPI
from threatexchange.exchanges.impl import stop_ncii_api

from imagewarden.lists.exchanges import stopncii_record
from imagewarden_sync.config import ExchangeConfig
from imagewarden_sync.exchanges import credentials
from imagewarden_sync.exchanges.base import Adapter, Delta


@dataclasses.dataclass(frozen=True, slots=True)
class _Page:
    """An answer, and the checkpoint of the whole fetch where it is the last one."""

    answer: Any
    checkpoint: Any


class StopNcii(Adapter):
    """StopNCII's hashes of pictures."""

    def __init__(self, config: ExchangeConfig) -> None:
        super().__init__(config)
        found = credentials.find(config, stop_ncii_api.StopNCIICredentials, stop_ncii_api.StopNCIISignalExchangeAPI)
        self._client = StopNCIIAPI(
            found.subscription_key,
            found.fetch_function_key,
            base_url_override=config.settings.get("url") or found.base_url_override,
        )

    @property
    def checkpoint_class(self) -> Any:
        """The fetcher's own."""
        return stop_ncii_api.StopNCIICheckpoint

    def pages(self, checkpoint: Any) -> Iterator[_Page]:
        """The client's answers.

        The time that an answer gives for the next fetch may be later than that of records on pages after it: it is
        taken from the last page alone.
        """
        start = StopNCIIAPI.DEFAULT_START_TIME if checkpoint is None else checkpoint.update_time
        for answer in self._client.fetch_hashes_iter(start_timestamp=start):
            last = not answer.hasMoreRecords
            yield _Page(answer, self.checkpoint_class.from_stopncii_fetch(answer) if last else None)

    def delta(self, page: _Page) -> Delta:
        """The records of pictures."""
        found = Delta(page.checkpoint)
        # The client leaves out what it cannot read.
        found.unreadable = max(0, page.answer.count - len(page.answer.hashRecords))
        for record in page.answer.hashRecords:
            found.take(record.hashValue, partial(stopncii_record, _said(record), self.list_settings))
        return found


def _said(record: Any) -> dict[str, Any]:
    """A record as the API wrote it; what it has no order of, in one that is always the same."""
    return {
        "signalType": record.signalType.value,
        "hashValue": record.hashValue,
        "hashStatus": record.hashStatus.value,
        "lastModtimestamp": record.lastModtimestamp,
        "caseNumbers": {case: status.value for case, status in sorted(record.caseNumbers.items())},
        "CSPFeedbacks": [
            {"source": one.source, "feedbackValue": one.feedbackValue.value, "tags": sorted(one.tags)}
            for one in record.CSPFeedbacks
        ],
    }
