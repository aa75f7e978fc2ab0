"""From a failed call's status to the exception that says it."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from imagewarden._errors import (
    AlreadyExists,
    ConnectionFailed,
    FailedPrecondition,
    ImageWardenError,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    ServerError,
    TimeoutExceeded,
    Unauthenticated,
    Unavailable,
)

REQUEST_ID_HEADER = "x-request-id"
_DOMAIN = "imagewarden.v1"

_CLASSES: dict[grpc.StatusCode, type[ImageWardenError]] = {
    grpc.StatusCode.CANCELLED: Unavailable,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
    grpc.StatusCode.DEADLINE_EXCEEDED: TimeoutExceeded,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.ABORTED: FailedPrecondition,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
}
_LOST = (grpc.StatusCode.INTERNAL, "Internal error from Core")
"""What grpc.aio itself says where a call ends while it writes to it: the status that the server gave is lost then."""
_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def from_rpc_error(error: grpc.RpcError, *, target: str, request_id: str) -> ImageWardenError:
    """The exception for a call that ended badly.

    Args:
        error: what grpc raised, of the sync or the async stack.
        target: the server's address, for the message.
        request_id: the id that was sent; the server's trailing metadata wins over it.
    """
    status = _rich_status(error)
    request_id = _answered_request_id(error) or request_id
    if status is not None:
        return from_status(status, request_id=request_id)
    code = error.code()
    details = error.details() or "no details were given"
    if (code, details) == _LOST:
        code, details = grpc.StatusCode.UNAVAILABLE, "the call ended while a message was on its way to it"
    if code is grpc.StatusCode.UNAVAILABLE:
        return ConnectionFailed(
            f"no answer from {target}: {details}; is the server running there, and is TLS on at both ends or neither?",
            code=code.name,
            request_id=request_id,
        )
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        details = f"no answer from {target} in time ({details})"
    return _CLASSES.get(code, ServerError)(details, code=code.name, request_id=request_id)


def from_status(status: status_pb2.Status, *, request_id: str) -> ImageWardenError:
    """The exception that a google.rpc.Status stands for: of a call, or of one picture of a batch or a stream."""
    code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    reason, field = "", ""
    metadata: dict[str, str] = {}
    retry_after: float | None = None
    info, retry, bad = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        try:
            if detail.Unpack(info) and info.domain == _DOMAIN:
                reason, metadata = info.reason, dict(info.metadata)
            elif detail.Unpack(retry):
                retry_after = max(0.0, retry.retry_delay.ToTimedelta().total_seconds())
            elif detail.Unpack(bad) and bad.field_violations:
                field = bad.field_violations[0].field
        except DecodeError:
            continue  # a detail that cannot be read takes nothing away from the others
    return _CLASSES.get(code, ServerError)(
        status.message or code.name,
        code=code.name,
        reason=reason,
        metadata=metadata,
        request_id=(metadata.get("request_id") if reason == "INTERNAL" else None) or request_id,
        retry_after=retry_after,
        field=field or metadata.get("field", ""),
    )


def _rich_status(error: grpc.RpcError) -> status_pb2.Status | None:
    """The google.rpc.Status of grpc-status-details-bin, or None where there is none that can be believed."""
    try:
        status = rpc_status.from_call(error)  # type: ignore[arg-type]  # both stacks' errors have a call's methods
    except (ValueError, DecodeError):  # it contradicts the status code, or is no Status
        return None
    return status if isinstance(status, status_pb2.Status) else None


def _answered_request_id(error: grpc.RpcError) -> str:
    metadata: Any = error.trailing_metadata()
    for key, value in metadata or ():
        if key == REQUEST_ID_HEADER and isinstance(value, str):
            return value
    return ""
