"""Votes that agree, against a plain count of every place."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

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


def some_votes(seed: int, count: int = 4_000) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
    """Votes of which some places have many and most a few."""
    chance = np.random.default_rng(seed)
    place = (7 * np.minimum(chance.geometric(0.01, count), 600)).astype(np.int32)
    weight = (chance.integers(1, 9, count) / 8).astype(np.float32)  # so that sums are exact, and some the same
    pose = np.stack([chance.uniform(-16, 16, count), chance.normal(0, 3, count)], axis=1).astype(np.float32)
    return place, weight, pose


@pytest.mark.parametrize("first", [1, 16, 10_000], ids=["few first", "some first", "all first"])
@pytest.mark.parametrize("k", [1, 8, 100, 1_000])
def test_the_best_are_those_of_a_plain_count(monkeypatch: pytest.MonkeyPatch, k: int, first: int) -> None:
    monkeypatch.setattr(votes, "_FIRST_VOTED", first)
    place, weight, pose = some_votes(k)
    expected = sorted(plainly(place, weight, pose).items(), key=lambda one: (-one[1], one[0]))[:k]
    places, most = agreeing(place, weight, pose, k)
    assert list(zip(places.tolist(), most.tolist(), strict=True)) == expected


def test_places_that_cannot_be_among_the_best_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(votes, "_FIRST_VOTED", 16)
    asked: list[int] = []
    whole = votes._most_agreeing

    def counted(row: Any, weight: Any, pose: Any, rows: int) -> Any:
        asked.append(rows)
        return whole(row, weight, pose, rows)

    monkeypatch.setattr(votes, "_most_agreeing", counted)
    place, weight, pose = some_votes(3)
    agreeing(place, weight, pose, 4)
    assert asked[0] == 16
    assert 0 < asked[1] < (len(np.unique(place)) - 16) / 2


@pytest.mark.parametrize("k", [0, 8])
def test_no_votes_are_for_nothing(k: int) -> None:
    none = np.empty(0, np.float32)
    places, most = agreeing(np.empty(0, np.int32), none, np.empty((0, 2), np.float32), k)
    assert len(places) == len(most) == 0
