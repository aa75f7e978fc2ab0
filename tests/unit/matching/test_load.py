"""What is taken on at once: bytes, and pictures by how long one more would take."""

from __future__ import annotations

import contextlib

import pytest

from imagewarden_server.matching.errors import Overloaded
from imagewarden_server.matching.load import Room, Turns


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Counts:
    def __init__(self) -> None:
        self.refusals: list[str] = []

    def refused(self, why: str) -> None:
        self.refusals.append(why)


def test_bytes_are_held_until_they_are_given_back() -> None:
    counts = Counts()
    room = Room(100, counts)
    with room.hold(60):
        room.take(40)
        for more in (0, 1):
            with pytest.raises(Overloaded, match="holds 100 bytes of requests, and takes 100"):
                room.take(more)
        room.give_back(40)
        room.take(39)
        room.give_back(39)
    assert (room.held, counts.refusals) == (0, ["bytes", "bytes"])


def test_a_request_that_is_larger_than_all_has_the_room_for_itself() -> None:
    room = Room(100)
    with room.hold(500), pytest.raises(Overloaded):
        room.take(1)
    assert room.held == 0


def looks(turns: Turns, clock: Clock, number: int, each: float, always: int) -> None:
    """Some looks one after the other, while others keep the machine busy."""
    with contextlib.ExitStack() as others:
        for _ in range(always - 1):
            others.enter_context(turns.turn(clock.now + 1_000))
        for _ in range(number):
            with turns.turn(clock.now + 1_000):
                clock.now += each


def test_a_picture_that_would_wait_too_long_is_refused_and_told_when_to_come_back() -> None:
    clock, counts = Clock(), Counts()
    turns = Turns(3.0, 4, counts, clock=clock, chance=lambda: 0.5)
    looks(turns, clock, 100, 0.25, 4)
    with contextlib.ExitStack() as running:
        while turns.running < 12:
            running.enter_context(turns.turn(clock.now + 10))
        assert turns.wait == pytest.approx(13 * 0.25, rel=0.01)
        with pytest.raises(Overloaded, match="12 pictures are looked at") as caught, turns.turn(clock.now + 10):
            pass
        assert caught.value.retry_after == pytest.approx(turns.wait)
        assert turns.running == 12
    assert (turns.running, counts.refusals) == (0, ["wait"])


def test_whoever_has_less_time_is_refused_earlier() -> None:
    clock = Clock()
    turns = Turns(3.0, 2, clock=clock)
    looks(turns, clock, 100, 0.25, 2)
    with contextlib.ExitStack() as running:
        for _ in range(5):
            running.enter_context(turns.turn(clock.now + 10))
        with pytest.raises(Overloaded), turns.turn(clock.now + 1):
            pass
        with turns.turn(clock.now + 2):
            pass


def test_as_many_as_keep_the_machine_busy_are_never_refused() -> None:
    clock = Clock()
    turns = Turns(3.0, 4, clock=clock)
    looks(turns, clock, 100, 60.0, 4)
    with contextlib.ExitStack() as running:
        for _ in range(4):
            running.enter_context(turns.turn(clock.now + 0.001))
        with pytest.raises(Overloaded), turns.turn(clock.now + 600):
            pass


def test_looks_that_are_slower_than_those_before_are_seen_by_how_long_they_have_been() -> None:
    clock = Clock()
    turns = Turns(3.0, 4, clock=clock)
    looks(turns, clock, 150, 0.01, 4)
    with contextlib.ExitStack() as running:
        for _ in range(10):
            running.enter_context(turns.turn(clock.now + 100))
            clock.now += 0.2
        # The first has been for 2 s, the last for 0.2 s: one that comes now would be done in as long as the first took.
        assert turns.wait == pytest.approx(2 * 1.1)
        clock.now += 0.5
        with pytest.raises(Overloaded), turns.turn(clock.now + 100):
            pass
    assert turns.wait < 0.1


def test_one_slow_look_among_many_does_not_keep_others_out() -> None:
    clock = Clock()
    turns = Turns(3.0, 4, clock=clock)
    looks(turns, clock, 150, 0.01, 4)
    with turns.turn(clock.now + 100), contextlib.ExitStack() as running:
        clock.now += 5.0
        for _ in range(6):
            running.enter_context(turns.turn(clock.now + 100))


def test_a_long_look_does_not_make_others_old() -> None:
    """A logo is drawn and embedded for seconds: that says nothing of how long a check will take."""
    clock = Clock()
    turns = Turns(3.0, 4, clock=clock)
    looks(turns, clock, 150, 0.01, 4)
    with contextlib.ExitStack() as running:
        for _ in range(3):
            running.enter_context(turns.turn(clock.now + 100, long=True))
        clock.now += 60.0
        for _ in range(3):
            running.enter_context(turns.turn(clock.now + 100))
        assert (turns.running, turns.wait < 0.5) == (6, True)
    assert turns.running == 0
    with turns.turn(clock.now + 100):
        clock.now += 2.0
        assert turns.wait == pytest.approx(4.0)


def test_what_a_look_takes_is_learnt_anew_when_it_changes() -> None:
    clock = Clock()
    turns = Turns(3.0, 4, clock=clock)
    looks(turns, clock, 150, 5.0, 4)
    slow = turns.wait
    looks(turns, clock, 150, 0.01, 4)
    assert slow == pytest.approx(5.0, rel=0.02)
    assert turns.wait < 0.05


def test_one_that_was_given_up_says_nothing_of_how_long_a_look_takes() -> None:
    clock = Clock()
    turns = Turns(3.0, 1, clock=clock)
    before = turns.wait

    def give_up() -> None:
        with turns.turn(clock.now + 10):
            clock.now += 0.001
            raise ValueError("gone")

    for _ in range(100):
        with pytest.raises(ValueError, match="gone"):
            give_up()
    assert (turns.wait, turns.running) == (before, 0)


def test_an_idle_machine_teaches_nothing() -> None:
    clock = Clock()
    turns = Turns(3.0, 2, clock=clock)
    before = turns.wait
    for _ in range(100):
        with turns.turn(clock.now + 10):
            clock.now += 2.0
    assert turns.wait == before


def test_those_that_are_refused_together_do_not_come_back_together() -> None:
    turns = Turns(0.1, 1)
    told = set()
    with turns.turn(1e12):
        for _ in range(20):
            with pytest.raises(Overloaded) as caught, turns.turn(1e12):
                pass
            told.add(round(caught.value.retry_after, 6))
    assert len(told) > 10
    assert min(told) >= 0.1
