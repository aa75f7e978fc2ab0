"""Which exchanges are pulled, into which banks, how often: from a TOML file, or from options.

Never a credential: a file is copied, mailed and committed, and arguments can be read by others on the machine.
"""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from imagewarden_sync.errors import ConfigError

DEFAULT_EVERY = 15 * 60.0
_LEAST_EVERY = 1.0

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)?")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


@dataclass(frozen=True, slots=True)
class _Setting:
    """A setting of a kind: what it must be, and whether it can be left out."""

    kind: type[str | int | list[int]]
    needed: bool = False

    def fits(self, value: object) -> bool:
        """Whether a value is one; `true` is no number here."""
        if self.kind is not list:
            return type(value) is self.kind
        return isinstance(value, list) and all(type(one) is int for one in value)

    @property
    def text(self) -> str:
        """What it must be, for people."""
        return {str: "a text", int: "a whole number"}.get(self.kind, "an array of whole numbers")


_ONLINE = {"url": _Setting(str), "credentials_file": _Setting(str)}
KINDS: Mapping[str, Mapping[str, _Setting]] = {
    "ncmec": {"environment": _Setting(str, needed=True), "only_esp_ids": _Setting(list), **_ONLINE},
    "stopncii": _ONLINE,
    "tat": _ONLINE,
    "fb_threatexchange": {"privacy_group": _Setting(int, needed=True), **_ONLINE},
    "local_file": {"filename": _Setting(str, needed=True), "signal_type": _Setting(str)},
}
"""By kind of exchange its own settings."""
_COMMON = ("name", "kind", "bank", "every")


@dataclass(frozen=True, slots=True)
class ExchangeConfig:
    """One exchange.

    Attributes:
        name: of a-z, 0-9, '.', '_' and '-'; what it brings has it as its source.
        kind: one of KINDS.
        bank: what it brings goes there.
        every: seconds from one synchronisation to the next.
        settings: the kind's own.
    """

    name: str
    kind: str
    bank: str
    every: float
    settings: Mapping[str, Any]


def load(path: Path) -> tuple[ExchangeConfig, ...]:
    """The exchanges that a file names.

    Raises:
        ConfigError: it cannot be read, or is wrong: where, and how it is mended.
    """
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is no TOML: {error}") from error
    unknown = sorted(said.keys() - {"every", "exchanges"})
    if unknown:
        raise ConfigError(f"{path}: {unknown[0]!r} is not known; there are `every` and [[exchanges]]")
    tables = said.get("exchanges")
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise ConfigError(f"{path} names no exchange; each has a table [[exchanges]] with name, kind and bank")
    every = said.get("every", DEFAULT_EVERY)
    found = [exchange(table, f"{path}, exchange {place}", every) for place, table in enumerate(tables, 1)]
    _check_names(found, str(path))
    return tuple(found)


def _check_names(found: Sequence[ExchangeConfig], where: str) -> None:
    names = [one.name for one in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"{where}: two exchanges are named {twice!r}, by which their entries are told apart")


def exchange(said: Mapping[str, Any], where: str, every: object = DEFAULT_EVERY) -> ExchangeConfig:
    """One exchange.

    Args:
        said: its settings.
        where: they stand, for what is said of them.
        every: the interval, where they say none.

    Raises:
        ConfigError: a setting is missing, wrong or not known.
    """
    kind = _text(said, "kind", where)
    if kind not in KINDS:
        raise ConfigError(f"{where}: kind {kind!r} is not known; {', '.join(KINDS)} are")
    known = KINDS[kind]
    name = _text(said, "name", where)
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{where}: name {name!r} is none: 1 to 64 of a-z, 0-9, '.', '_' and '-'")
    where = f"{where} ({name})"
    settings = {key: value for key, value in said.items() if key not in _COMMON}
    for key, value in settings.items():
        setting = known.get(key)
        if setting is None:
            raise ConfigError(
                f"{where}: {key!r} is no setting of {kind}; {', '.join((*_COMMON, *known))} are. Credentials stand in "
                "the environment or in a file of their own, never here"
            )
        if not setting.fits(value):
            raise ConfigError(f"{where}: {key} is not {setting.text}")
    missing = [key for key, setting in known.items() if setting.needed and key not in settings]
    if missing:
        raise ConfigError(f"{where}: {kind} needs {' and '.join(missing)}")
    if "url" in settings:
        settings["url"] = _safe_url(settings["url"], where)
    bank = _text(said, "bank", where).removeprefix("banks/")
    return ExchangeConfig(name, kind, bank, seconds(said.get("every", every), where), settings)


def _text(said: Mapping[str, Any], key: str, where: str) -> str:
    value = said.get(key)
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{where}: {key} is {'missing' if value is None else 'not a text, or empty'}")
    return value


def seconds(said: object, where: str) -> float:
    """An interval in seconds: a number, or a text such as 90s, 15m, 2h or 1d.

    Raises:
        ConfigError: it is none, or too short.
    """
    found = _SPAN.fullmatch(str(said)) if isinstance(said, str | int | float) and not isinstance(said, bool) else None
    if found is None:
        raise ConfigError(f"{where}: every {said!r} is no interval; seconds, or 90s, 15m, 2h or 1d are")
    length = float(found[1]) * _SECONDS[found[2] or "s"]
    if length < _LEAST_EVERY:
        raise ConfigError(f"{where}: every {said!r} is less than a second")
    return length


def _safe_url(url: str, where: str) -> str:
    """An address without its last slash; plain HTTP, which shows credentials to all on the way, on loopback only."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise ConfigError(f"{where}: url is no address such as https://proxy.example/v1, and nothing more")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ConfigError(f"{where}: the url's plain HTTP would show the credentials to all on the way: use https")
    return url.rstrip("/")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
