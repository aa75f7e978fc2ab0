"""Passes of the model that are not made: pixels that come again, in a row or at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from imagewarden_server.matching.embedder import Embeddings, ModelInfo
from imagewarden_server.matching.errors import EmbeddingUnavailable
from imagewarden_server.matching.passes import Passes
from imagewarden_server.matching.pictures import Workers
from imagewarden_server.matching.types import VectorSpace

EMBEDDING = frozenset({"embedding"})
BOTH = frozenset({"embedding", "semantic"})
MEGABYTE = 2**20


def info(fingerprint: str) -> ModelInfo:
    return ModelInfo(f"inception/1@{fingerprint}", fingerprint, 2, 2, 2, (), ())


def picture(*values: int) -> NDArray[np.uint8]:
    return np.stack([np.full((299, 299, 3), value, np.uint8) for value in values])


class Model:
    """A model whose vectors tell the picture and the model; counts the pictures that it was given."""

    def __init__(self) -> None:
        self.model: ModelInfo | None = info("f")
        self.problem = ""
        self.answers_as: ModelInfo | None = None
        self.given: list[int] = []
        self.asked = asyncio.Event()
        self.hold: asyncio.Event | None = None
        self.fails = 0

    async def embed(self, images: NDArray[np.uint8], outputs: frozenset[str], time_limit: float | None) -> Embeddings:
        self.given += images[:, 0, 0, 0].tolist()
        self.asked.set()
        answering = self.answers_as or self.model
        if self.hold is not None:
            try:
                await asyncio.wait_for(self.hold.wait(), time_limit)
            except TimeoutError:
                raise EmbeddingUnavailable("too late") from None
        if self.fails:
            self.fails -= 1
            raise EmbeddingUnavailable("as the test told")
        if answering is None:
            raise EmbeddingUnavailable("nobody")
        rows = np.array([[float(image[0, 0, 0]), ord(answering.fingerprint)] for image in images], np.float32)
        return Embeddings(answering, **dict.fromkeys(outputs, rows))

    async def background(self, model: ModelInfo, space: VectorSpace, time_limit: float) -> NDArray[np.float32]:
        raise NotImplementedError


class Count:
    def __init__(self) -> None:
        self.kept = self.shared = self.made = 0

    def passes(self, *, kept: int, shared: int, made: int) -> None:
        self.kept, self.shared, self.made = self.kept + kept, self.shared + shared, self.made + made


@pytest.fixture
def workers() -> Iterator[Workers]:
    running = Workers(2)
    yield running
    running.close()


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def count() -> Count:
    return Count()


@pytest.fixture
def passes(model: Model, workers: Workers, count: Count) -> Passes:
    return Passes(model, workers, MEGABYTE, count)


def values(answer: Embeddings) -> list[list[float]]:
    assert answer.embedding is not None
    found: list[list[float]] = answer.embedding.tolist()
    return found


async def test_the_same_pixels_are_embedded_once(passes: Passes, model: Model, count: Count) -> None:
    for _ in range(3):
        assert values(await passes.embed(picture(7), EMBEDDING, 5)) == [[7, ord("f")]]
    assert model.given == [7]
    assert (count.kept, count.shared, count.made) == (2, 0, 1)
    assert values(await passes.embed(picture(8), EMBEDDING, 5)) == [[8, ord("f")]]
    assert model.given == [7, 8]


async def test_another_model_is_asked_anew(passes: Passes, model: Model) -> None:
    await passes.embed(picture(7), EMBEDDING, 5)
    model.model = info("e")
    assert values(await passes.embed(picture(7), EMBEDDING, 5)) == [[7, ord("e")]]
    model.model = info("f")
    assert values(await passes.embed(picture(7), EMBEDDING, 5)) == [[7, ord("f")]], "the first one's are its own still"
    assert model.given == [7, 7]


async def test_an_answer_is_kept_under_the_model_that_gave_it(passes: Passes, model: Model) -> None:
    """Another version answers than the one that was known when the picture was sent."""
    model.answers_as = info("e")
    assert (await passes.embed(picture(7), EMBEDDING, 5)).model.fingerprint == "e"
    model.answers_as = None
    assert values(await passes.embed(picture(7), EMBEDDING, 5)) == [[7, ord("f")]]
    model.model = info("e")
    assert values(await passes.embed(picture(7), EMBEDDING, 5)) == [[7, ord("e")]]
    assert model.given == [7, 7]


async def test_outputs_that_were_not_asked_before_are_asked(passes: Passes, model: Model) -> None:
    await passes.embed(picture(7), EMBEDDING, 5)
    assert (await passes.embed(picture(7), BOTH, 5)).semantic is not None
    await passes.embed(picture(7), BOTH, 5)
    only = await passes.embed(picture(7), EMBEDDING, 5)
    assert only.semantic is None, "what was not asked is not answered"
    assert model.given == [7, 7]


async def test_of_several_frames_only_new_ones_are_sent(passes: Passes, model: Model, count: Count) -> None:
    await passes.embed(picture(2), EMBEDDING, 5)
    answer = await passes.embed(picture(1, 2, 3), EMBEDDING, 5)
    assert [row[0] for row in values(answer)] == [1, 2, 3]
    assert model.given == [2, 1, 3]
    assert (count.kept, count.made) == (1, 3)
    await passes.embed(picture(3, 1), EMBEDDING, 5)
    assert model.given == [2, 1, 3]


async def test_frames_of_two_models_are_never_joined(passes: Passes, model: Model) -> None:
    await passes.embed(picture(2), EMBEDDING, 5)
    model.answers_as = info("e")
    answer = await passes.embed(picture(1, 2, 3), EMBEDDING, 5)
    assert answer.model.fingerprint == "e"
    assert [row[1] for row in values(answer)] == [ord("e")] * 3


async def test_pictures_in_flight_share_a_pass(passes: Passes, model: Model, count: Count) -> None:
    model.hold = asyncio.Event()
    callers = [asyncio.create_task(passes.embed(picture(7), EMBEDDING, 5)) for _ in range(5)]
    await model.asked.wait()
    await asyncio.sleep(0.05)
    model.hold.set()
    assert [values(await caller) for caller in callers] == [[[7, ord("f")]]] * 5
    assert model.given == [7]
    assert (count.kept, count.shared, count.made) == (0, 4, 1)


async def test_who_goes_away_takes_nothing_from_who_waits(passes: Passes, model: Model) -> None:
    model.hold = asyncio.Event()
    first = asyncio.create_task(passes.embed(picture(7), EMBEDDING, 5))
    await model.asked.wait()
    second = asyncio.create_task(passes.embed(picture(7), EMBEDDING, 5))
    await asyncio.sleep(0.05)
    first.cancel()
    model.hold.set()
    assert values(await second) == [[7, ord("f")]]
    assert model.given == [7]


async def test_who_has_more_time_does_not_fail_with_who_had_less(passes: Passes, model: Model) -> None:
    model.hold = asyncio.Event()
    hurried = asyncio.create_task(passes.embed(picture(7), EMBEDDING, 0.1))
    await model.asked.wait()
    patient = [asyncio.create_task(passes.embed(picture(7), EMBEDDING, 5)) for _ in range(3)]
    with pytest.raises(EmbeddingUnavailable):
        await hurried
    await asyncio.sleep(0.05)
    model.hold.set()
    assert [values(await caller) for caller in patient] == [[[7, ord("f")]]] * 3
    assert model.given == [7, 7], "one of those that waited asks for all of them"


async def test_who_has_less_time_is_told_in_time(passes: Passes, model: Model) -> None:
    model.hold = asyncio.Event()
    patient = asyncio.create_task(passes.embed(picture(7), EMBEDDING, 5))
    await model.asked.wait()
    with pytest.raises(EmbeddingUnavailable):
        await asyncio.wait_for(passes.embed(picture(7), EMBEDDING, 0.1), 2)
    model.hold.set()
    await patient


async def test_a_failure_is_not_kept(passes: Passes, model: Model) -> None:
    model.fails = 1
    with pytest.raises(EmbeddingUnavailable):
        await passes.embed(picture(7), EMBEDDING, 5)
    assert values(await passes.embed(picture(7), EMBEDDING, 5)) == [[7, ord("f")]]


async def test_without_a_model_the_model_is_asked(passes: Passes, model: Model) -> None:
    await passes.embed(picture(7), EMBEDDING, 5)
    model.model = None
    with pytest.raises(EmbeddingUnavailable, match="nobody"):
        await passes.embed(picture(7), EMBEDDING, 5)


async def test_what_was_not_asked_for_longest_goes_first(model: Model, workers: Workers) -> None:
    passes = Passes(model, workers, 2_000)
    for value in (1, 2, 3, 1, 4, 1):
        await passes.embed(picture(value), EMBEDDING, 5)
        assert passes.nbytes <= 2_000
    assert model.given == [1, 2, 3, 4]
    await passes.embed(picture(2), EMBEDDING, 5)
    assert model.given == [1, 2, 3, 4, 2]


async def test_without_room_nothing_is_kept(model: Model, workers: Workers) -> None:
    passes = Passes(model, workers, 0)
    for _ in range(2):
        await passes.embed(picture(7), EMBEDDING, 5)
    assert model.given == [7, 7]
    assert passes.nbytes == 0
