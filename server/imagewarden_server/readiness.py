"""Health that follows readiness, both ways."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from grpc_health.v1 import health, health_pb2

from imagewarden.v1 import bank_service_pb2, moderation_service_pb2
from imagewarden_server.embedding import TfServingEmbedder

MODERATION = moderation_service_pb2.DESCRIPTOR.services_by_name["ModerationService"].full_name
BANKS = bank_service_pb2.DESCRIPTOR.services_by_name["BankService"].full_name
_WATCH_SECONDS = 0.25


class Readiness:
    """Tells the health service and /readyz.

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
        states = {"": serving, BANKS: serving, MODERATION: serving and self._embedder.model is not None}
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
