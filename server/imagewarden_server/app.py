"""The server put together: state opened, model watched, services bound, and all of it closed again in order."""

from __future__ import annotations

import asyncio
import functools
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from imagewarden.v1 import (
    audit_service_pb2,
    audit_service_pb2_grpc,
    bank_service_pb2,
    bank_service_pb2_grpc,
    moderation_service_pb2,
    moderation_service_pb2_grpc,
)
from imagewarden_server import access, logs
from imagewarden_server.api.audit import AuditServicer
from imagewarden_server.api.banks import BankServicer
from imagewarden_server.api.moderation import ModerationServicer
from imagewarden_server.catalog import SqlCatalog
from imagewarden_server.decoding import DecoderProcesses
from imagewarden_server.embedding import BreakerState, TfServingEmbedder
from imagewarden_server.http import StatusServer
from imagewarden_server.index import IndexSet, open_index, save_snapshot
from imagewarden_server.interceptors import chain
from imagewarden_server.matching.administer import Administrator
from imagewarden_server.matching.check import Checker
from imagewarden_server.matching.enroll import Enroller
from imagewarden_server.matching.feedback import Reporter
from imagewarden_server.matching.flood import Floods
from imagewarden_server.matching.lookup import utc_now
from imagewarden_server.matching.passes import Passes
from imagewarden_server.matching.pictures import Workers
from imagewarden_server.matching.preview import Previewer
from imagewarden_server.matching.quarantine import Quarantiner
from imagewarden_server.matching.revisions import Follower
from imagewarden_server.matching.similar import Similarity
from imagewarden_server.matching.types import Action, Bank
from imagewarden_server.matching.window import Window
from imagewarden_server.media import Limits
from imagewarden_server.settings import Settings, split_address
from imagewarden_server.state import alone
from imagewarden_server.telemetry import Metrics

_MODERATION = moderation_service_pb2.DESCRIPTOR.services_by_name["ModerationService"].full_name
_BANKS = bank_service_pb2.DESCRIPTOR.services_by_name["BankService"].full_name
_AUDIT = audit_service_pb2.DESCRIPTOR.services_by_name["AuditService"].full_name
# Beside the pictures of a call: names, labels, context.
_MESSAGE_ROOM = 4 * 2**20
# A batch, or several pictures of one logo, may be larger than one picture.
_MESSAGE_PICTURES = 4
_REFLECTED = (_MODERATION, _BANKS, _AUDIT, health.SERVICE_NAME, reflection.SERVICE_NAME)
_EXPIRE_SECONDS = 10.0
_FLOOD_SECONDS = 1.0
_WATCH_SECONDS = 0.25
_KEY_SECONDS = 0.5
"""A key that is revoked is refused after so long."""
_REFUSAL_SECONDS = 5.0
_CORES = os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the server really listens, ports chosen."""

    grpc: str
    http: str


class App:
    """One server: an asynchronous context manager; leaving it drains and closes."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = AsyncExitStack()
        self._serving = False
        self._tasks: list[asyncio.Task[None]] = []
        self.metrics = Metrics()
        self._window = Window(settings.preview_window_bytes)
        self.metrics.watch_window(lambda: self._window.nbytes, lambda: len(self._window))
        self.addresses = Addresses("", "")

    async def __aenter__(self) -> Self:
        """Open the state and serve."""
        try:
            await self._start()
        except BaseException:  # whatever stopped the start, what was opened is closed
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Drain and close, in the reverse order of the start."""
        self._serving = False
        await self._stack.aclose()

    async def _start(self) -> None:
        settings, stack = self._settings, self._stack
        log = logs.logger()
        settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        stack.enter_context(alone(settings.state_dir))
        catalog = await asyncio.to_thread(SqlCatalog.open, settings.state_dir / "catalog.sqlite3")
        stack.callback(catalog.close)
        # Started first: they load their libraries while the index is opened.
        decoder = _decoder(settings, self.metrics)
        stack.callback(decoder.close)
        begin = time.perf_counter()
        snapshots = settings.state_dir / "index"
        index, how, details = await asyncio.to_thread(open_index, snapshots, catalog)
        log.info(
            "index open",
            how=how,
            details=details,
            revision=index.revision,
            seconds=round(time.perf_counter() - begin, 3),
        )
        workers = Workers(_CORES + max(4, _CORES + 2))  # of which some wait for a decoder
        stack.callback(workers.close)
        await asyncio.to_thread(decoder.warm)
        follower = Follower(catalog, index)
        snapshotter = _Snapshotter(index, snapshots, catalog.id)
        stack.push_async_callback(snapshotter.save)
        embedder = TfServingEmbedder(
            settings.model_address,
            settings.model_name,
            root_certificates=_read(settings.model_tls_ca),
            observer=self.metrics,
        )
        await embedder.start()
        stack.push_async_callback(embedder.close)
        passes = Passes(embedder, workers, settings.embedding_cache_bytes, self.metrics)
        self._watch_state(catalog, index, follower, embedder, passes)
        authority = await self._authority(catalog) if settings.require_keys else None
        server = grpc.aio.server(
            interceptors=chain(self.metrics, settings.max_concurrent_calls, lambda: self._serving, authority),
            options=_options(settings),
        )
        floods = Floods()
        quarantiner = Quarantiner(catalog.reports, follower, workers, self.metrics)
        checker = Checker(
            catalog=catalog,
            index=index,
            follower=follower,
            embedder=passes,
            workers=workers,
            decoder=decoder,
            on_undecided=Action[settings.on_undecided.name],
            observer=self.metrics,
            floods=floods,
            window=self._window,
        )
        similarity = Similarity(
            catalog=catalog, index=index, follower=follower, embedder=passes, workers=workers, decoder=decoder
        )
        enroller = Enroller(catalog=catalog, follower=follower, embedder=embedder, workers=workers, decoder=decoder)
        moderation_service_pb2_grpc.add_ModerationServiceServicer_to_server(
            ModerationServicer(
                checker,
                similarity,
                Reporter(catalog, catalog.reports, quarantiner, workers, self.metrics),
                catalog_id=catalog.id,
                metrics=self.metrics,
                default_deadline=settings.default_deadline_seconds,
            ),
            server,
        )
        bank_service_pb2_grpc.add_BankServiceServicer_to_server(
            BankServicer(
                Administrator(catalog, follower, workers),
                enroller,
                Previewer(catalog=catalog, index=index, window=self._window, enroller=enroller, workers=workers),
                catalog.id,
            ),
            server,
        )
        audit_service_pb2_grpc.add_AuditServiceServicer_to_server(AuditServicer(catalog.audit, workers), server)
        health_servicer = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
        reflection.enable_server_reflection(_REFLECTED, server)
        port = _bind(server, settings)
        await server.start()
        stack.push_async_callback(server.stop, settings.drain_seconds)
        readiness = _Readiness(health_servicer, embedder, lambda: self._serving)
        stack.push_async_callback(readiness.stop)
        status = self._status_server(readiness)
        stack.push_async_callback(asyncio.to_thread, status.close)
        for task in (
            readiness.watch(),
            _every(_EXPIRE_SECONDS, lambda: _expire(catalog, follower)),
            _every(settings.snapshot_seconds, snapshotter.save),
            _every(_FLOOD_SECONDS, lambda: quarantiner.put_flooded(floods)),
        ):
            running = asyncio.create_task(task)
            stack.push_async_callback(_cancel, running)
        self._serving = True
        await readiness.update()
        self.addresses = Addresses(_with_port(settings.listen, port), _with_port(settings.metrics_listen, status.port))
        said = await asyncio.to_thread(_said_of, catalog)
        log.info("serving", grpc=self.addresses.grpc, http=self.addresses.http, keys=settings.require_keys, **said)

    def _watch_state(
        self,
        catalog: SqlCatalog,
        index: IndexSet,
        follower: Follower,
        embedder: TfServingEmbedder,
        passes: Passes,
    ) -> None:
        """What each scrape reads."""
        self.metrics.watch_state(
            banks=lambda: _all_banks(catalog),
            revisions=lambda: (catalog.revision(), index.revision),
            index_age=lambda: 0.0 if index.revision >= catalog.revision() else time.monotonic() - follower.current_at,
            model_ready=lambda: embedder.model is not None,
            model_left_alone=lambda: embedder.breaker is not BreakerState.CLOSED,
            cached=lambda: passes.nbytes,
            quarantined=catalog.reports.quarantined,
        )

    async def _authority(self, catalog: SqlCatalog) -> access.Authority:
        """Who knows callers, kept up to date; what it refuses is on its way to the audit log.

        Raises:
            RuntimeError: no key is good: nobody could call.
        """
        refusals = access.Refusals(catalog.audit)
        self._stack.push_async_callback(asyncio.to_thread, refusals.write)
        authority = access.Authority(catalog.keys, refusals.note)
        await asyncio.to_thread(authority.refresh)
        if not authority.good_keys:
            raise RuntimeError(
                "callers must show a key, and there is none that is good; make one with `imagewarden key create NAME "
                f"--role admin --state-dir {self._settings.state_dir}`"
            )
        for seconds, work in ((_KEY_SECONDS, authority.refresh), (_REFUSAL_SECONDS, refusals.write)):
            running = asyncio.create_task(_every(seconds, functools.partial(asyncio.to_thread, work)))
            self._stack.push_async_callback(_cancel, running)
        return authority

    def _status_server(self, readiness: _Readiness) -> StatusServer:
        host, port = split_address(self._settings.metrics_listen)
        status = StatusServer(host, port, self.metrics.registry, readiness.describe)
        status.start()
        return status


class _Readiness:
    """Health that follows readiness, both ways.

    The server as a whole ("" and BankService) is SERVING while its state is open and it is not stopping. The
    ModerationService is SERVING only while the model answers too: a check without it may be UNDECIDED.
    """

    def __init__(
        self, servicer: health.aio.HealthServicer, embedder: TfServingEmbedder, serving: Callable[[], bool]
    ) -> None:
        self._servicer = servicer
        self._embedder = embedder
        self._serving = serving
        self._told: dict[str, bool] = {}

    def describe(self) -> tuple[bool, str]:
        """Readiness for /readyz."""
        if not self._serving():
            return False, "not serving: starting or stopping"
        if self._embedder.model is None:
            return False, f"the model is not ready: {self._embedder.problem}"
        return True, f"ready: {self._embedder.model.label}"

    async def update(self) -> None:
        """Tell the health service what changed."""
        serving = self._serving()
        states = {"": serving, _BANKS: serving, _MODERATION: serving and self._embedder.model is not None}
        for service, state in states.items():
            if self._told.get(service) != state:
                self._told[service] = state
                kind = health_pb2.HealthCheckResponse.SERVING if state else health_pb2.HealthCheckResponse.NOT_SERVING
                await self._servicer.set(service, kind)

    async def watch(self) -> None:
        """Follow until cancelled."""
        while True:
            await self.update()
            await asyncio.sleep(_WATCH_SECONDS)

    async def stop(self) -> None:
        """From now on NOT_SERVING for good."""
        await self._servicer.enter_graceful_shutdown()


class _Snapshotter:
    """Saves the index when it has changed since it was last saved."""

    def __init__(self, index: IndexSet, directory: Path, catalog_id: str) -> None:
        self._index = index
        self._directory = directory
        self._catalog_id = catalog_id
        self._saved = -1

    async def save(self) -> None:
        """Save, if there is something new; a failure is logged, since the catalogue has everything."""
        revision = self._index.revision
        if revision == self._saved:
            return
        try:
            await asyncio.to_thread(save_snapshot, self._index, self._directory, self._catalog_id)
        except OSError as error:
            logs.logger().error("snapshot failed", error=str(error), directory=str(self._directory))
        else:
            self._saved = revision


def _with_port(address: str, port: int) -> str:
    """Where is listened, with the port that the system picked."""
    return address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"


def _said_of(catalog: SqlCatalog) -> dict[str, object]:
    """What the log keeps of the catalogue's state, out of reach of who can write its file."""
    sequence, head = catalog.audit.head()
    return {"revision": catalog.revision(), "audit_events": sequence, "audit_hash": head}


def _all_banks(catalog: SqlCatalog) -> Sequence[Bank]:
    banks: list[Bank] = []
    after = 0
    while True:
        page = catalog.list_banks(after=after, limit=1_000)
        banks += page.items
        if page.next_after is None:
            return banks
        after = page.next_after


def _decoder(settings: Settings, observer: Metrics) -> DecoderProcesses:
    limits = Limits(
        max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels, max_frames=settings.max_frames
    )
    return DecoderProcesses(limits, processes=_CORES, observer=observer)


async def _expire(catalog: SqlCatalog, follower: Follower) -> None:
    # A bank's at a time.
    while await asyncio.to_thread(catalog.expire, utc_now()):
        await follower.catch_up()


async def _every(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    """Do something again and again; one failure is logged and does not end it."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await work()
        except Exception:  # noqa: BLE001 -- a background task that died silently would be worse than any bug in it
            logs.logger().exception("background work failed")


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _read(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()


def _options(settings: Settings) -> list[tuple[str, int]]:
    most = settings.max_image_bytes * _MESSAGE_PICTURES + _MESSAGE_ROOM
    return [
        ("grpc.max_receive_message_length", most),
        ("grpc.max_send_message_length", most),
        ("grpc.so_reuseport", 0),
        # Callers that keep an idle connection alive by pings are welcome to one in ten seconds.
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]


def _bind(server: grpc.aio.Server, settings: Settings) -> int:
    if settings.tls_certificate is None or settings.tls_key is None:
        return server.add_insecure_port(settings.listen)
    client_ca = _read(settings.tls_client_ca)
    credentials = grpc.ssl_server_credentials(
        [(settings.tls_key.read_bytes(), settings.tls_certificate.read_bytes())],
        root_certificates=client_ca,
        require_client_auth=client_ca is not None,
    )
    return server.add_secure_port(settings.listen, credentials)
