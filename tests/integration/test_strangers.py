"""Callers without a key: refused before their message is read, and few of the calls that need none."""

from __future__ import annotations

import concurrent.futures
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.support.api import OPTIONS, Api
from tests.support.errors import fails
from tests.support.http import metrics, value
from tests.support.memory import forget_most, most_resident, resident
from tests.support.processes import Server, start_server

from imagewarden.v1.moderation_service_pb2 import CheckImageRequest
from imagewarden_server.access import NewKey, Role, new_key
from imagewarden_server.catalog import SqlCatalog
from imagewarden_server.interceptors.admission import MOST_OPEN_OF_ONE
from imagewarden_server.matching.visible import Banks

MIB = 2**20
LARGE = 80 * MIB

needs_proc = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read of /proc")


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str]]:
    """A server that asks for keys, and a good one."""
    scratch = tmp_path_factory.mktemp("strangers")
    state = scratch / "state"
    state.mkdir()
    id_, text, digest = new_key()
    catalog = SqlCatalog.open(state / "catalog.sqlite3")
    catalog.keys.add_key(id_, NewKey("a test", Role.ADMIN, Banks(("*",))), digest)
    catalog.close()
    environment = {"IMAGEWARDEN_REQUIRE_KEYS": "true"}
    with start_server(state, f"unix:{scratch}/nobody.sock", scratch, environment) as running:
        yield running, text


def check(server: Server, data: bytes, *metadata: tuple[str, str]) -> Any:
    with Api(server.address) as api:
        return api.moderation.CheckImage(CheckImageRequest(image=data), timeout=60, metadata=metadata)


@needs_proc
@pytest.mark.parametrize("shown", [(), (("authorization", "Bearer iw_no_key"),)], ids=["no key", "a wrong key"])
def test_a_strangers_large_message_is_never_received(
    asking: tuple[Server, str], shown: tuple[tuple[str, str], ...]
) -> None:
    server, key = asking
    check(server, b"so that all is loaded", ("authorization", f"Bearer {key}"))
    forget_most(server.pid)
    before = most_resident(server.pid)
    for _ in range(3):
        with fails() as failure:
            check(server, bytes(LARGE), *shown)
        assert (failure.code, failure.reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
    assert most_resident(server.pid) - before < LARGE / 4
    # The measure measures: from a caller that is known it is received, and held.
    answer = check(server, bytes(LARGE), ("authorization", f"Bearer {key}"))
    assert answer.image.sha256
    assert most_resident(server.pid) - before > LARGE


@needs_proc
def test_many_strangers_at_once_are_refused_and_take_no_memory(asking: tuple[Server, str]) -> None:
    server, key = asking
    check(server, b"so that all is loaded", ("authorization", f"Bearer {key}"))
    forget_most(server.pid)
    before = most_resident(server.pid)
    data = CheckImageRequest(image=bytes(LARGE))

    def call(_: int) -> grpc.StatusCode:
        with Api(server.address) as api, pytest.raises(grpc.RpcError) as caught:
            api.moderation.CheckImage(data, timeout=60)
        error: Any = caught.value
        code: grpc.StatusCode = error.code()
        return code

    with concurrent.futures.ThreadPoolExecutor(8) as strangers:
        codes = list(strangers.map(call, range(24)))
    assert set(codes) == {grpc.StatusCode.UNAUTHENTICATED}
    assert most_resident(server.pid) - before < 3 * LARGE, "of twenty-four times as much"
    assert check(server, b"known", ("authorization", f"Bearer {key}")).image.sha256


@needs_proc
def test_large_messages_to_what_needs_no_key_take_the_memory_of_few(asking: tuple[Server, str]) -> None:
    server, _ = asking
    data = health_pb2.HealthCheckRequest(service="x" * LARGE).SerializeToString()
    forget_most(server.pid)
    before = resident(server.pid)

    def call(_: int) -> str:
        with grpc.insecure_channel(server.address, options=OPTIONS) as channel:
            checking: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
            with pytest.raises(grpc.RpcError) as caught:
                checking(data, timeout=60)
            error: Any = caught.value
            return str(error.code().name)

    with concurrent.futures.ThreadPoolExecutor(16) as strangers:
        codes = set(strangers.map(call, range(16)))
    assert codes <= {"INVALID_ARGUMENT", "DEADLINE_EXCEEDED"}, codes
    # One that is read is there three times over for a moment; two are read at once, and the allocator keeps some.
    assert most_resident(server.pid) - before < 16 * LARGE, "less than if each were held once"
    with grpc.insecure_channel(server.address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        assert stub.Check(health_pb2.HealthCheckRequest(), timeout=10).status == health_pb2.HealthCheckResponse.SERVING


def test_one_machine_has_a_share_of_the_calls_that_need_no_key(asking: tuple[Server, str]) -> None:
    server, key = asking
    request = health_pb2.HealthCheckRequest()
    with grpc.insecure_channel(server.address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watching = [stub.Watch(request, timeout=60) for _ in range(MOST_OPEN_OF_ONE)]
        for one in watching:
            next(one)
        with fails() as failure:
            next(stub.Watch(request, timeout=60))
        assert (failure.code, failure.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
        assert failure.retry_seconds == 1
        assert value(metrics(server), "imagewarden_overload_refusals_total", why="calls") >= 1
        assert check(server, b"known", ("authorization", f"Bearer {key}")).image.sha256, "checks have their own places"
        for one in watching:
            one.cancel()
        deadline = time.monotonic() + 10
        while True:
            try:
                assert next(stub.Watch(request, timeout=10)).status == health_pb2.HealthCheckResponse.SERVING
            except grpc.RpcError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            else:
                break


def test_bytes_that_are_no_message_are_the_callers_mistake(asking: tuple[Server, str]) -> None:
    server, key = asking
    with grpc.insecure_channel(server.address) as channel:
        call: Any = channel.unary_unary("/imagewarden.v1.ModerationService/CheckImage")
        with fails() as failure:
            call(b"\xff\xff\xff", timeout=10, metadata=(("authorization", f"Bearer {key}"),))
        assert (failure.code, failure.metadata) == (grpc.StatusCode.INVALID_ARGUMENT, {"field": "request"})
        nothing: Any = channel.stream_unary("/imagewarden.v1.ModerationService/CheckImage")
        with fails() as failure:
            nothing(iter([]), timeout=10, metadata=(("authorization", f"Bearer {key}"),))
        assert "is missing" in failure.message


def test_bans_take_turns_with_checks(tmp_path: Path, photographs: dict[str, bytes]) -> None:
    """More at once than are looked at whatever they take, each of which may take a millisecond."""
    environment = {"IMAGEWARDEN_MAX_WAIT_SECONDS": "0.001"}
    picture = photographs["dust-bowl-home"]
    with start_server(tmp_path / "state", f"unix:{tmp_path}/nobody.sock", tmp_path, environment) as running:
        with Api(running.address) as api:
            bank = api.create_bank("abuse")
        refused: list[int | None] = []
        others: set[str] = set()

        def call(number: int) -> None:
            with Api(running.address) as api, fails() as failure:
                api.add_image(bank, picture + number.to_bytes(8, "big"))
            if failure.reason == "OVERLOADED":
                assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED
                refused.append(failure.retry_seconds)
            else:
                others.add(failure.reason)

        with concurrent.futures.ThreadPoolExecutor(24) as callers:
            list(callers.map(call, range(48)))
        assert others == {"EMBEDDING_UNAVAILABLE"}, "there is no model, and so nothing can be added"
        assert refused
        assert None not in refused, "each is told when to come back"
        samples = metrics(running)
        assert value(samples, "imagewarden_overload_refusals_total", why="wait") == len(refused)
        assert value(samples, "imagewarden_looks_running") == 0


def test_requests_that_hold_more_bytes_than_there_is_room_for_are_refused(tmp_path: Path) -> None:
    environment = {"IMAGEWARDEN_MAX_REQUEST_BYTES": str(20 * MIB)}
    with start_server(tmp_path / "state", f"unix:{tmp_path}/nobody.sock", tmp_path, environment) as running:
        data = CheckImageRequest(image=bytes(19 * MIB))
        codes: list[str] = []

        def call(_: int) -> None:
            try:
                with Api(running.address) as api:
                    api.moderation.CheckImage(data, timeout=60)
            except grpc.RpcError as error:
                said: Any = error
                codes.append(said.code().name)
            else:
                codes.append("OK")

        with concurrent.futures.ThreadPoolExecutor(8) as callers:
            list(callers.map(call, range(32)))
        assert set(codes) == {"OK", "RESOURCE_EXHAUSTED"}, "one of that size fits, and no second one"
        samples = metrics(running)
        assert value(samples, "imagewarden_overload_refusals_total", why="bytes") == codes.count("RESOURCE_EXHAUSTED")
        assert value(samples, "imagewarden_request_bytes") == 0
