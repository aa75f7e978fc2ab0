"""One interceptor a concern, for all four kinds of calls; `chain` has their order, outermost first."""

from __future__ import annotations

from collections.abc import Callable

import grpc

from imagewarden_server.interceptors.admission import AdmissionInterceptor
from imagewarden_server.interceptors.errors import ErrorInterceptor
from imagewarden_server.interceptors.logging import LogInterceptor
from imagewarden_server.interceptors.metrics import MetricsInterceptor
from imagewarden_server.interceptors.request_id import RequestIdInterceptor
from imagewarden_server.telemetry import Metrics


def chain(
    metrics: Metrics, max_concurrent_calls: int, serving: Callable[[], bool]
) -> tuple[grpc.aio.ServerInterceptor, ...]:
    """The interceptors in their order.

    The request id comes first, so that all the others may name it; metrics and the log line stand outside the errors,
    so that they see the code that the caller sees; admission stands inside, so that a refused call is counted, logged
    and answered as any other error.
    """
    return (
        RequestIdInterceptor(),
        MetricsInterceptor(metrics),
        LogInterceptor(),
        ErrorInterceptor(),
        AdmissionInterceptor(max_concurrent_calls, serving),
    )
