"""When a request is tried again."""

from __future__ import annotations

from imagewarden_server.embedding.retry import RetryBudget, backoff


def test_the_budget_stops_retries_in_an_outage_and_lets_them_again() -> None:
    budget = RetryBudget(most=4, given_back=0.5)
    assert [budget.failed() for _ in range(3)] == [True, False, False]
    for _ in range(4):
        budget.succeeded()
    assert budget.failed() is False
    for _ in range(8):
        budget.succeeded()
    assert budget.failed() is True


def test_backoff_grows_to_a_bound_with_full_jitter() -> None:
    assert [backoff(attempt, lambda: 1.0) for attempt in (0, 1, 2, 10)] == [0.05, 0.1, 0.2, 1.0]
    assert backoff(3, lambda: 0.0) == 0
