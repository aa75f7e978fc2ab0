"""How much is taken on at once: bytes of requests, and pictures to look at. What is more is refused at once.

A queue that grows makes all wait, and those that waited longest give up as their turn comes: a server that takes on
more than it can do does less (Nichols and Jacobson, Controlling Queue Delay, 2012, of packets). So what is bounded is
not how many wait, but how long.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from imagewarden_server.matching.errors import Overloaded

_FIRST_SECONDS = 0.1
"""What a look is taken for to cost before any has ended."""
_WEIGHT = 0.05
_LEAST_RETRY_SECONDS = 0.1


class LoadObserver(Protocol):
    """Who counts what is refused."""

    def refused(self, why: str) -> None:
        """A call or a picture was refused for there are too many `calls`, too many `bytes`, or too long a `wait`."""


class _Silent:
    """Nobody counts."""

    def refused(self, why: str) -> None:
        """Nothing."""


class Room:
    """The bytes of the requests that are answered now; of one event loop.

    Args:
        most: bytes. One request that is larger alone than all that there is has it for itself.
        observer: who counts.
    """

    def __init__(self, most: int, observer: LoadObserver | None = None) -> None:
        self._most = most
        self._observer = observer or _Silent()
        self.held = 0

    def take(self, size: int) -> None:
        """Have a request's bytes counted until they are given back; of no bytes: see whether any more are taken.

        Raises:
            Overloaded: there are too many.
        """
        if self.held and self.held + max(size, 1) > self._most:
            self._observer.refused("bytes")
            raise Overloaded(
                f"the server holds {self.held:,} bytes of requests, and takes {self._most:,}; try again a little later"
            )
        self.held += size

    def give_back(self, size: int) -> None:
        """A request is answered."""
        self.held -= size

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Both. Raises Overloaded."""
        self.take(size)
        try:
            yield
        finally:
            self.give_back(size)


class Turns:
    """The pictures that are looked at now, or wait for it; of one event loop.

    What a new one would wait is known by how many there are and by how soon one after the other is done while there are
    enough to keep all that works for them busy; and by how long those that are there have been, where that is more:
    looks become slower from one moment to the next, and in a row the mean of all has half of its way behind it. Checks,
    bans and registrations are counted alike: they share decoders and the model.

    Args:
        most_seconds: a picture that would wait longer is refused.
        always: so many at once are looked at whatever it takes: fewer would leave the machine idle.
        observer: who counts.
        clock: monotonic seconds.
        chance: from 0 to 1: those that are refused together must not come back together.
    """

    def __init__(
        self,
        most_seconds: float,
        always: int,
        observer: LoadObserver | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._most = most_seconds
        self._always = always
        self._observer = observer or _Silent()
        self._clock = clock
        self._chance = chance
        self._since = 0.0
        self._each = _FIRST_SECONDS
        self._began = 0.0  # the sum of when those of the usual length that run began
        self._usual = 0
        self.running = 0

    @property
    def wait(self) -> float:
        """Seconds after which a picture that comes now would be done."""
        age = self._clock() - self._began / self._usual if self._usual else 0.0
        return max((self.running + 1) * self._each, 2 * age)

    @contextmanager
    def turn(self, until: float, *, long: bool = False) -> Iterator[None]:
        """Around a look at a picture that has to be over by a time, in seconds of the clock.

        Args:
            until: when.
            long: it takes so much longer than others that how long it has been says nothing of them.

        Raises:
            Overloaded: it would take too long.
        """
        now = self._clock()
        wait, allowed = self.wait, min(self._most, until - now)
        if self.running >= self._always and wait > allowed:
            self._observer.refused("wait")
            retry_after = max(wait * (0.5 + self._chance()), _LEAST_RETRY_SECONDS)
            raise Overloaded(
                f"{self.running} pictures are looked at, and one more would take {wait:.1f} s where it may take "
                f"{max(allowed, 0.0):.1f}; come back in {retry_after:.1f} s, or ask another replica",
                retry_after=retry_after,
            )
        self.running += 1
        if not long:
            self._usual += 1
            self._began += now
        if self.running == self._always:
            self._since = now
        try:
            yield
            # One that was given up, by its caller too, says nothing of how long a look takes.
            if self.running >= self._always:
                ended = self._clock()
                self._each += _WEIGHT * (ended - self._since - self._each)
                self._since = ended
        finally:
            self.running -= 1
            if not long:
                self._usual -= 1
                self._began = self._began - now if self._usual else 0.0
