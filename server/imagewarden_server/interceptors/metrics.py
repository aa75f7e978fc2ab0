"""Counts calls by method and code, and their time, under the names of the go-grpc-prometheus middleware."""

from __future__ import annotations

import time

from imagewarden_server.interceptors.around import Call, Concern
from imagewarden_server.interceptors.codes import ended_with
from imagewarden_server.telemetry import Metrics


class Counts(Concern):
    """Counts."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def begin(self, call: Call) -> float:
        """Count the beginning; when that is, in seconds of `time.perf_counter`."""
        self._metrics.call_began(call.kind, call.service, call.method)
        return time.perf_counter()

    def end(self, call: Call, begun: float, error: BaseException | None) -> None:
        """Count the end and the time."""
        code = ended_with(call.context, error).name
        self._metrics.call_ended(call.kind, call.service, call.method, code, time.perf_counter() - begun)
