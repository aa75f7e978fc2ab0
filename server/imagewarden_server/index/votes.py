"""Votes of keypoints: one a keypoint and picture, and those count together that agree on turn and scale."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_TURNS = 16
_SCALES = 12
_OCTAVE = 2.0
"""Bins of scale an octave."""
_FIRST_VOTED = 128
"""So many sets with the most votes, or as many as are wanted, are asked first how far these agree."""
_MOST_VOTED = 2_048
"""So many more are asked at most."""


def poses_of(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Orientation and size of keypoints in bins, float32 [n, 2]: the differences of two say turn and scale."""
    return np.stack(
        [points[:, 3] * np.float32(_TURNS / (2 * np.pi)), np.log2(np.maximum(points[:, 2], 1e-6)) * _OCTAVE], axis=1
    ).astype(np.float32)


def best_of_each_vote(group: NDArray[np.int64], weight: NDArray[np.float32]) -> NDArray[np.intp]:
    """Of each group the place of the greatest weight: one vote a keypoint and picture."""
    order = np.argsort(group, kind="stable")
    ordered = weight[order]
    starts = np.flatnonzero(np.append(True, np.diff(group[order]) != 0)) if len(group) else np.empty(0, np.intp)
    lengths = np.diff(np.append(starts, len(group)))
    best = np.maximum.reduceat(ordered, starts) if len(group) else ordered
    places = np.flatnonzero(ordered == np.repeat(best, lengths))
    owners = np.repeat(np.arange(len(starts)), lengths)[places]
    first = np.append(True, owners[1:] != owners[:-1]) if len(owners) else np.empty(0, np.bool_)
    chosen: NDArray[np.intp] = order[places[first]]
    return chosen


def agreeing(
    place: NDArray[np.int32], weight: NDArray[np.float32], pose: NDArray[np.float32], k: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The k places with the most votes that agree on turn and scale, to two bins of each, and how many: most first.

    Votes that agree are at most all there are. So those places are asked first that have the most in all, and of the
    others only those that have as many as agree for the k-th best of the first (and at most `_MOST_VOTED` of these).

    Args:
        place: int32 [n], what each vote is for.
        weight: float32 [n].
        pose: float32 [n, 2], the difference of the two keypoints' poses.
        k: how many places.

    Returns:
        int32 [m] and float32 [m], m at most k.
    """
    there, compact = np.unique(place, return_inverse=True)
    total = np.bincount(compact, weight, len(there)).astype(np.float32)
    order = np.argsort(-total, kind="stable")
    votes = np.zeros(len(there), np.float32)
    first, others = np.split(order, [max(k, _FIRST_VOTED)])
    for asked in (first, others[:_MOST_VOTED]):
        chosen = asked[total[asked] >= _kth(votes, k)]
        row = np.full(len(there), -1)
        row[chosen] = np.arange(len(chosen))
        rows = row[compact]
        kept = rows >= 0
        votes[chosen] = _most_agreeing(rows[kept], weight[kept], pose[kept], len(chosen))
    best = np.argsort(-votes, kind="stable")[:k]
    best = best[votes[best] > 0]
    return there[best], votes[best]


def _kth(votes: NDArray[np.float32], k: int) -> float:
    return float(np.partition(votes, -k)[-k]) if 0 < k <= len(votes) else 0.0


def _most_agreeing(
    row: NDArray[np.intp], weight: NDArray[np.float32], pose: NDArray[np.float32], rows: int
) -> NDArray[np.float32]:
    """Of each of so many rows the most votes in two bins of turn and two of scale: float32 [rows]."""
    turn = np.floor(pose[:, 0]).astype(np.int64) % _TURNS
    scale = np.clip(np.floor(pose[:, 1]).astype(np.int64) + _SCALES // 2, 0, _SCALES - 1)
    cell = (row * _TURNS + turn) * _SCALES + scale
    table = np.bincount(cell, weight, rows * _TURNS * _SCALES).reshape(rows, _TURNS, _SCALES)
    table += np.roll(table, -1, axis=1)
    table[:, :, :-1] += table[:, :, 1:].copy()
    most: NDArray[np.float32] = table.max(axis=(1, 2), initial=0).astype(np.float32)
    return most
