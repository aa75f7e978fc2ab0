"""Which versions of a model a TensorFlow Serving host has, and what each of them is: looked for again and again."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
from collections.abc import Callable, Iterable
from typing import Any

import grpc

from imagewarden_server.embedding import _tfs
from imagewarden_server.embedding.breaker import Breaker
from imagewarden_server.embedding.connection import Connection, NoAnswerInTime
from imagewarden_server.embedding.identity import ModelProblem, check_signature, model_info
from imagewarden_server.embedding.observer import EmbeddingObserver
from imagewarden_server.embedding.tensors import TensorProblem, text, write_probe
from imagewarden_server.matching.embedder import ModelInfo
from imagewarden_server.matching.errors import EmbeddingUnavailable

WATCH_SECONDS = 2.0
_SILENT_SECONDS = 30.0
"""A host that answered nothing for so long is taken for gone, and no longer for busy."""
_STATUS_SECONDS = 3.0
_REASON = 200


class ModelChanged(EmbeddingUnavailable):
    """Another model may have come while one was asked; asked again, the one that is there now answers."""


class Versions:
    """The versions of a model at a host.

    Args:
        address: the host's, for people.
        name: the model's there.
        observer: who counts.
        breaker: is told that the host answers.
        seconds: how often the host is asked which versions it has.

    Attributes:
        model: the newest version that can be used; None while there is none.
        problem: why there is none, in a sentence; empty where there is one.
        known: what is known of each version; forgotten when the connection breaks, since who answers next may be
            another. Never emptied in place: a call keeps what was known when it began.
        epoch: grows when a version number may stand for another model than before.
    """

    def __init__(
        self,
        address: str,
        name: str,
        *,
        observer: EmbeddingObserver,
        breaker: Breaker,
        seconds: float,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._address = address
        self._name = name
        self._observer = observer
        self._breaker = breaker
        self._seconds = seconds
        self._chance = chance
        self._look_now = asyncio.Event()
        self._answered = -math.inf
        self._tasks: list[asyncio.Task[None]] = []
        self.known: dict[int, ModelInfo] = {}
        self.epoch = 0
        self.model: ModelInfo | None = None
        self.problem = f"the model host {address} has not answered yet"

    async def start(self, connection: Connection) -> None:
        """Look over a connection, and go on looking in the background; a host that is not there is no error."""
        self._connection = connection
        # Before the first look: nothing may be learnt over a connection whose break would go unnoticed.
        self._tasks = [asyncio.create_task(connection.watch(self._connection_broke, self._look_now.set))]
        await self._look()
        self._tasks.append(asyncio.create_task(self._watch()))

    async def close(self) -> None:
        """Stop looking."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def heard(self) -> None:
        """The host has answered something."""
        self._answered = time.monotonic()

    async def learn(self, version: int, until: float) -> ModelInfo:
        """Ask a version for its card and, where that is new, for its signature, and remember it."""
        epoch = self.epoch
        try:
            info = await self._describe(version, until)
            if self.known.get(version) == info:
                return info
            metadata = _tfs.GetModelMetadataRequest(metadata_field=["signature_def"])
            metadata.model_spec.name = self._name
            metadata.model_spec.version.value = version
            check_signature(info, await self._connection.metadata(metadata, timeout=_left(until)))
        except grpc.aio.AioRpcError as error:
            self._observer.failure(error.code().name)
            unavailable = self._connection.unavailable(error)
            if error.code() is grpc.StatusCode.NOT_FOUND:  # it was unloaded since it answered
                raise ModelChanged(unavailable.message) from error
            raise unavailable from error
        except ModelProblem as problem:
            self._observer.failure("UNUSABLE")
            if version in self.known:
                self._forget()
            raise EmbeddingUnavailable(str(problem)) from problem
        if epoch != self.epoch:
            raise ModelChanged(f"the model at {self._address} changed while its card was read; try again")
        if self.known.get(version, info) != info:
            self._forget()  # the same number, another model: what is on its way may be of either
        self.known[version] = info
        return info

    async def _describe(self, version: int, until: float) -> ModelInfo:
        """What a version's own card says of it."""
        request = _tfs.PredictRequest()
        request.model_spec.name = self._name
        request.model_spec.signature_name = "describe"
        request.model_spec.version.value = version
        write_probe(request.inputs["probe"])
        try:
            response = await self._connection.predict(request, timeout=_left(until))
            card = text("card", response.outputs)
        except grpc.aio.AioRpcError as error:
            if error.code() not in {grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT}:
                raise
            raise ModelProblem(
                f"model {self._name!r} version {version} has no signature `describe`: it was not made by "
                "`imagewarden model export`, which is how to make one"
            ) from error
        except TensorProblem as problem:
            raise ModelProblem(
                f"model {self._name!r} version {version} gives no card: {problem}; export it with "
                "`imagewarden model export`"
            ) from problem
        return model_info(self._name, version, card)

    def _forget(self) -> None:
        self.known = {}
        self.epoch += 1

    def _connection_broke(self) -> None:
        self._forget()
        self._look_now.set()

    async def _watch(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._seconds * (0.75 + 0.5 * self._chance())):
                    await self._look_now.wait()
            self._look_now.clear()
            try:
                await self._look()
            except Exception as error:  # noqa: BLE001 -- a watcher that ended would leave readiness as it was for good
                self.model, self.problem = None, f"looking for the model failed: {error!r}; report this as a bug"

    async def _look(self) -> None:
        """See which versions there are, and take the newest that can be used."""
        request = _tfs.GetModelStatusRequest()
        request.model_spec.name = self._name
        try:
            status = await self._connection.status(request, timeout=_STATUS_SECONDS)
            newest = self._newest(status.model_version_status)
            # Asked each time: a number may come to stand for another model, on this host or on another one behind
            # the same address.
            info = await self.learn(newest, time.monotonic() + _STATUS_SECONDS)
        except grpc.aio.AioRpcError as error:
            self._found_none(self._connection.unavailable(error))
        except EmbeddingUnavailable as error:
            self._found_none(error)
        else:
            self.heard()
            self._breaker.heard_of()
            self.model, self.problem = info, ""

    def _found_none(self, problem: EmbeddingUnavailable) -> None:
        busy = isinstance(problem, NoAnswerInTime) and time.monotonic() - self._answered < _SILENT_SECONDS
        # Who computes for others answers late, and is the same as before: a break of the connection would be known.
        if self.model is None or not busy:
            self.known = {}
            self.model, self.problem = None, problem.message

    def _newest(self, statuses: Iterable[Any]) -> int:
        """The version that answers who asks for none; forgets those that are no longer available."""
        versions: dict[int, Any] = {one.version: one for one in statuses}
        available = [number for number, one in versions.items() if one.state == _tfs.AVAILABLE]
        if not available:
            states = [
                f"version {number} is {_tfs.state_name(one.state)} {one.status.error_message[:_REASON]}".rstrip()
                for number, one in sorted(versions.items())
            ]
            raise EmbeddingUnavailable(
                f"model {self._name!r} at {self._address} has no version AVAILABLE yet "
                f"({'; '.join(states) or 'none'}); wait, or look at the host's log"
            )
        self.known = {number: info for number, info in self.known.items() if number in available}
        return max(available)


def _left(until: float) -> float:
    """Seconds for a small call: never so long that it keeps a larger one from being told."""
    return max(min(until - time.monotonic(), _STATUS_SECONDS), 0.001)
