"""What a banned picture is recognised by: how alike ordinary pictures are to each of its vectors."""

from __future__ import annotations

import numpy as np
import pytest

from imagewarden_server.matching.copies import nearest, ordinary
from imagewarden_server.matching.types import Box


def at(cosine: float) -> list[float]:
    return [cosine, (1 - cosine**2) ** 0.5]


def test_each_vector_is_held_against_the_pictures_most_like_it_but_the_first() -> None:
    """Five pictures of two windows; the better window of each counts, and the most alike may be the very picture."""
    background = np.array(
        [
            [at(1.0), at(-0.2)],
            [at(0.1), at(0.5)],
            [at(0.4), at(0.2)],
            [at(0.3), at(-0.9)],
            [at(-0.5), at(0.0)],
        ],
        np.float32,
    )
    (found,) = ordinary(np.array([[1, 0]], np.float32), background)
    assert found == pytest.approx((0.5 + 0.4 + 0.3) / 3, abs=1e-6)


def test_the_very_picture_in_the_background_takes_nothing_off_its_own_score() -> None:
    chance = np.random.default_rng(5)
    vectors = chance.normal(size=(40, 3, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    own, others = vectors[:1], vectors[1:]
    (without,) = ordinary(own[0, :1], others)
    (beside,) = ordinary(own[0, :1], vectors)
    assert without < beside < 0.95
    assert ordinary(own[0, :1], np.concatenate([own, others[:2]])) == [0.0], "too few to say what is ordinary"


def test_without_a_background_scores_stay_cosine_similarities() -> None:
    assert ordinary(np.eye(2, dtype=np.float32), np.zeros((0, 1, 2), np.float32)) == [0.0, 0.0]


def test_the_nearest_box_is_the_one_whose_edges_are() -> None:
    boxes = [Box(0, 0, 1, 1), Box(0, 0, 0.5, 0.5), Box(0.5, 0.5, 1, 1)]
    assert nearest(boxes, Box(0.45, 0.5, 0.95, 1)) == 2
