"""Changes that may come twice: known by their request_id, and by all else that they say."""

from __future__ import annotations

import hashlib

from google.protobuf.message import Message

from imagewarden_server.api import names
from imagewarden_server.matching.ports import Idempotency


def once(request: Message) -> Idempotency | None:
    """The request's id with a hash of all else that it says."""
    request_id = names.request_id(getattr(request, "request_id"))  # noqa: B009 -- each change's request has the field
    if not request_id:
        return None
    same = type(request)()
    same.CopyFrom(request)
    same.ClearField("request_id")
    said = type(request).DESCRIPTOR.full_name.encode() + b"\0" + same.SerializeToString(deterministic=True)
    return Idempotency(request_id, hashlib.sha256(said).digest())
