"""One canonical log line a call: what was asked, what was answered, how long it took."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from imagewarden_server import logs
from imagewarden_server.interceptors.around import Call, Concern
from imagewarden_server.interceptors.codes import ended_with


class LogLine(Concern):
    """Writes the line; servicers add to it with `logs.annotate`."""

    @asynccontextmanager
    async def around(self, call: Call) -> AsyncIterator[None]:
        """Collect, run, write."""
        if call.infrastructure:
            yield
            return
        fields = logs.open_call()
        begin = time.perf_counter()
        ended: BaseException | None = None
        try:
            yield
        except BaseException as error:  # a passed deadline is a CancelledError, which is no Exception
            ended = error
            raise
        finally:
            code = ended_with(call.context, ended)
            logs.logger().info(
                "call",
                service=call.service,
                method=call.method,
                code=code.name,
                seconds=round(time.perf_counter() - begin, 6),
                peer=call.context.peer(),
                **fields,
            )
