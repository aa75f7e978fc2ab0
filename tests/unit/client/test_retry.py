"""When a call is tried again."""

from __future__ import annotations

import pytest

from imagewarden import ImageWardenError, NotFound, ResourceExhausted, RetryPolicy, TimeoutExceeded, Unavailable
from imagewarden._retry import Attempts

UNAVAILABLE = Unavailable("gone", code="UNAVAILABLE")


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def attempts(policy: RetryPolicy, timeout: float = 10.0, chance: float = 0.0) -> tuple[Attempts, Clock]:
    clock = Clock()
    return Attempts(policy, timeout, clock=clock, chance=lambda: chance), clock


def test_waits_grow_up_to_the_longest_and_end_with_the_tries() -> None:
    tries, _ = attempts(RetryPolicy(attempts=5, initial_backoff=0.1, max_backoff=0.3, multiplier=2.0))
    waits = []
    for _ in range(5):
        tries.begin()
        waits.append(tries.wait_after(UNAVAILABLE))
    assert waits == [pytest.approx(0.1), pytest.approx(0.2), pytest.approx(0.3), pytest.approx(0.3), None]


def test_chance_takes_up_to_half_of_a_wait_away() -> None:
    tries, _ = attempts(RetryPolicy(initial_backoff=0.2), chance=1.0)
    tries.begin()
    assert tries.wait_after(UNAVAILABLE) == pytest.approx(0.1)


def test_each_try_has_what_is_left_of_the_time() -> None:
    tries, clock = attempts(RetryPolicy(), timeout=2.0)
    assert tries.begin() == pytest.approx(2.0)
    clock.now += 1.5
    assert tries.begin() == pytest.approx(0.5)
    clock.now += 1.0
    assert tries.begin() == 0.0


def test_no_wait_that_would_outlast_the_time() -> None:
    tries, clock = attempts(RetryPolicy(initial_backoff=0.5), timeout=1.0)
    tries.begin()
    clock.now += 0.6
    assert tries.wait_after(UNAVAILABLE) is None


def test_the_servers_wait_is_kept() -> None:
    tries, _ = attempts(RetryPolicy(initial_backoff=0.1))
    tries.begin()
    assert tries.wait_after(ResourceExhausted("busy", code="RESOURCE_EXHAUSTED", retry_after=1.5)) == 1.5


@pytest.mark.parametrize(
    "error",
    [
        ResourceExhausted("message too large", code="RESOURCE_EXHAUSTED"),
        NotFound("no bank", code="NOT_FOUND"),
        TimeoutExceeded("late", code="DEADLINE_EXCEEDED"),
        Unavailable("cancelled", code="CANCELLED"),
    ],
)
def test_what_another_try_cannot_mend_is_not_tried_again(error: ImageWardenError) -> None:
    tries, _ = attempts(RetryPolicy())
    tries.begin()
    assert tries.wait_after(error) is None


@pytest.mark.parametrize(
    "wrong",
    [{"attempts": 0}, {"initial_backoff": -1.0}, {"initial_backoff": 3.0, "max_backoff": 2.0}, {"multiplier": 0.5}],
)
def test_a_policy_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="is"):
        RetryPolicy(**wrong)  # type: ignore[arg-type]  # one of the fields is a whole number
