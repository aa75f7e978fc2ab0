"""What a failed call said, read as a client reads it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status


@dataclass
class Failure:
    """A call's error: filled once the call has failed."""

    code: grpc.StatusCode = grpc.StatusCode.OK
    message: str = ""
    reason: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    retry_seconds: int | None = None


def failure_of(error: grpc.RpcError) -> Failure:
    """What an error said; without a reason where it is none of the server's own."""
    said: Any = error
    failure = Failure(said.code(), said.details() or "")
    status = rpc_status.from_call(said)
    for detail in status.details if status is not None else ():
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            assert info.domain == "imagewarden.v1"
            failure.reason, failure.metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(retry):
            failure.retry_seconds = retry.retry_delay.seconds
    return failure


@contextlib.contextmanager
def fails() -> Iterator[Failure]:
    """Expect a call to fail with the server's own kind of error."""
    failure = Failure()
    with pytest.raises(grpc.RpcError) as caught:
        yield failure
    said = failure_of(caught.value)
    assert said.reason, f"no reason of the server's: {said.code} {said.message}"
    vars(failure).update(vars(said))
