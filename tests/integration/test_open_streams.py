"""Streams that stay open: what they hold while nothing comes, and what becomes of them where there is no room."""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import queue
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.api import Api
from tests.support.http import metrics, value
from tests.support.memory import resident
from tests.support.processes import Server, start_server

import imagewarden as iw
from imagewarden.v1 import bank_service_pb2 as banks_pb
from imagewarden.v1 import moderation_service_pb2 as pb

MIB = 2**20
LARGE = 80 * MIB

needs_proc = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read of /proc")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    scratch = tmp_path_factory.mktemp("streams")
    with start_server(scratch / "state", f"unix:{scratch}/nobody.sock", scratch) as running:
        yield running


@contextlib.contextmanager
def opened(begin: Any) -> Iterator[tuple[queue.SimpleQueue[Any], Any]]:
    """A stream that stays open: what is put is sent, and its answers."""
    outbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    answers = begin(iter(outbox.get, None), timeout=120)
    yield outbox, answers
    outbox.put(None)
    answers.cancel()


def settled(server: Server) -> float:
    """The bytes of the room, once what was answered a moment ago is let go of."""
    deadline = time.monotonic() + 5
    while (held := value(metrics(server), "imagewarden_request_bytes")) and time.monotonic() < deadline:
        time.sleep(0.05)
    return held


# Six messages are six times LARGE. What gRPC took a message in by, in small pieces, stays with the allocator at times.
LIMIT = 4 * LARGE


def held_by(server: Server, begin: Any, message: Any) -> int:
    """Bytes that a server holds more for six streams that had a message each, and wait; the least of some seconds."""
    with contextlib.ExitStack() as stack:
        for count in range(7):
            outbox, answers = stack.enter_context(opened(begin))
            outbox.put(message)
            next(answers)
            if not count:  # one goes before: what is loaded once is no stream's
                time.sleep(0.5)
                before = resident(server.pid)
        assert settled(server) == 0
        least = resident(server.pid)
        for _ in range(20):  # the allocator gives back what is free in its own time
            time.sleep(0.5)
            least = min(least, resident(server.pid))
            if least - before < LARGE:
                break
        return least - before


@needs_proc
@pytest.mark.parametrize("image", [bytes(LARGE), b""], ids=["a picture", "what no field is of"])
def test_streams_of_pictures_that_wait_hold_no_picture(server: Server, image: bytes) -> None:
    message = pb.StreamCheckImagesRequest(correlation_id="1", request=pb.CheckImageRequest(image=image))
    if not image:
        message.MergeFromString(b"\xc2\x3e\x80\x80\x80\x28" + bytes(LARGE))
        assert message.ByteSize() > LARGE
    with Api(server.address) as api:
        assert held_by(server, api.moderation.StreamCheckImages, message) < LIMIT


@needs_proc
def test_imports_that_wait_hold_no_record(server: Server) -> None:
    with Api(server.address) as api:
        bank = api.create_bank("lists")
        record = banks_pb.EntryRecord(number=1, image=bytes(LARGE), external_id="large")
        record.hashes.add(type=1, value=hashlib.sha256(b"large").digest())
        message = banks_pb.ImportEntriesRequest(bank=bank, records=[record])
        assert held_by(server, api.banks.ImportEntries, message) < LIMIT


@pytest.fixture
def narrow(tmp_path: Path) -> Iterator[Server]:
    """A server that has room for little."""
    environment = {"IMAGEWARDEN_MAX_REQUEST_BYTES": str(8 * MIB)}
    with start_server(tmp_path / "state", f"unix:{tmp_path}/nobody.sock", tmp_path, environment) as running:
        yield running


def test_an_import_that_finds_no_room_is_ended_and_goes_on(narrow: Server) -> None:
    with iw.Client(narrow.address) as client:
        client.create_bank("lists", iw.BankKind.BANNED)

    def record(name: str) -> iw.EntryRecord:
        digest = hashlib.sha256(name.encode()).digest()
        return iw.EntryRecord(hashes=(iw.RecordHash(iw.SignalType.SHA256, digest),), image=bytes(3 * MIB))

    def bring_in(caller: int) -> list[iw.ResourceExhausted]:
        """The refusals until all was in."""
        left = [(number, record(f"{caller} {number}")) for number in range(1, 9)]
        refusals: list[iw.ResourceExhausted] = []
        with iw.Client(narrow.address) as client:
            while left:
                try:
                    for answer in client.import_entries("lists", left):
                        assert not answer.refused
                        left = [one for one in left if one[0] > answer.number]
                except iw.ResourceExhausted as error:
                    refusals.append(error)
                    time.sleep(0.01)
        return refusals

    with concurrent.futures.ThreadPoolExecutor(8) as callers:
        refusals = [one for each in callers.map(bring_in, range(8)) for one in each]
    assert {(one.reason, one.retry_after) for one in refusals} == {("OVERLOADED", 1.0)}, "three messages do not fit"
    with iw.Client(narrow.address) as client:
        assert client.get_bank("lists").entry_count == 64
    samples = metrics(narrow)
    assert value(samples, "imagewarden_overload_refusals_total", why="bytes") == len(refusals)
    assert settled(narrow) == 0


def test_a_picture_of_a_stream_that_finds_no_room_is_refused_alone(narrow: Server) -> None:
    def check(caller: int) -> list[iw.CheckResult | iw.ImageWardenError]:
        with iw.Client(narrow.address) as client:
            pictures = ((f"{caller} {number}", bytes(3 * MIB) + bytes([number])) for number in range(16))
            return [found for _, found in client.check_stream(pictures)]

    with concurrent.futures.ThreadPoolExecutor(4) as callers:
        found = [one for each in callers.map(check, range(4)) for one in each]
    refused = [one for one in found if isinstance(one, iw.ImageWardenError)]
    assert len(found) == 64
    assert 0 < len(refused) < 64
    assert {(one.reason, one.retry_after) for one in refused} == {("OVERLOADED", 1.0)}
    assert settled(narrow) == 0
