"""What can go wrong in the domain, as exceptions that know nothing of gRPC.

    DomainError
    ├── InvalidField            a field of the request is missing or wrong
    ├── BankNotFound
    ├── BankExists
    ├── BankNotEmpty            deleting a bank that has entries, without force
    ├── WrongBankKind           the bank's kind does not take this
    ├── EntryNotFound
    ├── EntryExists             the bank has this picture already
    ├── ImageUndecodable
    ├── ImageOverLimits
    ├── ImageTooPlain
    ├── EmbeddingUnavailable    the model gave no embedding
    ├── RevisionBehind          the index has not reached the asked revision
    ├── RequestIdReused         the same request_id with other content
    ├── Unauthenticated         nobody knows who calls
    ├── PermissionDenied        the caller may not do this
    ├── RateLimited             the caller's key has used up what it may
    ├── Overloaded              the server has as much work as it takes at once
    ├── DeadlinePassed
    └── NotServing              starting or stopping

A message says what happened, with which value, and what to do now. `metadata` is what a program may read of it.
"""

from __future__ import annotations


class DomainError(Exception):
    """The base of them all.

    Attributes:
        message: for people.
        metadata: for programs; its keys are listed in error_reason.proto.
    """

    def __init__(self, message: str, **metadata: str) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = metadata


class InvalidField(DomainError):
    """A field of the request is missing or wrong; `field` is its path."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}", field=field)
        self.field = field
        self.description = message


class BankNotFound(DomainError):
    """No such bank."""

    def __init__(self, bank_id: str) -> None:
        super().__init__(
            f"no bank banks/{bank_id}; list them with ListBanks or make it with CreateBank", bank=f"banks/{bank_id}"
        )


class BankExists(DomainError):
    """A bank of that name exists."""

    def __init__(self, bank_id: str) -> None:
        super().__init__(
            f"banks/{bank_id} exists; choose another name or change it with UpdateBank", bank=f"banks/{bank_id}"
        )


class BankNotEmpty(DomainError):
    """The bank has entries, and force was not set."""

    def __init__(self, bank_id: str, entries: int) -> None:
        super().__init__(
            f"banks/{bank_id} has {entries} entries; set force to delete them with it",
            bank=f"banks/{bank_id}",
            entries=str(entries),
        )


class WrongBankKind(DomainError):
    """The bank's kind does not take this."""


class EntryNotFound(DomainError):
    """No such entry."""

    def __init__(self, bank_id: str, entry_id: str) -> None:
        name = f"banks/{bank_id}/entries/{entry_id}"
        super().__init__(f"no entry {name}; list them with ListEntries", entry=name)


class EntryExists(DomainError):
    """The bank has this picture already."""

    def __init__(self, bank_id: str, entry_id: str) -> None:
        name = f"banks/{bank_id}/entries/{entry_id}"
        super().__init__(
            f"the bank has this picture already, as {name}; change it with UpdateEntry",
            entry=name,
            bank=f"banks/{bank_id}",
        )


class ImageUndecodable(DomainError):
    """The bytes are no picture that can be decoded."""


class ImageOverLimits(DomainError):
    """The picture is over a limit."""


class ImageTooPlain(DomainError):
    """The picture has too little structure to recognise a copy of it."""


class EmbeddingUnavailable(DomainError):
    """The model gave no embedding; `detail` in the message says why."""


class RevisionBehind(DomainError):
    """The index has not reached the asked revision in time."""


class RequestIdReused(DomainError):
    """The same request_id with other content."""

    def __init__(self, request_id: str) -> None:
        super().__init__(
            f"request_id {request_id} was used for another request; make a new UUID4 for each change",
            request_id=request_id,
        )


class Unauthenticated(DomainError):
    """Nobody knows who calls."""


class PermissionDenied(DomainError):
    """The caller may not do this."""


class RateLimited(DomainError):
    """The caller's key has used up what it may; `retry_after` is in seconds."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Overloaded(DomainError):
    """The server has as much work as it takes at once; `retry_after` is in seconds."""

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DeadlinePassed(DomainError):
    """The call's deadline passed."""


class NotServing(DomainError):
    """The server is starting or stopping."""
