"""The server put together: state opened, model watched, services bound, and all of it closed again in order."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from imagewarden.v1 import (
    audit_service_pb2,
    audit_service_pb2_grpc,
    bank_service_pb2_grpc,
    moderation_service_pb2_grpc,
)
from imagewarden_server import access, logs, machine
from imagewarden_server.api.audit import AuditServicer
from imagewarden_server.api.banks import BankServicer
from imagewarden_server.api.moderation import ModerationServicer
from imagewarden_server.catalog import SqlCatalog
from imagewarden_server.decoding import DecoderProcesses
from imagewarden_server.embedding import BreakerState, TfServingEmbedder
from imagewarden_server.http import StatusServer
from imagewarden_server.index import IndexSet, open_index
from imagewarden_server.interceptors import chain
from imagewarden_server.listening import Listener, options, with_port
from imagewarden_server.matching.administer import Administrator
from imagewarden_server.matching.check import Checker
from imagewarden_server.matching.enroll import Enroller
from imagewarden_server.matching.feedback import Reporter
from imagewarden_server.matching.flood import Floods
from imagewarden_server.matching.importer import Importer
from imagewarden_server.matching.load import Room, Turns
from imagewarden_server.matching.passes import Passes
from imagewarden_server.matching.pictures import Workers
from imagewarden_server.matching.preview import Previewer
from imagewarden_server.matching.quarantine import Quarantiner
from imagewarden_server.matching.revisions import Follower
from imagewarden_server.matching.similar import Similarity
from imagewarden_server.matching.types import Action, Bank
from imagewarden_server.matching.window import Window
from imagewarden_server.media import Limits
from imagewarden_server.readiness import BANKS, MODERATION, Readiness
from imagewarden_server.rereading import Rereading
from imagewarden_server.settings import Settings, split_address
from imagewarden_server.state import alone
from imagewarden_server.telemetry import Metrics
from imagewarden_server.upkeep import Snapshotter, cancel, every, expire

_AUDIT = audit_service_pb2.DESCRIPTOR.services_by_name["AuditService"].full_name
_REFLECTED = (MODERATION, BANKS, _AUDIT, health.SERVICE_NAME, reflection.SERVICE_NAME)
_FOLLOW_SECONDS = 1.0
"""Each change is followed as it is made; this is for what kept that from happening."""
_EXPIRE_SECONDS = 10.0
_FLOOD_SECONDS = 1.0
_KEY_SECONDS = 0.5
"""A key that is revoked is refused after so long."""
_REFUSAL_SECONDS = 5.0
_MEMORY_SHARE = 8
"""An eighth of the memory for requests: each takes three times its size, since it is parsed, and its picture copied."""
_SPARE_CALLS = 1_000
"""Calls that are being refused: grpc itself ends what comes beyond them, unasked."""


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
        self._rereading: Rereading | None = None
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

    def reread(self, load: Callable[[], Settings]) -> None:
        """Take what can change of settings that are read again."""
        if self._rereading is not None:
            self._rereading.reread(load)

    async def _start(self) -> None:
        settings, stack = self._settings, self._stack
        log = logs.logger()
        listener = Listener(settings)
        cores = machine.cores()
        settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        stack.enter_context(alone(settings.state_dir))
        catalog = await asyncio.to_thread(SqlCatalog.open, settings.state_dir / "catalog.sqlite3")
        stack.callback(catalog.close)
        # Started first: they load their libraries while the index is opened.
        decoder = _decoder(settings, self.metrics)
        stack.callback(decoder.close)
        snapshots = settings.state_dir / "index"
        index = await asyncio.to_thread(_opened, snapshots, catalog)
        # Half of those that look wait for a decoder, which has the next picture at once.
        workers = Workers(cores + 2, looking=2 * cores)
        stack.callback(workers.close)
        await asyncio.to_thread(_warm, decoder)
        follower = Follower(catalog, index)
        snapshotter = Snapshotter(index, snapshots, catalog.id)
        stack.push_async_callback(snapshotter.save)
        stack.push_async_callback(follower.settle)
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
        server, room, turns = self._server(authority)
        floods = Floods()
        quarantiner = Quarantiner(catalog, catalog.reports, follower, workers, self.metrics)
        checker = Checker(
            catalog=catalog,
            index=index,
            follower=follower,
            embedder=passes,
            workers=workers,
            decoder=decoder,
            turns=turns,
            on_undecided=Action[settings.on_undecided.name],
            observer=self.metrics,
            floods=floods,
            window=self._window,
        )
        self._rereading = Rereading(settings, listener, checker)
        similarity = Similarity(
            catalog=catalog,
            index=index,
            follower=follower,
            embedder=passes,
            workers=workers,
            decoder=decoder,
            turns=turns,
        )
        enroller = Enroller(
            catalog=catalog, follower=follower, embedder=embedder, workers=workers, decoder=decoder, turns=turns
        )
        moderation_service_pb2_grpc.add_ModerationServiceServicer_to_server(
            ModerationServicer(
                checker,
                similarity,
                Reporter(catalog, catalog.reports, quarantiner, workers, self.metrics),
                catalog_id=catalog.id,
                metrics=self.metrics,
                room=room,
                at_once=_at_once(),
                default_deadline=settings.default_deadline_seconds,
            ),
            server,
        )
        bank_service_pb2_grpc.add_BankServiceServicer_to_server(
            BankServicer(
                Administrator(catalog, follower, workers),
                enroller,
                Importer(catalog, follower, workers, embedder),
                Previewer(catalog=catalog, index=index, window=self._window, enroller=enroller, workers=workers),
                catalog.id,
            ),
            server,
        )
        audit_service_pb2_grpc.add_AuditServiceServicer_to_server(AuditServicer(catalog.audit, workers), server)
        health_servicer = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
        reflection.enable_server_reflection(_REFLECTED, server)
        port = listener.bind(server)
        await server.start()
        stack.push_async_callback(server.stop, settings.drain_seconds)
        readiness = Readiness(health_servicer, embedder, lambda: self._serving)
        stack.push_async_callback(readiness.stop)
        status = self._status_server(readiness)
        for task in (
            readiness.watch(),
            every(_FOLLOW_SECONDS, follower.catch_up),
            every(_EXPIRE_SECONDS, lambda: expire(catalog, follower, self._window)),
            every(settings.snapshot_seconds, snapshotter.save),
            every(_FLOOD_SECONDS, lambda: quarantiner.put_flooded(floods)),
        ):
            stack.push_async_callback(cancel, asyncio.create_task(task))
        self._serving = True
        await readiness.update()
        self.addresses = Addresses(with_port(settings.listen, port), with_port(settings.metrics_listen, status.port))
        said = await asyncio.to_thread(_said_of, catalog)
        log.info("serving", grpc=self.addresses.grpc, http=self.addresses.http, keys=settings.require_keys, **said)

    def _server(self, authority: access.Authority | None) -> tuple[grpc.aio.Server, Room, Turns]:
        """The server without its services, and how much is taken on."""
        settings = self._settings
        room = Room(settings.max_request_bytes or machine.memory() // _MEMORY_SHARE, self.metrics)
        turns = Turns(settings.max_wait_seconds, _at_once(), self.metrics)
        self.metrics.watch_load(room, turns)
        server = grpc.aio.server(
            interceptors=chain(self.metrics, settings.max_concurrent_calls, room, lambda: self._serving, authority),
            options=options(settings),
            maximum_concurrent_rpcs=settings.max_concurrent_calls + _SPARE_CALLS,
        )
        return server, room, turns

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
            running = asyncio.create_task(every(seconds, functools.partial(asyncio.to_thread, work)))
            self._stack.push_async_callback(cancel, running)
        return authority

    def _status_server(self, readiness: Readiness) -> StatusServer:
        host, port = split_address(self._settings.metrics_listen)
        status = StatusServer(host, port, self.metrics.registry, readiness.describe)
        status.start()
        self._stack.push_async_callback(asyncio.to_thread, status.close)
        return status


def _opened(snapshots: Path, catalog: SqlCatalog) -> IndexSet:
    """The index, from a snapshot or from the catalogue; the log says which, and why."""
    begin = time.perf_counter()
    index, how, details = open_index(snapshots, catalog)
    seconds = round(time.perf_counter() - begin, 3)
    logs.logger().info("index open", how=how, details=details, revision=index.revision, seconds=seconds)
    return index


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


def _at_once() -> int:
    """So many pictures at once keep the machine busy; fewer would not."""
    return machine.cores() + 2


def _decoder(settings: Settings, observer: Metrics) -> DecoderProcesses:
    limits = Limits(
        max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels, max_frames=settings.max_frames
    )
    return DecoderProcesses(limits, processes=machine.cores(), observer=observer)


def _warm(decoder: DecoderProcesses) -> None:
    """Have the decoders loaded, and say where this system lets them keep what they need not have."""
    decoder.warm()
    if lacking := decoder.lacking():
        logs.logger().warning("decoders are confined less than they could be", lacking=lacking)


def _read(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()
