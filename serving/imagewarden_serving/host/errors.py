"""The host's one kind of error: a canonical status code and a message."""

from __future__ import annotations

import enum

MESSAGE_LIMIT = 1_024
"""Characters of a message that leave the host: tensorflow_model_server cuts there too."""


class Code(enum.IntEnum):
    """The canonical status codes, numbered as gRPC and TensorFlow number them."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class HostError(Exception):
    """What went wrong, as the caller is told.

    Attributes:
        code: the canonical status code.
        message: at most `MESSAGE_LIMIT` characters.
    """

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message[:MESSAGE_LIMIT])
        self.code = code
        self.message = message[:MESSAGE_LIMIT]


def invalid(message: str) -> HostError:
    """An INVALID_ARGUMENT."""
    return HostError(Code.INVALID_ARGUMENT, message)


class ConfigError(ValueError):
    """A file or an option that the host cannot start with; the message names it."""
