"""Credentials of exchanges: from where the `threatexchange` package has them; from no file that others may read."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from threatexchange.exchanges.auth import (
    SignalExchangeAPIInvalidAuthException,
    SignalExchangeAPIMissingAuthException,
)

from imagewarden_sync.config import ExchangeConfig
from imagewarden_sync.errors import ConfigError


def find(config: ExchangeConfig, helper: Any, api: Any) -> Any:
    """The credentials of an exchange.

    Args:
        config: may name a file of its own for them.
        helper: the package's class of them: it knows the variable, the file and how they are written.
        api: the package's exchange that they are for.

    Raises:
        ConfigError: there are none, they are not written as they should be, or others may read them.
    """
    named = config.settings.get("credentials_file")
    if named is not None:
        # The package looks where the class says: one that says another file, and no variable.
        helper = type(helper.__name__, (helper,), {"FILE_NAME": named, "ENV_VARIABLE": ""})
    variable, file = helper.ENV_VARIABLE, Path(helper.FILE_NAME).expanduser()
    if not os.environ.get(variable):
        _check_mode(file, config.name)
    places = str(file) if named is not None else f"{variable} in the environment, or {file} with mode 0600"
    try:
        return helper.get(api)
    except SignalExchangeAPIMissingAuthException:
        raise ConfigError(f"{config.name}: there are no credentials of {config.kind}: put them into {places}") from None
    except SignalExchangeAPIInvalidAuthException:
        raise ConfigError(
            f"{config.name}: the credentials of {config.kind} are not written as they should be ({places}); "
            "docs/sync.md says how"
        ) from None


def _check_mode(file: Path, name: str) -> None:
    try:
        mode = file.stat().st_mode
    except OSError:
        return  # the package says what is missing
    if stat.S_IMODE(mode) & 0o077:
        raise ConfigError(f"{name}: others may read {file} (mode {stat.S_IMODE(mode):04o}): chmod 600 {file}")
