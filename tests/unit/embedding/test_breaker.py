"""The circuit breaker: when a host is left alone, when it is tried, and what a client says meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import grpc
import pytest
from tests.unit.embedding.model_host import EMBEDDING, PICTURE, ModelHost, Observer, eventually

from imagewarden_server.embedding import BreakerState, TfServingEmbedder
from imagewarden_server.embedding.breaker import FAILURES, OPEN_SECONDS, Breaker
from imagewarden_server.matching.errors import EmbeddingUnavailable


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker("host:1", clock)


def state_of(what: Breaker | TfServingEmbedder) -> BreakerState:
    """It changes by itself, which a type checker does not know of a property."""
    return what.state if isinstance(what, Breaker) else what.breaker


def open_(breaker: Breaker) -> None:
    for _ in range(FAILURES):
        with breaker.attempt():
            breaker.failed("UNAVAILABLE")


def enter(breaker: Breaker) -> None:
    with breaker.attempt():
        pass


@contextlib.contextmanager
def refused(*said: str) -> Iterator[None]:
    with pytest.raises(EmbeddingUnavailable) as caught:
        yield
    assert all(one in caught.value.message for one in said)


def test_failures_in_a_row_open_it_and_a_success_between_does_not(breaker: Breaker) -> None:
    for _ in range(3):
        for _ in range(FAILURES - 1):
            with breaker.attempt():
                breaker.failed("INTERNAL")
        with breaker.attempt():
            breaker.succeeded()
    assert state_of(breaker) is BreakerState.CLOSED
    open_(breaker)
    assert state_of(breaker) is BreakerState.OPEN
    with refused("host:1 failed 5 times in a row (UNAVAILABLE)", f"in {OPEN_SECONDS:.1f} s"):
        enter(breaker)


def test_one_request_tries_the_host_and_the_others_wait_for_what_it_says(breaker: Breaker, clock: Clock) -> None:
    open_(breaker)
    clock.now += OPEN_SECONDS
    with breaker.attempt():
        assert state_of(breaker) is BreakerState.HALF_OPEN
        for _ in range(2):
            with refused("by another call now"):
                enter(breaker)
        breaker.failed("UNAVAILABLE")
    assert state_of(breaker) is BreakerState.OPEN
    with refused("6 times"):
        enter(breaker)
    clock.now += OPEN_SECONDS
    with breaker.attempt():
        breaker.succeeded()
    assert state_of(breaker) is BreakerState.CLOSED


def test_a_try_that_says_nothing_leaves_the_next_one_to_try(breaker: Breaker, clock: Clock) -> None:
    open_(breaker)
    clock.now += OPEN_SECONDS
    with contextlib.suppress(asyncio.CancelledError), breaker.attempt():
        raise asyncio.CancelledError
    with breaker.attempt():
        breaker.succeeded()
    assert state_of(breaker) is BreakerState.CLOSED


def test_a_host_that_is_heard_of_is_tried_at_once(breaker: Breaker) -> None:
    open_(breaker)
    breaker.heard_of()
    with breaker.attempt():
        breaker.succeeded()
    assert state_of(breaker) is BreakerState.CLOSED


@pytest.mark.parametrize(
    ("code", "seconds", "counts"),
    [
        (grpc.StatusCode.UNAVAILABLE, 0.01, True),
        (grpc.StatusCode.INTERNAL, 0.01, True),
        (grpc.StatusCode.DEADLINE_EXCEEDED, 2.0, True),
        (grpc.StatusCode.DEADLINE_EXCEEDED, 1.9, False),
        (grpc.StatusCode.INVALID_ARGUMENT, 10.0, False),
        (grpc.StatusCode.NOT_FOUND, 10.0, False),
    ],
)
def test_what_counts_against_a_host(breaker: Breaker, code: grpc.StatusCode, seconds: float, counts: bool) -> None:
    for _ in range(FAILURES):
        breaker.ended(code, seconds)
    assert (state_of(breaker) is BreakerState.OPEN) == counts


async def test_a_host_that_hangs_is_waited_for_a_few_times_and_then_no_more(
    fake_host: ModelHost, observer: Observer
) -> None:
    # It looks seldom: nothing else than the pictures says how the host does.
    embedder = TfServingEmbedder(fake_host.address, "inception", observer=observer, watch_seconds=600)
    await embedder.start()
    try:
        fake_host.delay = 30.0
        asked = [embedder.embed(PICTURE, EMBEDDING, 2.1) for _ in range(FAILURES)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(one, EmbeddingUnavailable) for one in answers)
        assert state_of(embedder) is BreakerState.OPEN
        begin = asyncio.get_running_loop().time()
        with refused("5 times in a row (DEADLINE_EXCEEDED)"):
            await embedder.embed(PICTURE, EMBEDDING, 10.0)
        assert asyncio.get_running_loop().time() - begin < 1
        fake_host.delay = 0.0
        sent = len(fake_host.predictions)
        await asyncio.sleep(OPEN_SECONDS + 0.1)
        assert (await embedder.embed(PICTURE, EMBEDDING, 10.0)).embedding is not None
        assert state_of(embedder) is BreakerState.CLOSED
        assert len(fake_host.predictions) == sent + 1
    finally:
        await embedder.close()


async def test_who_leaves_after_waiting_long_counts_and_who_waits_in_line_is_told_at_once(
    fake_host: ModelHost, observer: Observer
) -> None:
    embedder = TfServingEmbedder(fake_host.address, "inception", observer=observer, watch_seconds=600)
    await embedder.start()
    try:
        fake_host.delay = 30.0
        # More than may be on their way at once, each cut off by its caller as a check's deadline does.
        asked = [asyncio.ensure_future(embedder.embed(PICTURE, EMBEDDING, 20.0)) for _ in range(40)]
        await asyncio.sleep(2.2)
        for one in asked[:FAILURES]:
            one.cancel()
        await asyncio.gather(*asked[:FAILURES], return_exceptions=True)
        assert state_of(embedder) is BreakerState.OPEN
        with refused("times in a row"):
            async with asyncio.timeout(1):
                await embedder.embed(PICTURE, EMBEDDING, 20.0)
        for one in asked:
            one.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
    finally:
        await embedder.close()


async def test_nonsense_opens_it_and_sense_closes_it(fake_host: ModelHost, embedder: TfServingEmbedder) -> None:
    def nonsense(response: object) -> None:
        del response.outputs["embedding"]  # type: ignore[attr-defined]  # a PredictResponse

    fake_host.change = nonsense
    for _ in range(FAILURES):
        with refused("answered nonsense"):
            await embedder.embed(PICTURE, EMBEDDING, 5.0)
    assert state_of(embedder) is not BreakerState.CLOSED
    fake_host.change = lambda _: None

    async def well() -> bool:
        with contextlib.suppress(EmbeddingUnavailable):
            return (await embedder.embed(PICTURE, EMBEDDING, 5.0)).embedding is not None
        return False

    deadline = asyncio.get_running_loop().time() + 10
    while not await well():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.02)
    assert state_of(embedder) is BreakerState.CLOSED
    assert await eventually(lambda: embedder.model is not None)
