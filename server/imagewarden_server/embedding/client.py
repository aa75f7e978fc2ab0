"""The TensorFlow Serving client: pictures out, unit vectors in, and always known by which model."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from imagewarden_server.embedding import _tfs
from imagewarden_server.embedding.breaker import Breaker, BreakerState
from imagewarden_server.embedding.connection import Connection, GarbledAnswer
from imagewarden_server.embedding.identity import OUTPUTS, SIDE, version_of
from imagewarden_server.embedding.observer import EmbeddingObserver, Silent
from imagewarden_server.embedding.retry import ATTEMPTS, RetryBudget, backoff
from imagewarden_server.embedding.tensors import TensorProblem, floats, write_pictures, write_probe
from imagewarden_server.embedding.versions import WATCH_SECONDS, ModelChanged, Versions
from imagewarden_server.matching.embedder import Embeddings, ModelInfo
from imagewarden_server.matching.errors import EmbeddingUnavailable
from imagewarden_server.matching.types import VectorSpace

MAX_BATCH = 4
"""More pictures than this are sent in several requests.

A host with processors only computes 4 at once in 0.7 of the time that it takes for 32, and whoever asks for one picture
meanwhile waits 0.3 s and not 2. One with accelerators loses little: it fills its batches from several requests.
"""

_MAX_SECONDS = 30.0
"""The most that one request may take."""
_DEFAULT_SECONDS = 10.0
_IN_FLIGHT = 32


class TfServingEmbedder:
    """Implements `embedder.Embedder` over a TensorFlow Serving host.

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
        watch_seconds: float = WATCH_SECONDS,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._address = address
        self._name = model_name
        self._root_certificates = root_certificates
        self._observer: EmbeddingObserver = observer or Silent()
        self._chance = chance
        self._budget = RetryBudget()
        self._breaker = Breaker(address)
        self._in_flight = asyncio.Semaphore(_IN_FLIGHT)
        self._backgrounds: dict[tuple[str, VectorSpace], NDArray[np.float32]] = {}
        self._versions = Versions(
            address,
            model_name,
            observer=self._observer,
            breaker=self._breaker,
            seconds=watch_seconds,
            chance=chance,
        )

    @property
    def model(self) -> ModelInfo | None:
        """The newest version that can be used; None while there is none."""
        return self._versions.model

    @property
    def problem(self) -> str:
        """Why there is no model, in a sentence; empty where there is one."""
        return self._versions.problem

    @property
    def breaker(self) -> BreakerState:
        """Whether pictures are sent to the host, or it is left alone for a while."""
        return self._breaker.state

    async def start(self) -> None:
        """Look for the model, and go on looking in the background; a host that is not there is no error."""
        self._connection = Connection(self._address, self._name, self._root_certificates)
        await self._versions.start(self._connection)

    async def close(self) -> None:
        """Stop looking, and close the connection."""
        await self._versions.close()
        await self._connection.close()

    async def embed(self, images: NDArray[np.uint8], outputs: frozenset[str], time_limit: float | None) -> Embeddings:
        """Ask for outputs of uint8 pictures [n, 299, 299, 3].

        Raises:
            EmbeddingUnavailable: the model is not there, failed, answered nonsense, or took longer than the limit.
        """
        if images.ndim != 4 or images.shape[1:] != (SIDE, SIDE, 3) or images.dtype != np.uint8:
            # The real server checks no shape: a wrong one would be embedded all the same.
            raise ValueError(f"pictures of {images.dtype} {images.shape}; the model takes uint8 [n, {SIDE}, {SIDE}, 3]")
        if not outputs or not outputs.issubset(OUTPUTS):
            # An empty filter would have the real server compute everything.
            raise ValueError(f"outputs {sorted(outputs)}; the model is asked for one or more of {OUTPUTS}")
        requests = -(-len(images) // MAX_BATCH)
        seconds = min(_DEFAULT_SECONDS if time_limit is None else time_limit, _MAX_SECONDS * max(requests, 1))
        until = time.monotonic() + seconds
        with self._breaker.attempt():
            return await self._in_turn(images, outputs, seconds, until)

    async def _in_turn(
        self, images: NDArray[np.uint8], outputs: frozenset[str], seconds: float, until: float
    ) -> Embeddings:
        """Ask once there is room for it."""
        try:
            async with asyncio.timeout(seconds):
                await self._in_flight.acquire()
        except TimeoutError as error:
            self._observer.failure("BUSY")
            raise EmbeddingUnavailable(
                f"{_IN_FLIGHT} other requests kept the model host {self._address} busy for {seconds:.3g} s; "
                "give the call more time, or the host more room"
            ) from error
        try:
            begin = time.monotonic()
            try:
                answer = await self._embed(images, outputs, until)
            except ModelChanged:
                answer = await self._embed(images, outputs, until)
            except asyncio.CancelledError:
                # Who asked had no more time, and says so a moment before the connection would.
                self._breaker.ended(grpc.StatusCode.DEADLINE_EXCEEDED, time.monotonic() - begin)
                raise
            self._breaker.succeeded()
            return answer
        finally:
            self._in_flight.release()

    async def background(self, model: ModelInfo, space: VectorSpace, time_limit: float) -> NDArray[np.float32]:
        """The vectors of pictures that a model brings along: see `embedder.Embedder.background`.

        They are asked for once for each model.
        """
        held = self._backgrounds.get((model.fingerprint, space))
        if held is not None:
            return held
        until = time.monotonic() + time_limit
        # By its label: what is known of the versions is forgotten where a busy host was slow to say how it does.
        version = version_of(model)
        copies = space is VectorSpace.COPY
        pictures, windows = model.copy_background if copies else model.logo_background
        shape = (windows, model.dimensions if copies else model.logo_dimensions)
        name = "copy_background" if copies else "logo_background"
        parts = [np.empty((0, *shape), np.float32)]
        for begin in range(0, pictures, MAX_BATCH):
            numbers = range(begin, min(begin + MAX_BATCH, pictures))
            request = _tfs.PredictRequest()
            request.model_spec.name = self._name
            request.model_spec.signature_name = name
            request.model_spec.version.value = version
            write_probe(request.inputs["probe"], numbers)
            response = await self._predict(request, len(numbers), until)
            try:
                parts.append(floats("background", response.outputs, (len(numbers), *shape)))
            except TensorProblem as problem:
                self._observer.failure("NONSENSE")
                raise EmbeddingUnavailable(
                    f"model {model.label} answered nonsense: {problem}; look at the model host {self._address}"
                ) from problem
        if await self._versions.learn(version, until) != model:
            raise ModelChanged(f"model {model.label} is no longer at {self._address}; try again")
        made = np.concatenate(parts)
        # Of the model that answers now alone: they are megabytes.
        kept = {key: vectors for key, vectors in self._backgrounds.items() if key[0] == model.fingerprint}
        self._backgrounds = {**kept, (model.fingerprint, space): made}
        return made

    async def _embed(self, images: NDArray[np.uint8], outputs: frozenset[str], until: float) -> Embeddings:
        """Ask in parts, all of them of the version that answers the first."""
        epoch, known = self._versions.epoch, self._versions.known
        answers: list[tuple[Any, int]] = []
        version: int | None = None
        for begin in range(0, len(images), MAX_BATCH):
            batch = images[begin : begin + MAX_BATCH]
            response = await self._predict(self._request(batch, outputs, version), len(batch), until)
            answered = response.model_spec.version.value
            if version not in {None, answered}:
                raise ModelChanged(f"{self._address} answered by version {answered} when version {version} was asked")
            version = answered
            answers.append((response, len(batch)))
        if version is None:
            raise ValueError("no pictures")
        info = known.get(version) or self._versions.known.get(version) or await self._versions.learn(version, until)
        if epoch != self._versions.epoch:
            raise ModelChanged(f"the model at {self._address} changed while it was asked, twice; try again")
        parts = {name: [self._output(response, info, name, count) for response, count in answers] for name in outputs}
        joined = {name: np.concatenate(found) for name, found in parts.items()}
        return Embeddings(info, **joined)

    def _request(self, images: NDArray[np.uint8], outputs: frozenset[str], version: int | None) -> Any:
        request = _tfs.PredictRequest(output_filter=sorted(outputs))
        request.model_spec.name = self._name
        request.model_spec.signature_name = "serving_default"
        if version is not None:
            request.model_spec.version.value = version
        write_pictures(request.inputs["images"], images)
        return request

    def _output(self, response: Any, info: ModelInfo, name: str, count: int) -> NDArray[np.float32]:
        shapes = {
            "embedding": (count, info.dimensions),
            "regions": (count, len(info.regions), info.dimensions),
            "logos": (count, len(info.logo_windows), info.logo_dimensions),
            "semantic": (count, info.semantic_dimensions),
        }
        try:
            return floats(name, response.outputs, shapes[name])
        except TensorProblem as problem:
            self._observer.failure("NONSENSE")
            self._breaker.failed("NONSENSE")
            raise EmbeddingUnavailable(
                f"model {info.label} answered nonsense: {problem}; look at the model host {self._address}"
            ) from problem

    async def _predict(self, request: Any, size: int, until: float) -> Any:
        """One request, tried again where the host was not there, within the time and the budget."""
        attempt = 0
        while True:
            begin = time.monotonic()
            try:
                response = await self._connection.predict(request, timeout=min(max(until - begin, 0.001), _MAX_SECONDS))
            except grpc.aio.AioRpcError as error:
                self._observer.failure(error.code().name)
                if error.code() is grpc.StatusCode.NOT_FOUND and request.model_spec.HasField("version"):
                    raise ModelChanged(self._connection.unavailable(error).message) from error
                wait = backoff(attempt, self._chance)
                attempt += 1
                if (
                    error.code() is not grpc.StatusCode.UNAVAILABLE
                    or not self._budget.failed()
                    or attempt >= ATTEMPTS
                    or time.monotonic() + wait >= until
                ):
                    self._breaker.ended(error.code(), until - begin)
                    raise self._connection.unavailable(error) from error
                await asyncio.sleep(wait)
            except GarbledAnswer:
                self._observer.failure("NONSENSE")
                self._breaker.failed("NONSENSE")
                raise
            else:
                self._versions.heard()
                self._budget.succeeded()
                self._observer.batch(size, time.monotonic() - begin)
                return response
