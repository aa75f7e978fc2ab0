"""Every call has a request id: the caller's `x-request-id`, or a new one; it comes back in the trailing metadata."""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from imagewarden_server.interceptors.around import Call, Concern

HEADER = "x-request-id"
_ACCEPTED = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class RequestId(Concern):
    """Binds the request id to every log line of the call."""

    @asynccontextmanager
    async def around(self, call: Call) -> AsyncIterator[None]:
        """Bind, run, and forget."""
        given = call.metadata.get(HEADER, "")
        request_id = given if _ACCEPTED.fullmatch(given) else uuid.uuid4().hex
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        call.context.set_trailing_metadata(((HEADER, request_id),))
        yield
