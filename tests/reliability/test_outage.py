"""The model host killed, hanging, late, and talking nonsense: what checks say meanwhile, and that all is well again.

What each signal says while it is dead is in tests/integration/test_model_outage.py.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from tests.support.api import EMBEDDING, LOCAL, MATCH, NO_MATCH, PDQ, SHA256, UNDECIDED, Api, without
from tests.support.http import metrics, value
from tests.support.odd_host import HOWS, OddHost, launch_odd_host
from tests.support.pictures import cropped, encoded, opened
from tests.support.processes import Host, Server, start_host, start_mortal_host, start_server
from tests.support.waiting import eventually

from imagewarden.v1 import types_pb2 as types
from imagewarden.v1.moderation_service_pb2 import CheckImageResponse

pytestmark = [pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(300)]

BANNED, OTHER = "dust-bowl-home", "acanthus-mollis"
SECONDS = 3.0
"""What a check has, in which a host that says nothing is found out."""
UNAVAILABLE = {types.UNDECIDED_CODE_EMBEDDING_UNAVAILABLE, types.UNDECIDED_CODE_DEADLINE}


class Bench:
    """A server with one banned picture that PDQ and the embedding know, and pictures that no check has seen yet."""

    def __init__(self, server: Server, api: Api, photographs: dict[str, bytes], tally: Counter[str]) -> None:
        self._server, self._api, self._tally = server, api, tally
        self._banned, self._other = photographs[BANNED], opened(photographs[OTHER])
        self._numbers = itertools.count()
        self.bank = api.create_bank("abuse", policy=without(LOCAL, types.SIGNAL_TYPE_COMBINED))
        api.add_image(self.bank, self._banned)

    def crop(self) -> bytes:
        """A part of the banned picture, which PDQ alone does not know; another one each time."""
        return self._part(opened(self._banned), 0.7)

    def unknown(self) -> bytes:
        """A part of another picture."""
        return self._part(self._other, 0.9)

    def _part(self, picture: Image.Image, share: float) -> bytes:
        number = next(self._numbers)
        return encoded(cropped(picture, share - 0.0007 * number), quality=95 - number % 40)

    def check(self, picture: bytes, seconds: float = SECONDS) -> CheckImageResponse:
        return self._api.check(picture, timeout=seconds)

    def holds(self) -> None:
        """What must hold while the model says nothing that can be used."""
        known = self.check(self._banned)
        assert (known.verdict, known.matches[0].signal) == (MATCH, SHA256)
        turned = encoded(opened(self._banned).rotate(90, expand=True), quality=90 - next(self._numbers) % 40)
        found = self.check(turned)
        assert (found.verdict, found.matches[0].signal) == (MATCH, PDQ)
        for picture in (self.crop(), self.unknown()):
            answer = self.check(picture)
            assert answer.verdict == UNDECIDED, "never NO_MATCH"
            assert {one.code for one in answer.undecided_reasons} <= UNAVAILABLE
            assert answer.action == types.ACTION_REVIEW
        self._tally["checks without a model that held"] += 4

    def left_alone(self, seconds: float) -> None:
        """Check until the host is left alone."""
        deadline = time.monotonic() + seconds
        while not self.breaker_open:
            assert time.monotonic() < deadline, "it is asked again and again"
            self.holds()

    def is_well(self) -> bool:
        """Whether the model decides: for and against."""
        found, other = self.check(self.crop(), 30), self.check(self.unknown(), 30)
        assert other.verdict != MATCH
        return (
            found.verdict == MATCH
            and found.matches[0].signal == EMBEDDING
            and other.verdict == NO_MATCH
            and not self.breaker_open
        )

    @property
    def breaker_open(self) -> bool:
        return value(metrics(self._server), "imagewarden_model_breaker_open") == 1


@pytest.fixture(scope="module")
def odd(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OddHost]:
    """A host that answers oddly, before the real one."""
    running = launch_odd_host(host.address, tmp_path_factory.mktemp("odd"))
    yield running
    running.kill()


@pytest.mark.parametrize("how", HOWS)
def test_a_host_that_answers_oddly(
    how: str, odd: OddHost, photographs: dict[str, bytes], tmp_path: Path, tally: Counter[str]
) -> None:
    odd.answer("")
    with start_server(tmp_path / "state", odd.address, tmp_path) as server, Api(server.address) as api:
        bench = Bench(server, api, photographs, tally)
        assert bench.is_well()
        odd.answer(how)
        for _ in range(3):
            bench.holds()
        bench.left_alone(30)
        bench.holds()
        odd.answer("")
        assert eventually(bench.is_well), "all is well again, without a restart"
    tally["outages recovered from"] += 1


def test_a_host_that_hangs_is_left_alone_then_tried_by_one_and_used_again(
    model_base: Path, photographs: dict[str, bytes], tmp_path: Path, tally: Counter[str]
) -> None:
    with (
        start_host(model_base, tmp_path) as hanging,
        start_server(tmp_path / "state", hanging.address, tmp_path) as server,
        Api(server.address) as api,
    ):
        bench = Bench(server, api, photographs, tally)
        assert bench.is_well()
        hanging.process.send_signal(signal.SIGSTOP)
        try:
            bench.left_alone(60)
            begin = time.monotonic()
            bench.holds()
            assert time.monotonic() - begin < SECONDS, "no check waits for it"
            time.sleep(5.5)
            pictures = [bench.unknown() for _ in range(6)]

            def timed(picture: bytes) -> float:
                begin = time.monotonic()
                assert bench.check(picture).verdict == UNDECIDED
                return time.monotonic() - begin

            with concurrent.futures.ThreadPoolExecutor(len(pictures)) as callers:
                took = sorted(callers.map(timed, pictures))
            assert took[-1] > 2.0, "one tried it"
            assert took[-2] < 2.0, "and one alone"
        finally:
            hanging.process.send_signal(signal.SIGCONT)
        assert eventually(bench.is_well), "all is well again, without a restart"
    tally["outages recovered from"] += 1


def test_a_host_that_is_killed_and_started_again(
    model_base: Path, photographs: dict[str, bytes], tmp_path: Path, tally: Counter[str]
) -> None:
    with (
        start_mortal_host(model_base, tmp_path) as host,
        start_server(tmp_path / "state", host.address, tmp_path) as server,
        Api(server.address) as api,
    ):
        bench = Bench(server, api, photographs, tally)
        assert bench.is_well()
        host.kill()
        for _ in range(3):
            bench.holds()
        bench.left_alone(30)
        bench.holds()
        host.start_again()
        assert eventually(bench.is_well), "all is well again, without a restart"
    tally["model hosts killed"] += 1
    tally["outages recovered from"] += 1
