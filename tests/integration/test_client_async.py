"""The asyncio client against a real server of this process: what differs from the blocking one."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.rpc import code_pb2
from tests.support.fake_service import UNAVAILABLE, FakeService, fake_service, status

import imagewarden as iw
from imagewarden.v1 import bank_service_pb2 as banks_pb
from imagewarden.v1 import moderation_service_pb2 as pb
from imagewarden.v1 import types_pb2 as types

ALLOW = pb.CheckImageResponse(verdict=types.VERDICT_NO_MATCH, action=types.ACTION_ALLOW, revision="r1")


@pytest.fixture
def service() -> Iterator[FakeService]:
    with fake_service() as running:
        yield running


@pytest.fixture
async def client(service: FakeService) -> AsyncIterator[iw.AsyncClient]:
    retry = iw.RetryPolicy(attempts=3, initial_backoff=0.01, max_backoff=0.02)
    async with iw.AsyncClient(service.address, retry=retry) as made:
        yield made


async def test_checks_run_side_by_side(service: FakeService, client: iw.AsyncClient, tmp_path: Path) -> None:
    def slow(*_: Any) -> pb.CheckImageResponse:
        time.sleep(0.2)
        return ALLOW

    service.answer("CheckImage", slow)
    path = tmp_path / "picture"
    path.write_bytes(b"of a file")
    begin = time.monotonic()
    results = await asyncio.gather(client.check(b"a"), client.check(path, banks=["x"]), client.check(b"c"))
    assert time.monotonic() - begin < 0.5
    assert {result.action for result in results} == {iw.Action.ALLOW}
    assert sorted(call.image for call in service.calls["CheckImage"]) == [b"a", b"c", b"of a file"]


async def test_retries_and_errors_are_those_of_the_blocking_client(
    service: FakeService, client: iw.AsyncClient
) -> None:
    service.answer("CheckImage", UNAVAILABLE, UNAVAILABLE, ALLOW)
    assert (await client.check(b"a")).revision == "r1"
    service.answer("GetBank", status(code_pb2.NOT_FOUND, "no bank", "BANK_NOT_FOUND", bank="banks/x"))
    with pytest.raises(iw.NotFound) as caught:
        await client.get_bank("x")
    error = caught.value
    assert (error.reason, error.metadata, error.request_id) == ("BANK_NOT_FOUND", {"bank": "banks/x"}, "of-the-server")


async def test_the_timeout_holds(service: FakeService, client: iw.AsyncClient) -> None:
    release = threading.Event()
    service.answer("CheckImage", lambda *_: release.wait(5) and ALLOW)
    begin = time.monotonic()
    with pytest.raises(iw.TimeoutExceeded):
        await client.check(b"a", timeout=0.2)
    release.set()
    assert 0.15 < time.monotonic() - begin < 1.0


async def test_a_batch_and_a_list(service: FakeService, client: iw.AsyncClient, tmp_path: Path) -> None:
    service.answer(
        "BatchCheckImages",
        lambda request, _: pb.BatchCheckImagesResponse(
            results=[pb.BatchCheckImagesResult(response=ALLOW) for _ in request.requests]
        ),
    )
    path = tmp_path / "picture"
    path.write_bytes(b"of a file")
    found = await client.check_batch([b"a", path, bytes(iw.MAX_MESSAGE_BYTES)])
    assert [type(one) for one in found] == [iw.CheckResult, iw.CheckResult, iw.InvalidRequest]

    def page(request: banks_pb.ListEntriesRequest, _: Any) -> banks_pb.ListEntriesResponse:
        last = bool(request.page_token)
        name = f"banks/x/entries/{2 if last else 1}"
        return banks_pb.ListEntriesResponse(
            entries=[types.Entry(name=name, state=types.ENTRY_STATE_ACTIVE)], next_page_token="" if last else "second"
        )

    service.answer("ListEntries", page)
    assert [entry.name async for entry in client.list_entries("x")] == ["banks/x/entries/1", "banks/x/entries/2"]


def _answer_each(requests: Iterator[pb.StreamCheckImagesRequest], _: Any) -> Iterator[pb.StreamCheckImagesResponse]:
    for one in requests:
        yield pb.StreamCheckImagesResponse(correlation_id=one.correlation_id, response=ALLOW)


async def test_a_stream_takes_pairs_of_either_kind(service: FakeService, client: iw.AsyncClient) -> None:
    async def pairs() -> AsyncIterator[tuple[str, bytes]]:
        for number in range(3):
            await asyncio.sleep(0)
            yield str(number), b"a"

    service.answer("StreamCheckImages", _answer_each)
    assert [key async for key, _ in client.check_stream(pairs())] == ["0", "1", "2"]
    plain = [("a", b"a"), ("large", bytes(iw.MAX_MESSAGE_BYTES)), ("b", b"b")]
    found = {key: type(value) async for key, value in client.check_stream(plain)}
    assert found == {"a": iw.CheckResult, "large": iw.InvalidRequest, "b": iw.CheckResult}


async def test_what_the_callers_iterator_raises_is_raised_after_the_answers(
    service: FakeService, client: iw.AsyncClient, tmp_path: Path
) -> None:
    service.answer("StreamCheckImages", _answer_each)
    answers = client.check_stream([("1", b"a"), ("2", tmp_path / "missing.jpg")])
    assert (await anext(answers))[0] == "1"
    with pytest.raises(FileNotFoundError):
        await anext(answers)


async def test_a_cancelled_check_is_cancelled(service: FakeService, client: iw.AsyncClient) -> None:
    release = threading.Event()
    service.answer("CheckImage", lambda *_: release.wait(5) and ALLOW)
    task = asyncio.create_task(client.check(b"a"))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    release.set()


async def test_a_closed_client_says_so(service: FakeService) -> None:
    client = iw.AsyncClient(service.address)
    await client.close()
    with pytest.raises(ValueError, match="closed"):
        await client.check(b"a")


def test_a_client_may_be_made_before_there_is_a_loop(service: FakeService) -> None:
    service.answer("CheckImage", ALLOW)
    client = iw.AsyncClient(service.address)

    async def use() -> iw.CheckResult:
        async with client:
            return await client.check(b"a")

    assert asyncio.run(use()).revision == "r1"
