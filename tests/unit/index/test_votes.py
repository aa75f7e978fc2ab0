"""Votes that agree, against a plain count of every place."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import pytest
from numpy.typing import NDArray

from imagewarden_server.index import votes
from imagewarden_server.index.votes import agreeing

TURNS, SCALES = 16, 12


def plainly(place: NDArray[np.int32], weight: NDArray[np.float32], pose: NDArray[np.float32]) -> dict[int, float]:
    """Of each place the most votes in a window of two bins of turn and two of scale."""
    windows: dict[int, dict[tuple[int, int], float]] = defaultdict(lambda: defaultdict(float))
    for at, much, (turn, scale) in zip(place.tolist(), weight.tolist(), pose.tolist(), strict=True):
        one = math.floor(turn) % TURNS
        two = min(max(math.floor(scale) + SCALES // 2, 0), SCALES - 1)
        for cell in {((one - a) % TURNS, max(two - b, 0)) for a in (0, 1) for b in (0, 1)}:
            windows[at][cell] += much
    return {at: max(cells.values()) for at, cells in windows.items()}


@pytest.mark.parametrize("first", [1, 16, 10_000], ids=["few first", "some first", "all first"])
@pytest.mark.parametrize("k", [1, 8, 500])
def test_the_best_are_those_of_a_plain_count(monkeypatch: pytest.MonkeyPatch, k: int, first: int) -> None:
    monkeypatch.setattr(votes, "_FIRST_VOTED", first)
    chance = np.random.default_rng(k)
    count = 4_000
    place = chance.integers(0, 300, count).astype(np.int32) * 7
    weight = chance.uniform(0.1, 1, count).astype(np.float32)
    pose = np.stack([chance.uniform(-16, 16, count), chance.normal(0, 3, count)], axis=1).astype(np.float32)
    expected = sorted(plainly(place, weight, pose).items(), key=lambda one: (-one[1], one[0]))[:k]
    places, most = agreeing(place, weight, pose, k)
    assert places.tolist() == [at for at, _ in expected]
    assert most == pytest.approx([much for _, much in expected], rel=1e-5)


def test_no_votes_are_for_nothing() -> None:
    none = np.empty(0, np.float32)
    places, most = agreeing(np.empty(0, np.int32), none, np.empty((0, 2), np.float32), 8)
    assert len(places) == len(most) == 0
