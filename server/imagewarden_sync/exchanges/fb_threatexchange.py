"""Meta's ThreatExchange: the updates of a privacy group.

The package's fetcher ends with an error where a group has nothing new; so its client is asked, and its records read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import Any

from threatexchange.exchanges.clients.fb_threatexchange.api import ThreatExchangeAPI
from threatexchange.exchanges.clients.fb_threatexchange.threat_updates import ThreatUpdateJSON
from threatexchange.exchanges.fetch_state import AggregateSignalOpinionCategory as Category
from threatexchange.exchanges.impl import fb_threatexchange_api as fb_api

from imagewarden import EntryRecord
from imagewarden.lists.items import BadRecord, NoPicture, hash_of, labels_of, type_of
from imagewarden_sync.config import ExchangeConfig
from imagewarden_sync.exchanges import credentials
from imagewarden_sync.exchanges.base import Adapter, Delta

_HASHES = frozenset({"HASH_PDQ", "HASH_MD5", "HASH_SHA1", "HASH_SHA256"})
_OF_FILMS = "media_type_video"
_PAGE = 100


@dataclasses.dataclass(frozen=True, slots=True)
class _Page:
    """Updates, and the time of the latest until now."""

    updates: list[Any]
    checkpoint: Any


class FbThreatExchange(Adapter):
    """A privacy group's hashes."""

    def __init__(self, config: ExchangeConfig) -> None:
        super().__init__(config)
        found = credentials.find(config, fb_api.FBThreatExchangeCredentials, fb_api.FBThreatExchangeSignalExchangeAPI)
        self._client = ThreatExchangeAPI(found.api_token, endpoint_override=config.settings.get("url"))

    @property
    def checkpoint_class(self) -> Any:
        """The fetcher's own."""
        return fb_api.FBThreatExchangeCheckpoint

    def pages(self, checkpoint: Any) -> Iterator[_Page]:
        """The client's pages of updates, which come in the order of their time."""
        latest = 0 if checkpoint is None else checkpoint.update_time
        cursor = self._client.get_threat_updates(
            self.config.settings["privacy_group"],
            # From a second before: updates of the checkpoint's own second may have stood on the page after it.
            start_time=max(0, latest - 1) or None,
            page_size=_PAGE,
            fields=ThreatUpdateJSON.te_threat_updates_fields(),
            decode_fn=ThreatUpdateJSON,
        )
        for updates in cursor:
            latest = max([latest, *(update.time for update in updates)])
            yield _Page(updates, self.checkpoint_class(latest))

    def delta(self, page: _Page) -> Delta:
        """The updates of hashes."""
        found = Delta(page.checkpoint)
        for update in page.updates:
            said = update.raw_json
            if isinstance(said.get("type"), str) and isinstance(said.get("indicator"), str):
                found.take(_name(update), partial(self._record, update))
            else:
                found.unreadable += 1
        return found

    def _record(self, update: Any) -> EntryRecord:
        if update.threat_type not in _HASHES:
            raise NoPicture(update.threat_type)
        try:
            said = fb_api.FBThreatExchangeIndicatorRecord.from_threatexchange_json(self._client.app_id, update)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadRecord(f"its descriptors are not as they should be: {type(error).__name__}") from None
        tags = sorted({tag for opinion in said.opinions for tag in opinion.tags}) if said is not None else []
        if _OF_FILMS in tags:
            raise NoPicture(_OF_FILMS)
        one = hash_of(type_of(update.threat_type), update.indicator.strip())
        opinion = None if said is None else said.get_as_aggregate_opinion().category
        # What all who speak of it hold to be harmless is banned no longer.
        if opinion is None or opinion is Category.NEGATIVE_CLASS:
            return EntryRecord((one,), _name(update), self.config.name, removed=True)
        metadata = {"opinion": opinion.name.lower(), "indicator": str(update.raw_json.get("id", ""))}
        labels = labels_of(self.list_settings, tags, metadata)
        return EntryRecord((one,), _name(update), self.config.name, labels, metadata)


def _name(update: Any) -> str:
    """Type and hash: so the package tells indicators apart."""
    return f"{update.threat_type}:{update.indicator.strip().lower()}"[:256]
