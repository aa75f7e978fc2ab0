"""A real gRPC server in this process whose answers a test programs: what the client meets, without what decides."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from imagewarden.v1 import bank_service_pb2 as banks_pb
from imagewarden.v1 import bank_service_pb2_grpc as banks_grpc
from imagewarden.v1 import moderation_service_pb2 as pb
from imagewarden.v1 import moderation_service_pb2_grpc as pb_grpc

# A message, a google.rpc.Status to fail with, or a function of request and context that gives one.
Answer = Message | Callable[[Any, Any], Any]

_OPTIONS = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
_SERVICES = ((pb.DESCRIPTOR, "ModerationService"), (banks_pb.DESCRIPTOR, "BankService"))


def status(
    code: int, message: str, reason: str = "", *, retry_after: float | None = None, field: str = "", **metadata: str
) -> status_pb2.Status:
    """A status with the details that the real server gives."""
    found = status_pb2.Status(code=code, message=message)
    details: list[Message] = []
    if reason:
        details.append(error_details_pb2.ErrorInfo(reason=reason, domain="imagewarden.v1", metadata=metadata))
    if retry_after is not None:
        delay = Duration()
        delay.FromMilliseconds(int(retry_after * 1000))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    if field:
        violation = error_details_pb2.BadRequest.FieldViolation(field=field)
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        found.details.append(packed)
    return found


UNAVAILABLE = status(code_pb2.UNAVAILABLE, "the model gave no embedding", "EMBEDDING_UNAVAILABLE", retry_after=0.0)


class FakeService:
    """Answers each method with what the test put there, in turn; the last answer stands.

    Attributes:
        calls: by method, the requests that came, in order.
        metadata: by method, the metadata that came with each.
        address: where it listens.
    """

    def __init__(self) -> None:
        self.calls: dict[str, list[Any]] = defaultdict(list)
        self.metadata: dict[str, list[dict[str, str | bytes]]] = defaultdict(list)
        self.address = ""
        self._answers: dict[str, list[Answer]] = {}
        self._lock = threading.Lock()

    def answer(self, method: str, *answers: Answer) -> None:
        """Program a method: messages, statuses to fail with, or functions of request and context."""
        self._answers[method] = list(answers)

    def next(self, method: str, request: Any, context: grpc.ServicerContext) -> Any:
        """The programmed answer of a unary method."""
        with self._lock:
            self.calls[method].append(request)
            self.metadata[method].append(dict(context.invocation_metadata()))
            planned = self._answers[method]
            answer = planned.pop(0) if len(planned) > 1 else planned[0]
        if callable(answer):
            answer = answer(request, context)
        if isinstance(answer, status_pb2.Status):
            rich = rpc_status.to_status(answer)
            context.set_trailing_metadata((*rich.trailing_metadata, ("x-request-id", "of-the-server")))
            context.abort(rich.code, rich.details)
        return answer

    def stream(self, method: str, requests: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        """The programmed answers of a stream: a function of its requests (or its one request) and the context."""
        self.metadata[method].append(dict(context.invocation_metadata()))
        answer = self._answers[method][0]
        assert callable(answer)
        yield from answer(requests, context)


@contextmanager
def fake_service(
    *, address: str = "127.0.0.1:0", credentials: grpc.ServerCredentials | None = None
) -> Iterator[FakeService]:
    """Serve until the test is done."""
    fake = FakeService()
    # Many workers: a test may leave one waiting in an answer that its client has long given up.
    server = grpc.server(ThreadPoolExecutor(16), options=_OPTIONS)
    bases: list[Any] = [pb_grpc.ModerationServiceServicer, banks_grpc.BankServiceServicer]
    servicers = [base() for base in bases]
    for servicer, (descriptor, service) in zip(servicers, _SERVICES, strict=True):
        for method in descriptor.services_by_name[service].methods:
            _bind(fake, servicer, method)
    pb_grpc.add_ModerationServiceServicer_to_server(servicers[0], server)
    banks_grpc.add_BankServiceServicer_to_server(servicers[1], server)
    port = server.add_insecure_port(address) if credentials is None else server.add_secure_port(address, credentials)
    fake.address = f"127.0.0.1:{port}"
    server.start()
    try:
        yield fake
    finally:
        server.stop(None).wait()


def _bind(fake: FakeService, servicer: Any, method: Any) -> None:
    name = method.name

    def handle(request: Any, context: grpc.ServicerContext) -> Any:
        return fake.next(name, request, context)

    def stream(requests: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        return fake.stream(name, requests, context)

    setattr(servicer, name, stream if method.server_streaming else handle)
