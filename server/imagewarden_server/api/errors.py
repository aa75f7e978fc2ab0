"""The one table that turns domain errors into google.rpc.Status, with ErrorInfo, BadRequest and RetryInfo."""

from __future__ import annotations

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from imagewarden.v1 import error_reason_pb2 as reasons
from imagewarden_server.matching import errors

DOMAIN = "imagewarden.v1"
_RETRY_SECONDS = 1.0

_TABLE: dict[type[errors.DomainError], tuple[code_pb2.Code, reasons.ErrorReason.ValueType]] = {
    errors.InvalidField: (code_pb2.INVALID_ARGUMENT, reasons.ERROR_REASON_INVALID_FIELD),
    errors.BankNotFound: (code_pb2.NOT_FOUND, reasons.ERROR_REASON_BANK_NOT_FOUND),
    errors.BankExists: (code_pb2.ALREADY_EXISTS, reasons.ERROR_REASON_BANK_EXISTS),
    errors.BankNotEmpty: (code_pb2.FAILED_PRECONDITION, reasons.ERROR_REASON_BANK_NOT_EMPTY),
    errors.WrongBankKind: (code_pb2.FAILED_PRECONDITION, reasons.ERROR_REASON_WRONG_BANK_KIND),
    errors.EntryNotFound: (code_pb2.NOT_FOUND, reasons.ERROR_REASON_ENTRY_NOT_FOUND),
    errors.EntryExists: (code_pb2.ALREADY_EXISTS, reasons.ERROR_REASON_ENTRY_EXISTS),
    errors.ImageUndecodable: (code_pb2.INVALID_ARGUMENT, reasons.ERROR_REASON_IMAGE_UNDECODABLE),
    errors.ImageOverLimits: (code_pb2.INVALID_ARGUMENT, reasons.ERROR_REASON_IMAGE_OVER_LIMITS),
    errors.ImageTooPlain: (code_pb2.INVALID_ARGUMENT, reasons.ERROR_REASON_IMAGE_TOO_PLAIN),
    errors.EmbeddingUnavailable: (code_pb2.UNAVAILABLE, reasons.ERROR_REASON_EMBEDDING_UNAVAILABLE),
    errors.RevisionBehind: (code_pb2.DEADLINE_EXCEEDED, reasons.ERROR_REASON_REVISION_BEHIND),
    errors.RequestIdReused: (code_pb2.FAILED_PRECONDITION, reasons.ERROR_REASON_REQUEST_ID_REUSED),
    errors.Unauthenticated: (code_pb2.UNAUTHENTICATED, reasons.ERROR_REASON_UNAUTHENTICATED),
    errors.PermissionDenied: (code_pb2.PERMISSION_DENIED, reasons.ERROR_REASON_PERMISSION_DENIED),
    errors.RateLimited: (code_pb2.RESOURCE_EXHAUSTED, reasons.ERROR_REASON_RATE_LIMITED),
    errors.Overloaded: (code_pb2.RESOURCE_EXHAUSTED, reasons.ERROR_REASON_OVERLOADED),
    errors.DeadlinePassed: (code_pb2.DEADLINE_EXCEEDED, reasons.ERROR_REASON_DEADLINE),
    errors.NotServing: (code_pb2.UNAVAILABLE, reasons.ERROR_REASON_NOT_SERVING),
}

_RETRY = (errors.EmbeddingUnavailable, errors.NotServing)


def to_status(error: errors.DomainError) -> status_pb2.Status:
    """The status of a domain error: every one has its row in the table, which a test asserts."""
    # A part of the server may have a finer kind of an error: it is answered as the kind that the table has.
    code, reason = next(_TABLE[kind] for kind in type(error).__mro__ if kind in _TABLE)
    details: list[Message] = [_info(reason, error.metadata)]
    if isinstance(error, errors.InvalidField):
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=error.description)
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if isinstance(error, (errors.RateLimited, errors.Overloaded)):
        details.append(_retry(error.retry_after))
    elif isinstance(error, _RETRY):
        details.append(_retry(_RETRY_SECONDS))
    return _status(code, error.message, details)


def _retry(seconds: float) -> error_details_pb2.RetryInfo:
    delay = Duration()
    delay.FromMicroseconds(round(seconds * 1e6))
    return error_details_pb2.RetryInfo(retry_delay=delay)


def internal_error(request_id: str) -> status_pb2.Status:
    """What a caller sees of a bug: where to look, and nothing of its inside."""
    message = f"the server failed; its log has the details under request id {request_id}"
    return _status(code_pb2.INTERNAL, message, [_info(reasons.ERROR_REASON_INTERNAL, {"request_id": request_id})])


def _info(reason: reasons.ErrorReason.ValueType, metadata: dict[str, str]) -> error_details_pb2.ErrorInfo:
    name = reasons.ErrorReason.Name(reason).removeprefix("ERROR_REASON_")
    return error_details_pb2.ErrorInfo(reason=name, domain=DOMAIN, metadata=metadata)


def _status(code: code_pb2.Code, message: str, details: list[Message]) -> status_pb2.Status:
    status = status_pb2.Status(code=code, message=message)
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return status
