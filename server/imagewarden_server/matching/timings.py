"""How long the stages of a check took."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class Timings(dict[str, float]):
    """Seconds by the stage's name, in the order that they first ran; what runs again is added."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.add({name: time.perf_counter() - begin})

    def add(self, seconds: Mapping[str, float]) -> None:
        """Note how long stages took."""
        for name, one in seconds.items():
            self[name] = self.get(name, 0.0) + one
