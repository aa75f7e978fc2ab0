"""One check on its way: its time, its stages, its reasons."""

from __future__ import annotations

import asyncio
import time

import pytest
from tests.unit.matching.things import bank, entry

from imagewarden_server.matching.directory import Scope
from imagewarden_server.matching.types import Action, BankKind, Match, SignalType, Undecided, UndecidedCode
from imagewarden_server.matching.walk import CheckRequest, DeadlineInStage, Walk


def walk(seconds: float = 10.0, *, exhaustive: bool = False) -> Walk:
    request = CheckRequest(b"x", exhaustive=exhaustive, deadline=time.monotonic() + seconds)
    return Walk(request, Scope(()))


def match(action: Action = Action.BLOCK) -> Match:
    of = bank(BankKind.BANNED, action=action)
    return Match(entry(of), of, SignalType.SHA256, 1.0, 0.0, 0.0, action)


async def test_what_ends_in_time_is_answered() -> None:
    async def work() -> str:
        return "done"

    assert await walk().within(work()) == "done"


async def test_what_fails_in_time_fails() -> None:
    async def work() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await walk().within(work())


async def test_what_takes_longer_is_left_and_ended_before_the_deadline() -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    one = walk(0.2)
    begin = time.monotonic()
    with pytest.raises(DeadlineInStage):
        await one.within(work())
    assert time.monotonic() < one.request.deadline, "some time is kept for the verdict and the way home"
    assert time.monotonic() - begin > 0.1
    await asyncio.wait_for(ended.wait(), 5)


async def test_no_time_at_all_is_no_time() -> None:
    one = walk(-1.0)
    assert one.left < 0
    with pytest.raises(DeadlineInStage):
        await one.within(asyncio.sleep(60))


@pytest.mark.parametrize(("seconds", "kept"), [(10.0, 0.05), (0.2, 0.02), (0.0, 0.0)])
def test_what_is_kept_back_is_a_share_of_a_short_deadline(seconds: float, kept: float) -> None:
    one = walk(seconds)
    assert one.request.deadline - one.until == pytest.approx(kept, abs=2e-3)


def test_a_deadline_is_a_reason_with_the_signals_that_were_not_compared() -> None:
    one = walk()
    one.out_of_time("the local features", (SignalType.LOCAL,))
    (reason,) = one.undecided
    assert (reason.code, reason.signals) == (UndecidedCode.DEADLINE, (SignalType.LOCAL,))
    assert "the local features" in reason.message
    one.say(UndecidedCode.TOO_PLAIN, "plain", [SignalType.PDQ])
    assert one.undecided[1] == Undecided(UndecidedCode.TOO_PLAIN, "plain", (SignalType.PDQ,))


def slow_failure(one: Walk) -> None:
    with one.stage("decode"):
        time.sleep(0.01)
        raise ZeroDivisionError


def test_stages_that_run_twice_are_timed_together_even_where_they_fail() -> None:
    one = walk()
    with one.stage("decode"):
        time.sleep(0.01)
    with pytest.raises(ZeroDivisionError):
        slow_failure(one)
    with one.stage("embed"):
        pass
    assert list(one.timings) == ["decode", "embed"]
    assert one.timings["decode"] >= 0.02


def test_a_standing_match_that_blocks_ends_the_road_unless_all_is_asked() -> None:
    one, whole = walk(), walk(exhaustive=True)
    states = [one.decided]
    one.exact.append(match(Action.REVIEW))
    states.append(one.decided)
    one.pictured, whole.pictured = [match()], [match()]
    states.append(one.decided)
    assert states == [False, False, True]
    assert not whole.decided
    assert [found.action for found in one.matches] == [Action.REVIEW, Action.BLOCK]
