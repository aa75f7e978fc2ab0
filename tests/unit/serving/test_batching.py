"""How requests share runs: joined up to a size, and no queue kept waiting by another one that is always full."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from tensorflow.core.framework import types_pb2

from imagewarden_serving.host.batching import BatchScheduler
from imagewarden_serving.host.config import DEFAULT_BATCHING
from imagewarden_serving.host.handle import Handle
from imagewarden_serving.host.metrics import Metrics
from imagewarden_serving.host.servable import Signature, TensorSpec

SPEC = TensorSpec("x", types_pb2.DT_FLOAT, (-1, 2))


class Doubler:
    """Answers twice what it is given, once it may; remembers the output and the rows of each run."""

    name, version = "doubler", 1
    signatures: Mapping[str, Signature] = {
        "go": Signature("go", "tensorflow/serving/predict", {"x": SPEC}, {"small": SPEC, "large": SPEC})
    }

    def __init__(self) -> None:
        self.may_run = threading.Semaphore(0)
        self.runs: list[tuple[str, int]] = []

    def run(self, signature: str, outputs: Sequence[str], inputs: Mapping[str, Any]) -> dict[str, Any]:
        assert signature == "go"
        assert self.may_run.acquire(timeout=30)
        self.runs.append((outputs[0], len(inputs["x"])))
        return dict.fromkeys(outputs, inputs["x"] * 2)

    def close(self) -> None:
        """Nothing to give back."""


@pytest.fixture
def doubler() -> Doubler:
    return Doubler()


async def ask(scheduler: BatchScheduler, handle: Handle, output: str, value: float, rows: int = 1) -> Any:
    answer = await scheduler.run(handle, "go", (output,), {"x": np.full((rows, 2), value, np.float32)}, None)
    return answer[output]


async def test_requests_that_wait_are_joined_up_to_the_size(doubler: Doubler) -> None:
    scheduler, handle = BatchScheduler(DEFAULT_BATCHING, Metrics(), threads=1), Handle(doubler)
    asked = [asyncio.create_task(ask(scheduler, handle, "small", number)) for number in range(10)]
    await asyncio.sleep(0.05)
    doubler.may_run.release(10)
    assert [answer[0, 0] for answer in await asyncio.gather(*asked)] == [2.0 * number for number in range(10)]
    assert [rows for _, rows in doubler.runs] == [4, 4, 2]
    large = await ask(scheduler, handle, "small", 1, rows=9)
    assert large.shape == (9, 2)
    assert doubler.runs[-1] == ("small", 9), "a request that is too large runs as it is"
    await scheduler.close()


async def test_a_queue_that_is_always_full_does_not_starve_another(doubler: Doubler) -> None:
    scheduler, handle = BatchScheduler(DEFAULT_BATCHING, Metrics(), threads=1), Handle(doubler)
    many = [asyncio.create_task(ask(scheduler, handle, "large", number)) for number in range(16)]
    await asyncio.sleep(0.05)
    lone = asyncio.create_task(ask(scheduler, handle, "small", 1))
    await asyncio.sleep(0.05)
    more = [asyncio.create_task(ask(scheduler, handle, "large", number)) for number in range(16)]
    await asyncio.sleep(0.05)
    doubler.may_run.release(40)
    await asyncio.gather(lone, *many, *more)
    place = doubler.runs.index(("small", 1))
    assert place == 4, "it runs after those that came before it, and before those that came after"
    await scheduler.close()
