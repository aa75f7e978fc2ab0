"""A file of hashes on this machine that something else renews: each line a type and a hash, or hashes of one type."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from threatexchange.exchanges.fetch_state import FetchCheckpointBase
from threatexchange.exchanges.impl import file_api

from imagewarden import EntryRecord
from imagewarden.lists.items import hash_of, type_of
from imagewarden_sync.config import ExchangeConfig
from imagewarden_sync.errors import FetchError
from imagewarden_sync.exchanges.base import Adapter, Delta


class LocalFile(Adapter):
    """The hashes of a file; what it no longer has is gone."""

    always_whole: ClassVar[bool] = True

    def __init__(self, config: ExchangeConfig) -> None:
        super().__init__(config)
        self._file = Path(config.settings["filename"]).expanduser()
        self._api = file_api.LocalFileSignalExchangeAPI(
            file_api.FileCollaborationConfig(
                name=config.name, filename=str(self._file), signal_type=config.settings.get("signal_type")
            )
        )

    @property
    def checkpoint_class(self) -> Any:
        """One that says nothing."""
        return FetchCheckpointBase

    def pages(self, checkpoint: Any) -> Iterator[Any]:
        """The fetcher's one delta."""
        if not self._file.is_file():
            raise FetchError(f"{self._file} is not there, or is no file", passing=True)
        yield from self._api.fetch_iter((), checkpoint)

    def delta(self, page: Any) -> Delta:
        """Its lines."""
        found = Delta(page.checkpoint)
        for kind, text in page.updates:
            if not kind.startswith("#"):
                name = f"{kind}:{text.lower()}"[:256]
                found.take(name, partial(self._record, name, kind, text))
        return found

    def _record(self, name: str, kind: str, text: str) -> EntryRecord:
        return EntryRecord((hash_of(type_of(kind), text),), name, self.config.name)
