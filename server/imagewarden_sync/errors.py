"""What can go wrong, as a tree.

SyncError
├── ConfigError      what was asked for is wrong, or a credential is missing
├── StateError       what is kept between runs is damaged, or in use
├── FetchError       the exchange did not answer, refused, or answered what cannot be read
└── SweepRefused     more than half of what an exchange brought would go
"""

from __future__ import annotations

from imagewarden import ImageWardenError, ResourceExhausted, ServerError, TimeoutExceeded, Unavailable


class SyncError(Exception):
    """Something that keeps an exchange from being pulled; its message says what to do.

    Attributes:
        message: what happened, for people.
        passing: another time it may work, with nobody doing anything.
    """

    def __init__(self, message: str, *, passing: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.passing = passing


class ConfigError(SyncError):
    """What was asked for is wrong, or a credential is missing."""


class StateError(SyncError):
    """What is kept between runs is damaged, or another process uses it."""


class FetchError(SyncError):
    """The exchange did not answer, refused, or answered what cannot be read."""


class SweepRefused(SyncError):
    """After all was fetched, more than half of what the exchange brought before would go."""


def of_the_service(error: ImageWardenError) -> SyncError:
    """What the service, or the way to it, failed at, with what to do."""
    reason = f" [{error.reason}]" if error.reason else ""
    passing = isinstance(error, Unavailable | TimeoutExceeded | ServerError | ResourceExhausted)
    hint = "" if passing else _HINTS.get(type(error).__name__, "")
    return SyncError(f"ImageWarden: {error.message}{reason}{hint}", passing=passing)


_HINTS = {
    "NotFound": "; make the bank first: imagewarden bank create",
    "PermissionDenied": "; show a key of a moderator that is good for this bank",
    "Unauthenticated": "; show a good key: --key-file before `sync`, or IMAGEWARDEN_KEY",
}
