"""The pictures without logos that a model brings along: asked for in parts, once, and never of another model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest
from tests.unit.embedding.model_host import (
    BACKGROUND,
    BACKGROUND_WINDOWS,
    EMBEDDING,
    PICTURE,
    D,
    L,
    ModelHost,
    Observer,
    background_of,
    card,
    eventually,
)

from imagewarden_server.embedding import TfServingEmbedder
from imagewarden_server.embedding.client import MAX_BATCH
from imagewarden_server.embedding.retry import ATTEMPTS
from imagewarden_server.matching.embedder import ModelInfo
from imagewarden_server.matching.errors import EmbeddingUnavailable
from imagewarden_server.matching.types import VectorSpace


@pytest.fixture
def model(embedder: TfServingEmbedder) -> ModelInfo:
    """The model that answers when a test begins."""
    assert embedder.model is not None
    return embedder.model


async def test_it_is_asked_for_in_parts_of_one_version_and_joined_in_order(
    fake_host: ModelHost, embedder: TfServingEmbedder, observer: Observer, model: ModelInfo
) -> None:
    found = await embedder.background(model, VectorSpace.LOGO, 5)
    assert found.shape == (BACKGROUND, BACKGROUND_WINDOWS, L)
    assert found.dtype == np.float32
    assert np.allclose(found, background_of(range(BACKGROUND)))
    asked = [list(request.inputs["probe"].int_val) for request in fake_host.predictions]
    assert [number for numbers in asked for number in numbers] == list(range(BACKGROUND))
    assert max(map(len, asked)) == MAX_BATCH, "no more than a host takes at once"
    specs = [request.model_spec for request in fake_host.predictions]
    assert [(spec.name, spec.signature_name, spec.version.value) for spec in specs] == [
        ("inception", "logo_background", 1)
    ] * len(asked)
    assert observer.batches == [len(numbers) for numbers in asked]


async def test_copies_have_a_background_of_their_own(
    fake_host: ModelHost, embedder: TfServingEmbedder, model: ModelInfo
) -> None:
    logos = await embedder.background(model, VectorSpace.LOGO, 5)
    found = await embedder.background(model, VectorSpace.COPY, 5)
    assert np.allclose(found, background_of(range(BACKGROUND), D))
    assert fake_host.predictions[-1].model_spec.signature_name == "copy_background"
    assert await embedder.background(model, VectorSpace.LOGO, 5) is logos, "one does not push the other out"
    assert await embedder.background(model, VectorSpace.COPY, 5) is found


async def test_it_is_asked_for_once_for_a_model(
    fake_host: ModelHost, embedder: TfServingEmbedder, model: ModelInfo
) -> None:
    first = await embedder.background(model, VectorSpace.LOGO, 5)
    assert await embedder.background(model, VectorSpace.LOGO, 5) is first
    asked = len(fake_host.predictions)
    assert asked == -(-BACKGROUND // MAX_BATCH)
    fake_host.versions[1] = card("e" * 64)
    assert await eventually(lambda: embedder.model is not None and embedder.model.fingerprint == "e" * 64)
    other = embedder.model
    assert other is not None
    assert await embedder.background(other, VectorSpace.LOGO, 5) is not first
    assert len(fake_host.predictions) == 2 * asked, "another model has a background of its own"


async def test_a_model_without_one_is_not_asked(fake_host: ModelHost, observer: Observer) -> None:
    said = card()
    said["logos"]["background"] = [0, 0]
    fake_host.versions = {1: said}
    made = TfServingEmbedder(fake_host.address, "inception", observer=observer)
    await made.start()
    assert made.model is not None
    assert (await made.background(made.model, VectorSpace.LOGO, 5)).shape == (0, 0, L)
    assert not fake_host.predictions
    await made.close()


async def test_it_tries_again_what_was_not_there(
    fake_host: ModelHost, embedder: TfServingEmbedder, observer: Observer, model: ModelInfo
) -> None:
    fake_host.failures = [grpc.StatusCode.UNAVAILABLE] * (ATTEMPTS - 1)
    assert len(await embedder.background(model, VectorSpace.LOGO, 5)) == BACKGROUND
    assert observer.failures == ["UNAVAILABLE"] * (ATTEMPTS - 1)


async def test_a_failure_is_said_and_the_next_call_asks_again(
    fake_host: ModelHost, embedder: TfServingEmbedder, model: ModelInfo
) -> None:
    fake_host.failures = [grpc.StatusCode.INTERNAL]
    with pytest.raises(EmbeddingUnavailable, match="INTERNAL"):
        await embedder.background(model, VectorSpace.LOGO, 5)
    assert len(await embedder.background(model, VectorSpace.LOGO, 5)) == BACKGROUND


async def test_a_slow_host_is_left_in_time(fake_host: ModelHost, embedder: TfServingEmbedder, model: ModelInfo) -> None:
    fake_host.delay = 5
    with pytest.raises(EmbeddingUnavailable, match="DEADLINE_EXCEEDED"):
        await embedder.background(model, VectorSpace.LOGO, 0.2)


def not_of_unit_norm(response: Any) -> None:
    values = np.full((MAX_BATCH, BACKGROUND_WINDOWS, L), 0.6, np.float32)
    response.outputs["background"].tensor_content = values.tobytes()


def one_picture_less(response: Any) -> None:
    response.outputs["background"].tensor_shape.dim[0].size = MAX_BATCH - 1
    response.outputs["background"].tensor_content = background_of(range(MAX_BATCH - 1)).tobytes()


def one_window_less(response: Any) -> None:
    response.outputs["background"].tensor_shape.dim[1].size = 1
    response.outputs["background"].tensor_content = background_of(range(MAX_BATCH))[:, 1:].tobytes()


def missing(response: Any) -> None:
    del response.outputs["background"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (not_of_unit_norm, "not of unit norm"),
        (one_picture_less, rf"shape \[{MAX_BATCH - 1}, 2, 4\], expected \[{MAX_BATCH}, 2, 4\]"),
        (one_window_less, rf"shape \[{MAX_BATCH}, 1, 4\], expected \[{MAX_BATCH}, 2, 4\]"),
        (missing, "missing"),
    ],
)
async def test_nonsense_is_never_kept(
    fake_host: ModelHost,
    embedder: TfServingEmbedder,
    observer: Observer,
    model: ModelInfo,
    change: Callable[[Any], None],
    said: str,
) -> None:
    fake_host.change = change
    with pytest.raises(EmbeddingUnavailable, match=f"answered nonsense.*'background'.*{said}"):
        await embedder.background(model, VectorSpace.LOGO, 5)
    assert observer.failures == ["NONSENSE"]
    fake_host.change = lambda _: None
    assert np.allclose(await embedder.background(model, VectorSpace.LOGO, 5), background_of(range(BACKGROUND)))


async def test_a_model_that_is_no_longer_there_has_none(
    fake_host: ModelHost, embedder: TfServingEmbedder, model: ModelInfo
) -> None:
    fake_host.versions = {2: card("e" * 64)}
    assert await eventually(lambda: embedder.model is not None and embedder.model.fingerprint == "e" * 64)
    with pytest.raises(EmbeddingUnavailable, match="NOT_FOUND"):
        await embedder.background(model, VectorSpace.LOGO, 5)


@pytest.mark.parametrize("when", ["before", "meanwhile"])
async def test_another_model_under_the_same_number_is_noticed(
    fake_host: ModelHost, embedder: TfServingEmbedder, model: ModelInfo, when: str
) -> None:
    async def another_comes(_request: Any) -> None:
        fake_host.versions[1] = card("e" * 64)

    if when == "before":
        await another_comes(None)
    fake_host.before_answer = another_comes
    with pytest.raises(EmbeddingUnavailable, match=r"inception/1@f+ is no longer at"):
        await embedder.background(model, VectorSpace.LOGO, 5)
    assert (await embedder.embed(PICTURE, EMBEDDING, 5)).model.fingerprint == "e" * 64


async def test_a_version_that_is_unloaded_on_the_way_is_said(
    fake_host: ModelHost, embedder: TfServingEmbedder, model: ModelInfo
) -> None:
    async def away(_request: Any) -> None:
        fake_host.versions = {2: card("e" * 64)}

    fake_host.before_answer = away
    with pytest.raises(EmbeddingUnavailable, match="NOT_FOUND"):
        await embedder.background(model, VectorSpace.LOGO, 5)


async def test_a_host_that_was_too_busy_to_say_how_it_does_is_asked_all_the_same(
    fake_host: ModelHost, embedder: TfServingEmbedder, model: ModelInfo
) -> None:
    fake_host.garbage["status"] = b"\xff\xff\xff"
    assert await eventually(lambda: embedder.model is None)
    assert len(await embedder.background(model, VectorSpace.LOGO, 5)) == BACKGROUND
