"""The semantic head: what makes `semantic` of a network's layers, fitted beforehand and baked into the graph."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

LAYERS = ("mixed3", "mixed4", "mixed5", "mixed6", "mixed7", "mixed8")
"""Inception v3's maps that are read; what each is worth is in docs/evaluation.md."""

PLACES = 9
"""Windows over each map, three by three: where in a picture things are says much of what they are."""

MIRRORED = (2, 1, 0, 5, 4, 3, 8, 7, 6)
"""Which window of the mirrored picture shows what each window shows."""


class SemanticHeadError(Exception):
    """The file is no semantic head, or one for other weights; the message says why."""


@dataclass(frozen=True, slots=True)
class SemanticHead:
    """y = normalise of all windows' (x - mean) @ matrix, one window after the other.

    x are a window's features: of each layer the average over the window, which is averaged with the mirrored picture's
    over the window that shows the same; then its square root, to unit norm; all layers side by side, divided by the
    root of how many they are.

    Attributes:
        layers: their names, in the order of the features.
        mean: float32 [9, C], a window each.
        matrix: float32 [C, D], the same for all windows.
        weights_sha256: of the weights that it was fitted on, as the model card has it.
        record: how it was fitted.
        sha256: of all that decides its vectors, hexadecimal.
    """

    layers: tuple[str, ...]
    mean: Array
    matrix: Array
    weights_sha256: str
    record: dict[str, Any]
    sha256: str

    @property
    def dimension(self) -> int:
        """Of the vectors: 9 D."""
        return PLACES * int(self.matrix.shape[1])

    def apply(self, features: Array) -> Array:
        """The vectors, float32 [..., 9 D] of unit norm, of features [..., 9, C], in numpy: what the graph computes."""
        rows = (features - self.mean) @ self.matrix
        flat = rows.reshape(*rows.shape[:-2], -1)
        return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=-1, keepdims=True), 1e-12), np.float32)

    def check(self, channels: int, weights_sha256: str) -> None:
        """Hold the head against the network that it is to stand on.

        Args:
            channels: of its layers' maps, in all.
            weights_sha256: of the network's weights.

        Raises:
            SemanticHeadError: it was fitted on others.
        """
        if channels != self.matrix.shape[0]:
            raise SemanticHeadError(
                f"the semantic head takes {self.matrix.shape[0]} channels of {', '.join(self.layers)}, and this "
                f"network has {channels}: fit it anew by `imagewarden model fit-semantic`"
            )
        if weights_sha256 != self.weights_sha256:
            raise SemanticHeadError(
                f"the semantic head was fitted on the weights {self.weights_sha256[:12]}, and these are "
                f"{weights_sha256[:12]}: fit it anew by `imagewarden model fit-semantic`, or leave it out"
            )


def averaging(side: int) -> Array:
    """The matrix that averages a map of side x side cells over the nine windows: float32 [9, side * side].

    A window is two fifths of the side, rounded up, so that neighbours overlap and the last ones reach the edge. On maps
    of 17 and 8 cells the mirror of a window is a window.
    """
    size = -(-2 * side // 5)
    offsets = (0, (side - size) // 2, side - size)
    matrix = np.zeros((PLACES, side, side), np.float32)
    places = [(top, left) for top in offsets for left in offsets]
    for row, (top, left) in enumerate(places):
        matrix[row, top : top + size, left : left + size] = 1.0 / size**2
    return matrix.reshape(PLACES, -1)


def save_semantic_head(
    path: Path, layers: Sequence[str], mean: Array, matrix: Array, weights_sha256: str, record: dict[str, Any]
) -> None:
    """Write a head's .npz, its matrix as float16.

    Raises:
        OSError: the file cannot be written.
    """
    with path.open("wb") as file:
        np.savez_compressed(
            file,
            layers=np.array(list(layers)),
            mean=mean.astype(np.float32),
            matrix=matrix.astype(np.float16),
            weights_sha256=np.array(weights_sha256),
            record=np.array(json.dumps(record, sort_keys=True)),
        )


def load_semantic_head(path: Path) -> SemanticHead:
    """Read a head's .npz; nothing in it is unpickled.

    Raises:
        SemanticHeadError: the file is missing or malformed.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            layers = tuple(str(name) for name in stored["layers"].tolist())
            mean, matrix = stored["mean"].astype(np.float32), stored["matrix"].astype(np.float32)
            weights = str(stored["weights_sha256"])
            record = json.loads(str(stored["record"]))
    except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise SemanticHeadError(f"{path} is no semantic head, as `model fit-semantic` writes one: {error}") from error
    if matrix.ndim != 2 or not matrix.shape[1] or mean.shape != (PLACES, matrix.shape[0]):
        raise SemanticHeadError(f"{path} has mean {mean.shape} and matrix {matrix.shape}, which do not belong together")
    if not layers or len(set(layers)) != len(layers):
        raise SemanticHeadError(
            f"{path} names the layers {', '.join(layers) or 'none'}: one or more, each once, are needed"
        )
    if not (np.isfinite(mean).all() and np.isfinite(matrix).all()):
        raise SemanticHeadError(f"{path} has values that are not finite")
    digest = hashlib.sha256("\0".join(layers).encode())
    digest.update(mean.astype("<f4").tobytes() + matrix.astype("<f4").tobytes())
    return SemanticHead(layers, mean, matrix, weights, record, digest.hexdigest())
