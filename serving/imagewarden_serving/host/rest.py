"""TensorFlow Serving's REST calls and the Prometheus page, on the standard library's threads.

Bounded in every way: bytes of a body, requests at a time, seconds to send one and seconds to answer it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from google.protobuf import json_format
from tensorflow_serving.apis import get_model_metadata_pb2

from imagewarden_serving.host import rest_json
from imagewarden_serving.host.errors import Code, HostError, invalid
from imagewarden_serving.host.manager import ModelManager, ServableRequest
from imagewarden_serving.host.metrics import Metrics
from imagewarden_serving.host.predict import Predictor
from imagewarden_serving.host.servicers import metadata_response, record, status_response

_LOG = logging.getLogger(__name__)
MAX_BODY_BYTES = 64 * 2**20
_MAX_REQUESTS = 16
_MAX_CONNECTIONS = 256
_SOCKET_SECONDS = 30.0
_ANSWER_SECONDS = 30.0

_TARGET = r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d{1,18})|/labels/(?P<label>[^/:]+))?"
_PREDICT = re.compile(_TARGET + r":(?P<method>predict|classify|regress)")
_STATUS = re.compile(_TARGET + r"(?P<metadata>/metadata)?")
_JSON = "application/json"

_HTTP_CODES = {
    Code.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    Code.FAILED_PRECONDITION: HTTPStatus.BAD_REQUEST,
    Code.OUT_OF_RANGE: HTTPStatus.BAD_REQUEST,
    Code.NOT_FOUND: HTTPStatus.NOT_FOUND,
    Code.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    Code.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    Code.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
    Code.UNIMPLEMENTED: HTTPStatus.NOT_IMPLEMENTED,
}


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    content_type: str
    body: bytes


class RestApi:
    """The calls, without the sockets.

    Args:
        loop: the event loop that the manager and the predictor live on.
        metrics_path: where the Prometheus page is; None for nowhere.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        manager: ModelManager,
        predictor: Predictor,
        metrics: Metrics,
        metrics_path: str | None,
    ) -> None:
        self._loop = loop
        self._manager = manager
        self._predictor = predictor
        self._metrics = metrics
        self._metrics_path = metrics_path

    def get(self, path: str) -> _Answer:
        """A status, the metadata, or the metrics."""
        if path == self._metrics_path:
            return _Answer(HTTPStatus.OK, "text/plain; version=0.0.4; charset=utf-8", self._metrics.render().encode())
        match = _STATUS.fullmatch(path)
        if match is None:
            raise HostError(Code.NOT_FOUND, f"Malformed request: GET {path}")
        request = _request(match)
        return _json_answer(self._call(self._describe(request, metadata=match["metadata"] is not None)))

    def post(self, path: str, body: bytes) -> _Answer:
        """A prediction."""
        match = _PREDICT.fullmatch(path)
        if match is None:
            raise HostError(Code.NOT_FOUND, f"Malformed request: POST {path}")
        if match["method"] != "predict":
            raise HostError(Code.UNIMPLEMENTED, f"{match['method']} is not offered by the embedded host: call predict")
        request = _request(match)
        begin = time.perf_counter()
        code = Code.UNKNOWN
        try:
            parsed = rest_json.parse(body)
            prediction = self._call(self._predict(request, parsed))
            answer = _json_answer(rest_json.render(prediction, row_format=parsed.row_format))
            code = Code.OK
        except HostError as error:
            code = error.code
            raise
        finally:
            record(self._metrics, self._manager, request.name, "REST", code, time.perf_counter() - begin)
        return answer

    async def _predict(self, request: ServableRequest, parsed: rest_json.JsonRequest) -> Any:
        deadline = asyncio.get_running_loop().time() + _ANSWER_SECONDS
        return await self._predictor.predict(request, parsed.signature_name, [], parsed.read, deadline)

    async def _describe(self, request: ServableRequest, *, metadata: bool) -> dict[str, Any]:
        if not metadata:
            return _to_dict(status_response(self._manager, request))
        response = metadata_response(self._manager, request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        return {"model_spec": _to_dict(response.model_spec), "metadata": {"signature_def": _to_dict(signatures)}}

    def _call(self, work: Coroutine[Any, Any, Any]) -> Any:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(_ANSWER_SECONDS)
        except FutureTimeoutError:
            future.cancel()
            raise HostError(Code.DEADLINE_EXCEEDED, f"No answer within {_ANSWER_SECONDS:.0f} seconds") from None


def _request(match: re.Match[str]) -> ServableRequest:
    version = match["version"]
    return ServableRequest(
        unquote(match["name"]),
        version=int(version) if version is not None else None,
        label=unquote(match["label"]) if match["label"] is not None else None,
    )


def _to_dict(message: Any) -> dict[str, Any]:
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def _json_answer(document: Any, status: int = HTTPStatus.OK) -> _Answer:
    return _Answer(status, _JSON, json.dumps(document).encode())


class RestServer:
    """Serves a `RestApi` until it is stopped.

    Raises:
        OSError: the address is taken.
    """

    def __init__(self, host: str, port: int, api: RestApi) -> None:
        self._server = _Server((host, port), api)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="rest", daemon=True)
        self._thread.start()

    def stop(self, grace_seconds: float) -> None:
        """Accept no more, wait for the answers that are due, close. It blocks."""
        self._server.shutdown()
        self._thread.join()
        self._server.drain(grace_seconds)
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], api: RestApi) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self.api = api
        self.slots = threading.BoundedSemaphore(_MAX_REQUESTS)
        self.connections = threading.BoundedSemaphore(_MAX_CONNECTIONS)
        self._busy = 0
        self._changed = threading.Condition()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Refuse a connection over the limit instead of starting a thread for it."""
        if not self.connections.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """One connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 -- socketserver's signature
        """A connection broke: that is the client's business."""
        _LOG.debug("a REST connection broke", exc_info=True)

    def begin(self) -> None:
        with self._changed:
            self._busy += 1

    def end(self) -> None:
        with self._changed:
            self._busy -= 1
            self._changed.notify_all()

    def drain(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._busy == 0, seconds)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    server_version = "imagewarden-model-host"
    sys_version = ""
    timeout = _SOCKET_SECONDS

    def do_GET(self) -> None:
        self._serve(self.server.api.get)

    def do_POST(self) -> None:
        self._serve(lambda path: self.server.api.post(path, self._body()))

    def _serve(self, work: Any) -> None:
        self.server.begin()
        try:
            answer = self._answer(work)
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(answer.body)))
            if self.close_connection:
                self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(answer.body)
        finally:
            self.server.end()

    def _answer(self, work: Any) -> _Answer:
        try:
            if not self.server.slots.acquire(timeout=_ANSWER_SECONDS):
                raise HostError(  # noqa: TRY301 -- answered as the errors of the work are
                    Code.UNAVAILABLE, f"{_MAX_REQUESTS} requests are under way already: try again"
                )
            try:
                return work(urlsplit(self.path).path)  # type: ignore[no-any-return]  # both works give one
            finally:
                self.server.slots.release()
        except HostError as error:
            status = _HTTP_CODES.get(error.code, HTTPStatus.INTERNAL_SERVER_ERROR)
            self.close_connection = self.close_connection or self.command == "POST"
            return _json_answer({"error": error.message}, status)
        except OSError:  # the connection broke: there is nobody to answer
            raise
        except Exception:  # noqa: BLE001 -- a bug must not leak its insides to the caller; the log has them
            _LOG.exception("%s %s failed", self.command, self.path[:200])
            self.close_connection = True
            return _json_answer(
                {"error": "The request failed; the host's log says why"}, HTTPStatus.INTERNAL_SERVER_ERROR
            )

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit():
            self.close_connection = True
            raise invalid("The request needs a Content-Length")
        if int(length) > MAX_BODY_BYTES:
            self.close_connection = True
            raise invalid(f"The body has {length} bytes; at most {MAX_BODY_BYTES} are read")
        return self.rfile.read(int(length))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name for it
        """Requests are counted in the metrics, not logged."""
