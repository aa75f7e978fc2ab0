"""Turns what went wrong into the status that the caller sees; a bug becomes a plain INTERNAL and a log line."""

from __future__ import annotations

from typing import NamedTuple

import grpc
from grpc_status import rpc_status

from imagewarden_server import logs
from imagewarden_server.api.errors import internal_error, to_status
from imagewarden_server.interceptors.around import Call
from imagewarden_server.interceptors.request_id import HEADER
from imagewarden_server.matching.errors import DomainError


class _Status(NamedTuple):
    code: grpc.StatusCode
    details: str
    trailing_metadata: tuple[tuple[str, str | bytes], ...]


class Refused(_Status, grpc.Status):
    """The status of a call that failed, with the call's request id."""


def answer(call: Call, error: Exception) -> grpc.Status:
    """What the caller is answered."""
    request_id = logs.current_request_id()
    if isinstance(error, DomainError):
        logs.annotate(error=error.message, reason=type(error).__name__)
        status = rpc_status.to_status(to_status(error))
    else:
        logs.logger().error("bug", method=call.method, exc_info=error)
        status = rpc_status.to_status(internal_error(request_id))
    return Refused(status.code, status.details, (*(status.trailing_metadata or ()), (HEADER, request_id)))
