"""What a run is judged by: micro-average precision, recall at a rate of false alarms, bounds, overlap of boxes.

A method gives for each query the candidates it found with their scores, more is more alike: `Ranking`. `truths` names
for each query the candidate that is right, or None for a query without a copy in the bank. All scores of a method are
comparable over queries: thresholds are swept over them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Ranking = Mapping[str, float]
"""The candidates of one query with their scores; a candidate that is not named was not found at any threshold."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""

_Z95 = 1.959963984540054
"""The 97.5th percentile of the standard normal distribution."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A proportion with its 95% confidence interval by Wilson's score."""

    hits: int
    total: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The proportion; NaN of nothing."""
        return self.hits / self.total if self.total else math.nan


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Where false alarms stay under a rate.

    Attributes:
        rate: the asked rate of queries without a copy that raise any alarm.
        threshold: the smallest score that keeps it; what scores at least this matches.
        alarms: how many of the queries without a copy still match.
        queries: how many there are.
        proven: the upper 95% bound of the rate that these numbers prove.
        resolved: whether there are queries enough for one alarm to be within the rate.
    """

    rate: float
    threshold: float
    alarms: int
    queries: int
    proven: float
    resolved: bool


def wilson(hits: int, total: int) -> Interval:
    """A proportion's 95% confidence interval (E. B. Wilson, JASA 22, 1927).

    Raises:
        ValueError: hits are not between 0 and the total.
    """
    if not 0 <= hits <= total:
        raise ValueError(f"{hits} of {total} is no proportion")
    if not total:
        return Interval(0, 0, 0.0, 1.0)
    share, z2 = hits / total, _Z95 * _Z95
    middle = share + z2 / (2 * total)
    spread = _Z95 * math.sqrt(share * (1 - share) / total + z2 / (4 * total * total))
    scale = 1 + z2 / total
    # At the ends rounding would leave the interval a hair off what it must contain.
    low = 0.0 if hits == 0 else max(0.0, (middle - spread) / scale)
    high = 1.0 if hits == total else min(1.0, (middle + spread) / scale)
    return Interval(hits, total, low, high)


def proven_rate(alarms: int, queries: int) -> float:
    """The one-sided upper 95% bound of a rate, exact (Clopper and Pearson, 1934): none in N queries proves about 3/N.

    Raises:
        ValueError: alarms are not between 0 and the queries.
    """
    if not 0 <= alarms <= queries:
        raise ValueError(f"{alarms} alarms in {queries} queries is no rate")
    if alarms == queries:
        return 1.0
    low, high = alarms / queries, 1.0
    for _ in range(100):
        middle = (low + high) / 2
        if _binomial_at_most(alarms, queries, middle) > 0.05:
            low = middle
        else:
            high = middle
    return high


def _binomial_at_most(hits: int, total: int, rate: float) -> float:
    """The chance of at most so many hits, summed in logarithms: `total` may be large."""
    if rate <= 0.0:
        return 1.0
    if rate >= 1.0:
        return 1.0 if hits >= total else 0.0
    terms = [
        math.lgamma(total + 1)
        - math.lgamma(count + 1)
        - math.lgamma(total - count + 1)
        + count * math.log(rate)
        + (total - count) * math.log1p(-rate)
        for count in range(hits + 1)
    ]
    return math.fsum(math.exp(term) for term in terms)


def _checked(rankings: Sequence[Ranking], truths: Sequence[str | None]) -> None:
    if len(rankings) != len(truths):
        raise ValueError(f"{len(rankings)} rankings for {len(truths)} queries")


def precision_recall(
    rankings: Sequence[Ranking], truths: Sequence[str | None], *, best_only: bool = False
) -> tuple[list[float], list[float]]:
    """Precision and recall at every distinct score, from the highest on, over the predictions of all queries together.

    Args:
        rankings: of each query.
        truths: of each query the right candidate; None: none.
        best_only: count the best candidate of each query alone.

    Returns:
        Precisions and recalls; predictions of one score stand and fall together.
    """
    _checked(rankings, truths)
    predictions: list[tuple[float, bool]] = []
    for ranking, truth in zip(rankings, truths, strict=True):
        found = sorted(ranking.items(), key=lambda pair: (-pair[1], pair[0]))
        predictions += [(score, name == truth) for name, score in (found[:1] if best_only else found)]
    predictions.sort(key=lambda pair: -pair[0])
    wanted = sum(truth is not None for truth in truths)
    precisions: list[float] = []
    recalls: list[float] = []
    right = 0
    for place, (score, correct) in enumerate(predictions, 1):
        right += correct
        if place < len(predictions) and predictions[place][0] == score:
            continue
        precisions.append(right / place)
        recalls.append(right / wanted if wanted else math.nan)
    return precisions, recalls


def micro_average_precision(
    rankings: Sequence[Ranking], truths: Sequence[str | None], *, best_only: bool = False
) -> float:
    """Micro-average precision, as DISC21 defines it (Douze et al., arXiv:2106.09672): one ranking of all predictions.

    The sum over the ranked predictions of precision times the gain in recall; queries without a copy count through
    their wrong predictions. Predictions of one score count together, at the precision behind the last of them.
    """
    precisions, recalls = precision_recall(rankings, truths, best_only=best_only)
    total, before = 0.0, 0.0
    for precision, recall in zip(precisions, recalls, strict=True):
        total += precision * (recall - before)
        before = recall
    return total


def best_score(ranking: Ranking) -> float:
    """The best candidate's score; minus infinity where none was found."""
    return max(ranking.values(), default=-math.inf)


def operating_point(negatives: Sequence[float], rate: float) -> OperatingPoint:
    """The threshold at which at most `rate` of the queries without a copy raise an alarm.

    Args:
        negatives: of each such query the best score; minus infinity where no candidate was found.
        rate: 0 to 1.

    A score that equals the one that must not match does not match either: the threshold is the next number above it.
    """
    if not negatives:
        raise ValueError("no queries without a copy: there is nothing to measure false alarms on")
    allowed = math.floor(rate * len(negatives) + 1e-9)
    ranked = sorted(negatives, reverse=True)
    # Above minus infinity is the smallest number there is: then any candidate at all matches.
    threshold = math.nextafter(ranked[allowed], math.inf) if allowed < len(ranked) else -math.inf
    alarms = sum(score >= threshold for score in ranked)
    return OperatingPoint(
        rate, threshold, alarms, len(ranked), proven_rate(alarms, len(ranked)), rate * len(ranked) >= 1.0
    )


def found_at(ranking: Ranking, truth: str | None, threshold: float) -> bool:
    """Whether the right candidate was found and reaches the threshold, whatever else does."""
    score = ranking.get(truth) if truth is not None else None
    return score is not None and score >= threshold


def ranks_first(ranking: Ranking, truth: str | None) -> bool:
    """Whether the right candidate scores more than any other."""
    score = ranking.get(truth) if truth is not None else None
    return score is not None and all(other < score for name, other in ranking.items() if name != truth)


def recall_at(rankings: Sequence[Ranking], truths: Sequence[str | None], threshold: float) -> Interval:
    """Of the queries that have a copy, those whose right candidate reaches the threshold."""
    _checked(rankings, truths)
    pairs = [(ranking, truth) for ranking, truth in zip(rankings, truths, strict=True) if truth is not None]
    return wilson(sum(found_at(ranking, truth, threshold) for ranking, truth in pairs), len(pairs))


def recall_first(rankings: Sequence[Ranking], truths: Sequence[str | None]) -> Interval:
    """Recall@1: of the queries that have a copy, those whose right candidate ranks first."""
    _checked(rankings, truths)
    pairs = [(ranking, truth) for ranking, truth in zip(rankings, truths, strict=True) if truth is not None]
    return wilson(sum(ranks_first(ranking, truth) for ranking, truth in pairs), len(pairs))


def intersection_over_union(one: Box, other: Box) -> float:
    """How much two boxes overlap: 0 to 1; 0 where either has no area."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return both / (areas - both)
