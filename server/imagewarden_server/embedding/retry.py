"""When a failed request is tried again: seldom, later and later, and never so often that it makes an outage worse."""

from __future__ import annotations

import random
from collections.abc import Callable

ATTEMPTS = 3
"""A request is sent at most so often."""

_FIRST_SECONDS = 0.05
_MOST_SECONDS = 1.0


class RetryBudget:
    """Tokens for retries, as gRPC's retry throttling (gRFC A6) has them.

    A request that found the host away takes one, tried again or not; a success gives a tenth back.
    """

    def __init__(self, most: float = 10.0, given_back: float = 0.1) -> None:
        self._most = most
        self._given_back = given_back
        self._tokens = most

    def failed(self) -> bool:
        """A request failed; whether it may be tried again: only while more than half of the tokens are left."""
        self._tokens = max(0.0, self._tokens - 1.0)
        return self._tokens > self._most / 2

    def succeeded(self) -> None:
        """A request was answered."""
        self._tokens = min(self._most, self._tokens + self._given_back)


def backoff(attempt: int, chance: Callable[[], float] = random.random) -> float:
    """Seconds to wait after the n-th failure, from 0: exponential with full jitter."""
    return chance() * min(_MOST_SECONDS, _FIRST_SECONDS * 2.0**attempt)
