"""One canonical log line a call: what was asked, what was answered, how long it took."""

from __future__ import annotations

import time
from typing import Any

from imagewarden_server import logs
from imagewarden_server.interceptors.around import Call, Concern
from imagewarden_server.interceptors.codes import ended_with


class LogLine(Concern):
    """Writes the line; servicers add to it with `logs.annotate`."""

    def begin(self, call: Call) -> tuple[dict[str, Any], float, str]:
        """Collect: what the line has beside, the beginning in seconds of `time.perf_counter`, and who calls.

        Who calls is asked now: a stream whose caller was killed may end after grpc has let go of the call, and asking
        then (of grpcio 1.85) reads memory that is gone and ends the process.
        """
        return logs.open_call(), time.perf_counter(), "" if call.infrastructure else str(call.context.peer())

    def end(self, call: Call, begun: tuple[dict[str, Any], float, str], error: BaseException | None) -> None:
        """Write, unless it is health or reflection."""
        if call.infrastructure:
            return
        fields, began, peer = begun
        logs.logger().info(
            "call",
            service=call.service,
            method=call.method,
            code=ended_with(call.context, error).name,
            seconds=round(time.perf_counter() - began, 6),
            peer=peer,
            **fields,
        )
