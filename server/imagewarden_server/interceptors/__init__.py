"""A class for each concern, for all four kinds of calls; `chain` has their order."""

from __future__ import annotations

from collections.abc import Callable

import grpc

from imagewarden_server.access import Authority
from imagewarden_server.interceptors.access import Access
from imagewarden_server.interceptors.admission import Admission
from imagewarden_server.interceptors.around import Concerns
from imagewarden_server.interceptors.errors import answer
from imagewarden_server.interceptors.logging import LogLine
from imagewarden_server.interceptors.metrics import Counts
from imagewarden_server.interceptors.request_id import RequestId
from imagewarden_server.matching.load import Room
from imagewarden_server.telemetry import Metrics


def chain(
    metrics: Metrics,
    max_concurrent_calls: int,
    room: Room,
    serving: Callable[[], bool],
    authority: Authority | None,
) -> tuple[grpc.aio.ServerInterceptor, ...]:
    """The concerns in their order.

    The request id comes first, so that all the others may name it; metrics and the log line stand outside the errors,
    so that they see the code that the caller sees; who calls, and admission, stand inside, so that a refused call is
    counted, logged and answered as any other error. Nobody that may not call takes another one's place.

    Args:
        metrics: what counts.
        max_concurrent_calls: how many are admitted at once.
        room: for the bytes of their messages.
        serving: whether calls are.
        authority: who knows callers; None: no keys are asked for.
    """
    outside = (RequestId(), Counts(metrics), LogLine())
    admission = Admission(max_concurrent_calls, serving, room, metrics)
    return (Concerns(outside, answer, (Access(authority), admission)),)
