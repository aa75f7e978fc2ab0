"""A picture that comes again is looked at once while nothing changes, and anew as soon as something does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest
from tests.unit.matching.things import bank, entry

from imagewarden_server.matching import recent
from imagewarden_server.matching.directory import Scope
from imagewarden_server.matching.evidence import Found, Sighting
from imagewarden_server.matching.recent import Recent, Recognised
from imagewarden_server.matching.types import Action, BankKind, Match, SignalType, UndecidedCode
from imagewarden_server.matching.walk import CheckRequest, Walk
from imagewarden_server.media import Header, ImageFormat, PdqHash

BANNED = bank(BankKind.BANNED, action=Action.BLOCK)
HEADER, PDQ = Header(ImageFormat.JPEG, 640, 480, 1), PdqHash(bytes(32), 90)


class Road:
    """Looks that find entries 1 and 2, of which 1 matches; counts them."""

    def __init__(self, most: int = 100) -> None:
        self.live = {1}
        self.looks = 0
        self.model = "m"
        self.hold: asyncio.Event | None = None
        self.undecided: UndecidedCode | None = None
        self.passing = False
        self.counted: list[str] = []
        self.recent = Recent(self.matches, self, most)

    async def matches(self, walk: Walk) -> list[Match]:
        keys = [key for key in walk.candidates.keys() if key in self.live]  # noqa: SIM118 -- no dictionary
        return [Match(entry(BANNED, key), BANNED, SignalType.PDQ, 1.0, 0.0, 31, BANNED.policy.action) for key in keys]

    def look(self, how: str) -> None:
        self.counted.append(how)

    def looking(self, walk: Walk) -> Callable[[], Awaitable[None]]:
        async def look() -> None:
            self.looks += 1
            if self.hold is not None:
                await asyncio.wait_for(self.hold.wait(), max(walk.left, 0))
            walk.header, walk.pdq, walk.model = HEADER, PDQ, self.model
            if self.undecided is not None:
                walk.say(self.undecided, "as the test told", ())
                walk.passing = self.passing
            walk.candidates.note(Sighting(key, SignalType.PDQ, Found(40.0 * (key - 1))) for key in (1, 2))
            walk.pictured = await self.matches(walk)

        return look

    async def check(self, known_by: Recognised | None, seconds: float = 5.0) -> Walk:
        walk = Walk(CheckRequest(b"x", deadline=time.monotonic() + seconds), Scope((BANNED,)))
        await self.recent.see(walk, known_by, self.looking(walk))
        return walk


def known(revision: int = 1, model: str = "m", sha256: bytes = b"a", *asked: object) -> Recognised:
    return Recognised(revision, model, sha256, asked)


async def test_a_picture_that_comes_again_is_not_looked_at_again() -> None:
    road = Road()
    first, again = await road.check(known()), await road.check(known())
    assert road.looks == 1
    assert road.counted == ["taken", "remembered"]
    assert [one.entry.key for one in again.pictured] == [one.entry.key for one in first.pictured] == [1]
    assert (again.header, again.pdq, again.model) == (HEADER, PDQ, "m")
    assert again.decided
    assert "recall" in again.timings
    assert again.candidates.keys() == [1], "what did not match is not kept"


@pytest.mark.parametrize(
    "other", [known(2), known(1, "n"), known(1, "m", b"b"), known(1, "m", b"a", "exhaustive"), None]
)
async def test_after_any_change_it_is_looked_at_again(other: Recognised | None) -> None:
    road = Road()
    await road.check(known())
    await road.check(other)
    assert road.looks == 2


async def test_a_look_that_began_before_a_change_serves_nobody_after_it() -> None:
    road = Road()
    road.hold = asyncio.Event()
    before = asyncio.create_task(road.check(known(1)))
    await asyncio.sleep(0.05)
    after = asyncio.create_task(road.check(known(2)))
    await asyncio.sleep(0.05)
    assert road.looks == 2
    road.hold.set()
    await asyncio.gather(before, after)
    await road.check(known(2))
    assert road.looks == 2, "and takes nothing from what is known since"


async def test_a_late_look_takes_nothing_from_what_is_known_since() -> None:
    road = Road()
    await road.check(known(2))
    await road.check(known(1))
    await road.check(known(2))
    assert road.looks == 2


async def test_a_match_that_has_expired_is_no_match_and_what_it_left_out_is_looked_at() -> None:
    road = Road()
    assert (await road.check(known())).decided
    road.live = set()
    walk = await road.check(known())
    assert road.looks == 2
    assert walk.pictured == []
    road.live = {1}
    assert (await road.check(known())).pictured == []
    assert road.looks == 2, "the second look found no match, and nothing has changed since"


@pytest.mark.parametrize(
    ("code", "lasts"),
    [
        (UndecidedCode.TOO_PLAIN, True),
        (UndecidedCode.UNDECODABLE, True),
        (UndecidedCode.OVER_LIMITS, True),
        (UndecidedCode.DEADLINE, False),
        (UndecidedCode.EMBEDDING_UNAVAILABLE, False),
    ],
)
async def test_what_may_be_decided_another_time_is_looked_at_again(code: UndecidedCode, lasts: bool) -> None:
    road = Road()
    road.live = set()
    road.undecided = code
    for _ in range(2):
        assert [one.code for one in (await road.check(known())).undecided] == [code]
    assert road.looks == (1 if lasts else 2)


async def test_what_the_machine_had_a_share_in_is_looked_at_again() -> None:
    road = Road()
    road.live = set()
    road.undecided, road.passing = UndecidedCode.UNDECODABLE, True
    for _ in range(2):
        await road.check(known())
    assert road.looks == 2


async def test_an_answer_of_another_model_than_is_known_is_not_remembered() -> None:
    road = Road()
    road.model = "n"
    await road.check(known())
    await road.check(known())
    assert road.looks == 2


async def test_a_crowd_of_copies_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent, "_MOST_MATCHED", 1)
    road = Road()
    road.live = {1, 2}
    assert [len((await road.check(known())).pictured) for _ in range(2)] == [2, 2]
    assert road.looks == 2


async def test_who_waits_is_told_what_will_not_last() -> None:
    road = Road()
    road.live, road.undecided = set(), UndecidedCode.EMBEDDING_UNAVAILABLE
    road.hold = asyncio.Event()
    checks = [asyncio.create_task(road.check(known())) for _ in range(5)]
    await asyncio.sleep(0.05)
    road.hold.set()
    for walk in await asyncio.gather(*checks):
        assert [one.code for one in walk.undecided] == [UndecidedCode.EMBEDDING_UNAVAILABLE]
    assert road.looks == 1, "one after the other they would wait for long"
    await road.check(known())
    assert road.looks == 2


async def test_who_waited_too_long_takes_no_look_from_others() -> None:
    road = Road()
    road.hold = asyncio.Event()
    first = asyncio.create_task(road.check(known()))
    await asyncio.sleep(0.02)
    with pytest.raises(TimeoutError):
        await road.check(known(), 0.1)
    third = asyncio.create_task(road.check(known()))
    await asyncio.sleep(0.02)
    road.hold.set()
    await asyncio.gather(first, third)
    assert road.looks == 2, "the third waited for the first one's"


async def test_many_at_once_share_a_look() -> None:
    road = Road()
    road.hold = asyncio.Event()
    checks = [asyncio.create_task(road.check(known())) for _ in range(6)]
    await asyncio.sleep(0.1)
    road.hold.set()
    assert all(walk.decided for walk in await asyncio.gather(*checks))
    assert road.looks == 1
    assert sorted(road.counted) == ["shared"] * 5 + ["taken"]


async def test_who_goes_away_or_has_less_time_takes_nothing_from_who_waits() -> None:
    road = Road()
    road.hold = asyncio.Event()
    gone = asyncio.create_task(road.check(known()))
    await asyncio.sleep(0.02)
    waiting = [asyncio.create_task(road.check(known())) for _ in range(3)]
    await asyncio.sleep(0.02)
    gone.cancel()
    await asyncio.sleep(0.02)
    assert road.looks == 2, "one of those that waited looks for all of them"
    hurried = asyncio.create_task(road.check(known(), 0.1))
    with pytest.raises(TimeoutError):  # the road's own look, which has no time left
        await hurried
    road.hold.set()
    assert all(walk.decided for walk in await asyncio.gather(*waiting))


async def test_a_failure_is_of_one_check_alone() -> None:
    road = Road()
    road.hold = asyncio.Event()
    failing = asyncio.create_task(road.check(known(), 0.1))
    await asyncio.sleep(0.02)
    waiting = asyncio.create_task(road.check(known()))
    with pytest.raises(TimeoutError):
        await failing
    road.hold.set()
    assert (await waiting).decided


async def test_the_oldest_is_forgotten() -> None:
    road = Road(most=2)
    for sha256 in (b"a", b"b", b"c"):
        await road.check(known(1, "m", sha256))
    await road.check(known(1, "m", b"c"))
    await road.check(known(1, "m", b"b"))
    assert road.looks == 3
    await road.check(known(1, "m", b"a"))
    assert road.looks == 4
