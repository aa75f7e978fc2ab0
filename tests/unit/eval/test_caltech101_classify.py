"""Classifiers: what they learn, on what alone they choose, and that nothing of the test part reaches them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from imagewarden_eval import caltech101_classify as classify
from imagewarden_eval import caltech101_linear as linear
from imagewarden_eval import handcrafted_sift as sift
from imagewarden_eval.caltech101_data import Dataset, Split, splits

CATEGORIES, EACH = 4, 12


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Matrices this small are not worth a second thread, and on a busy machine threads wait for each other."""
    with threadpool_limits(1):
        yield


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    labels = np.repeat(np.arange(CATEGORIES), EACH)
    paths = tuple(f"c{label}/image_{place:04}.jpg" for place, label in enumerate(labels))
    return Dataset(tmp_path, paths, tuple(f"c{number}" for number in range(CATEGORIES)), labels, labels < 0, ())


def clouds(data: Dataset, spread: float) -> NDArray[np.float32]:
    """Points around a centre a category."""
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(CATEGORIES, 20))
    return (centres[data.labels] + spread * rng.normal(size=(len(data), 20))).astype(np.float32)


@pytest.mark.parametrize("classifier", classify.CLASSIFIERS)
def test_what_is_apart_is_told_apart_and_noise_is_not(data: Dataset, classifier: linear.Kind) -> None:
    parts, _ = splits(data, 8, 3)
    apart = classify.accuracy(classify.Fixed(clouds(data, 0.1)), data.labels, parts, classifier)
    assert apart.mean == 1
    assert apart.deviation == 0
    assert apart.per_category == 8
    assert len(apart.by_split) == len(apart.strengths) == 3
    noise = np.random.default_rng(2).normal(size=(len(data), 20)).astype(np.float32)
    guessed = classify.accuracy(classify.Fixed(noise), data.labels, parts, classifier)
    assert guessed.mean < 0.6


@pytest.mark.parametrize("classifier", classify.CLASSIFIERS)
def test_the_unit_of_a_feature_does_not_count(data: Dataset, classifier: linear.Kind) -> None:
    parts, _ = splits(data, 8, 2)
    vectors = clouds(data, 1.5)
    own = classify.accuracy(classify.Fixed(vectors), data.labels, parts, classifier)
    scaled = classify.accuracy(classify.Fixed(vectors * 1000 + 5), data.labels, parts, classifier)
    assert scaled.by_split == pytest.approx(own.by_split, abs=0.07)
    assert 0.3 < own.mean < 1


def test_the_mean_and_the_deviation_are_of_the_splits(data: Dataset) -> None:
    parts, _ = splits(data, 6, 4)
    found = classify.accuracy(classify.Fixed(clouds(data, 1.5)), data.labels, parts, "svm")
    assert len(set(found.by_split)) > 1
    assert found.mean == pytest.approx(sum(found.by_split) / 4)
    assert found.deviation == pytest.approx(float(np.std(found.by_split, ddof=1)))
    one = classify.accuracy(classify.Fixed(clouds(data, 1.5)), data.labels, parts[:1], "svm")
    assert one.deviation == 0


def test_labels_of_the_test_part_change_nothing_that_is_learned(data: Dataset) -> None:
    parts, _ = splits(data, 8, 1)
    vectors, other = clouds(data, 1.0), data.labels.copy()
    other[parts[0].test] = (other[parts[0].test] + 1) % CATEGORIES
    own = classify.accuracy(classify.Fixed(vectors), data.labels, parts, "svm")
    moved = classify.accuracy(classify.Fixed(vectors), other, parts, "svm")
    assert own.strengths == moved.strengths
    assert own.mean > 0.7
    assert moved.mean < 0.3


def test_scaling_is_by_the_training_pictures() -> None:
    training = np.asarray([[0, 10], [2, 30]], np.float32)
    scale = classify.Scaling(training)
    root = np.sqrt(2)
    assert scale(training) == pytest.approx(np.asarray([[-1, -1], [1, 1]]) / root, abs=1e-5)
    assert scale(np.asarray([[5, 20]], np.float32)) == pytest.approx(np.asarray([[4, 0]]) / root, abs=1e-5)


def test_fewer_dimensions_keep_all_products_with_the_training_pictures() -> None:
    rng = np.random.default_rng(4)
    training, test = rng.normal(size=(6, 40)).astype(np.float32), rng.normal(size=(9, 40)).astype(np.float32)
    training[5] = training[4]
    turned, other = classify.onto_training(training, test)
    assert turned.shape == (6, 5)
    assert other.shape == (9, 5)
    assert turned @ turned.T == pytest.approx(training @ training.T, abs=1e-3)
    assert other @ turned.T == pytest.approx(test @ training.T, abs=1e-3)
    few = training[:, :3]
    turned, other = classify.onto_training(few, test[:, :3])
    assert turned.T @ turned == pytest.approx(np.diag(np.diag(turned.T @ turned)), abs=1e-3)
    assert other @ turned.T == pytest.approx(test[:, :3] @ few.T, abs=1e-3)


def test_a_vocabulary_is_learned_on_the_training_pictures_alone() -> None:
    pictures = [skimage.data.chelsea(), skimage.data.coffee(), skimage.data.astronaut(), skimage.data.rocket()]
    feature = classify.BagOfWords([sift.keypoint_sift(one) for one in pictures], 20, 1)
    first = feature.vectors(np.asarray([0, 1]))
    assert first.shape == (4, 20)
    changed = classify.BagOfWords([*feature.locals[:2], feature.locals[3], feature.locals[2]], 20, 1)
    assert np.array_equal(changed.vectors(np.asarray([0, 1]))[:2], first[:2])
    assert not np.array_equal(feature.vectors(np.asarray([2, 3])), first)


def test_what_was_learned_for_a_split_is_not_learned_again() -> None:
    class Counting:
        calls = 0

        def vectors(self, training: NDArray[np.int64]) -> NDArray[np.float32]:
            self.calls += 1
            return training.astype(np.float32)[:, None]

    counting = Counting()
    remembered = classify.Remembered(counting)
    split = Split(np.asarray([1, 2]), np.asarray([3]))
    assert remembered.vectors(split.training).tolist() == [[1], [2]]
    remembered.vectors(split.training.copy())
    assert counting.calls == 1
    assert remembered.vectors(split.test).tolist() == [[3]]
    assert counting.calls == 2
