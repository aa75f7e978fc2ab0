"""How much of the service one key uses: calls a second, as a bucket of tokens, and calls at once."""

from __future__ import annotations

import time
from collections.abc import Callable


class Meter:
    """One key's; of one event loop.

    The bucket holds what a second lets through, one call at least. What is taken is taken whole, once there is anything
    in it: a batch of sixty-four makes a debt that later calls wait for, and is not refused for ever.
    """

    def __init__(
        self, per_second: float | None, at_once: int | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_second = per_second
        self._at_once = at_once
        self._clock = clock
        self._most = max(per_second or 0.0, 1.0)
        self._tokens = self._most
        self._filled = clock()
        self._running = 0

    def spend(self, calls: int) -> float:
        """Take so many calls; 0.0, or after how many seconds to come back, and nothing is taken."""
        if self._per_second is None:
            return 0.0
        now = self._clock()
        self._tokens = min(self._most, self._tokens + (now - self._filled) * self._per_second)
        self._filled = now
        if self._tokens < 1.0:
            return max((1.0 - self._tokens) / self._per_second, 0.001)
        self._tokens -= calls
        return 0.0

    def enter(self) -> bool:
        """One call more at once; False where there are as many as may be."""
        if self._at_once is not None and self._running >= self._at_once:
            return False
        self._running += 1
        return True

    def leave(self) -> None:
        """One call less."""
        self._running -= 1

    @property
    def said(self) -> str:
        """The limits, for people."""
        rate = "any number of" if self._per_second is None else f"{self._per_second:g}"
        return f"{rate} calls a second, {'any number' if self._at_once is None else self._at_once} at once"
