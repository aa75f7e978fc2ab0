"""Logs by structlog: one canonical line a call, JSON where no person reads along. Never a picture, never a secret."""

from __future__ import annotations

import json
import logging
import sys
from contextvars import ContextVar
from typing import Any

import structlog

from imagewarden_server.settings import LogFormat, LogLevel

_fields: ContextVar[dict[str, Any] | None] = ContextVar("imagewarden_call_fields", default=None)
_request_id: ContextVar[str] = ContextVar("imagewarden_request_id", default="")

_logger: Any = None


def configure(log_format: LogFormat, level: LogLevel) -> None:
    """Set up logging for the process; lines go to standard error."""
    global _logger  # noqa: PLW0603 -- a process has one
    text = log_format is LogFormat.TEXT or (log_format is LogFormat.AUTO and sys.stderr.isatty())
    renderer: Any = structlog.dev.ConsoleRenderer() if text else structlog.processors.JSONRenderer(serializer=_json)
    structlog.configure(
        processors=[
            _with_request_id,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    # Bound once: structlog would build what it writes with anew for each line.
    _logger = structlog.get_logger("imagewarden").bind()


def name_call(request_id: str) -> None:
    """All lines of the call that begins now name it."""
    _request_id.set(request_id)


def open_call() -> dict[str, Any]:
    """Begin a call's line: what `annotate` adds until the call ends stands in it."""
    fields: dict[str, Any] = {}
    _fields.set(fields)
    return fields


def annotate(**fields: Any) -> None:
    """Add to the line of the call that runs now."""
    current = _fields.get()
    if current is not None:
        current.update(fields)


def logger() -> Any:
    """The process's logger (a structlog bound logger)."""
    return structlog.get_logger("imagewarden") if _logger is None else _logger


def current_request_id() -> str:
    """The id of the call that runs now; empty outside of one."""
    return _request_id.get()


# One encoder for all lines; what JSON does not know, an enum or a path, is written as people see it.
_encode = json.JSONEncoder(default=str).encode


def _json(event: Any, **_options: Any) -> str:
    return _encode(event)


def _with_request_id(_logger: Any, _method: str, event: Any) -> Any:
    """A processor of structlog's: each line of a call has the call's id."""
    if request_id := _request_id.get():
        event["request_id"] = request_id
    return event
