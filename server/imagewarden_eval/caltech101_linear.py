"""Linear classifiers solved together: a support vector machine or logistic regression of a hundred classes at once.

The objectives are LIBLINEAR's and scikit-learn's (Fan et al., LIBLINEAR: A Library for Large Linear Classification,
JMLR 2008), and so are the solutions. Only the way there is another: one product a step for all classes instead of a
pass over the pictures for each, and steps scaled by the curvature along each axis. A hundred classes of two thousand
pictures take seconds, where class after class takes half a minute.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Kind = Literal["svm", "logistic"]
Matrix = NDArray[np.float32]
Labels = NDArray[np.int64]

_STEPS = 200
_TOLERANCE = 1e-5
"""A step that gains less than this share of the objective is the last one."""


@dataclass(frozen=True, slots=True)
class Linear:
    """The class of x is the one of the largest x @ weights + intercepts.

    Attributes:
        weights: float32 [D, classes].
        intercepts: float32 [classes].
        classes: the labels, sorted, int64 [classes].
    """

    weights: Matrix
    intercepts: Matrix
    classes: Labels

    def predict(self, vectors: Matrix) -> Labels:
        """The labels of float32 [n, D]: int64 [n]."""
        found: Labels = self.classes[(vectors @ self.weights + self.intercepts).argmax(axis=1)]
        return found


def fit(kind: Kind, strength: float, vectors: Matrix, labels: Labels) -> Linear:
    """Train a classifier.

    Args:
        kind: `svm`: |w|^2 / 2 + C sum max(0, 1 - y f(x))^2, one class against the others each, the intercept penalised
            as a weight is (LinearSVC's). `logistic`: |W|^2 / 2 + C sum of the multinomial log loss, the intercept free
            (LogisticRegression's).
        strength: C.
        vectors: float32 [n, D], any D. Axes that are not correlated, as `onto_training` gives them, take fewest steps.
        labels: int64 [n], of two classes at least.

    Raises:
        ValueError: there are fewer than two classes.
    """
    classes, truth = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"{len(classes)} class cannot be told from another")
    rows = np.concatenate([vectors, np.ones((len(vectors), 1), np.float32)], axis=1)
    objective = _Objective(kind, strength, rows, np.eye(len(classes), dtype=np.float32)[truth])
    shape = (rows.shape[1], len(classes))
    found = minimize(
        objective,
        np.zeros(shape[0] * shape[1]),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": _STEPS, "ftol": _TOLERANCE, "gtol": 0.0},
    )
    weights = (found.x.reshape(shape) / objective.scale).astype(np.float32)
    return Linear(weights[:-1], weights[-1], classes.astype(np.int64))


class _Objective:
    """The objective and its gradient in coordinates in which all axes are about equally curved."""

    def __init__(self, kind: Kind, strength: float, rows: Matrix, targets: Matrix) -> None:
        self._kind, self._strength, self._rows, self._targets = kind, strength, rows, targets
        self._penalty = np.ones((rows.shape[1], 1), np.float32)
        self._penalty[-1] = 1.0 if kind == "svm" else 0.0
        # The second derivative with every picture inside of its margin, or with all classes as likely.
        curvature = 2.0 if kind == "svm" else 1.0 / targets.shape[1]
        energy = np.square(rows, dtype=np.float64).sum(axis=0)[:, None]
        self.scale = np.sqrt(self._penalty + strength * curvature * energy)

    def __call__(self, flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Value and gradient at [(D + 1) * classes]."""
        weights = (flat.reshape(self.scale.shape[0], -1) / self.scale).astype(np.float32)
        outputs = self._rows @ weights
        if self._kind == "svm":
            signs = 2.0 * self._targets - 1.0
            short = np.maximum(0.0, 1.0 - signs * outputs)
            loss = float(np.square(short, dtype=np.float64).sum())
            slope = -2.0 * signs * short
        else:
            outputs -= outputs.max(axis=1, keepdims=True)
            likely = np.exp(outputs)
            sums = likely.sum(axis=1, keepdims=True)
            loss = float((np.log(sums) - (outputs * self._targets).sum(axis=1, keepdims=True)).sum(dtype=np.float64))
            slope = likely / sums - self._targets
        penalised = self._penalty * weights
        value = 0.5 * float((penalised * weights).sum(dtype=np.float64)) + self._strength * loss
        gradient = (penalised + self._strength * (self._rows.T @ slope.astype(np.float32))) / self.scale
        return value, gradient.ravel().astype(np.float64)
