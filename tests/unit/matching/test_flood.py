"""Floods: entries that suddenly match far more different pictures than they did, and memory that stays bounded."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.matching.things import NOW, bank, entry

from imagewarden_server.matching import flood
from imagewarden_server.matching.flood import SLOT_SECONDS, TIMES, Floods, Sketch
from imagewarden_server.matching.opinions import Feedback, Quarantine, QuarantineReason
from imagewarden_server.matching.quarantine import vouched_for
from imagewarden_server.matching.types import BankKind, Match, SignalType

ABUSE = bank(BankKind.BANNED)
HOUR = 3_600.0


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Watch:
    """Floods under a clock that the test turns, with pictures of a number each."""

    def __init__(self, most: int = 8_192) -> None:
        self.clock = Clock()
        self.floods = Floods(self.clock, most)
        self.pictures = 0

    def match(self, key: int = 1, **said: object) -> Match:
        of = said.pop("bank", ABUSE)
        return Match(entry(of, key, **said), of, SignalType.PDQ, 1.0, 0.0, 31, of.policy.action)  # type: ignore[arg-type,attr-defined]  # short cut

    def see(
        self, count: int, key: int = 1, *, of: Iterable[int] | None = None, **said: object
    ) -> dict[tuple[str, str], str]:
        """So many new pictures match an entry, or those of these numbers; what is flooded for it."""
        match = self.match(key, **said)
        for number in of or range(self.pictures, self.pictures + count):
            self.floods.see([match], hashlib.sha256(str(number).encode()).digest())
        self.pictures += count
        return self.floods.take()

    def wait(self, seconds: float = SLOT_SECONDS) -> None:
        self.clock.now += seconds


def warm(most: int = 8_192) -> Watch:
    """A watch that has run for an hour."""
    watch = Watch(most)
    watch.wait(HOUR)
    return watch


def test_an_entry_that_suddenly_matches_many_pictures_is_flooded_at_its_banks_number() -> None:
    watch = warm()
    assert watch.see(99) == {}
    found = watch.see(1)
    assert list(found) == [("banned-1", "e1")]
    (said,) = found.values()
    assert said == "matched 100 different pictures in ten minutes, and 0 in ten minutes of the 50 minutes before"
    assert watch.see(1) == {}, "it is said once"


def test_one_picture_many_times_is_no_flood() -> None:
    watch = warm()
    assert watch.see(0, of=[1, 2, 3] * 1_000) == {}


def test_pictures_of_two_slots_count_once_and_together() -> None:
    watch = warm()
    assert watch.see(60) == {}
    watch.wait()
    assert watch.see(0, of=range(60)) == {}, "the same ones again"
    assert watch.see(39) == {}
    assert list(watch.see(1)) == [("banned-1", "e1")]
    late = warm()
    late.see(60)
    late.wait(2 * SLOT_SECONDS)
    assert late.see(99) == {}, "what is older than ten minutes does not count"


def test_an_entry_is_its_own_measure() -> None:
    """Twenty times as many as before, not merely many: an entry of a viral picture has a high measure."""
    watch = warm()
    for _ in range(12):
        assert watch.see(30) == {}  # sixty in ten minutes, for an hour
        watch.wait()
    per_ten_minutes = 60
    steps = range(0, TIMES * per_ten_minutes * 2, 50)
    flooded = next((step for step in steps if watch.see(50)), None)
    assert flooded is not None
    assert 0.7 * TIMES * per_ten_minutes < flooded < 1.4 * TIMES * per_ten_minutes


@pytest.mark.parametrize("slots", [0, 1, 2, 3])
def test_after_a_start_nothing_is_known_to_be_sudden(slots: int) -> None:
    watch = Watch()
    watch.wait(slots * SLOT_SECONDS)
    assert watch.see(500) == {}


def test_what_was_steady_before_a_start_is_no_flood_after_it() -> None:
    watch = Watch()
    for _ in range(24):
        assert watch.see(150) == {}
        watch.wait()


def test_a_bank_may_say_how_many_and_may_say_never() -> None:
    watch = warm()
    few, never = bank(key=2, quarantine_flood=5), bank(key=3, quarantine_flood=0)
    assert watch.see(4, 2, bank=few) == {}
    assert list(watch.see(1, 2, bank=few)) == [("banned-2", "e2")]
    assert watch.see(1_000, 3, bank=never) == {}


def test_entries_that_are_quarantined_already_and_matches_that_were_cleared_are_none() -> None:
    watch = warm()
    held = Quarantine(QuarantineReason.BY_HAND, "", NOW)
    assert watch.see(300, quarantine=held) == {}
    cleared = dataclasses.replace(watch.match(2), cleared_by="banks/fine/entries/1")
    for number in range(300):
        watch.floods.see([cleared], hashlib.sha256(f"c{number}".encode()).digest())
    assert watch.floods.take() == {}


def test_who_is_released_is_not_put_back_by_the_same_pictures() -> None:
    watch = warm()
    assert watch.see(100)
    assert watch.see(30) == {}, "less than twice the pictures that it was quarantined for"
    assert watch.see(270), "a greater flood is another"


def test_entries_are_counted_apart() -> None:
    watch = warm()
    for key in range(1, 30):
        assert watch.see(50, key) == {}


def test_the_memory_is_bounded_whatever_matches() -> None:
    """Entries by their number, the pictures of one by its sketches; those that matched last are kept."""
    watch = warm(most=10)
    for key in range(1, 200):
        watch.see(3, key)
    assert list(watch.floods._watched) == list(range(190, 200))
    watch.see(5_000, 199)
    watched = watch.floods._watched[199]
    assert sys.getsizeof(watched.now._least) + sys.getsizeof(watched.before._least) < 3_000


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 2**64 - 1), max_size=100))
def test_a_sketch_of_few_is_exact(values: list[int]) -> None:
    sketch = Sketch()
    for value in values + values:
        sketch.add(value)
    assert sketch.count() == len(set(values))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 2**64 - 1), max_size=60), st.lists(st.integers(0, 2**64 - 1), max_size=60))
def test_two_sketches_together_are_the_sketch_of_all(first: list[int], second: list[int]) -> None:
    def sketch(values: list[int]) -> Sketch:
        made = Sketch()
        for value in values:
            made.add(value)
        return made

    assert (sketch(first) | sketch(second))._least == sketch(first + second)._least


@pytest.mark.parametrize("count", [128, 1_000, 50_000])
def test_a_sketch_of_many_is_about_right(count: int) -> None:
    sketch = Sketch()
    for number in range(count):
        sketch.add(int.from_bytes(hashlib.sha256(str(number).encode()).digest()[:8], "big"))
    # Four standard errors of 1 / sqrt(126).
    assert abs(sketch.count() - count) < 4 * count / 126**0.5


def test_nobody_who_chooses_pictures_makes_few_look_like_many() -> None:
    """Digests that are small themselves: a sketch of them would count billions."""
    watch = warm()
    match = watch.match()
    for number in range(300):
        watch.floods.see([match], bytes(30) + number.to_bytes(2, "big"))
    (said,) = watch.floods.take().values()
    assert int(said.split()[1]) < 450
    assert 200 < watch.floods._watched[1].now.count() < 450


@pytest.mark.parametrize(
    ("confirmed", "false_positives", "forgiven", "vouched"),
    [
        (0, 0, 0, False),  # nobody has looked at it
        (1, 0, 0, True),
        (1, 1, 0, False),
        (9, 1, 0, False),
        (1, 3, 3, True),  # released, and confirmed since
        (1, 4, 3, False),
        (0, 3, 3, False),
    ],
)
def test_who_confirms_an_entry_vouches_for_it_until_somebody_says_the_contrary(
    confirmed: int, false_positives: int, forgiven: int, *, vouched: bool
) -> None:
    said = entry(ABUSE, feedback=Feedback(confirmed, false_positives, disputed=5), forgiven=forgiven)
    assert vouched_for(said) is vouched


def test_a_new_entry_measures_nothing_whatever_the_server_has_watched() -> None:
    watch = warm()
    for _ in range(12):
        watch.see(30)
        watch.wait()
    assert list(watch.see(100, key=2)) == [("banned-1", "e2")], "a hundred copies of what was banned just now"


def test_the_slots_are_what_the_words_say() -> None:
    assert flood.SLOT_SECONDS * 2 == 600, "the last two are ten minutes"
    assert (flood._EARLIER + 2) * flood.SLOT_SECONDS == HOUR
