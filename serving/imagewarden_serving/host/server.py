"""The host put together: models loaded, ports opened, drained on SIGTERM."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from tensorflow_serving.apis import (
    model_service_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2,
    prediction_service_pb2_grpc,
)

from imagewarden_serving.host.batching import BatchScheduler
from imagewarden_serving.host.config import DEFAULT_BATCHING, BatchingParameters, ModelConfig, MonitoringConfig
from imagewarden_serving.host.errors import ConfigError, HostError
from imagewarden_serving.host.manager import ModelManager
from imagewarden_serving.host.metrics import Metrics
from imagewarden_serving.host.predict import Predictor
from imagewarden_serving.host.replay import warm_up
from imagewarden_serving.host.rest import RestApi, RestServer
from imagewarden_serving.host.servable import SavedModelServable, Servable, SessionOptions
from imagewarden_serving.host.servicers import ModelServicer, PredictionServicer

_LOG = logging.getLogger(__name__)
_MESSAGE_BYTES = 256 * 2**20
_DRAIN_SECONDS = 20.0
_PARENT_SECONDS = 0.5
_SERVICES = (
    prediction_service_pb2.DESCRIPTOR.services_by_name["PredictionService"].full_name,
    model_service_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name,
)


@dataclass(frozen=True, slots=True)
class Options:
    """What `imagewarden model serve` was told.

    Attributes:
        models: what to serve at first.
        host: address of both ports; loopback unless told.
        port: of gRPC; 0 takes a free one, or none when there is a socket.
        rest_port: of HTTP; None for none, 0 takes a free one.
        grpc_socket_path: a Unix socket for gRPC, beside the port.
        batching: None runs each request alone.
        monitoring: where Prometheus reads, on the REST port.
        sessions: how TensorFlow computes.
        poll_seconds: between two looks at the disk; 0 looks once, at the start.
        ready_file: where to write the ports once the host serves.
        exit_with_parent: whether to stop when the process that started this one is gone.
    """

    models: tuple[ModelConfig, ...]
    host: str = "127.0.0.1"
    port: int = 8500
    rest_port: int | None = None
    grpc_socket_path: Path | None = None
    batching: BatchingParameters | None = DEFAULT_BATCHING
    monitoring: MonitoringConfig = field(default_factory=MonitoringConfig)
    sessions: SessionOptions = field(default_factory=SessionOptions)
    poll_seconds: float = 1.0
    ready_file: Path | None = None
    exit_with_parent: bool = False


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the host really listens; None where it does not."""

    grpc_port: int | None
    rest_port: int | None
    grpc_socket_path: str | None


class ModelHost:
    """One host: an asynchronous context manager; leaving it drains and closes.

    Raises:
        HostError: a model did not become available.
        ConfigError: a port or a socket cannot be had.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._stack = AsyncExitStack()
        self._health = health.aio.HealthServicer()
        self.metrics = Metrics()
        self.manager = ModelManager(self._load)
        self.ports = Ports(None, None, None)

    async def __aenter__(self) -> Self:
        """Load the models, then open the ports."""
        try:
            await self._start()
        except BaseException:  # whatever stopped the start, what was opened is closed
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Refuse new calls, finish those under way, unload."""
        await self._health.enter_graceful_shutdown()
        await self._stack.aclose()

    @property
    def computes_in_bfloat16(self) -> bool:
        """Whether its sessions' products are of bfloat16."""
        return self._options.sessions.bfloat16

    def addresses(self) -> list[str]:
        """Where the host listens, for people."""
        host = f"[{self._options.host}]" if ":" in self._options.host else self._options.host
        ports = self.ports
        return [
            *([f"{host}:{ports.grpc_port} (gRPC)"] if ports.grpc_port is not None else []),
            *([f"unix:{ports.grpc_socket_path} (gRPC)"] if ports.grpc_socket_path is not None else []),
            *([f"http://{host}:{ports.rest_port} (REST)"] if ports.rest_port is not None else []),
        ]

    async def _start(self) -> None:
        options, stack = self._options, self._stack
        stack.push_async_callback(self.manager.close)
        scheduler = BatchScheduler(options.batching, self.metrics, threads=max(4, os.cpu_count() or 1))
        stack.push_async_callback(scheduler.close)
        await self.manager.apply(options.models)
        if options.poll_seconds:
            polling = asyncio.create_task(self.manager.poll_every(options.poll_seconds))
            stack.push_async_callback(_cancel, polling)
        predictor = Predictor(self.manager, scheduler)
        grpc_port = await self._start_grpc(predictor)
        rest_port = await self._start_rest(predictor)
        socket = str(options.grpc_socket_path) if options.grpc_socket_path is not None else None
        self.ports = Ports(grpc_port, rest_port, socket)

    async def _start_grpc(self, predictor: Predictor) -> int | None:
        options = self._options
        server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", _MESSAGE_BYTES),
                ("grpc.max_send_message_length", _MESSAGE_BYTES),
                ("grpc.so_reuseport", 0),  # two hosts on one port would share the calls and hide each other
            ]
        )
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            PredictionServicer(self.manager, predictor, self.metrics), server
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelServicer(self.manager), server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection((*_SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        port: int | None = None
        if options.port or options.grpc_socket_path is None:
            host = f"[{options.host}]" if ":" in options.host else options.host
            port = _bind(server, f"{host}:{options.port}")
        if options.grpc_socket_path is not None:
            _bind_socket(server, options.grpc_socket_path)
            self._stack.callback(options.grpc_socket_path.unlink, missing_ok=True)
        for service in ("", *_SERVICES):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        await server.start()
        self._stack.push_async_callback(server.stop, _DRAIN_SECONDS)
        return port

    async def _start_rest(self, predictor: Predictor) -> int | None:
        options = self._options
        if options.rest_port is None:
            return None
        api = RestApi(asyncio.get_running_loop(), self.manager, predictor, self.metrics, options.monitoring.path)
        try:
            server = RestServer(options.host, options.rest_port, api)
        except OSError as error:
            raise ConfigError(f"cannot listen on {options.host}:{options.rest_port} for REST: {error}") from error
        self._stack.push_async_callback(asyncio.to_thread, server.stop, _DRAIN_SECONDS)
        return server.port

    def _load(self, name: str, version: int, path: Path) -> Servable:
        """On the loading thread: load a version and warm it up."""
        status = "fail"
        try:
            servable = SavedModelServable(name, version, path, self._options.sessions)
            status = "success"
        finally:
            self.metrics.load_attempt_count.add(str(path), status)
        begin = time.perf_counter()
        try:
            count = warm_up(servable, path)
        except BaseException:
            servable.close()
            raise
        if count:
            self.metrics.model_warmup_latency.observe((time.perf_counter() - begin) * 1e6, str(path), "OK")
        return servable


async def serve(options: Options, announce: Callable[[ModelHost], None]) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    Args:
        options: what to serve, and where.
        announce: called once the host serves.

    Raises:
        HostError: a model did not become available.
        ConfigError: a port, a socket or the ready file cannot be had.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    watching = asyncio.create_task(_watch_parent(stop)) if options.exit_with_parent else None
    host = ModelHost(options)
    starting = asyncio.create_task(host.__aenter__())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            await _cancel(starting)
            return
        await starting
        try:
            if options.ready_file is not None:
                _write_ready(options.ready_file, host.ports)
            announce(host)
            await stop.wait()
            _LOG.info("stopping: calls under way have %.0f seconds", _DRAIN_SECONDS)
        finally:
            await host.__aexit__()
    finally:
        for task in (stopping, watching):
            if task is not None:
                await _cancel(task)


async def _watch_parent(stop: asyncio.Event) -> None:
    parent = os.getppid()
    while os.getppid() == parent:  # noqa: ASYNC110 -- the kernel tells no event
        await asyncio.sleep(_PARENT_SECONDS)
    _LOG.info("the process that started this one is gone")
    stop.set()


async def _cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _bind(server: Any, address: str) -> int:
    try:
        port: int = server.add_insecure_port(address)
    except RuntimeError as error:
        raise ConfigError(f"cannot listen on {address}: is another process using it?") from error
    if not port:
        raise ConfigError(f"cannot listen on {address}: is another process using it?")
    return port


def _bind_socket(server: Any, path: Path) -> None:
    """Bind a socket that its owner alone may use; a stale one of a killed host is taken away."""
    if path.is_socket():
        path.unlink()
    mask = os.umask(0o177)
    try:
        _bind(server, f"unix:{path}")
    finally:
        os.umask(mask)


def _write_ready(path: Path, ports: Ports) -> None:
    document = {
        "grpc_port": ports.grpc_port,
        "rest_port": ports.rest_port,
        "grpc_socket_path": ports.grpc_socket_path,
        "pid": os.getpid(),
    }
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(document))
        temporary.replace(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error


def describe(host: ModelHost) -> str:
    """The one line that says what is served, and where."""
    models = ", ".join(
        f"{name} version {' and '.join(map(str, versions))}"
        for name, versions in sorted(host.manager.available().items())
    )
    precision = "in bfloat16 " if host.computes_in_bfloat16 else ""
    return f"Serving {models or 'no model'} {precision}at {', '.join(host.addresses())}"


__all__ = ["ConfigError", "HostError", "ModelHost", "Options", "Ports", "describe", "serve"]
