"""What is read of an answer, and how work is spread over callers."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from imagewarden import ResourceExhausted
from imagewarden.v1 import types_pb2 as types
from imagewarden_eval.errors import EvaluationError
from imagewarden_eval.service import Candidate, _opened, _read, in_order, patiently, serving


def test_a_match_gives_its_own_score_and_the_evidence_of_the_others() -> None:
    candidate = Candidate("a")
    _read(
        types.Match(
            signal=types.SIGNAL_TYPE_LOCAL,
            score=40,
            evidence=[
                types.Evidence(signal=types.SIGNAL_TYPE_PDQ, value=90),
                types.Evidence(signal=types.SIGNAL_TYPE_EMBEDDING, value=0.5),
                types.Evidence(signal=types.SIGNAL_TYPE_LOCAL, value=40),
                types.Evidence(signal=types.SIGNAL_TYPE_COMBINED, value=0.97),
            ],
            region=types.BoundingBox(left=0.1, top=0.2, right=0.5, bottom=0.75),
        ),
        candidate,
    )
    assert candidate.scores == {"pdq": 90, "embedding": 0.5, "local": 40, "combined": pytest.approx(0.97)}
    assert candidate.box == pytest.approx((0.1, 0.2, 0.5, 0.75))


def test_matches_of_one_entry_are_joined_at_their_best() -> None:
    candidate = Candidate("a")
    _read(types.Match(signal=types.SIGNAL_TYPE_PDQ, score=0.9, distance=25.6), candidate)
    _read(types.Match(signal=types.SIGNAL_TYPE_PDQ, score=0.95, distance=12), candidate)
    _read(types.Match(signal=types.SIGNAL_TYPE_EMBEDDING, score=0.7), candidate)
    _read(types.Match(signal=types.SIGNAL_TYPE_EMBEDDING, score=0.6), candidate)
    _read(types.Match(signal=types.SIGNAL_TYPE_SHA256, score=1), candidate)
    assert candidate.scores == {"pdq": 12, "embedding": 0.7, "digest": 1.0}
    assert candidate.box is None


def test_a_bank_is_opened_by_its_fused_score_where_it_has_one() -> None:
    def policy(*signals: types.SignalType.ValueType) -> types.Policy:
        return types.Policy(
            action=types.ACTION_BLOCK,
            thresholds=[types.SignalThreshold(signal=signal, threshold=0.9) for signal in signals],
        )

    pdq, embedding, combined = types.SIGNAL_TYPE_PDQ, types.SIGNAL_TYPE_EMBEDDING, types.SIGNAL_TYPE_COMBINED
    fused = {one.signal: one.threshold for one in _opened(policy(pdq, embedding, combined)).thresholds}
    assert fused == {pdq: 0.9, embedding: 0.9, combined: 0.0}
    apart = {one.signal: one.threshold for one in _opened(policy(pdq, embedding)).thresholds}
    assert apart == {pdq: 80.0, embedding: 0.0}


def test_results_come_in_order_from_several_callers_and_few_are_made_ahead() -> None:
    running, most, begun = 0, 0, 0
    lock = threading.Lock()

    def work(number: int) -> int:
        nonlocal running, most, begun
        with lock:
            running, begun = running + 1, begun + 1
            most = max(most, running)
        time.sleep(0.02 if number % 2 else 0.001)
        with lock:
            running -= 1
        return number * 2

    found = in_order(work, range(100), 3)
    assert next(found) == 0
    assert begun < 30
    assert list(found) == [number * 2 for number in range(1, 100)]
    assert 1 < most <= 3


def test_a_failure_of_one_ends_the_work() -> None:
    def work(number: int) -> int:
        if number == 3:
            raise EvaluationError("no")
        return number

    with pytest.raises(EvaluationError, match="no"):
        list(in_order(work, range(1_000), 2))


def busy(retry_after: float | None) -> ResourceExhausted:
    return ResourceExhausted("busy", code="RESOURCE_EXHAUSTED", retry_after=retry_after)


def test_a_change_that_a_busy_service_refuses_is_made_when_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    asked: list[str] = []

    def change(request_id: str) -> str:
        asked.append(request_id)
        if len(asked) < 3:
            raise busy(len(asked) * 0.9)
        return "made"

    assert patiently(change) == "made"
    assert (len(set(asked)), waits) == (1, [1.0, 1.8])

    def too_large(_: str) -> str:
        raise busy(None)

    with pytest.raises(ResourceExhausted):
        patiently(too_large)
    assert len(waits) == 2, "another time it is as large"


def test_without_a_model_it_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="imagewarden model export"), serving(tmp_path):
        pass
