"""A projection of pooled features, fitted beforehand and baked into the graph: subtract a mean, multiply, normalise."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class ProjectionError(Exception):
    """The file is no projection for this layer; the message says why."""


@dataclass(frozen=True, slots=True)
class Projection:
    """y = normalise((normalise(x) - mean) @ matrix).

    Attributes:
        mean: float32 [C], of the normalised pooled features.
        matrix: float32 [C, D].
        background: float32 [pictures, windows, D], unit norm: descriptors of ordinary pictures, which registered ones
            are held against; of none where the file has none.
        sha256: of all arrays, hexadecimal.
    """

    mean: NDArray[np.float32]
    matrix: NDArray[np.float32]
    background: NDArray[np.float32]
    sha256: str

    @property
    def dimension(self) -> int:
        """D, of the projected descriptors."""
        return int(self.matrix.shape[1])


def load_projection(path: Path, channels: int) -> Projection:
    """Read a projection's .npz: `mean` [C], `matrix` [C, D] and, where it has one, `background` [pictures, windows, D].

    Any float type; nothing in it is unpickled.

    Raises:
        ProjectionError: the file is missing or malformed, or made for another number of channels.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            mean, matrix = arrays["mean"].astype(np.float32), arrays["matrix"].astype(np.float32)
            background = arrays["background"].astype(np.float32) if "background" in arrays else _nothing(matrix)
    except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ProjectionError(f"{path} is no projection, an .npz of `mean` and `matrix`: {error}") from error
    if mean.shape != (channels,) or matrix.ndim != 2 or matrix.shape[0] != channels or not matrix.shape[1]:
        raise ProjectionError(
            f"{path} has mean {mean.shape} and matrix {matrix.shape}; this layer has {channels} channels: fit it anew"
        )
    if background.ndim != 3 or background.shape[2] != matrix.shape[1]:
        raise ProjectionError(f"{path} has a background {background.shape} for matrix {matrix.shape}: fit it anew")
    if not all(np.isfinite(one).all() for one in (mean, matrix, background)):
        raise ProjectionError(f"{path} has values that are not finite")
    background /= np.maximum(np.linalg.norm(background, axis=-1, keepdims=True), 1e-12)
    digest = hashlib.sha256()
    for one in (mean, matrix, background):
        digest.update(one.astype("<f4").tobytes())
    return Projection(mean, matrix, background, digest.hexdigest())


def _nothing(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.zeros((0, 1, matrix.shape[-1]), np.float32)
