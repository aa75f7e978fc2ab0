"""Votes of keypoints: one a keypoint and picture, and those count together that agree on turn and scale."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_TURNS = 16
_SCALES = 12
_OCTAVE = 2.0
"""Bins of scale an octave."""
_MOST_VOTED = 2_048
"""So many sets are asked how far their votes agree."""


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
    place: NDArray[np.int32], weight: NDArray[np.float32], pose: NDArray[np.float32], places: int
) -> NDArray[np.float32]:
    """The most votes for each place that agree on turn and scale, to two bins of each: float32 [places].

    Args:
        place: int32 [n], what each vote is for.
        weight: float32 [n].
        pose: float32 [n, 2], the difference of the two keypoints' poses.
        places: how many places there are.
    """
    there, compact = np.unique(place, return_inverse=True)
    if len(there) > _MOST_VOTED:
        # Those with the most votes in all: others have hardly more that agree.
        total = np.bincount(compact, weight)
        chosen = np.zeros(len(there), np.bool_)
        chosen[np.argpartition(total, -_MOST_VOTED)[-_MOST_VOTED:]] = True
        kept = chosen[compact]
        there, compact = np.unique(place[kept], return_inverse=True)
        weight, pose = weight[kept], pose[kept]
    turn = np.floor(pose[:, 0]).astype(np.int64) % _TURNS
    scale = np.clip(np.floor(pose[:, 1]).astype(np.int64) + _SCALES // 2, 0, _SCALES - 1)
    cell = (compact * _TURNS + turn) * _SCALES + scale
    table = np.bincount(cell, weight, len(there) * _TURNS * _SCALES).reshape(len(there), _TURNS, _SCALES)
    table += np.roll(table, -1, axis=1)
    table[:, :, :-1] += table[:, :, 1:].copy()
    votes = np.zeros(places, np.float32)
    votes[there] = table.reshape(len(there), -1).max(1) if len(there) else 0
    return votes
