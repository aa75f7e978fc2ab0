"""A learned whitening: the projection that a fit makes.

Mikolajczyk and Matas (Improving Descriptors for Fast Tree Matching by Optimal Linear Projection, ICCV 2007), as
Radenovic et al. (2018) use it: whiten the covariance of the differences between a picture and its edited self, so that
what edits change counts little, then rotate to the principal axes of what is left and keep the first ones.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagewarden_serving.fitting.features import Array
from imagewarden_serving.fitting.pictures import FitError

DIMENSIONS = 512
RIDGE = 0.03
"""Added to the within-pair covariance, as a share of its mean eigenvalue: the data never span all directions."""


@dataclass(frozen=True, slots=True)
class Whitening:
    """y = normalise((x - mean) @ matrix), of pooled unit features x; mean float32 [C], matrix float32 [C, D]."""

    mean: Array
    matrix: Array

    def project(self, features: NDArray[Any]) -> Array:
        """Descriptors of unit norm, float32 [..., D], of features [..., C]."""
        rows = (features.astype(np.float32) - self.mean) @ self.matrix
        return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), np.float32)


def learn(
    features: NDArray[Any], pictures: NDArray[np.int32], *, dimensions: int = DIMENSIONS, ridge: float = RIDGE
) -> Whitening:
    """Learn a whitening.

    Args:
        features: [n, C], pooled, of unit norm.
        pictures: [n]; rows of one number show the same picture. A picture of one row says nothing and is left out.
        dimensions: D of the result.
        ridge: see `RIDGE`.

    Raises:
        FitError: `dimensions` is not between 1 and C, or no picture has two rows.
    """
    channels = features.shape[1]
    if not 1 <= dimensions <= channels:
        raise FitError(f"{dimensions} dimensions cannot be had from {channels} channels; choose at most {channels}")
    _, numbers, sizes = np.unique(pictures, return_inverse=True, return_counts=True)
    paired = sizes[numbers] > 1
    if not paired.any():
        raise FitError("no picture has an edit beside it; ask for more edits")
    rows = features[paired].astype(np.float64)
    _, numbers, sizes = np.unique(numbers[paired], return_inverse=True, return_counts=True)
    mean = rows.mean(axis=0)
    rows -= mean
    centres = np.zeros((len(sizes), channels))
    np.add.at(centres, numbers, rows)
    within = rows - (centres / sizes[:, None])[numbers]
    covariance = within.T @ within / len(within)
    covariance += np.eye(channels) * ridge * np.trace(covariance) / channels
    values, axes = np.linalg.eigh(covariance)
    whitening = axes @ np.diag(values**-0.5) @ axes.T
    spread = rows @ whitening
    _, principal = np.linalg.eigh(spread.T @ spread / len(spread))
    matrix = whitening @ principal[:, ::-1][:, :dimensions]
    # An axis has no sign of its own; one is chosen, so that the same pictures give the same file.
    matrix *= np.sign(matrix[np.abs(matrix).argmax(axis=0), np.arange(dimensions)])
    return Whitening(mean.astype(np.float32), matrix.astype(np.float32))


def save(whitening: Whitening, background: NDArray[Any], record: Mapping[str, Any], path: Path) -> None:
    """Write a projection's .npz.

    Its arrays: `mean`, `matrix` as float16 (which moves no cosine beyond its rounding), `background` as float16, the
    JSON text `record`.

    Args:
        whitening: what was learned.
        background: descriptors [pictures, windows, D] of ordinary pictures, to normalise scores by.
        record: how it was made.
        path: the file.

    Raises:
        FitError: the file cannot be written.
    """
    try:
        with path.open("wb") as file:
            np.savez_compressed(
                file,
                mean=whitening.mean,
                matrix=whitening.matrix.astype(np.float16),
                background=background.astype(np.float16),
                record=np.array(json.dumps(record, sort_keys=True)),
            )
    except OSError as error:
        raise FitError(f"{path} cannot be written: {error}") from error
