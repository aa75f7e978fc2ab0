"""The classifiers solved together, against scikit-learn's own of the same objectives."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from imagewarden_eval import caltech101_linear as linear

CLASSES = 4


@pytest.fixture(scope="module")
def data() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Clouds that overlap, of which some axes are long and some short; labels with a gap."""
    chance = np.random.default_rng(3)
    labels = np.repeat(np.arange(CLASSES), 30)
    vectors = chance.normal(size=(CLASSES, 12))[labels] + chance.normal(size=(len(labels), 12))
    return (vectors * np.geomspace(0.1, 3, 12)).astype(np.float32), labels * 5


@pytest.mark.parametrize("strength", [0.01, 1.0])
def test_the_support_vector_machine_is_linearsvcs(
    data: tuple[NDArray[np.float32], NDArray[np.int64]], strength: float
) -> None:
    vectors, labels = data
    own = linear.fit("svm", strength, vectors, labels)
    other = LinearSVC(C=strength, dual=True, max_iter=100_000, tol=1e-6, random_state=0).fit(vectors, labels)
    np.testing.assert_allclose(own.weights, other.coef_.T, atol=0.03)
    np.testing.assert_allclose(own.intercepts, other.intercept_, atol=0.03)
    assert np.mean(own.predict(vectors) == other.predict(vectors)) > 0.98


@pytest.mark.parametrize("strength", [0.01, 1.0])
def test_logistic_regression_is_scikit_learns(
    data: tuple[NDArray[np.float32], NDArray[np.int64]], strength: float
) -> None:
    vectors, labels = data
    own = linear.fit("logistic", strength, vectors, labels)
    other = LogisticRegression(C=strength, max_iter=10_000, tol=1e-8).fit(vectors, labels)
    np.testing.assert_allclose(own.weights, other.coef_.T, atol=0.03)
    assert np.mean(own.predict(vectors) == other.predict(vectors)) > 0.98


def test_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="1 class cannot be told"):
        linear.fit("svm", 1.0, np.ones((3, 2), np.float32), np.ones(3, np.int64))
