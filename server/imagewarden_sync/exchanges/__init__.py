"""One adapter an exchange: what its fetcher of the `threatexchange` package gives, as records of a list."""

from __future__ import annotations

from imagewarden_sync.config import ExchangeConfig
from imagewarden_sync.exchanges.base import Adapter
from imagewarden_sync.exchanges.fb_threatexchange import FbThreatExchange
from imagewarden_sync.exchanges.local_file import LocalFile
from imagewarden_sync.exchanges.ncmec import Ncmec
from imagewarden_sync.exchanges.stopncii import StopNcii
from imagewarden_sync.exchanges.tat import Tat

_ADAPTERS: dict[str, type[Adapter]] = {
    "ncmec": Ncmec,
    "stopncii": StopNcii,
    "tat": Tat,
    "fb_threatexchange": FbThreatExchange,
    "local_file": LocalFile,
}


def open_exchange(config: ExchangeConfig) -> Adapter:
    """The adapter of an exchange, with its credentials.

    Raises:
        ConfigError: a setting is wrong, or there are no good credentials.
    """
    return _ADAPTERS[config.kind](config)
