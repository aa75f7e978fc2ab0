"""What is kept of checked pictures: their fingerprints, no more than there is room for, and for a day."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta
from typing import cast

import numpy as np
import pytest
from tests.unit.matching.things import NOW, bank

from imagewarden_server.catalog import SqlCatalog
from imagewarden_server.matching.directory import Scope
from imagewarden_server.matching.evidence import Found, Sighting
from imagewarden_server.matching.revisions import Follower
from imagewarden_server.matching.types import HashSignal, SignalType
from imagewarden_server.matching.walk import CheckRequest, Walk
from imagewarden_server.matching.window import KEPT_FOR, Window
from imagewarden_server.upkeep import expire

PDQ, EMBEDDING, LOCAL = SignalType.PDQ, SignalType.EMBEDDING, SignalType.LOCAL
PLENTY = 2**20


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


class NothingExpires:
    """A catalogue without entries whose time has passed."""

    def expire(self, now: datetime) -> int:
        del now
        return 0


def digest(number: int) -> bytes:
    return number.to_bytes(32, "big")


def walk(*stages: str, hashes: int = 8) -> Walk:
    made = Walk(CheckRequest(b"x", deadline=time.monotonic() + 5), Scope((bank(key=1), bank(key=2))))
    for stage in stages:
        with made.stage(stage):
            pass
    made.hashes = [bytes([number]) * 32 for number in range(hashes)]
    return made


def test_a_picture_is_kept_with_what_its_check_compared_and_measured() -> None:
    window, one = Window(PLENTY, Clock()), walk("vector_search", "local_search")
    one.whole = ("model", np.eye(4, dtype=np.float32)[:1])
    one.candidates.note(
        [Sighting(7, PDQ, Found(12.0)), Sighting(7, LOCAL, Found(3.5)), Sighting(9, EMBEDDING, Found(0.25))]
    )
    window.add(one, digest(1))
    (kept,) = window.pictures()
    assert (kept.sha256, kept.time, kept.banks, kept.model) == (digest(1), NOW, frozenset({1, 2}), "model")
    assert kept.ran == {PDQ, EMBEDDING, LOCAL}
    assert kept.hashes == tuple(one.hashes)
    assert kept.entries.tolist() == [7, 9]
    np.testing.assert_array_equal(kept.values, np.array([[12, np.nan, 3.5], [np.nan, 0.25, np.nan]], np.float32))


def test_a_check_that_ended_early_has_its_digest_alone() -> None:
    window = Window(PLENTY, Clock())
    window.add(walk(hashes=0), digest(1))
    (kept,) = window.pictures()
    assert (kept.ran, kept.hashes, kept.model, len(kept.entries)) == (frozenset(), (), "", 0)


def test_a_file_is_kept_once_and_the_newest_comes_first() -> None:
    clock = Clock()
    window = Window(PLENTY, clock)
    for number in (1, 2, 1):
        clock.now += timedelta(seconds=1)
        window.add(walk(), digest(number))
    assert [kept.sha256 for kept in window.pictures()] == [digest(1), digest(2)]
    assert window.pictures()[0].time == clock.now
    assert len(window) == 2


def test_a_check_that_had_no_look_keeps_what_the_one_before_had() -> None:
    """It was remembered, or the file is banned by its digest by now; another look takes the place of the first."""
    clock = Clock()
    window = Window(PLENTY, clock)
    window.add(walk(), digest(1))
    for stages in (("recall",), ()):
        clock.now += timedelta(seconds=1)
        window.add(walk(*stages, hashes=0), digest(1))
        (kept,) = window.pictures()
        assert (len(kept.hashes), kept.time) == (8, clock.now)
    window.add(walk(hashes=16), digest(1))
    assert len(window.pictures()[0].hashes) == 16
    assert window.nbytes == window.pictures()[0].nbytes


def test_weak_digests_are_kept_where_a_check_has_computed_them_and_stay() -> None:
    clock = Clock()
    window, plain = Window(PLENTY, clock), Window(PLENTY, clock)
    weak = (HashSignal(SignalType.SHA1, bytes(20)), HashSignal(SignalType.MD5, bytes(16)))
    for made in (window, plain):
        made.add(walk(), digest(1))
    assert window.pictures()[0].digests == (HashSignal(SignalType.SHA256, digest(1)),)
    one = walk(hashes=0)
    one.weak = weak
    window.add(one, digest(1))
    assert window.pictures()[0].digests[1:] == weak
    assert window.nbytes > plain.nbytes
    for hashes in (0, 8):  # decided at once, and looked at again where no bank had such hashes
        window.add(walk(hashes=hashes), digest(1))
        assert window.pictures()[0].weak == weak
        assert window.nbytes == window.pictures()[0].nbytes


def test_the_memory_is_bounded_and_counted() -> None:
    clock = Clock()
    one = Window(PLENTY, clock)
    one.add(walk(), digest(0))
    window = Window(10 * one.nbytes, clock)
    for number in range(100):
        window.add(walk(), digest(number))
        assert window.nbytes <= 10 * one.nbytes
    assert [kept.sha256 for kept in window.pictures()] == [digest(number) for number in range(99, 89, -1)]
    assert window.nbytes == sum(kept.nbytes for kept in window.pictures())


def test_a_picture_that_many_entries_are_near_to_is_bounded_too() -> None:
    window, one = Window(PLENTY, Clock()), walk()
    one.candidates.note([Sighting(key, PDQ, Found(1.0)) for key in range(5_000)])
    window.add(one, digest(1))
    assert len(window.pictures()[0].entries) == 256


def test_a_picture_is_forgotten_after_a_day() -> None:
    clock = Clock()
    window = Window(PLENTY, clock)
    window.add(walk(), digest(1))
    clock.now += KEPT_FOR - timedelta(seconds=1)
    window.add(walk(), digest(2))
    assert len(window.pictures()) == 2
    clock.now += timedelta(seconds=2)
    assert [kept.sha256 for kept in window.pictures()] == [digest(2)]
    clock.now += KEPT_FOR
    assert window.pictures() == []
    assert window.nbytes == 0


def test_a_server_that_nobody_asks_forgets_too() -> None:
    clock = Clock()
    window = Window(PLENTY, clock)
    window.add(walk(), digest(1))
    clock.now += KEPT_FOR + timedelta(seconds=1)
    assert len(window) == 1
    asyncio.run(expire(cast("SqlCatalog", NothingExpires()), cast("Follower", None), window))
    assert (len(window), window.nbytes) == (0, 0)


@pytest.mark.parametrize("room", [0, 10])
def test_without_room_nothing_is_kept(room: int) -> None:
    window = Window(room, Clock())
    window.add(walk(), digest(1))
    assert (window.pictures(), window.nbytes) == ([], 0)
