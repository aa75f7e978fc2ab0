"""What the tests of this folder did, counted and told at the end."""

from __future__ import annotations

from collections import Counter

import pytest

_tally: Counter[str] = Counter()


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    number: int = request.config.getoption("--kills")
    return number


@pytest.fixture
def damages(request: pytest.FixtureRequest) -> int:
    number: int = request.config.getoption("--damages")
    return number


@pytest.fixture
def overload_seconds(request: pytest.FixtureRequest) -> float:
    seconds: float = request.config.getoption("--overload-seconds")
    return seconds


@pytest.fixture
def tally() -> Counter[str]:
    """Counts; a count that must be 0 is set all the same."""
    return _tally


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _tally:
        terminalreporter.section("reliability")
        for what, number in _tally.items():
            terminalreporter.write_line(f"{what}: {number:,}")
