"""Every call has a request id: the caller's `x-request-id`, or a new one; it comes back in the trailing metadata."""

from __future__ import annotations

import os
import re

from imagewarden_server import logs
from imagewarden_server.interceptors.around import Call, Concern

HEADER = "x-request-id"
_ACCEPTED = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class RequestId(Concern):
    """Binds the request id to every log line of the call."""

    def begin(self, call: Call) -> None:
        """Bind."""
        given = call.header(HEADER)
        request_id = given if _ACCEPTED.fullmatch(given) else os.urandom(16).hex()
        logs.name_call(request_id)
        call.context.set_trailing_metadata(((HEADER, request_id),))

    def end(self, call: Call, begun: None, error: BaseException | None) -> None:
        """Nothing: the task of the call ends, and its context with it."""
