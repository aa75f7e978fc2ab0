"""The TensorFlow Serving client: pictures out, unit vectors in, and always known by which model."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable
from typing import Any, Protocol

import grpc
import numpy as np
from numpy.typing import NDArray

from imagewarden_server.embedding import _tfs
from imagewarden_server.embedding.identity import SIDE, ModelProblem, check_signature, model_info
from imagewarden_server.embedding.retry import ATTEMPTS, RetryBudget, backoff
from imagewarden_server.embedding.tensors import TensorProblem, floats, pictures_tensor, probe_tensor
from imagewarden_server.matching.errors import EmbeddingUnavailable
from imagewarden_server.matching.ports import Embeddings, ModelInfo

MAX_BATCH = 32
"""More pictures than this are sent in several requests: a host refuses larger batches than it was set up for."""

_MAX_SECONDS = 30.0
_DEFAULT_SECONDS = 10.0
_STATUS_SECONDS = 3.0
_WATCH_SECONDS = 2.0
_IN_FLIGHT = 32
_MAX_MESSAGE = 64 * 2**20
_DETAIL = 300

_OPTIONS = [
    ("grpc.max_receive_message_length", _MAX_MESSAGE),
    ("grpc.max_send_message_length", _MAX_MESSAGE),
    # Oftener than every 300 s earns GOAWAY too_many_pings from the real server.
    ("grpc.keepalive_time_ms", 310_000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.enable_retries", 0),
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
]


class EmbeddingObserver(Protocol):
    """Who counts requests to the model."""

    def batch(self, size: int, seconds: float) -> None:
        """A request of `size` pictures was answered after so many seconds."""

    def failure(self, code: str) -> None:
        """A request failed, or its answer made no sense."""


class _Silent:
    """Nobody counts."""

    def batch(self, size: int, seconds: float) -> None:
        """Nothing."""

    def failure(self, code: str) -> None:
        """Nothing."""


class TfServingEmbedder:
    """Implements `ports.Embedder` over a TensorFlow Serving host.

    Args:
        address: host:port, dns:///name:port, or unix:PATH.
        model_name: the model's name there.
        root_certificates: PEM roots for a host behind TLS; None: without TLS.
        observer: who counts.
        watch_seconds: how often the host is asked for the versions it has.
    """

    def __init__(
        self,
        address: str,
        model_name: str,
        *,
        root_certificates: bytes | None = None,
        observer: EmbeddingObserver | None = None,
        watch_seconds: float = _WATCH_SECONDS,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._address = address
        self._name = model_name
        self._root_certificates = root_certificates
        self._observer: EmbeddingObserver = observer or _Silent()
        self._watch_seconds = watch_seconds
        self._chance = chance
        self._budget = RetryBudget()
        self._in_flight = asyncio.Semaphore(_IN_FLIGHT)
        # What is known of each version; forgotten when the connection breaks, since who answers next may be another.
        self._known: dict[int, ModelInfo] = {}
        self._model: ModelInfo | None = None
        self._problem = f"the model host {address} has not answered yet"
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def model(self) -> ModelInfo | None:
        """The newest version that can be used; None while there is none."""
        return self._model

    @property
    def problem(self) -> str:
        """Why there is no model, in a sentence; empty where there is one."""
        return self._problem

    async def start(self) -> None:
        """Look for the model, and go on looking in the background; a host that is not there is no error."""
        if self._root_certificates is None:
            self._channel = grpc.aio.insecure_channel(self._address, options=_OPTIONS)
        else:
            credentials = grpc.ssl_channel_credentials(self._root_certificates)
            self._channel = grpc.aio.secure_channel(self._address, credentials, options=_OPTIONS)
        self._predict_call = self._method(_tfs.PREDICT, _tfs.PredictResponse)
        self._metadata_call = self._method(_tfs.GET_MODEL_METADATA, _tfs.GetModelMetadataResponse)
        self._status_call = self._method(_tfs.GET_MODEL_STATUS, _tfs.GetModelStatusResponse)
        await self._look()
        self._tasks = [asyncio.create_task(self._watch()), asyncio.create_task(self._watch_connection())]

    def _method(self, path: str, response: Any) -> Any:
        return self._channel.unary_unary(
            path,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response.FromString,
        )

    async def close(self) -> None:
        """Stop looking, and close the connection."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._channel.close()

    async def embed(self, images: NDArray[np.uint8], outputs: frozenset[str], time_limit: float | None) -> Embeddings:
        """Ask for outputs of uint8 pictures [n, 299, 299, 3].

        Raises:
            EmbeddingUnavailable: the model is not there, failed, answered nonsense, or took longer than the limit.
        """
        if images.ndim != 4 or images.shape[1:] != (SIDE, SIDE, 3) or images.dtype != np.uint8:
            # The real server checks no shape: a wrong one would be embedded all the same.
            raise ValueError(f"pictures of {images.dtype} {images.shape}; the model takes uint8 [n, {SIDE}, {SIDE}, 3]")
        until = time.monotonic() + min(_DEFAULT_SECONDS if time_limit is None else time_limit, _MAX_SECONDS)
        parts: dict[str, list[NDArray[np.float32]]] = {name: [] for name in outputs}
        info: ModelInfo | None = None
        version: int | None = None
        async with self._in_flight:
            for begin in range(0, len(images), MAX_BATCH):
                batch = images[begin : begin + MAX_BATCH]
                # All parts of one call come from the version that answered the first.
                response = await self._predict(self._request(batch, outputs, version), len(batch), until)
                version = response.model_spec.version.value
                info = self._known.get(version) or await self._learn(version, until)
                for name in outputs:
                    parts[name].append(self._output(response, info, name, len(batch)))
        if info is None:
            raise ValueError("no pictures")
        joined = {name: np.concatenate(found) for name, found in parts.items()}
        return Embeddings(info, joined.get("embedding"), joined.get("regions"), joined.get("semantic"))

    def _request(self, images: NDArray[np.uint8], outputs: frozenset[str], version: int | None) -> Any:
        request = _tfs.PredictRequest(output_filter=sorted(outputs))
        request.model_spec.name = self._name
        request.model_spec.signature_name = "serving_default"
        if version is not None:
            request.model_spec.version.value = version
        request.inputs["images"].CopyFrom(pictures_tensor(images))
        return request

    def _output(self, response: Any, info: ModelInfo, name: str, count: int) -> NDArray[np.float32]:
        shapes = {
            "embedding": (count, info.dimensions),
            "regions": (count, len(info.regions), info.dimensions),
            "semantic": (count, info.semantic_dimensions),
        }
        try:
            return floats(name, response.outputs, shapes[name])
        except TensorProblem as problem:
            self._observer.failure("NONSENSE")
            raise EmbeddingUnavailable(
                f"model {info.label} answered nonsense: {problem}; look at the model host {self._address}"
            ) from problem

    async def _predict(self, request: Any, size: int, until: float) -> Any:
        """One request, tried again where the host was not there, within the time and the budget."""
        attempt = 0
        while True:
            begin = time.monotonic()
            try:
                response = await self._predict_call(request, timeout=max(until - begin, 0.001))
            except grpc.aio.AioRpcError as error:
                self._observer.failure(error.code().name)
                wait = backoff(attempt, self._chance)
                attempt += 1
                if (
                    error.code() is not grpc.StatusCode.UNAVAILABLE
                    or attempt >= ATTEMPTS
                    or time.monotonic() + wait >= until
                    or not self._budget.failed()
                ):
                    raise self._unavailable(error) from error
                await asyncio.sleep(wait)
            else:
                self._budget.succeeded()
                self._observer.batch(size, time.monotonic() - begin)
                return response

    def _unavailable(self, error: grpc.aio.AioRpcError) -> EmbeddingUnavailable:
        hints = {
            grpc.StatusCode.UNAVAILABLE: "start it, or correct IMAGEWARDEN_MODEL_ADDRESS",
            grpc.StatusCode.NOT_FOUND: "load it there, or correct IMAGEWARDEN_MODEL_NAME",
            grpc.StatusCode.DEADLINE_EXCEEDED: "give the call more time, or the host more room",
        }
        hint = hints.get(error.code(), "look at its log")
        detail = (error.details() or "")[:_DETAIL]
        return EmbeddingUnavailable(
            f"the model {self._name!r} at {self._address} gave no embedding ({error.code().name}: {detail}); {hint}"
        )

    async def _learn(self, version: int, until: float) -> ModelInfo:
        """Ask a version for its card and its signature, and remember them."""
        timeout = max(min(until - time.monotonic(), _STATUS_SECONDS), 0.001)
        describe = _tfs.PredictRequest()
        describe.model_spec.name = self._name
        describe.model_spec.signature_name = "describe"
        describe.model_spec.version.value = version
        describe.inputs["probe"].CopyFrom(probe_tensor())
        metadata = _tfs.GetModelMetadataRequest(metadata_field=["signature_def"])
        metadata.model_spec.name = self._name
        metadata.model_spec.version.value = version
        try:
            card = await self._predict_call(describe, timeout=timeout)
            values = card.outputs["card"].string_val
            info = model_info(self._name, version, values[0] if values else b"")
            check_signature(info, await self._metadata_call(metadata, timeout=timeout))
        except grpc.aio.AioRpcError as error:
            self._observer.failure(error.code().name)
            if error.code() in {grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT}:
                raise EmbeddingUnavailable(
                    f"model {self._name!r} version {version} has no signature `describe`: it was not made by "
                    "`imagewarden model export`, which is how to make one"
                ) from error
            raise self._unavailable(error) from error
        except ModelProblem as problem:
            self._observer.failure("UNUSABLE")
            raise EmbeddingUnavailable(str(problem)) from problem
        self._known[version] = info
        return info

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._watch_seconds * (0.75 + 0.5 * self._chance()))
            await self._look()

    async def _look(self) -> None:
        """See which versions there are, and take the newest that can be used."""
        request = _tfs.GetModelStatusRequest()
        request.model_spec.name = self._name
        try:
            status = await self._status_call(request, timeout=_STATUS_SECONDS)
        except grpc.aio.AioRpcError as error:
            self._known.clear()
            self._model, self._problem = None, self._unavailable(error).message
            return
        available = sorted(one.version for one in status.model_version_status if one.state == _tfs.AVAILABLE)
        self._known = {version: info for version, info in self._known.items() if version in available}
        if not available:
            self._model, self._problem = None, f"model {self._name!r} at {self._address} has no version AVAILABLE yet"
            return
        newest = available[-1]
        try:
            info = self._known.get(newest) or await self._learn(newest, time.monotonic() + _STATUS_SECONDS)
        except EmbeddingUnavailable as error:
            self._model, self._problem = None, error.message
        else:
            self._model, self._problem = info, ""

    async def _watch_connection(self) -> None:
        """Forget what is known of versions whenever the connection breaks."""
        state = self._channel.get_state(try_to_connect=True)
        while True:
            await self._channel.wait_for_state_change(state)
            if state is grpc.ChannelConnectivity.READY:
                self._known.clear()
            state = self._channel.get_state(try_to_connect=True)
