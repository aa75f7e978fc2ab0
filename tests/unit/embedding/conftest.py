"""A programmable model host, and a client of it that looks often."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.unit.embedding.model_host import ModelHost, Observer

from imagewarden_server.embedding import TfServingEmbedder


@pytest.fixture
async def fake_host() -> AsyncIterator[ModelHost]:
    running = ModelHost()
    await running.start()
    yield running
    await running.stop()


@pytest.fixture
def observer() -> Observer:
    return Observer()


@pytest.fixture
async def embedder(fake_host: ModelHost, observer: Observer) -> AsyncIterator[TfServingEmbedder]:
    made = TfServingEmbedder(fake_host.address, "inception", observer=observer, watch_seconds=0.05)
    await made.start()
    yield made
    await made.close()
