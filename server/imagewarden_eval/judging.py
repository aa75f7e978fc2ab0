"""From answers to figures: each method's scores over the same queries, judged in the same way."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imagewarden_eval import metrics
from imagewarden_eval.metrics import Interval, OperatingPoint, Ranking
from imagewarden_eval.service import Answer, Candidate

RATES = (1e-2, 1e-3, 1e-4)
"""False alarms per query that recall is stated at; one that the queries are too few for is left out."""

PDQ_BITS = 256
_ANY = -1e300


@dataclass(frozen=True)
class Method:
    """One way to rank candidates, with what it said of every query: aligned with the queries."""

    name: str
    says: str
    rankings: Sequence[Ranking]


def _signal(signal: str) -> Any:
    return lambda candidate: candidate.scores.get(signal)


def _pdq(candidate: Candidate) -> float | None:
    bits = candidate.scores.get("pdq")
    return None if bits is None else 1 - bits / PDQ_BITS


def _whole(candidate: Candidate) -> float | None:
    # A digest that is equal leaves nothing to doubt.
    return 1.0 if "digest" in candidate.scores else candidate.scores.get("combined")


def _unfused(candidate: Candidate) -> float | None:
    known = [value for value in (_pdq(candidate), candidate.scores.get("embedding")) if value is not None]
    return 1.0 if "digest" in candidate.scores else max(known, default=None)


def own_methods(answers: Sequence[Answer]) -> list[Method]:
    """The product's methods: whole, and each signal that said something of any candidate."""
    said = {signal for answer in answers for one in answer.candidates.values() for signal in one.scores}
    found = []
    if "combined" in said:
        found.append(("ours, whole", "COMBINED score; a digest that is equal counts 1", _whole))
    else:
        found.append(("ours, unfused", "the greater of EMBEDDING's score and PDQ's share of equal bits", _unfused))
    for signal, says, score in (
        ("pdq", "PDQ of the product: share of equal bits", _pdq),
        ("embedding", "EMBEDDING of the product", _signal("embedding")),
        ("local", "LOCAL of the product: inliers", _signal("local")),
    ):
        if signal in said:
            found.append((f"ours, {signal.upper()}", says, score))
    return [Method(name, says, [_ranking(answer, score) for answer in answers]) for name, says, score in found]


def _ranking(answer: Answer, score: Any) -> Ranking:
    pairs = ((name, score(candidate)) for name, candidate in answer.candidates.items())
    return {name: float(value) for name, value in pairs if value is not None}


def reaches(candidate: Candidate, thresholds: Mapping[str, float]) -> bool:
    """Whether a candidate matches at a bank's thresholds."""
    scores = candidate.scores
    if "digest" in scores:
        return True
    return any(
        scores[signal] <= limit if signal == "pdq" else scores[signal] >= limit
        for signal, limit in thresholds.items()
        if signal in scores
    )


def at_thresholds(
    answers: Sequence[Answer], truths: Sequence[str | None], thresholds: Mapping[str, float]
) -> dict[str, Any]:
    """What the shipped thresholds do: recall of the right entry, and queries without a copy that raise any alarm."""
    alarms = negatives = hits = 0
    for answer, truth in zip(answers, truths, strict=True):
        if truth is None:
            negatives += 1
            alarms += any(reaches(one, thresholds) for one in answer.candidates.values())
        else:
            right = answer.candidates.get(truth)
            hits += right is not None and reaches(right, thresholds)
    return {
        "thresholds": dict(thresholds),
        "recall": interval(metrics.wilson(hits, len(answers) - negatives)),
        "false_alarms": alarms,
        "negative_queries": negatives,
        "false_alarm_rate_proven_under": metrics.proven_rate(alarms, negatives),
    }


def interval(value: Interval) -> dict[str, Any]:
    """A proportion as JSON has it."""
    share = None if math.isnan(value.value) else round(value.value, 4)
    return {
        "value": share,
        "hits": value.hits,
        "of": value.total,
        "low": round(value.low, 4),
        "high": round(value.high, 4),
    }


def point(value: OperatingPoint) -> dict[str, Any]:
    """An operating point as JSON has it; a threshold that lets everything match is null."""
    return {
        "rate": value.rate,
        "threshold": value.threshold if value.threshold > _ANY else None,
        "false_alarms": value.alarms,
        "negative_queries": value.queries,
        "false_alarm_rate_proven_under": round(value.proven, 6),
    }


def judged(
    method: Method, truths: Sequence[str | None], kinds: Mapping[str, Sequence[str]], rates: Sequence[float] = RATES
) -> dict[str, Any]:
    """All figures of one method.

    Args:
        method: its rankings, a query each.
        truths: the right candidate of each query; None: none.
        kinds: by what recall is broken down, such as {"attack": [a name a query]}.
        rates: of false alarms a query.
    """
    negatives = [metrics.best_score(one) for one, truth in zip(method.rankings, truths, strict=True) if truth is None]
    points = [metrics.operating_point(negatives, rate) for rate in rates]
    found: dict[str, Any] = {
        "method": method.name,
        "says": method.says,
        "micro_ap": round(metrics.micro_average_precision(method.rankings, truths), 4),
        "micro_ap_best_matches": round(metrics.micro_average_precision(method.rankings, truths, best_only=True), 4),
        "recall_first": interval(metrics.recall_first(method.rankings, truths)),
        "at": [],
    }
    for place in points:
        if not place.resolved:
            continue
        at = {**point(place), "recall": interval(metrics.recall_at(method.rankings, truths, place.threshold))}
        for kind, values in kinds.items():
            at[f"by_{kind}"] = _broken_down(method.rankings, truths, values, place.threshold)
        found["at"].append(at)
    return found


def _broken_down(
    rankings: Sequence[Ranking], truths: Sequence[str | None], values: Sequence[str], threshold: float
) -> dict[str, Any]:
    counts: dict[str, list[int]] = {}
    for ranking, truth, value in zip(rankings, truths, values, strict=True):
        if truth is not None:
            count = counts.setdefault(value, [0, 0])
            count[0] += metrics.found_at(ranking, truth, threshold)
            count[1] += 1
    return {value: interval(metrics.wilson(*count)) for value, count in counts.items()}


def recall_of(judgement: Mapping[str, Any], rate: float) -> Mapping[str, Any] | None:
    """Where a judgement states a rate; None where the queries were too few for it."""
    return next((at for at in judgement["at"] if at["rate"] == rate), None)
