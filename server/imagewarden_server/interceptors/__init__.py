"""A class for each concern, for all four kinds of calls; `chain` has their order."""

from __future__ import annotations

from collections.abc import Callable

import grpc

from imagewarden_server.interceptors.admission import Admission
from imagewarden_server.interceptors.around import Concerns
from imagewarden_server.interceptors.errors import answer
from imagewarden_server.interceptors.logging import LogLine
from imagewarden_server.interceptors.metrics import Counts
from imagewarden_server.interceptors.request_id import RequestId
from imagewarden_server.telemetry import Metrics


def chain(
    metrics: Metrics, max_concurrent_calls: int, serving: Callable[[], bool]
) -> tuple[grpc.aio.ServerInterceptor, ...]:
    """The concerns in their order.

    The request id comes first, so that all the others may name it; metrics and the log line stand outside the errors,
    so that they see the code that the caller sees; admission stands inside, so that a refused call is counted, logged
    and answered as any other error.
    """
    outside = (RequestId(), Counts(metrics), LogLine())
    return (Concerns(outside, answer, (Admission(max_concurrent_calls, serving),)),)
