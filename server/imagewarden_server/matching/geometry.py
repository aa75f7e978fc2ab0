"""The geometric check: does one transform explain how keypoints of a stored picture lie in the checked one?

Each pair of like keypoints gives a whole similarity transform by itself: their sizes the scale, their orientations the
turn, their places the rest. So every pair is a hypothesis, all are tried against all pairs at once, and nothing is left
to chance: the same features give the same answer. The best ones are refined to affine transforms by least squares.

Sources: Lowe, 2004 (ratio test); Philbin et al., CVPR 2007 (hypotheses of single correspondences); Fischler and
Bolles, 1981 (consensus).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imagewarden_server.matching.types import Box, Transform
from imagewarden_server.media.local import UNIT
from imagewarden_server.media.local import mirrored as in_mirror
from imagewarden_server.media.types import LocalFeatures

Floats = NDArray[np.float64]

RATIO = 0.8
"""A pair counts where its distance is under this part of the distance to the next like keypoint elsewhere."""

_MAX_DISTANCE = 0.9
_RIVAL = 0.02
_MIN_MATCHES = 3
_TURN = math.radians(30)
_LOG_SCALE = math.log(1.7)
_SCALES = (0.05, 20.0)
_STRETCH = 3.0
_LOOSE = 0.05
_TIGHT = 0.01
_FLOOR = 0.004
_HYPOTHESES = 4
_CELL = 1 / 64
_THIN = 0.006
_FULL_SHARE = 0.16
"""From this part of the keypoints on all inliers count: see docs/local-features.md."""


@dataclass(frozen=True, slots=True)
class Verified:
    """How a stored picture lies in the checked one.

    Attributes:
        inliers: how many pairs of keypoints, at places distinct in both pictures, the transform explains.
        score: `inliers`, less where they are few for what both pictures have in the part they share: of a copy a good
            part of all keypoints there agrees, and pictures of like things agree in a few of very many.
        box: the outline of the stored picture in the checked one, cut at its edges.
        transform: from the stored picture to the checked one.
        matches: how many pairs of keypoints were alike.
    """

    inliers: int
    score: float
    box: Box
    transform: Transform
    matches: int


def verify(query: LocalFeatures, stored: LocalFeatures, *, mirrored: bool | None = None) -> Verified | None:
    """Look for one stored picture in a checked one.

    Args:
        query: of the checked picture.
        stored: of the stored one.
        mirrored: whether to look in the mirrored picture; None looks in both and answers the better.

    Returns:
        None where no transform explains three pairs. What number is enough is the caller's threshold.
    """
    return verify_many(query, [stored], mirrored=None if mirrored is None else [mirrored])[0]


def verify_many(
    query: LocalFeatures, stored: Sequence[LocalFeatures], *, mirrored: Sequence[bool | None] | None = None
) -> list[Verified | None]:
    """`verify` for many stored pictures; `mirrored` is a value for each. Each answer is what `verify` would give."""
    wanted = list(mirrored) if mirrored is not None else [None] * len(stored)
    answers: list[Verified | None] = [None] * len(stored)
    for flip in (False, True):
        places = [place for place, want in enumerate(wanted) if want is None or want is flip]
        if not places or not len(query.points):
            continue
        seen = in_mirror(query) if flip else query
        left = seen.descriptors.astype(np.float32)
        for place in places:
            found = _verify(seen, left, stored[place], flip=flip)
            best = answers[place]
            if found is not None and (best is None or found.score > best.score):
                answers[place] = found
    return answers


def _verify(query: LocalFeatures, left: NDArray[np.float32], stored: LocalFeatures, *, flip: bool) -> Verified | None:
    if not len(stored.points):
        return None
    rows, columns = _pairs(left, stored)
    if len(rows) < _MIN_MATCHES:
        return None
    there = query.points[rows].astype(np.float64)
    here = stored.points[columns].astype(np.float64)
    best: tuple[int, Floats] | None = None
    for chosen in _hypotheses(there, here):
        refined = _refine(there, here, chosen)
        if refined is not None and (best is None or refined[0] > best[0]):
            best = refined
    if best is None:
        return None
    inliers, affine = best
    share = inliers / max(1, _shared(affine, query, stored))
    score = inliers * min(1.0, share / _FULL_SHARE)
    return Verified(inliers, score, *_placed(affine, query.aspect, stored.aspect, flip=flip), len(rows))


def _pairs(left: NDArray[np.float32], stored: LocalFeatures) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows of the query's and the stored picture's keypoints that are alike: the nearest, and clearly the nearest."""
    likeness = left @ stored.descriptors.astype(np.float32).T
    nearest = likeness.argmax(1)
    rows = np.arange(len(likeness))
    distance = _distance(likeness[rows, nearest])
    rows = np.flatnonzero(distance < _MAX_DISTANCE)
    nearest, distance, likeness = nearest[rows], distance[rows], likeness[rows]
    # The next one must be elsewhere: a keypoint with two orientations, or found in two octaves, is not its own rival.
    x, y = stored.points[:, 0], stored.points[:, 1]
    own = np.arange(len(rows))
    likeness[own, nearest] = 0
    rival = likeness.argmax(1)
    there = likeness[own, rival]
    near = np.flatnonzero((np.abs(x[rival] - x[nearest]) <= _RIVAL) & (np.abs(y[rival] - y[nearest]) <= _RIVAL))
    elsewhere = np.abs(x - x[nearest[near], None]) > _RIVAL
    elsewhere |= np.abs(y - y[nearest[near], None]) > _RIVAL
    there[near] = (likeness[near] * elsewhere).max(1)
    kept = distance < RATIO * _distance(there)
    return rows[kept], nearest[kept]


def _distance(likeness: NDArray[np.float32]) -> NDArray[np.float32]:
    """The Euclidean distance of unit vectors from the product of what is stored of them."""
    distance: NDArray[np.float32] = np.sqrt(np.maximum(2 - likeness * np.float32(2 / UNIT**2), 0))
    return distance


def _hypotheses(there: Floats, here: Floats) -> list[NDArray[np.intp]]:
    """The largest sets of pairs that agree on scale, turn and place with one of them, each by its rows."""
    z, w = here[:, 0] + 1j * here[:, 1], there[:, 0] + 1j * there[:, 1]
    log_scale = np.log(there[:, 2] / here[:, 2])
    turn = there[:, 3] - here[:, 3]
    factor = np.exp(log_scale + 1j * turn)
    scale = np.exp(log_scale)
    residual = np.abs(w[None] - w[:, None] - factor[:, None] * (z[None] - z[:, None]))
    agree = residual < (_FLOOR + _LOOSE * scale)[:, None]
    agree &= np.abs(log_scale[None] - log_scale[:, None]) < _LOG_SCALE
    agree &= np.cos(turn[None] - turn[:, None]) > math.cos(_TURN)
    agree[(scale < _SCALES[0]) | (scale > _SCALES[1])] = False
    counts = agree.sum(1)
    chosen = []
    for _ in range(_HYPOTHESES):
        top = int(counts.argmax())
        if counts[top] < _MIN_MATCHES:
            break
        chosen.append(np.flatnonzero(agree[top]))
        # What agrees with the best one would say the same again.
        counts[agree[top]] = 0
    return chosen


def _refine(there: Floats, here: Floats, chosen: NDArray[np.intp]) -> tuple[int, Floats] | None:
    """Inliers at distinct places and the affine transform [2, 3] that they agree on, or None where it is degenerate."""
    scales, turns = there[:, 2] / here[:, 2], there[:, 3] - here[:, 3]
    affine: Floats | None = None
    for tolerance in (_LOOSE, 2 * _TIGHT, _TIGHT, _TIGHT):
        if len(chosen) < _MIN_MATCHES:
            return None
        similar = len(chosen) < 6 or tolerance == _LOOSE
        affine = _similarity(there[chosen], here[chosen]) if similar else _affine(there[chosen], here[chosen])
        if affine is None or not _sane(affine):
            return None
        scale = math.sqrt(abs(np.linalg.det(affine[:, :2])))
        angle = math.atan2(affine[1, 0] - affine[0, 1], affine[0, 0] + affine[1, 1])
        residual = np.hypot(*(there[:, :2] - here[:, :2] @ affine[:, :2].T - affine[:, 2]).T)
        chosen = np.flatnonzero(
            (residual < _FLOOR + tolerance * scale)
            & (np.abs(np.log(scales / scale)) < _LOG_SCALE)
            & (np.cos(turns - angle) > math.cos(_TURN))
        )
    if len(chosen) < _MIN_MATCHES or _thin(here[chosen]):
        return None
    return (_distinct(there[chosen], here[chosen]), affine) if affine is not None else None


def _similarity(there: Floats, here: Floats) -> Floats | None:
    z, w = here[:, 0] + 1j * here[:, 1], there[:, 0] + 1j * there[:, 1]
    dz, dw = z - z.mean(), w - w.mean()
    spread = (np.abs(dz) ** 2).sum()
    if spread < 1e-8:
        return None
    factor = (dz.conj() * dw).sum() / spread
    rest = w.mean() - factor * z.mean()
    return np.array([[factor.real, -factor.imag, rest.real], [factor.imag, factor.real, rest.imag]])


def _affine(there: Floats, here: Floats) -> Floats | None:
    middle = here[:, :2].mean(0)
    centred = here[:, :2] - middle
    moments = centred.T @ centred
    if np.linalg.det(moments) < 1e-9:
        return _similarity(there, here)
    linear = np.linalg.solve(moments, centred.T @ there[:, :2]).T
    return np.column_stack([linear, there[:, :2].mean(0) - linear @ middle])


def _sane(affine: Floats) -> bool:
    longest, shortest = np.linalg.svd(affine[:, :2], compute_uv=False)
    return bool(
        shortest > _SCALES[0]
        and longest < _SCALES[1]
        and longest < _STRETCH * shortest
        and np.linalg.det(affine[:, :2]) > 0
    )


def _thin(points: Floats) -> bool:
    """Whether points lie in one spot or on one line: such prove nothing."""
    centred = points[:, :2] - points[:, :2].mean(0)
    return bool(np.linalg.eigvalsh(centred.T @ centred / len(points))[0] < _THIN**2)


def _distinct(there: Floats, here: Floats) -> int:
    counts = []
    for points in (there, here):
        cells = np.floor(points[:, :2] / _CELL).astype(np.int64)
        counts.append(len(np.unique(cells[:, 0] * 4096 + cells[:, 1])))
    return min(counts)


def _size(aspect: float) -> Floats:
    """Width and height of a picture, the longer of them 1."""
    return np.array([min(1.0, aspect), min(1.0, 1 / aspect)])


def _shared(affine: Floats, query: LocalFeatures, stored: LocalFeatures) -> int:
    """How many keypoints the pictures have in the part they share: in the one of them that has fewer."""
    back = np.linalg.inv(affine[:, :2])
    there = stored.points[:, :2] @ affine[:, :2].T + affine[:, 2]
    here = (query.points[:, :2] - affine[:, 2]) @ back.T
    visible = ((there > 0) & (there < _size(query.aspect))).all(1)
    inside = ((here > 0) & (here < _size(stored.aspect))).all(1)
    return min(int(visible.sum()), int(inside.sum()))


def _placed(affine: Floats, query_aspect: float, stored_aspect: float, *, flip: bool) -> tuple[Box, Transform]:
    """The box and the transform in fractions of width and height; `flip` for an affine into the mirrored picture."""
    whole = affine / _size(query_aspect)[:, None]
    whole[:, :2] *= _size(stored_aspect)
    if flip:
        whole[0] = np.array([0.0, 0.0, 1.0]) - whole[0]
    corners = np.array([[0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]], np.float64) @ whole.T
    left, top = np.clip(corners.min(0), 0, 1)
    right, bottom = np.clip(corners.max(0), 0, 1)
    a, b, c, d, e, f = (float(one) for one in whole.ravel())
    return Box(float(left), float(top), float(right), float(bottom)), Transform((a, b, c, d, e, f), flip)
