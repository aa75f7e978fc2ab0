"""Opaque page tokens, bound to the request they continue (AIP-158)."""

from __future__ import annotations

import base64
import hashlib

from google.protobuf.message import Message

from imagewarden_server.matching.errors import InvalidField

_BINDING_BYTES = 8
_MOST = 2**63 - 1


def _binding(request: Message) -> bytes:
    """What a token is bound to: the request without its place and page size."""
    same = type(request)()
    same.CopyFrom(request)
    for field in {"page_token", "page_size"}.intersection(request.DESCRIPTOR.fields_by_name):
        same.ClearField(field)
    return hashlib.sha256(same.SerializeToString(deterministic=True)).digest()[:_BINDING_BYTES]


def next_token(request: Message, after: int | None) -> str:
    """The token of the next page; empty where this was the last."""
    if after is None:
        return ""
    return base64.urlsafe_b64encode(_binding(request) + after.to_bytes(8, "big")).decode().rstrip("=")


def after_of(request: Message, token: str) -> int:
    """Where the asked page begins.

    Raises:
        InvalidField: the token is none, or another request's.
    """
    if not token:
        return 0
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raw = b""
    # Whoever can hash may bind a token of his own: what the catalogue cannot count to is none.
    after = int.from_bytes(raw[_BINDING_BYTES:], "big")
    if len(raw) != _BINDING_BYTES + 8 or raw[:_BINDING_BYTES] != _binding(request) or after > _MOST:
        raise InvalidField("page_token", "is not of this listing; pass the next_page_token with the same other fields")
    return after
