"""The installed version."""

from __future__ import annotations

import importlib.metadata
from functools import cache


@cache
def version() -> str:
    """The version of the installed distribution; `0+source` when run from a source tree that is not installed."""
    try:
        return importlib.metadata.version("imagewarden")
    except importlib.metadata.PackageNotFoundError:
        return "0+source"
