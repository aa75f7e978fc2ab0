"""Callers: closed loop, each sending its next request when the last is answered; open loop, as requests arrive."""

from __future__ import annotations

import asyncio
import http.client
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np

CHECK = "/imagewarden.v1.ModerationService/CheckImage"
PREDICT = "/tensorflow.serving.PredictionService/Predict"
_OPTIONS = [
    ("grpc.max_send_message_length", 128 * 2**20),
    ("grpc.max_receive_message_length", 128 * 2**20),
]
_CALL_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Load:
    """What callers saw.

    Attributes:
        seconds: of each request, in the order of the answers.
        wall: seconds from the first request to the last answer.
        answers: as they came, serialised.
    """

    seconds: tuple[float, ...]
    wall: float
    answers: tuple[bytes, ...]

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.seconds) / self.wall if self.wall else 0.0

    def percentile(self, share: float) -> float:
        """The time that this share of the requests took at most, in milliseconds."""
        return 1e3 * float(np.percentile(self.seconds, 100 * share)) if self.seconds else 0.0

    def record(self) -> dict[str, float]:
        """Its figures."""
        figures = {f"p{share:.0f}_ms": round(self.percentile(share / 100), 2) for share in (50.0, 95.0, 99.0)}
        return {"answers": len(self.seconds), "a_second": round(self.rate, 2), **figures}


@asynccontextmanager
async def _connected(address: str, method: str) -> AsyncIterator[Callable[..., Any]]:
    """What calls the method with serialised messages, once the connection stands."""
    async with grpc.aio.insecure_channel(address, options=_OPTIONS) as channel:
        await channel.channel_ready()
        yield channel.unary_unary(method)


def closed(address: str, method: str, requests: Sequence[bytes], callers: int, seconds: float) -> Load:
    """So many callers on one channel, until the requests are used up or the time is over.

    Raises:
        grpc.aio.AioRpcError: a call failed.
    """
    return asyncio.run(_closed(address, method, requests, callers, seconds))


async def _closed(address: str, method: str, requests: Sequence[bytes], callers: int, seconds: float) -> Load:
    left = iter(requests)
    took: list[float] = []
    answers: list[bytes] = []
    async with _connected(address, method) as call:
        begin = time.perf_counter()

        async def caller() -> None:
            for request in left:
                sent = time.perf_counter()
                if sent - begin > seconds:
                    return
                answers.append(await call(request, timeout=_CALL_SECONDS))
                took.append(time.perf_counter() - sent)

        await asyncio.gather(*(caller() for _ in range(callers)))
        wall = time.perf_counter() - begin
    return Load(tuple(took), wall, tuple(answers))


def arriving(address: str, method: str, requests: Sequence[bytes], rate: float, seed: int) -> Load:
    """Requests that arrive by themselves, so many a second (a Poisson process); each one's time is from its arrival.

    Raises:
        grpc.aio.AioRpcError: a call failed.
    """
    return asyncio.run(_arriving(address, method, requests, rate, seed))


async def _arriving(address: str, method: str, requests: Sequence[bytes], rate: float, seed: int) -> Load:
    arrivals = np.cumsum(np.random.default_rng(seed).exponential(1 / rate, len(requests)))
    took: list[float] = []
    answers: list[bytes] = []
    async with _connected(address, method) as call:
        begin = time.perf_counter()

        async def one(request: bytes, due: float) -> None:
            await asyncio.sleep(max(begin + due - time.perf_counter(), 0))
            answers.append(await call(request, timeout=_CALL_SECONDS))
            took.append(time.perf_counter() - begin - due)

        await asyncio.gather(*(one(request, due) for request, due in zip(requests, arrivals.tolist(), strict=True)))
        wall = time.perf_counter() - begin
    return Load(tuple(took), wall, tuple(answers))


def posted(port: int, bodies: Sequence[bytes], callers: int, seconds: float) -> Load:
    """So many callers that POST, each over a connection of its own.

    Raises:
        RuntimeError: a request was not answered well.
    """
    waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    for body in bodies:
        waiting.put(body)
    took: list[float] = []
    answers: list[bytes] = []
    failures: list[str] = []
    begin = time.perf_counter()

    def caller() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_CALL_SECONDS)
        while True:
            try:
                body = waiting.get_nowait()
            except queue.Empty:
                break
            sent = time.perf_counter()
            if sent - begin > seconds:
                break
            connection.request("POST", "/", body)
            response = connection.getresponse()
            data = response.read()
            took.append(time.perf_counter() - sent)
            answers.append(data)
            if response.status != http.HTTPStatus.OK:
                failures.append(f"{response.status} {data[:200]!r}")
                break
        connection.close()

    threads = [threading.Thread(target=caller) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise RuntimeError(f"the peer's server answered {failures[0]}")
    return Load(tuple(took), time.perf_counter() - begin, tuple(answers))
