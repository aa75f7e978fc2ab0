"""`eval fuse`: fits the weights of the fused score on the fitting part, over the same path as all that is measured.

The score of an entry is sigmoid(bias + sum of weight x feature); the features are PDQ's closeness, the embedding's
score and the logarithm of the local features', as `imagewarden_server.matching.fusion` computes them. Weights are
never negative: more evidence never makes an entry less likely.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagewarden_eval import copies, copies_run, judging, logos_run, metrics, report
from imagewarden_eval.datasets import read_same_pictures, split
from imagewarden_eval.errors import EvaluationError
from imagewarden_eval.judging import Method
from imagewarden_eval.progress import Progress
from imagewarden_eval.service import Answer, Candidate, serving

SIGNALS = ("pdq", "embedding", "local")
_REACH = 128.0
_RIDGE = 1e-4


@dataclass(frozen=True)
class Fit:
    """A fitted model: a weight a signal, in the order of `SIGNALS`, and the bias."""

    weights: tuple[float, float, float]
    bias: float

    def score(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """0 to 1, of features [n, 3]."""
        raw = features @ np.array(self.weights) + self.bias
        scores: NDArray[np.float64] = 1 / (1 + np.exp(-np.clip(raw, -60, 60)))
        return scores

    def as_json(self) -> dict[str, Any]:
        """As the server reads it."""
        weights = {name: round(value, 4) for name, value in zip(SIGNALS, self.weights, strict=True)}
        return {"weights": weights, "bias": round(self.bias, 4)}


def features(candidate: Candidate) -> tuple[float, float, float]:
    """PDQ's closeness, the embedding's score, the logarithm of 1 + the local features'; what was not compared is 0."""
    bits = candidate.scores.get("pdq", _REACH)
    embedding = candidate.scores.get("embedding", 0.0)
    local = candidate.scores.get("local", 0.0)
    return max(0.0, 1 - bits / _REACH), max(0.0, embedding), math.log1p(max(0.0, local))


def table(answers: Sequence[Answer], truths: Sequence[str | None]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """All candidates of all queries: features [n, 3], and which are right; without equal digests: they decide."""
    rows, right = [], []
    for answer, truth in zip(answers, truths, strict=True):
        for name, candidate in answer.candidates.items():
            if "digest" not in candidate.scores:
                rows.append(features(candidate))
                right.append(name == truth)
    return np.array(rows, np.float64).reshape(-1, len(SIGNALS)), np.array(right, np.bool_)


def fit(points: NDArray[np.float64], right: NDArray[np.bool_]) -> Fit:
    """Logistic regression with weights of at least 0, both classes of the same weight, a small ridge; by L-BFGS-B.

    Args:
        points: float64 [n, 3].
        right: bool [n].

    Raises:
        EvaluationError: there are not both right and wrong candidates.
    """
    if not right.any() or right.all():
        raise EvaluationError(f"{int(right.sum())} of {len(right)} candidates are right: a fit needs both kinds")
    from scipy.optimize import minimize  # noqa: PLC0415 -- large, and of the fit alone

    scale = np.maximum(points.std(axis=0), 1e-6)
    scaled = points / scale
    signs = np.where(right, 1.0, -1.0)
    shares = np.where(right, 0.5 / right.sum(), 0.5 / (~right).sum())

    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        margins = signs * (scaled @ values[:-1] + values[-1])
        slope = -signs * shares / (1 + np.exp(np.clip(margins, -500, 500)))
        gradient = np.append(scaled.T @ slope + _RIDGE * values[:-1], slope.sum())
        return float((shares * np.logaddexp(0, -margins)).sum() + _RIDGE / 2 * (values[:-1] ** 2).sum()), gradient

    start = np.append(np.ones(len(SIGNALS)), -1.0)
    bounds = [(0.0, None)] * len(SIGNALS) + [(None, None)]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 2_000})
    if not np.isfinite(found.x).all():
        raise EvaluationError(f"the fit did not end in numbers: {found.message}")
    weights = found.x[:-1] / scale
    return Fit((float(weights[0]), float(weights[1]), float(weights[2])), float(found.x[-1]))


def _judged(fitted: Fit, answers: Sequence[Answer], truths: Sequence[str | None]) -> dict[str, Any]:
    """How the fitted score does on what it was fitted on: a floor for mistakes, no measurement."""
    rankings = []
    for answer in answers:
        names = [name for name, one in answer.candidates.items() if "digest" not in one.scores]
        rows = np.array([features(answer.candidates[name]) for name in names], np.float64).reshape(-1, len(SIGNALS))
        rankings.append(dict(zip(names, (float(one) for one in fitted.score(rows)), strict=True)))
    judgement = judging.judged(Method("fitted", "", rankings), truths, {}, (1e-2, 1e-3))
    negatives = [metrics.best_score(one) for one, truth in zip(rankings, truths, strict=True) if truth is None]
    return {
        "micro_ap": judgement["micro_ap"],
        "recall": {report.rate_text(at["rate"]): at["recall"]["value"] for at in judgement["at"]},
        "queries": len(truths),
        "negative_queries": len(negatives),
    }


def run(options: copies_run.Options, file: Path, logos: logos_run.Options | None) -> dict[str, Any]:
    """Fit on the fitting part and write the server's fusion file; answers its content.

    Args:
        options: of the copies; their `fitting` part is used.
        file: where to write.
        logos: of the logos, measured on brands for fitting; None: the file has no model of them.

    Raises:
        EvaluationError: there is too little to fit on.
    """
    progress = Progress(quiet=options.quiet)
    pictures = copies_run.photographs(options, fitting=options.fitting)
    parts = split(pictures, options.references, read_same_pictures(options.same_pictures), options.seed)
    queries = copies.plan(parts, options.attacks_each, options.negatives)
    with serving(options.model_base_path, model_address=options.model_address, address=options.address) as service:
        asked = copies.ask(service, parts, queries, options.seed, options.callers, progress)
        logo_answers = logos_run.ask(service, logos, progress) if logos is not None else None
    fits = {"copies": (asked.answers, asked.truths)}
    if logo_answers is not None:
        fits["logos"] = (logo_answers.answers, logo_answers.truths)
    content: dict[str, Any] = {}
    judgements: dict[str, Any] = {}
    for name, (answers, truths) in fits.items():
        fitted = fit(*table(answers, truths))
        content[name] = fitted.as_json()
        judgements[name] = _judged(fitted, answers, truths)
    content["record"] = {
        **report.conditions(options.command, options.seed),
        "pictures": f"{len(pictures)} of {', '.join(str(one) for one in options.images)}",
        "references": len(parts.references),
        "on_what_it_was_fitted": judgements,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return content
