"""Linear classifiers on features: what a support vector machine and logistic regression make of a few pictures each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedShuffleSplit

from imagewarden_eval import caltech101_linear as linear
from imagewarden_eval import handcrafted_sift as sift
from imagewarden_eval.caltech101_data import Split
from imagewarden_eval.caltech101_metrics import mean_class_accuracy

Matrix = NDArray[np.float32]
Labels = NDArray[np.int64]

_FLOOR = 1e-6
_HELD_BACK = 0.3
_RANK = 1e-9


class Feature(Protocol):
    """Something that gives every picture a vector, and may have to learn from the training pictures how."""

    def vectors(self, training: NDArray[np.int64]) -> Matrix:
        """Vectors of all pictures, float32 [n, D], by what is learned on the training pictures alone."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """Vectors that need nothing learned: float32 [n, D]."""

    matrix: Matrix

    def vectors(self, training: NDArray[np.int64]) -> Matrix:
        """The matrix, whatever the training pictures."""
        del training
        return self.matrix


@dataclass(frozen=True, slots=True)
class BagOfWords:
    """SIFT's words: the vocabulary is learned anew on each split's training pictures.

    Attributes:
        locals: of each picture.
        words: how many.
        levels: of the pyramid of places.
    """

    locals: Sequence[sift.Local]
    words: int
    levels: int

    def vectors(self, training: NDArray[np.int64]) -> Matrix:
        """Histograms of words that the training pictures taught."""
        vocabulary = sift.learn([self.locals[place] for place in training], words=self.words, levels=self.levels)
        return np.stack([vocabulary.histogram(one) for one in self.locals])


class Remembered:
    """A feature that learns once for the same training pictures: several classifiers see each split."""

    def __init__(self, feature: Feature) -> None:
        self._feature = feature
        self._made: dict[bytes, Matrix] = {}
        self._turned: dict[bytes, tuple[Matrix, Matrix]] = {}

    def vectors(self, training: NDArray[np.int64]) -> Matrix:
        """As the feature's own."""
        key = training.tobytes()
        if key not in self._made:
            self._made[key] = self._feature.vectors(training)
        return self._made[key]

    def turned(self, split: Split) -> tuple[Matrix, Matrix]:
        """What a classifier takes of a split, see `turned`."""
        key = split.training.tobytes() + split.test.tobytes()
        if key not in self._turned:
            self._turned[key] = turned(self, split)
        return self._turned[key]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Mean accuracy by class over splits.

    Attributes:
        per_category: how many training pictures of each category.
        mean: over the splits.
        deviation: of the splits' accuracies (of a sample; 0 for a single split).
        by_split: each one's.
        strengths: the C that each split's own training pictures chose.
    """

    per_category: int
    mean: float
    deviation: float
    by_split: tuple[float, ...]
    strengths: tuple[float, ...]


CLASSIFIERS: Mapping[linear.Kind, tuple[float, ...]] = MappingProxyType(
    {"svm": (0.1, 1.0, 10.0), "logistic": (10.0, 100.0, 1000.0)}
)
"""Each one's Cs to choose from."""


class Scaling:
    """Every dimension brought to the training pictures' mean 0 and deviation 1, then the whole to a norm of about 1."""

    def __init__(self, training: Matrix) -> None:
        self._mean = training.mean(axis=0)
        self._scale = (training.std(axis=0) + _FLOOR) * np.sqrt(training.shape[1])

    def __call__(self, vectors: Matrix) -> Matrix:
        """Scale float32 [n, D]."""
        scaled: Matrix = ((vectors - self._mean) / self._scale).astype(np.float32)
        return scaled


def onto_training(training: Matrix, test: Matrix) -> tuple[Matrix, Matrix]:
    """Turn vectors onto the principal axes of the training pictures, which loses nothing and saves time.

    A linear classifier under an L2 penalty is a sum of training vectors (the representer theorem): what of a vector is
    outside of their span meets no weight. Scalar products with the training vectors are kept.

    Args:
        training: float32 [n, D].
        test: float32 [m, D].

    Returns:
        The same in as many dimensions as the training vectors span, at most n and at most D.
    """
    if training.shape[1] <= len(training):
        values, axes = np.linalg.eigh((training.T @ training).astype(np.float64))
        onto = axes[:, values > values[-1] * _RANK].astype(np.float32)
        return training @ onto, test @ onto
    values, axes = np.linalg.eigh((training @ training.T).astype(np.float64))
    kept = values > values[-1] * _RANK
    roots = np.sqrt(values[kept])
    return (
        (axes[:, kept] * roots).astype(np.float32),
        ((test @ training.T).astype(np.float64) @ (axes[:, kept] / roots)).astype(np.float32),
    )


def turned(feature: Feature, split: Split) -> tuple[Matrix, Matrix]:
    """A split's training and test vectors, scaled and turned by what the training pictures say."""
    vectors = feature.vectors(split.training)
    scale = Scaling(vectors[split.training])
    return onto_training(scale(vectors[split.training]), scale(vectors[split.test]))


def accuracy(
    feature: Feature,
    labels: Labels,
    splits: Sequence[Split],
    classifier: linear.Kind,
    progress: Callable[[], None] = lambda: None,
) -> Accuracy:
    """Train and test a classifier on each split.

    C is chosen on the training pictures: of 30% of them that are held back, most are named rightly.

    Args:
        feature: what gives vectors.
        labels: of all pictures, int64 [n].
        splits: at least one, with equally many training pictures a category.
        classifier: one of `CLASSIFIERS`.
        progress: told when a split is done.
    """
    scores, chosen = [], []
    for split in splits:
        training, test = feature.turned(split) if isinstance(feature, Remembered) else turned(feature, split)
        truth = labels[split.training]
        strength = _choose(training, truth, classifier)
        model = linear.fit(classifier, strength, training, truth)
        scores.append(mean_class_accuracy(labels[split.test], model.predict(test)))
        chosen.append(strength)
        progress()
    first = splits[0].training
    return Accuracy(
        len(first) // len(np.unique(labels[first])),
        float(np.mean(scores)),
        float(np.std(scores, ddof=1)) if len(scores) > 1 else 0.0,
        tuple(scores),
        tuple(chosen),
    )


def _choose(training: Matrix, truth: Labels, classifier: linear.Kind) -> float:
    strengths = CLASSIFIERS[classifier]
    parts = StratifiedShuffleSplit(1, test_size=_HELD_BACK, random_state=0)
    try:
        inner, held = next(parts.split(training, truth))
    except ValueError:
        return strengths[len(strengths) // 2]  # too few pictures to hold any back
    found = {
        strength: float(
            np.mean(
                linear.fit(classifier, strength, training[inner], truth[inner]).predict(training[held]) == truth[held]
            )
        )
        for strength in strengths
    }
    return max(found, key=lambda strength: found[strength])
