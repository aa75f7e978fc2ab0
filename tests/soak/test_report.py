"""What a soak calls a leak, and what it does not."""

from __future__ import annotations

from typing import Any

import pytest
from tests.soak import report
from tests.soak.tally import Tally, percentile


def wave(second: int) -> float:
    """Memory that goes up for half a minute and comes down again."""
    return 300.0 + 8 * (second % 30)


@pytest.mark.parametrize(("leak", "found"), [(0.0, False), (1.0, False), (4.0, True)])
def test_what_stays_is_a_leak_and_what_comes_and_goes_is_none(leak: float, found: bool) -> None:
    values = [(float(second), wave(second) + leak * second / 60) for second in range(1_200)]
    grown = report.growth(values, 600)
    assert grown == pytest.approx(leak, abs=0.2)
    assert (grown > report.MOST_GROWTH["server memory"]) is found


def test_handles_that_are_never_closed_are_told() -> None:
    flat = [(float(second), 30.0 + second % 3) for second in range(1_200)]
    rising = [(when, value + when // 60) for when, value in flat]
    assert report.more(flat, 1_200) == 0
    assert report.more(rising, 1_200) > report.MOST_HANDLES


def figures(**changed: Any) -> dict[str, Any]:
    good: dict[str, Any] = {
        "errors": 0,
        "errors_said": [],
        "growth_mib_a_minute": dict.fromkeys(report.MOST_GROWTH, 0.5),
        "more_handles": {"server handles": 0},
    }
    return good | changed


def test_errors_growth_and_handles_each_break_a_run() -> None:
    assert report.broken(figures()) == []
    assert len(report.broken(figures(errors=1, errors_said=["x"]))) == 1
    assert len(report.broken(figures(growth_mib_a_minute=dict.fromkeys(report.MOST_GROWTH, 2.5)))) == 3
    assert len(report.broken(figures(more_handles={"server handles": 5}))) == 1


def test_what_is_raised_is_counted_as_an_error_and_not_as_an_answer() -> None:
    tally = Tally()
    with tally.timed("good"):
        pass
    with tally.timed("bad"):
        int("of this kind")
    assert tally.answered() == {"good": 1}
    assert tally.failures == 1
    assert "bad: ValueError: " in tally.errors[0]


def test_percentiles() -> None:
    assert percentile([], 0.5) == 0.0
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([float(one) for one in range(100)], 0.99) == 99.0
