"""Which status code a call ended with, as the caller saw it."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc


def ended_with(context: Any, error: BaseException | None) -> grpc.StatusCode:
    """The code of a call that ended with `error` (None: well).

    An abort arrives as AbortError with the code set on the context; a passed deadline and a caller that went away both
    arrive as CancelledError; anything else is a bug, which grpc answers as UNKNOWN.
    """
    if error is None:
        return grpc.StatusCode.OK
    if isinstance(error, asyncio.CancelledError):
        remaining = context.time_remaining()
        passed = remaining is not None and remaining <= 0
        return grpc.StatusCode.DEADLINE_EXCEEDED if passed else grpc.StatusCode.CANCELLED
    code = context.code()
    if isinstance(code, grpc.StatusCode):
        return code
    if isinstance(code, int):
        return next((status for status in grpc.StatusCode if status.value[0] == code), grpc.StatusCode.UNKNOWN)
    return grpc.StatusCode.UNKNOWN
