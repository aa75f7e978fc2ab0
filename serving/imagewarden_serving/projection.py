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
        sha256: of both arrays, hexadecimal.
    """

    mean: NDArray[np.float32]
    matrix: NDArray[np.float32]
    sha256: str

    @property
    def dimension(self) -> int:
        """D, of the projected descriptors."""
        return int(self.matrix.shape[1])


def load_projection(path: Path, channels: int) -> Projection:
    """Read a projection's .npz: `mean` [C] and `matrix` [C, D], any float type; nothing in it is unpickled.

    Raises:
        ProjectionError: the file is missing or malformed, or made for another number of channels.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            mean, matrix = arrays["mean"].astype(np.float32), arrays["matrix"].astype(np.float32)
    except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ProjectionError(f"{path} is no projection, an .npz of `mean` and `matrix`: {error}") from error
    if mean.shape != (channels,) or matrix.ndim != 2 or matrix.shape[0] != channels or not matrix.shape[1]:
        raise ProjectionError(
            f"{path} has mean {mean.shape} and matrix {matrix.shape}; this layer has {channels} channels: fit it anew"
        )
    if not (np.isfinite(mean).all() and np.isfinite(matrix).all()):
        raise ProjectionError(f"{path} has values that are not finite")
    digest = hashlib.sha256(mean.astype("<f4").tobytes() + matrix.astype("<f4").tobytes()).hexdigest()
    return Projection(mean, matrix, digest)
