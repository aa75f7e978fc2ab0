"""Log lines on standard error: JSON where no person reads along. Never a credential, never a hash list's content."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

_FIELDS = "sync_fields"
_FIRST = frozenset({"timestamp", "level", "event"})
_logger = logging.getLogger("imagewarden_sync")


def configure() -> None:
    """Set up logging for the process."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines(text=sys.stderr.isatty()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # What the exchange's package tells of its work names users, and of a refused record all that it says.
    root.setLevel(logging.WARNING)
    _logger.setLevel(logging.INFO)


def info(event: str, **fields: Any) -> None:
    """Something happened as it should."""
    _logger.info(event, extra={_FIELDS: fields})


def warning(event: str, **fields: Any) -> None:
    """Something happened that people may want to look at."""
    _logger.warning(event, extra={_FIELDS: fields})


def error(event: str, **fields: Any) -> None:
    """An exchange is not pulled until somebody does something, or something passes."""
    _logger.error(event, extra={_FIELDS: fields})


class _Lines(logging.Formatter):
    """One line a record.

    Of other packages' records only the sentence is written and not what it is about: addresses have access tokens in
    them, and records are what must not leave the exchange.
    """

    def __init__(self, *, text: bool) -> None:
        super().__init__()
        self._text = text

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
        }
        if record.name == _logger.name:
            said |= {"event": record.msg, **getattr(record, _FIELDS, {})}
        else:
            said |= {"event": "package", "logger": record.name, "thread": record.threadName, "said": str(record.msg)}
        if not self._text:
            return json.dumps(said, ensure_ascii=False, default=str)
        # As JSON in ASCII: a terminal obeys nothing of it.
        rest = " ".join(f"{key}={json.dumps(said[key], default=str)}" for key in said if key not in _FIRST)
        return f"{said['timestamp']} {said['level']:7} {said['event']} {rest}".rstrip()
