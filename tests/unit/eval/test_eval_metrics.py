"""The metrics against examples worked out by hand."""

from __future__ import annotations

import math

import pytest

from imagewarden_eval import metrics
from imagewarden_eval.judging import Method, at_thresholds, judged, reaches
from imagewarden_eval.service import Answer, Candidate

# Four queries: two copies of a and b, two without. Ranked together: a 0.9 right, x 0.8 wrong, b 0.7 right, y 0.6 wrong.
RANKINGS = [{"a": 0.9, "y": 0.1}, {"b": 0.7, "a": 0.2}, {"x": 0.8}, {"y": 0.6}]
TRUTHS = ["a", "b", None, None]


def test_micro_average_precision_is_the_one_worked_out_by_hand() -> None:
    # Recall grows by 1/2 at rank 1 (precision 1/1) and at rank 3 (precision 2/3).
    assert metrics.micro_average_precision(RANKINGS, TRUTHS) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert metrics.micro_average_precision(RANKINGS, TRUTHS, best_only=True) == pytest.approx(0.5 + 1 / 3)


def test_predictions_of_one_score_stand_and_fall_together() -> None:
    # All three at 0.5: precision 1/3 at recall 1, whatever order they were given in.
    rankings = [{"a": 0.5, "b": 0.5}, {"x": 0.5}]
    assert metrics.micro_average_precision(rankings, ["a", None]) == pytest.approx(1 / 3)
    assert metrics.precision_recall(rankings, ["a", None]) == ([1 / 3], [1.0])


def test_a_copy_that_is_not_found_costs_its_share() -> None:
    assert metrics.micro_average_precision([{"a": 0.9}, {}], ["a", "b"]) == pytest.approx(0.5)
    assert metrics.micro_average_precision([{"b": 0.9}], ["a"]) == 0.0


def test_the_best_candidate_alone_counts_where_asked() -> None:
    rankings = [{"wrong": 0.9, "a": 0.8}]
    assert metrics.micro_average_precision(rankings, ["a"], best_only=True) == 0.0
    assert metrics.micro_average_precision(rankings, ["a"]) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("rate", "alarms", "above"),
    [(0.0, 0, 0.9), (0.1, 1, 0.8), (0.2, 2, 0.5), (0.39, 2, 0.5), (0.5, 2, 0.5), (0.6, 6, 0.3)],
)
def test_the_threshold_lets_at_most_the_rate_pass(rate: float, alarms: int, above: float) -> None:
    # Four queries score 0.5: all of them or none.
    negatives = [0.9, 0.8, 0.5, 0.5, 0.5, 0.5, 0.3, 0.2, 0.1, -math.inf]
    point = metrics.operating_point(negatives, rate)
    assert point.alarms == alarms
    assert point.threshold == math.nextafter(above, math.inf)
    assert point.alarms <= rate * len(negatives)
    assert point.resolved == (rate * len(negatives) >= 1)


def test_where_no_candidate_was_found_any_score_is_safe() -> None:
    point = metrics.operating_point([-math.inf] * 50, 0.02)
    assert point.alarms == 0
    assert metrics.found_at({"a": -5.0}, "a", point.threshold)
    assert metrics.operating_point([0.5, 0.4], 1.0).alarms == 2
    with pytest.raises(ValueError, match="nothing to measure"):
        metrics.operating_point([], 0.1)


def test_recall_counts_the_right_candidate_wherever_it_ranks() -> None:
    rankings = [{"a": 0.5, "x": 0.9}, {"b": 0.4}, {"x": 1.0}]
    truths = ["a", "b", None]
    assert metrics.recall_at(rankings, truths, 0.5).hits == 1
    assert metrics.recall_at(rankings, truths, 0.4).value == 1.0
    assert metrics.recall_first(rankings, truths).hits == 1
    assert not metrics.ranks_first({"a": 0.5, "b": 0.5}, "a")  # a tie is not first


def test_wilson_gives_the_textbook_interval() -> None:
    # 81 of 263: Newcombe, Statistics in Medicine 17, 1998, table I, method 3: 0.2553 to 0.3662.
    found = metrics.wilson(81, 263)
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)
    assert metrics.wilson(0, 20).low == 0.0
    assert metrics.wilson(20, 20).high == 1.0
    assert math.isnan(metrics.wilson(0, 0).value)
    with pytest.raises(ValueError, match="no proportion"):
        metrics.wilson(3, 2)


def test_no_alarm_in_n_queries_proves_three_in_n() -> None:
    assert metrics.proven_rate(0, 1_000) == pytest.approx(1 - 0.05 ** (1 / 1_000), rel=1e-6)
    assert metrics.proven_rate(0, 3_000) == pytest.approx(3 / 3_000, rel=0.01)
    # One alarm in 1,000: Poisson's 4.744 events at 95%.
    assert metrics.proven_rate(1, 1_000) == pytest.approx(4.744e-3, rel=0.01)
    assert metrics.proven_rate(5, 5) == 1.0


def test_boxes_overlap_as_areas_do() -> None:
    assert metrics.intersection_over_union((0, 0, 1, 1), (0, 0, 1, 1)) == 1.0
    assert metrics.intersection_over_union((0, 0, 0.5, 1), (0.25, 0, 0.75, 1)) == pytest.approx(1 / 3)
    assert metrics.intersection_over_union((0, 0, 0.5, 0.5), (0.5, 0.5, 1, 1)) == 0.0
    assert metrics.intersection_over_union((0, 0, 0, 1), (0, 0, 1, 1)) == 0.0


def test_a_judgement_states_rates_that_the_queries_resolve() -> None:
    rankings = [{"a": 0.9}, {"b": 0.2}] + [{"x": number / 1_000} for number in range(200)]
    truths = ["a", "b"] + [None] * 200
    found = judged(Method("m", "says", rankings), truths, {"attack": ["crop", "blur"] + [""] * 200})
    assert [at["rate"] for at in found["at"]] == [1e-2]
    at = found["at"][0]
    assert at["false_alarms"] == 2
    assert at["by_attack"]["crop"]["value"] == 1.0
    assert at["by_attack"]["blur"]["hits"] == 1  # 0.2 is above 0.197, the third highest of the others


def test_thresholds_are_read_in_the_unit_of_their_signal() -> None:
    limits = {"pdq": 31.0, "embedding": 0.75, "local": 10.0, "combined": 0.9}
    assert reaches(Candidate("a", scores={"pdq": 31.0}), limits)
    assert not reaches(Candidate("a", scores={"pdq": 32.0, "embedding": 0.74, "local": 9.0, "combined": 0.89}), limits)
    assert reaches(Candidate("a", scores={"digest": 1.0}), {})
    answers = [
        Answer({"a": Candidate("a", scores={"combined": 0.95})}, (), 0.1, {}),
        Answer({"x": Candidate("x", scores={"pdq": 5.0})}, (), 0.1, {}),
        Answer({}, (), 0.1, {}),
    ]
    found = at_thresholds(answers, ["a", None, None], limits)
    assert found["recall"]["hits"] == 1
    assert found["false_alarms"] == 1
    assert found["negative_queries"] == 2
