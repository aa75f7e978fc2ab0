"""Counts calls by method and code, and their time, under the names of the go-grpc-prometheus middleware."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from imagewarden_server.interceptors.around import Call, Concern
from imagewarden_server.interceptors.codes import ended_with
from imagewarden_server.telemetry import Metrics


class Counts(Concern):
    """Counts."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    @asynccontextmanager
    async def around(self, call: Call) -> AsyncIterator[None]:
        """Count the beginning, the end and the time."""
        labels = (call.kind, call.service, call.method)
        self._metrics.started.labels(*labels).inc()
        self._metrics.in_flight.inc()
        begin = time.perf_counter()
        ended: BaseException | None = None
        try:
            yield
        except BaseException as error:  # a passed deadline is a CancelledError, which is no Exception
            ended = error
            raise
        finally:
            self._metrics.in_flight.dec()
            self._metrics.handling.labels(*labels).observe(time.perf_counter() - begin)
            self._metrics.handled.labels(*labels, ended_with(call.context, ended).name).inc()
