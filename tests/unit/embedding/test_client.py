"""The TensorFlow Serving client against a model host that does what a test tells it, over a real connection."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import numpy as np
import pytest

from imagewarden_server.embedding import TfServingEmbedder, _tfs
from imagewarden_server.embedding.retry import ATTEMPTS, RetryBudget, backoff
from imagewarden_server.matching.errors import EmbeddingUnavailable

D, S = 8, 16
BOXES = [[0, 0, 1, 1], [0, 0, 0.5, 0.5]]
PICTURE = np.zeros((1, 299, 299, 3), np.uint8)
OUTPUTS = frozenset({"embedding", "regions", "semantic"})


def card(fingerprint: str = "f" * 64, dimension: int = D) -> dict[str, Any]:
    return {
        "fingerprint": fingerprint,
        "embedding": {"dimension": dimension},
        "semantic": {"dimension": S},
        "regions": {"boxes": BOXES},
    }


def unit(*shape: int) -> Any:
    values = np.random.default_rng(shape[0]).standard_normal(shape).astype(np.float32)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


class Host:
    """A model host whose answers a test sets."""

    def __init__(self) -> None:
        self.versions: dict[int, dict[str, Any] | None] = {1: card()}
        self.failures: list[grpc.StatusCode] = []
        self.delay = 0.0
        self.as_float_val = False
        self.change: Callable[[Any], None] = lambda _: None
        self.signature: Callable[[Any], None] = lambda _: None
        self.predictions: list[Any] = []
        self.port = 0

    async def start(self, port: int = 0) -> None:
        self.server = grpc.aio.server(options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1)])
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
        self.port = self.server.add_insecure_port(f"127.0.0.1:{port}")
        await self.server.start()

    async def stop(self) -> None:
        await self.server.stop(None)

    async def status(self, _request: Any, _context: Any) -> Any:
        response = _tfs.GetModelStatusResponse()
        for version in self.versions:
            response.model_version_status.add(version=version, state=_tfs.AVAILABLE)
        return response

    async def metadata(self, request: Any, _context: Any) -> Any:
        said = self.versions[request.model_spec.version.value]
        assert said is not None
        signatures = _tfs.SignatureDefMap()
        signature = signatures.signature_def["serving_default"]
        shapes = {
            "embedding": [-1, said["embedding"]["dimension"]],
            "regions": [-1, -1, said["embedding"]["dimension"]],
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
        packed.value = signatures.SerializeToString()
        return response

    async def predict(self, request: Any, context: Any) -> Any:
        version = request.model_spec.version.value or max(self.versions)
        if version not in self.versions:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: Specific({version})")
        response = _tfs.PredictResponse()
        response.model_spec.version.value = version
        said = self.versions[version]
        if request.model_spec.signature_name == "describe":
            if said is None:
                await context.abort(grpc.StatusCode.FAILED_PRECONDITION, 'Serving signature key "describe" not found.')
            response.outputs["card"].dtype = _tfs.DT_STRING
            response.outputs["card"].string_val.append(json.dumps(said).encode())
            return response
        self.predictions.append(request)
        await asyncio.sleep(self.delay)
        if self.failures:
            await context.abort(self.failures.pop(0), "as the test told")
        count = request.inputs["images"].tensor_shape.dim[0].size
        shapes = {"embedding": (count, D), "regions": (count, len(BOXES), D), "semantic": (count, S)}
        for name in request.output_filter:
            tensor = response.outputs[name]
            tensor.dtype = _tfs.DT_FLOAT
            for size in shapes[name]:
                tensor.tensor_shape.dim.add(size=size)
            values = unit(*shapes[name])
            if self.as_float_val:
                tensor.float_val.extend(values.ravel().tolist())
            else:
                tensor.tensor_content = values.tobytes()
        self.change(response)
        return response


class Observer:
    def __init__(self) -> None:
        self.batches: list[int] = []
        self.failures: list[str] = []

    def batch(self, size: int, _seconds: float) -> None:
        self.batches.append(size)

    def failure(self, code: str) -> None:
        self.failures.append(code)


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    running = Host()
    await running.start()
    yield running
    await running.stop()


@pytest.fixture
def observer() -> Observer:
    return Observer()


@pytest.fixture
async def embedder(host: Host, observer: Observer) -> AsyncIterator[TfServingEmbedder]:
    made = TfServingEmbedder(f"127.0.0.1:{host.port}", "inception", observer=observer, watch_seconds=0.05)
    await made.start()
    yield made
    await made.close()


async def eventually(true: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:  # noqa: ASYNC110 -- what is waited for tells no event
        await asyncio.sleep(0.02)
    return true()


@pytest.mark.parametrize("as_float_val", [False, True])
async def test_outputs_come_by_name_from_either_form(
    host: Host, embedder: TfServingEmbedder, observer: Observer, as_float_val: bool
) -> None:
    host.as_float_val = as_float_val
    answer = await embedder.embed(np.repeat(PICTURE, 3, axis=0), OUTPUTS, None)
    assert answer.embedding is not None
    assert np.allclose(answer.embedding, unit(3, D))
    assert answer.regions is not None
    assert answer.regions.shape == (3, 2, D)
    assert answer.semantic is not None
    assert answer.semantic.shape == (3, S)
    assert answer.model.label == "inception/1@ffffffffffff"
    assert sorted(host.predictions[-1].output_filter) == sorted(OUTPUTS)
    assert observer.batches == [3]
    only = await embedder.embed(PICTURE, frozenset({"embedding"}), None)
    assert only.regions is None
    assert list(host.predictions[-1].output_filter) == ["embedding"]


async def test_many_pictures_go_in_several_requests_to_one_version(host: Host, embedder: TfServingEmbedder) -> None:
    answer = await embedder.embed(np.repeat(PICTURE, 70, axis=0), frozenset({"embedding"}), None)
    assert answer.embedding is not None
    assert len(answer.embedding) == 70
    versions = [request.model_spec.version.value for request in host.predictions]
    assert versions == [0, 1, 1]


async def test_it_tries_again_what_was_not_there(host: Host, embedder: TfServingEmbedder, observer: Observer) -> None:
    host.failures = [grpc.StatusCode.UNAVAILABLE] * (ATTEMPTS - 1)
    await embedder.embed(PICTURE, OUTPUTS, 5)
    assert observer.failures == ["UNAVAILABLE"] * (ATTEMPTS - 1)


@pytest.mark.parametrize(
    ("failures", "tries", "said"),
    [
        ([grpc.StatusCode.UNAVAILABLE] * ATTEMPTS, ATTEMPTS, "IMAGEWARDEN_MODEL_ADDRESS"),
        ([grpc.StatusCode.INVALID_ARGUMENT], 1, "as the test told"),
        ([grpc.StatusCode.RESOURCE_EXHAUSTED], 1, "RESOURCE_EXHAUSTED"),
        ([grpc.StatusCode.NOT_FOUND], 1, "IMAGEWARDEN_MODEL_NAME"),
        ([grpc.StatusCode.INTERNAL], 1, "look at its log"),
    ],
)
async def test_other_failures_are_said_once(
    host: Host, embedder: TfServingEmbedder, failures: list[grpc.StatusCode], tries: int, said: str
) -> None:
    host.failures = list(failures)
    with pytest.raises(EmbeddingUnavailable, match=said):
        await embedder.embed(PICTURE, OUTPUTS, 5)
    assert len(host.predictions) == tries


async def test_a_slow_host_is_left_in_time(host: Host, embedder: TfServingEmbedder) -> None:
    host.delay = 5
    begin = time.monotonic()
    with pytest.raises(EmbeddingUnavailable, match="DEADLINE_EXCEEDED"):
        await embedder.embed(PICTURE, OUTPUTS, 0.2)
    assert time.monotonic() - begin < 1


def wrong_dtype(response: Any) -> None:
    response.outputs["embedding"].dtype = _tfs.DT_INT32


def not_a_number(response: Any) -> None:
    response.outputs["embedding"].tensor_content = np.full((1, D), np.nan, np.float32).tobytes()


def zeros(response: Any) -> None:
    response.outputs["embedding"].tensor_content = np.zeros((1, D), np.float32).tobytes()


def other_dimension(response: Any) -> None:
    response.outputs["embedding"].tensor_shape.dim[1].size = D + 1


def cut_short(response: Any) -> None:
    response.outputs["embedding"].tensor_content = b"\0" * 12


def missing(response: Any) -> None:
    del response.outputs["embedding"]


@pytest.mark.parametrize("change", [wrong_dtype, not_a_number, zeros, other_dimension, cut_short, missing])
async def test_nonsense_is_never_a_vector(
    host: Host, embedder: TfServingEmbedder, observer: Observer, change: Callable[[Any], None]
) -> None:
    host.change = change
    with pytest.raises(EmbeddingUnavailable, match="embedding"):
        await embedder.embed(PICTURE, OUTPUTS, 5)
    assert observer.failures[-1] in {"NONSENSE", "UNKNOWN", "INTERNAL"}


async def test_a_new_version_is_known_by_its_own_card(host: Host, embedder: TfServingEmbedder) -> None:
    first = await embedder.embed(PICTURE, OUTPUTS, 5)
    host.versions[2] = card("e" * 64)
    second = await embedder.embed(PICTURE, OUTPUTS, 5)
    assert (first.model.fingerprint, second.model.fingerprint) == ("f" * 64, "e" * 64)
    assert await eventually(lambda: embedder.model is not None and embedder.model.label.startswith("inception/2@"))
    host.versions = {1: card()}
    assert (await embedder.embed(PICTURE, OUTPUTS, 5)).model.fingerprint == "f" * 64


async def test_a_model_without_a_card_is_not_used(host: Host, embedder: TfServingEmbedder) -> None:
    host.versions = {3: None}
    assert await eventually(lambda: embedder.model is None)
    assert "imagewarden model export" in embedder.problem
    with pytest.raises(EmbeddingUnavailable, match="describe"):
        await embedder.embed(PICTURE, OUTPUTS, 5)


def float_input(signature: Any) -> None:
    signature.inputs["images"].dtype = _tfs.DT_FLOAT


def no_regions(signature: Any) -> None:
    del signature.outputs["regions"]


def other_size(signature: Any) -> None:
    signature.outputs["semantic"].tensor_shape.dim[1].size = S + 1


@pytest.mark.parametrize(
    ("change", "said"), [(float_input, "images"), (no_regions, "regions"), (other_size, "semantic")]
)
async def test_a_signature_that_does_not_fit_is_not_used(
    host: Host, embedder: TfServingEmbedder, change: Callable[[Any], None], said: str
) -> None:
    host.signature = change
    host.versions = {4: card("d" * 64)}
    with pytest.raises(EmbeddingUnavailable, match=said):
        await embedder.embed(PICTURE, OUTPUTS, 5)


async def test_a_host_that_goes_and_comes_back_as_another(host: Host, embedder: TfServingEmbedder) -> None:
    assert embedder.model is not None
    port = host.port
    await host.stop()
    assert await eventually(lambda: embedder.model is None)
    assert f"127.0.0.1:{port}" in embedder.problem
    host.versions = {1: card("c" * 64)}
    await host.start(port)
    assert await eventually(lambda: embedder.model is not None)
    answer = await embedder.embed(PICTURE, OUTPUTS, 5)
    assert answer.model.fingerprint == "c" * 64, "version 1 of another host is another model"


async def test_nobody_at_the_address_is_no_error_at_the_start(tmp_path: Any) -> None:
    made = TfServingEmbedder(f"unix:{tmp_path}/nobody.sock", "inception", watch_seconds=0.05)
    await made.start()
    assert made.model is None
    with pytest.raises(EmbeddingUnavailable, match="start it"):
        await made.embed(PICTURE, OUTPUTS, 2)
    await made.close()


@pytest.mark.parametrize("images", [PICTURE.astype(np.float32), PICTURE[0], np.zeros((1, 224, 224, 3), np.uint8)])
async def test_pictures_of_another_shape_are_never_sent(host: Host, embedder: TfServingEmbedder, images: Any) -> None:
    with pytest.raises(ValueError, match="uint8"):
        await embedder.embed(images, OUTPUTS, 1)
    assert not host.predictions


def test_the_budget_stops_retries_in_an_outage_and_lets_them_again() -> None:
    budget = RetryBudget(most=4, given_back=0.5)
    assert [budget.failed() for _ in range(3)] == [True, False, False]
    for _ in range(4):
        budget.succeeded()
    assert budget.failed() is False
    for _ in range(8):
        budget.succeeded()
    assert budget.failed() is True


def test_backoff_grows_to_a_bound_with_full_jitter() -> None:
    assert [backoff(attempt, lambda: 1.0) for attempt in (0, 1, 2, 10)] == [0.05, 0.1, 0.2, 1.0]
    assert backoff(3, lambda: 0.0) == 0
