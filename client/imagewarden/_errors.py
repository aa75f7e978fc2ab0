"""What can go wrong, as a tree.

ImageWardenError
├── Unavailable              the service did not answer, or is starting, stopping or without its model
│   └── ConnectionFailed     nobody answered at the address
├── TimeoutExceeded          the time was up; a change may or may not have been made
├── InvalidRequest           a field is missing or wrong: `field` says which
├── NotFound                 no such bank or entry
├── AlreadyExists            a bank of that name, or that picture in that bank, exists
├── FailedPrecondition       the state does not allow it: a bank with entries, a bank of another kind
├── Unauthenticated          the caller is not known
├── PermissionDenied         the caller may not do this
├── ResourceExhausted        the server has as much work as it takes; `retry_after` says when to come back
└── ServerError              the server failed, or gave an answer that this client cannot read
"""

from __future__ import annotations

from collections.abc import Mapping


class ImageWardenError(Exception):
    """Something that the service, or the way to it, failed at.

    Attributes:
        message: what happened, for people.
        code: the gRPC status code's name, such as `NOT_FOUND`; empty where no call was made.
        reason: the name of the API's ErrorReason, such as `BANK_NOT_FOUND`, for programs; empty where the server gave
            none.
        metadata: what the reason is about, as the API documents it with each reason.
        request_id: the id under which the server's log has the call, and, of a change, its idempotency key: repeat the
            change with it and it is made once at most. Empty where no call was made.
        retry_after: after how many seconds the server suggests to come back; None where it does not say.
        field: the field of the request that is wrong; empty unless the error is about one.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        request_id: str = "",
        retry_after: float | None = None,
        field: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason
        self.metadata = dict(metadata or {})
        self.request_id = request_id
        self.retry_after = retry_after
        self.field = field


class Unavailable(ImageWardenError):
    """The service cannot answer now: it is starting, stopping, or without its model. Worth another try."""


class ConnectionFailed(Unavailable):
    """Nobody answered at the address, or the connection broke."""


class TimeoutExceeded(ImageWardenError):
    """The time was up. A change may or may not have been made: repeat it with this error's `request_id`."""


class InvalidRequest(ImageWardenError):
    """A field of the request is missing or wrong; `field` names it."""


class NotFound(ImageWardenError):
    """There is no such bank or entry."""


class AlreadyExists(ImageWardenError):
    """There is such a bank, or such a picture in the bank, already."""


class FailedPrecondition(ImageWardenError):
    """The state does not allow this: a bank that has entries, a bank of another kind, a request_id used before."""


class Unauthenticated(ImageWardenError):
    """The service does not know who calls."""


class PermissionDenied(ImageWardenError):
    """The caller may not do this."""


class ResourceExhausted(ImageWardenError):
    """The server has as much work as it takes (`retry_after` is set), or a message is over its limit."""


class ServerError(ImageWardenError):
    """The server failed, or answered what this client cannot read; `request_id` finds it in the server's log."""
