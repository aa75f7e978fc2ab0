"""What callers did and how long it took, counted from many threads."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class Tally:
    """Counts; thread-safe.

    Attributes:
        errors: what went wrong that must not, each with when and where; the first hundred.
    """

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self.errors: list[str] = []
        self._lock = threading.Lock()
        self._failed = 0
        self._took: dict[str, list[tuple[float, float]]] = defaultdict(list)

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self.begun

    @contextmanager
    def timed(self, kind: str, count: int = 1) -> Iterator[None]:
        """Something that is done: so many answers of a kind, or an error where it raises."""
        begin = time.monotonic()
        try:
            yield
        except Exception as error:  # noqa: BLE001 -- whatever it is, it is counted, and the soak goes on
            self.failed(kind, f"{type(error).__name__}: {error}")
        else:
            now = time.monotonic()
            with self._lock:
                self._took[kind] += [(now - self.begun, now - begin)] * count

    def failed(self, kind: str, what: str) -> None:
        """Something that must not be."""
        with self._lock:
            self._failed += 1
            if len(self.errors) < 100:
                self.errors.append(f"{self.seconds:.1f} s, {kind}: {what[:400]}")

    @property
    def failures(self) -> int:
        """How often something went wrong that must not."""
        return self._failed

    def answered(self) -> Counter[str]:
        """How many answers there were, by kind."""
        with self._lock:
            return Counter({kind: len(took) for kind, took in self._took.items()})

    def latencies(self) -> dict[str, list[tuple[float, float]]]:
        """By kind, when each was answered and how long it took, both in seconds."""
        with self._lock:
            return {kind: list(took) for kind, took in self._took.items()}


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that so many of the values are not above; 0.0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
