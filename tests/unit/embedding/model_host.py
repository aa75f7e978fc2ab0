"""A model host whose answers a test sets, on a real connection; it speaks through the client's own light stubs."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import grpc
import numpy as np

from imagewarden_server.embedding import _tfs

D, S, L = 8, 16, 4
BOXES = [[0, 0, 1, 1], [0, 0, 0.5, 0.5]]
LOGO_BOXES = [[0, 0, 0.2, 0.2], [0.1, 0, 0.3, 0.2], [0.2, 0.2, 1, 1]]
BACKGROUND, BACKGROUND_WINDOWS = 70, 2
PICTURE = np.zeros((1, 299, 299, 3), np.uint8)
OUTPUTS = frozenset({"embedding", "regions", "logos", "semantic"})
EMBEDDING = frozenset({"embedding"})
AVAILABLE, LOADING = 30, 20

Card = dict[str, Any]


def card(fingerprint: str = "f" * 64, dimension: int = D) -> Card:
    return {
        "fingerprint": fingerprint,
        "embedding": {"dimension": dimension, "background": [BACKGROUND, BACKGROUND_WINDOWS]},
        "semantic": {"dimension": S},
        "regions": {"boxes": BOXES},
        "logos": {"boxes": LOGO_BOXES, "dimension": L, "background": [BACKGROUND, BACKGROUND_WINDOWS]},
    }


def unit(*shape: int) -> Any:
    """The unit vectors that the host answers for a shape; the first axis decides them."""
    values = np.random.default_rng(shape[0]).standard_normal(shape).astype(np.float32)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def background_of(pictures: Iterable[int], dimension: int = L) -> Any:
    """The windows' vectors of background pictures that the host answers: each picture has its own."""
    return np.stack([unit(100 + picture, BACKGROUND_WINDOWS, dimension)[0] for picture in pictures])


def encoded_strings(*strings: bytes) -> bytes:
    """TensorFlow's EncodeStringList: what a server writes that runs with tensor_content serialisation."""
    lengths = b""
    for length in map(len, strings):
        left = length
        while left > 127:
            lengths += bytes([left & 127 | 128])
            left >>= 7
        lengths += bytes([left])
    return lengths + b"".join(strings)


class Raw:
    """Bytes in the place of a message."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def SerializeToString(self) -> bytes:  # noqa: N802 -- protobuf's own name
        return self._data


async def nothing(_request: Any) -> None:
    """Nothing happens before an answer."""


class ModelHost:
    """The host.

    `versions` has each version's card, None for a model without one; `failures` are answered once each; `late` has how
    many seconds late `status` and `describe` are answered.
    """

    def __init__(self) -> None:
        self.versions: dict[int, Card | None] = {1: card()}
        self.states: dict[int, int] = {}
        self.failures: list[grpc.StatusCode] = []
        self.details = "as the test told"
        self.delay = 0.0
        self.late: dict[str, float] = {}
        self.as_float_val = False
        self.strings_as_content = False
        self.change: Callable[[Any], None] = lambda _: None
        self.signature: Callable[[Any], None] = lambda _: None
        self.before_answer: Callable[[Any], Awaitable[None]] = nothing
        self.garbage: dict[str, bytes] = {}
        self.predictions: list[Any] = []
        self.descriptions = 0
        self.deadlines: list[float] = []
        self.port = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(
        self, port: int = 0, *, credentials: grpc.ServerCredentials | None = None, unix: str | None = None
    ) -> None:
        self.server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", -1),
                ("grpc.max_send_message_length", -1),
            ]
        )
        handlers: dict[str, dict[str, tuple[Any, Any]]] = {
            "tensorflow.serving.PredictionService": {
                "Predict": (self.predict, _tfs.PredictRequest),
                "GetModelMetadata": (self.metadata, _tfs.GetModelMetadataRequest),
            },
            "tensorflow.serving.ModelService": {"GetModelStatus": (self.status, _tfs.GetModelStatusRequest)},
        }
        for service, methods in handlers.items():
            table: dict[str, Any] = {
                name: grpc.unary_unary_rpc_method_handler(
                    function,
                    request_deserializer=request.FromString,
                    response_serializer=lambda message: message.SerializeToString(),
                )
                for name, (function, request) in methods.items()
            }
            self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, table),))
        if unix is not None:
            self.server.add_insecure_port(unix)
        elif credentials is not None:
            self.port = self.server.add_secure_port(f"localhost:{port}", credentials)
        else:
            self.port = self.server.add_insecure_port(f"127.0.0.1:{port}")
        await self.server.start()

    async def stop(self) -> None:
        await self.server.stop(None)

    async def status(self, request: Any, context: Any) -> Any:
        await asyncio.sleep(self.late.get("status", 0))
        if request.model_spec.name != "inception":
            await context.abort(grpc.StatusCode.NOT_FOUND, f"Could not find any versions of {request.model_spec.name}")
        if "status" in self.garbage:
            return Raw(self.garbage["status"])
        response = _tfs.GetModelStatusResponse()
        for version in self.versions:
            response.model_version_status.add(version=version, state=self.states.get(version, AVAILABLE))
        return response

    async def metadata(self, request: Any, _context: Any) -> Any:
        said = self.versions[request.model_spec.version.value]
        assert said is not None
        signatures = _tfs.SignatureDefMap()
        signature = signatures.signature_def["serving_default"]
        shapes = {
            "embedding": [-1, said["embedding"]["dimension"]],
            "regions": [-1, -1, said["embedding"]["dimension"]],
            "logos": [-1, len(LOGO_BOXES), L],
            "semantic": [-1, S],
        }
        signature.inputs["images"].dtype = _tfs.DT_UINT8
        for size in (-1, 299, 299, 3):
            signature.inputs["images"].tensor_shape.dim.add(size=size)
        for name, shape in shapes.items():
            signature.outputs[name].dtype = _tfs.DT_FLOAT
            for size in shape:
                signature.outputs[name].tensor_shape.dim.add(size=size)
        self.signature(signature)
        response = _tfs.GetModelMetadataResponse()
        packed = response.metadata["signature_def"]
        packed.type_url = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
        packed.value = self.garbage.get("metadata", signatures.SerializeToString())
        return response

    async def predict(self, request: Any, context: Any) -> Any:
        version = request.model_spec.version.value or max(self.versions)
        if version not in self.versions:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: Specific({version})")
        response = _tfs.PredictResponse()
        response.model_spec.version.value = version
        said = self.versions[version]
        if request.model_spec.signature_name == "describe":
            await self.describe(response, said, context)
            return response
        self.predictions.append(request)
        self.deadlines.append(context.time_remaining())
        await asyncio.sleep(self.delay)
        if self.failures:
            await context.abort(self.failures.pop(0), self.details)
        if "predict" in self.garbage:
            return Raw(self.garbage["predict"])
        if request.model_spec.signature_name in {"copy_background", "logo_background"}:
            logos = request.model_spec.signature_name == "logo_background"
            numbers = request.inputs["probe"].int_val
            write(response.outputs["background"], background_of(numbers, L if logos else D))
        else:
            self.fill(request, response)
        self.change(response)
        await self.before_answer(request)
        return response

    async def describe(self, response: Any, said: Card | None, context: Any) -> None:
        self.descriptions += 1
        await asyncio.sleep(self.late.get("describe", 0))
        if said is None:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, 'Serving signature key "describe" not found.')
        data = json.dumps(said).encode()
        response.outputs["card"].dtype = _tfs.DT_STRING
        if self.strings_as_content:
            response.outputs["card"].tensor_content = encoded_strings(data)
        else:
            response.outputs["card"].string_val.append(data)

    def fill(self, request: Any, response: Any) -> None:
        count = request.inputs["images"].tensor_shape.dim[0].size
        shapes = {
            "embedding": (count, D),
            "regions": (count, len(BOXES), D),
            "logos": (count, len(LOGO_BOXES), L),
            "semantic": (count, S),
        }
        for name in request.output_filter:
            write(response.outputs[name], unit(*shapes[name]), as_float_val=self.as_float_val)


def write(tensor: Any, values: Any, *, as_float_val: bool = False) -> None:
    """Numbers into a tensor, in one of the two forms that a server may choose."""
    tensor.dtype = _tfs.DT_FLOAT
    for size in values.shape:
        tensor.tensor_shape.dim.add(size=size)
    if as_float_val:
        tensor.float_val.extend(values.ravel().tolist())
    else:
        tensor.tensor_content = values.tobytes()


class Observer:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.failures: list[str] = []

    def batch(self, size: int, _seconds: float) -> None:
        self.batches.append(size)

    def failure(self, code: str) -> None:
        self.failures.append(code)


async def eventually(true: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:  # noqa: ASYNC110 -- what is waited for tells no event
        await asyncio.sleep(0.02)
    return true()
