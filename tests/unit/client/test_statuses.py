"""What a broken call is to its caller."""

from __future__ import annotations

import grpc
import pytest

import imagewarden as iw
from imagewarden._statuses import from_rpc_error


def failed(code: grpc.StatusCode, details: str) -> iw.ImageWardenError:
    error = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=details)
    return from_rpc_error(error, target="there:1", request_id="r")


@pytest.mark.parametrize(
    ("code", "details", "kind", "said"),
    [
        # What grpc.aio says itself where a call ended while it was writing to it.
        (grpc.StatusCode.INTERNAL, "Internal error from Core", iw.ConnectionFailed, "UNAVAILABLE"),
        (grpc.StatusCode.INTERNAL, "what a server says", iw.ServerError, "INTERNAL"),
        (grpc.StatusCode.UNAVAILABLE, "nobody", iw.ConnectionFailed, "UNAVAILABLE"),
    ],
)
def test_a_call_that_broke(code: grpc.StatusCode, details: str, kind: type[Exception], said: str) -> None:
    found = failed(code, details)
    assert type(found) is kind
    assert (found.code, found.request_id) == (said, "r")
