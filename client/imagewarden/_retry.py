"""When a call is tried again: exponential backoff with jitter, inside the call's time."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from imagewarden._errors import ImageWardenError

# The fraction of the backoff that chance may take away, so that callers who failed together do not return together.
_JITTER = 0.5


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how soon a failed call is tried again.

    UNAVAILABLE is tried again, and RESOURCE_EXHAUSTED when the server says after how long; nothing else is. Changes
    carry a request_id, so a change that was made although its answer was lost is not made twice.

    Attributes:
        attempts: how many tries at most, the first one counted; 1: never again.
        initial_backoff: seconds before the second try.
        max_backoff: seconds between two tries at most, unless the server asks for more.
        multiplier: by how much each wait is longer than the one before.
    """

    attempts: int = 4
    initial_backoff: float = 0.1
    max_backoff: float = 2.0
    multiplier: float = 2.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts is {self.attempts}; it is 1 (never again) or more")
        if not 0 <= self.initial_backoff <= self.max_backoff:
            raise ValueError(
                f"initial_backoff is {self.initial_backoff} and max_backoff {self.max_backoff}; "
                "both are seconds, 0 or more, and the first is not over the second"
            )
        if self.multiplier < 1:
            raise ValueError(f"multiplier is {self.multiplier}; it is 1 or more")


class Attempts:
    """The tries of one call: how long the next one has, and whether there is a next one."""

    def __init__(
        self,
        policy: RetryPolicy,
        timeout: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._policy = policy
        self._clock = clock
        self._chance = chance
        self._deadline = clock() + timeout
        self._made = 0

    def begin(self) -> float:
        """Begin a try; the seconds that it has."""
        self._made += 1
        return max(0.0, self._deadline - self._clock())

    def wait_after(self, error: ImageWardenError) -> float | None:
        """The seconds to wait before the next try, or None: the error stands."""
        retriable = error.code == "UNAVAILABLE" or (
            error.code == "RESOURCE_EXHAUSTED" and error.retry_after is not None
        )
        if not retriable or self._made >= self._policy.attempts:
            return None
        backoff = min(
            self._policy.max_backoff, self._policy.initial_backoff * self._policy.multiplier ** (self._made - 1)
        )
        wait = max(backoff * (1 - _JITTER * self._chance()), error.retry_after or 0.0)
        # A try that begins when the time is up can only turn a telling error into a time-out.
        return wait if self._clock() + wait < self._deadline else None
