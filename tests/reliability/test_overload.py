"""Four times as many pictures as a server can look at: what it takes on keeps its time, the rest is refused at once."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from tests.support.api import MATCH, NO_MATCH, OPTIONS, UNDECIDED, Api
from tests.support.http import metrics, value
from tests.support.memory import most_resident
from tests.support.pictures import cropped, encoded, opened
from tests.support.processes import Host, Server, start_server

from imagewarden.v1.moderation_service_pb2 import CheckImageRequest, CheckImageResponse
from imagewarden.v1.moderation_service_pb2_grpc import ModerationServiceStub
from imagewarden_server import machine
from imagewarden_server.settings import Settings

CALL_SECONDS = 10.0
CALLERS = machine.cores() + 2
WAIT_SECONDS = Settings.model_fields["max_wait_seconds"].default
MIB = 2**20


@dataclass
class Seen:
    """What became of the calls, by what the caller saw; seconds each."""

    accepted: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)
    verdicts: Counter[int] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)


def part(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def refusal(error: grpc.aio.AioRpcError) -> float | None:
    """After how many seconds a caller that was refused for overload should come back; None: it was not."""
    call: Any = error
    status: Any = rpc_status.from_call(call)
    if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED or status is None:
        return None
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    unpacked = [any(detail.Unpack(one) for detail in status.details) for one in (info, retry)]
    return retry.retry_delay.ToMicroseconds() / 1e6 if all(unpacked) and info.reason == "OVERLOADED" else None


class Load:
    """Callers of one server."""

    def __init__(self, stub: Any, pictures: Sequence[bytes]) -> None:
        self._stub = stub
        self._pictures = pictures
        self._numbers = itertools.count()

    def new(self) -> bytes:
        """A picture that no check has seen: what follows a file's end is no part of what it shows."""
        number = next(self._numbers)
        return self._pictures[number % len(self._pictures)] + number.to_bytes(8, "big")

    async def check(self, picture: bytes, seen: Seen) -> None:
        begin = time.perf_counter()
        try:
            answer: CheckImageResponse = await self._stub.CheckImage(
                CheckImageRequest(image=picture), timeout=CALL_SECONDS
            )
        except grpc.aio.AioRpcError as error:
            took = time.perf_counter() - begin
            if (delay := refusal(error)) is None:
                seen.others[f"{error.code().name}: {error.details()}"] += 1
            else:
                seen.refused.append(took)
                seen.delays.append(delay)
        else:
            seen.accepted.append(time.perf_counter() - begin)
            seen.verdicts[answer.verdict] += 1

    async def closed(self, seconds: float) -> tuple[float, Seen]:
        """As many callers as keep the machine busy, one call after the other: how many a second, and what they saw."""
        seen, begin = Seen(), time.perf_counter()

        async def caller() -> None:
            while time.perf_counter() - begin < seconds:
                await self.check(self.new(), seen)

        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        return len(seen.accepted) / (time.perf_counter() - begin), seen

    async def arriving(self, rate: float, seconds: float, known: bytes | None = None) -> Seen:
        """Pictures that arrive by themselves, so many a second; `known`: the same one each time."""
        chance, seen, running = random.Random(7), Seen(), set[asyncio.Task[None]]()  # noqa: S311 -- the same each time
        begin = due = time.perf_counter()
        while (due := due + chance.expovariate(rate)) < begin + seconds:
            await asyncio.sleep(max(due - time.perf_counter(), 0))
            task = asyncio.create_task(self.check(self.new() if known is None else known, seen))
            running.add(task)
            task.add_done_callback(running.discard)
        if running:
            await asyncio.wait(running)
        return seen


@pytest.fixture
def pictures(photographs: dict[str, bytes], more_photographs: list[bytes]) -> list[bytes]:
    """Pictures of many sizes and three formats, none of them of the banned one."""
    kept = [opened(data) for data in [*photographs.values(), *more_photographs][1:]]
    made = []
    for number, picture in enumerate(kept):
        for share in (1.0, 0.8, 0.6):
            crop = cropped(picture, share)
            made.append(encoded(crop, ("JPEG", "PNG", "WEBP")[number % 3]))
        made.append(encoded(picture.resize((2_400, 1_600))))
        made.append(encoded(picture.resize((320, 240))))
    random.Random(3).shuffle(made)  # noqa: S311 -- the same each time
    return made


@pytest.fixture
def overloaded(host: Host, tmp_path: Path) -> Iterator[Server]:
    """A server that embeds every picture anew, as if none had been seen."""
    environment = {"IMAGEWARDEN_EMBEDDING_CACHE_BYTES": "0"}
    with start_server(tmp_path / "state", host.address, tmp_path, environment) as running:
        yield running


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_four_times_what_a_server_can_do(
    overloaded: Server,
    pictures: list[bytes],
    photographs: dict[str, bytes],
    overload_seconds: float,
    tally: Counter[str],
) -> None:
    banned = next(iter(photographs.values()))
    with Api(overloaded.address) as api:
        api.add_image(api.create_bank("abuse"), banned)
    asyncio.run(overload(overloaded, pictures, banned, overload_seconds, tally))


async def overload(server: Server, pictures: list[bytes], banned: bytes, seconds: float, tally: Counter[str]) -> None:
    async with grpc.aio.insecure_channel(server.address, options=OPTIONS) as channel:
        stub: Any = ModerationServiceStub(channel)
        load = Load(stub, pictures)
        await load.closed(min(seconds, 10.0) / 2)
        rate, before = await load.closed(min(max(seconds / 2, 5.0), 20.0))
        assert not before.refused
        assert not before.others
        memory_before = most_resident(server.pid)
        new, known = await asyncio.gather(load.arriving(4 * rate, seconds), load.arriving(5.0, seconds, known=banned))
        memory = most_resident(server.pid)
        health: Any = health_pb2_grpc.HealthStub(channel)
        said = await health.Check(health_pb2.HealthCheckRequest(service="imagewarden.v1.ModerationService"), timeout=5)
        rate_after, after = await load.closed(min(max(seconds / 2, 5.0), 20.0))
    tally["overload: new pictures a second that the server can look at, hundredths"] = round(rate * 100)
    tally["overload: seconds of four times as many"] = round(seconds)
    tally["overload: looked at"] = len(new.accepted)
    tally["overload: refused"] = len(new.refused)
    tally["overload: p99 of those looked at before, ms"] = round(part(before.accepted, 0.99) * 1e3)
    tally["overload: p99 of those looked at meanwhile, ms"] = round(part(new.accepted, 0.99) * 1e3)
    tally["overload: p99 of refusals, ms"] = round(part(new.refused, 0.99) * 1e3)
    tally["overload: p99 of a banned file's checks meanwhile, ms"] = round(part(known.accepted, 0.99) * 1e3)
    tally["overload: memory of the server at most, MiB"] = memory // MIB
    tally["overload: new pictures a second at once after it, hundredths"] = round(rate_after * 100)
    assert server.process.poll() is None
    assert said.status == health_pb2.HealthCheckResponse.SERVING
    assert not new.others, "what is refused is refused for overload, and says when to come back"
    assert set(new.verdicts) == {NO_MATCH}, "what is taken on is decided"
    assert len(new.refused) > len(new.accepted)
    assert all(0.1 <= delay < 60 for delay in new.delays)
    assert len(new.accepted) > 0.6 * rate * seconds, "and as many are taken on as before"
    assert part(new.accepted, 0.99) < 2 * WAIT_SECONDS
    assert part(new.refused, 0.5) < 0.25
    assert part(new.refused, 0.99) < 1.5
    assert not known.refused, "a banned file takes no look, and nobody's place"
    assert not known.others
    assert set(known.verdicts) == {MATCH}
    assert UNDECIDED not in after.verdicts
    assert part(known.accepted, 0.99) < 1.5
    assert memory - memory_before < 512 * MIB
    assert rate_after > 0.7 * rate, "full speed at once after it"
    assert not after.others
    counted = metrics(server)
    assert value(counted, "imagewarden_overload_refusals_total", why="wait") == len(new.refused) + len(after.refused)
    for how in ("crashed", "killed", "nonsense"):
        assert value(counted, "imagewarden_decoder_processes_ended_total", how=how) == 0
