"""SIFT as a bag of words: descriptors, the vocabulary, histograms in places."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray

from imagewarden_eval import handcrafted_sift as sift
from imagewarden_eval.handcrafted import NoPicture


@pytest.fixture(scope="module")
def photograph() -> NDArray[np.uint8]:
    picture: NDArray[np.uint8] = skimage.data.chelsea()
    return picture


@pytest.fixture(scope="module")
def vocabulary(photograph: NDArray[np.uint8]) -> sift.Vocabulary:
    others = [skimage.data.coffee(), skimage.data.astronaut(), photograph]
    return sift.learn([sift.keypoint_sift(one) for one in others], words=40)


def words_at(columns: list[float], words: list[int], vocabulary: sift.Vocabulary) -> sift.Local:
    """Descriptors that are words themselves, at places from left to right in the upper half."""
    descriptors = np.round(vocabulary.words[words]).astype(np.uint8)
    return sift.Local(descriptors, np.asarray([(x, 0.1) for x in columns], np.float32))


def test_descriptors_are_rootsift_of_norm_one(photograph: NDArray[np.uint8]) -> None:
    for found in (sift.keypoint_sift(photograph), sift.dense_sift(photograph)):
        assert found.descriptors.dtype == np.uint8
        assert found.descriptors.shape == (len(found.places), 128)
        # In units of 1/512; a root over a bound of 255 and rounding are all that moves the norm.
        norms = np.linalg.norm(found.descriptors.astype(float) / 512, axis=1)
        assert np.median(norms) == pytest.approx(1, abs=0.02)
        assert found.places.min() >= 0
        assert found.places.max() < 1


def test_the_grid_covers_the_picture_whatever_its_size(photograph: NDArray[np.uint8]) -> None:
    three_by_two = photograph[:, :450].copy()
    small = np.asarray(cv2.resize(three_by_two, (150, 100), interpolation=cv2.INTER_AREA), np.uint8)
    for picture in (three_by_two, small):
        found = sift.dense_sift(picture)
        # 300 x 200 pixels in steps of 8, from 8 on to 8 before the end.
        assert len(found.places) == 36 * 24
        assert found.places.min(axis=0) == pytest.approx([8 / 300, 8 / 200], abs=1e-3)


def test_a_plain_picture_has_no_keypoints_and_an_empty_histogram(vocabulary: sift.Vocabulary) -> None:
    found = sift.keypoint_sift(np.full((200, 300, 3), 77, np.uint8))
    assert found.descriptors.shape == (0, 128)
    assert found.places.shape == (0, 2)
    assert not vocabulary.histogram(found).any()


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(NoPicture, match=r"not of uint8 \(5, 5\)"):
        sift.keypoint_sift(np.zeros((5, 5), np.uint8))


def test_a_turned_and_lighter_picture_has_nearly_the_same_words(
    photograph: NDArray[np.uint8], vocabulary: sift.Vocabulary
) -> None:
    def histogram(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        return vocabulary.histogram(sift.keypoint_sift(picture))

    own = histogram(photograph)
    turned = histogram(np.rot90(photograph).copy())
    darker = histogram((photograph * 0.7).astype(np.uint8))
    other = histogram(skimage.data.rocket())
    assert float(own @ turned) > 0.95
    assert float(own @ darker) > 0.95
    assert float(own @ other) < 0.9


def test_histograms_count_words_in_places() -> None:
    words = np.zeros((3, 128), np.float32)
    words[0, 0], words[1, 1], words[2, 2] = 200, 200, 200
    vocabulary = sift.Vocabulary(words, 2)
    assert vocabulary.dimensions == 3 * 5
    local = words_at([0.1, 0.2, 0.9, 0.95], [0, 0, 1, 2], vocabulary)
    found = vocabulary.histogram(local) ** 2
    # Two levels weigh a half each. The whole has words 0, 0, 1, 2; upper left 0, 0; upper right 1, 2.
    assert found[:3] == pytest.approx([0.25, 0.125, 0.125])
    assert found[3:6] == pytest.approx([0.25, 0, 0])
    assert found[6:9] == pytest.approx([0, 0.125, 0.125])
    assert found[9:] == pytest.approx(np.zeros(6))


def test_three_levels_weigh_as_the_pyramid_match_does(vocabulary: sift.Vocabulary) -> None:
    three = sift.Vocabulary(vocabulary.words, 3)
    found = three.histogram(words_at([0.1, 0.6], [3, 5], three)) ** 2
    size = len(three.words)
    assert [float(part.sum()) for part in (found[:size], found[size : 5 * size], found[5 * size :])] == pytest.approx(
        [0.25, 0.25, 0.5]
    )


def test_the_nearest_word_is_the_one_by_euclid(vocabulary: sift.Vocabulary, photograph: NDArray[np.uint8]) -> None:
    descriptors = sift.keypoint_sift(photograph).descriptors[:50]
    apart = np.linalg.norm(descriptors.astype(float)[:, None] - vocabulary.words[None].astype(float), axis=2)
    assert np.array_equal(vocabulary.assign(descriptors), apart.argmin(axis=1))


def test_the_vocabulary_is_the_same_for_the_same_seed(photograph: NDArray[np.uint8]) -> None:
    locals_ = [sift.keypoint_sift(photograph)]
    assert np.array_equal(sift.learn(locals_, words=10).words, sift.learn(locals_, words=10).words)


def test_too_few_descriptors_say_how_few() -> None:
    empty = sift.Local(np.empty((0, 128), np.uint8), np.empty((0, 2), np.float32))
    with pytest.raises(sift.TooFewDescriptors, match="0 descriptors of 2 pictures are too few for 10 words"):
        sift.learn([empty, empty], words=10)
    with pytest.raises(sift.TooFewDescriptors, match="0 descriptors of 0 pictures"):
        sift.learn([], words=10)
