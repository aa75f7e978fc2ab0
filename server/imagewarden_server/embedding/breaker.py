"""A circuit breaker: a model host that failed again and again is left alone for a while, and then tried by one request.

Nygard, Release It! (2007, 2018), chapter 5. Without it each check would wait for a host that hangs as long as it has
time, and keep its place meanwhile: what digests, PDQ and keypoints say would come as late.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc

from imagewarden_server.matching.errors import EmbeddingUnavailable

FAILURES = 5
"""So many failures in a row open it."""

OPEN_SECONDS = 5.0
"""So long a host is left alone, unless it is heard of before."""

_PATIENT_SECONDS = 2.0
"""A request that had so long and got no answer counts against the host; one that had less says nothing of it."""

_FAULTS = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)


class BreakerState(enum.StrEnum):
    """Whether requests go through."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"
    """One request is on its way, to see."""


class Breaker:
    """Counts the failures of one host; of one event loop.

    Args:
        host: its address, for the message.
        clock: monotonic seconds.
    """

    def __init__(self, host: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._host = host
        self._clock = clock
        self._failures = 0
        self._until = 0.0
        self._probing = False
        self._last = ""

    @property
    def state(self) -> BreakerState:
        """Whether requests go through."""
        if self._failures < FAILURES:
            return BreakerState.CLOSED
        return BreakerState.HALF_OPEN if self._probing else BreakerState.OPEN

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Around a request; what becomes of it is told by the other methods.

        Raises:
            EmbeddingUnavailable: it is open.
        """
        probe = self.state is not BreakerState.CLOSED
        if probe:
            left = self._until - self._clock()
            if left > 0 or self._probing:
                when = f"in {left:.1f} s" if left > 0 else "by another call now"
                raise EmbeddingUnavailable(
                    f"the model host {self._host} failed {self._failures} times in a row ({self._last}), and is tried "
                    f"again {when}; look at its log"
                )
            self._probing = True
        try:
            yield
        finally:
            if probe:
                self._probing = False

    def succeeded(self) -> None:
        """A request was answered well."""
        self._failures = 0

    def failed(self, why: str) -> None:
        """A request found the host away or talking nonsense."""
        self._failures += 1
        self._last = why
        if self._failures >= FAILURES:
            self._until = self._clock() + OPEN_SECONDS

    def ended(self, code: grpc.StatusCode, seconds: float) -> None:
        """A request ended with a status, that had so many seconds: whether that says something of the host."""
        late = code is grpc.StatusCode.DEADLINE_EXCEEDED and seconds >= _PATIENT_SECONDS
        if late or code in _FAULTS:
            self.failed(code.name)

    def heard_of(self) -> None:
        """The host answered something else: the next request may try it at once."""
        self._until = self._clock()
