"""Turns what went wrong into the status that the caller sees; a bug becomes a plain INTERNAL and a log line."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
from grpc_status import rpc_status

from imagewarden_server import logs
from imagewarden_server.api.errors import internal_error, to_status
from imagewarden_server.interceptors.around import Call, Concern
from imagewarden_server.interceptors.request_id import HEADER
from imagewarden_server.matching.errors import DomainError


class Errors(Concern):
    """Answers errors."""

    @asynccontextmanager
    async def around(self, call: Call) -> AsyncIterator[None]:
        """Run, and translate what is raised."""
        try:
            yield
        except grpc.aio.AbortError:
            raise
        except DomainError as error:
            logs.annotate(error=error.message, reason=type(error).__name__)
            await _abort(call, rpc_status.to_status(to_status(error)))
        except Exception:  # noqa: BLE001 -- whatever a bug raises must not reach the caller as it is
            logs.logger().exception("bug", method=call.method)
            await _abort(call, rpc_status.to_status(internal_error(logs.current_request_id())))


async def _abort(call: Call, status: grpc.Status) -> None:
    metadata = (*(status.trailing_metadata or ()), (HEADER, logs.current_request_id()))
    await call.context.abort(status.code, status.details, metadata)
