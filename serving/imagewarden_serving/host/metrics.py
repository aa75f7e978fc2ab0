"""Prometheus metrics under tensorflow_model_server's names.

Written out by hand: the names begin with a colon, and counters have no `_total`, which prometheus-client would add.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Sequence

UNKNOWN_MODEL = "unknown"
"""The model_name label of requests for models that are not configured: a caller must not make series."""


def exponential(scale: float, growth: float, count: int) -> tuple[float, ...]:
    """The bounds of `monitoring::Buckets::Exponential`."""
    return tuple(scale * growth**power for power in range(count))


class Counter:
    """A number that grows, by labels."""

    kind = "counter"

    def __init__(self, name: str, text: str, labels: Sequence[str]) -> None:
        self.name = name
        self.text = text
        self._labels = tuple(labels)
        self._lock = threading.Lock()
        self._values: dict[tuple[str, ...], float] = {}

    def add(self, *labels: str, amount: float = 1) -> None:
        """Count."""
        with self._lock:
            self._values[labels] = self._values.get(labels, 0) + amount

    def lines(self) -> list[str]:
        """The samples."""
        with self._lock:
            return [f"{self.name}{_labels(self._labels, k)} {_number(v)}" for k, v in sorted(self._values.items())]


class Histogram:
    """A distribution, by labels."""

    kind = "histogram"

    def __init__(self, name: str, text: str, labels: Sequence[str], bounds: Sequence[float]) -> None:
        self.name = name
        self.text = text
        self._labels = tuple(labels)
        self._bounds = tuple(bounds)
        self._lock = threading.Lock()
        self._cells: dict[tuple[str, ...], list[int]] = {}
        self._sums: dict[tuple[str, ...], float] = {}

    def observe(self, value: float, *labels: str) -> None:
        """Add one value."""
        with self._lock:
            cells = self._cells.setdefault(labels, [0] * (len(self._bounds) + 1))
            cells[bisect_left(self._bounds, value)] += 1
            self._sums[labels] = self._sums.get(labels, 0.0) + value

    def lines(self) -> list[str]:
        """The samples: cumulative buckets, sum and count."""
        lines: list[str] = []
        with self._lock:
            for labels, cells in sorted(self._cells.items()):
                total = 0
                for bound, cell in zip((*map(_number, self._bounds), "+Inf"), cells, strict=True):
                    total += cell
                    lines.append(f"{self.name}_bucket{_labels((*self._labels, 'le'), (*labels, bound))} {total}")
                plain = _labels(self._labels, labels)
                lines.extend(
                    (f"{self.name}_sum{plain} {_number(self._sums[labels])}", f"{self.name}_count{plain} {total}")
                )
        return lines


class Metrics:
    """What the host counts; `render` is the page."""

    def __init__(self) -> None:
        microseconds = exponential(10, 1.8, 33)
        self.request_count = Counter(
            ":tensorflow:serving:request_count", "The total number of requests.", ("model_name", "status")
        )
        self.request_latency = Histogram(
            ":tensorflow:serving:request_latency",
            "Distribution of wall time (in microseconds) for Tensorflow Serving request.",
            ("model_name", "API", "entrypoint"),
            microseconds,
        )
        self.runtime_latency = Histogram(
            ":tensorflow:serving:runtime_latency",
            "Distribution of wall time (in microseconds) for Tensorflow runtime.",
            ("model_name", "API", "runtime"),
            microseconds,
        )
        self.queuing_latency = Histogram(
            ":tensorflow:serving:batching_session:queuing_latency",
            "Distribution of wall time spent (in microseconds) in queuing",
            ("thread_pool_name",),
            exponential(100, 1.2, 52),
        )
        self.wrapped_run_count = Counter(
            ":tensorflow:serving:batching_session:wrapped_run_count",
            "Total count of run calls on the wrapped session",
            (),
        )
        self.batch_size = Histogram(
            ":tensorflow:serving:batching_session:processed_batch_size",
            "Rows of a run, padding included",
            ("model_name",),
            exponential(1, 2, 11),
        )
        self.model_warmup_latency = Histogram(
            ":tensorflow:serving:model_warmup_latency",
            "Distribution of wall time (in microseconds) for warming up the model.",
            ("model_path", "status"),
            microseconds,
        )
        self.load_attempt_count = Counter(
            ":tensorflow:cc:saved_model:load_attempt_count",
            "The number of times a SavedModel was requested to be loaded.",
            ("model_path", "status"),
        )

    def render(self) -> str:
        """The page, in the text format of Prometheus 0.0.4."""
        lines: list[str] = []
        for metric in vars(self).values():
            lines += [f"# HELP {metric.name} {metric.text}", f"# TYPE {metric.name} {metric.kind}", *metric.lines()]
        return "\n".join(lines) + "\n"


def _labels(names: Sequence[str], values: Sequence[str]) -> str:
    if not names:
        return ""
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in zip(names, values, strict=True)) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return f"{value:.12g}"
