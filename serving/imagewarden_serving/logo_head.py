"""The logo head: what makes logo vectors of pooled features, fitted beforehand and baked into the graph."""

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

FINE_LAYER = "mixed2"
"""Pooled over the quarters of a window: where in a logo things are."""
COARSE_LAYER = "mixed3"
"""Pooled over the whole of it."""

_ARRAYS = (
    "input",
    "input_bias",
    "linear",
    "linear_bias",
    "hidden",
    "hidden_bias",
    "output",
    "output_bias",
)


class LogoHeadError(Exception):
    """The file is no logo head; the message says why."""


@dataclass(frozen=True, slots=True)
class LogoHead:
    """y = normalise(z @ linear + linear_bias + gelu(z @ hidden + hidden_bias) @ output + output_bias).

    z = x @ input + input_bias, and x are the pooled features: of FINE_LAYER over the four quarters of a window, side by
    side, of unit norm, then of COARSE_LAYER over the whole of it, of unit norm.

    Attributes:
        arrays: the eight matrices and biases by name, float32.
        boxes: the windows, left, top, right, bottom as fractions of the input.
        background: of pictures without logos the vectors of those windows that drawings of logos are most often most
            like, float32 [pictures, windows, D], unit norm.
        record: how it was fitted.
        sha256: of all arrays, hexadecimal.
    """

    arrays: dict[str, Array]
    boxes: tuple[tuple[float, float, float, float], ...]
    background: Array
    record: dict[str, Any]
    sha256: str

    @property
    def dimension(self) -> int:
        """D, of the vectors."""
        return int(self.arrays["output"].shape[1])

    def apply(self, features: Array) -> Array:
        """The vectors of pooled features [..., C], in numpy: what the graph computes."""
        held = self.arrays
        entered = features @ held["input"] + held["input_bias"]
        inner = entered @ held["hidden"] + held["hidden_bias"]
        gelu = 0.5 * inner * (1.0 + np.tanh(0.7978845608 * (inner + 0.044715 * inner**3)))
        raw = entered @ held["linear"] + held["linear_bias"] + gelu @ held["output"] + held["output_bias"]
        return np.asarray(raw / np.maximum(np.linalg.norm(raw, axis=-1, keepdims=True), 1e-12), np.float32)

    def check(self, weights_sha256: str) -> None:
        """Hold the head against the network's weights, where its record says which it was fitted on.

        Raises:
            LogoHeadError: it was fitted on others.
        """
        fitted_on = self.record.get("network", {}).get("weights_sha256", weights_sha256)
        if fitted_on != weights_sha256:
            raise LogoHeadError(
                f"the logo head was fitted on the weights {fitted_on[:12]}, and these are {weights_sha256[:12]}: fit "
                "it anew by `imagewarden model fit-logos`, or leave it out"
            )


def save_head(
    path: Path,
    arrays: dict[str, Array],
    boxes: Sequence[Sequence[float]],
    background: Array,
    record: dict[str, Any],
) -> None:
    """Write a head's .npz: matrices as float16, the background as signed bytes of 1/127."""
    stored: dict[str, Any] = {name: arrays[name].astype(np.float16) for name in _ARRAYS}
    stored["boxes"] = np.asarray(boxes, np.float32)
    stored["background"] = np.rint(np.clip(background, -1, 1) * 127).astype(np.int8)
    stored["record"] = np.array(json.dumps(record, sort_keys=True))
    with path.open("wb") as file:
        np.savez_compressed(file, **stored)


def load_head(path: Path) -> LogoHead:
    """Read a head's .npz; nothing in it is unpickled.

    Raises:
        LogoHeadError: the file is missing or malformed.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name].astype(np.float32) for name in _ARRAYS}
            edges = stored["boxes"].astype(np.float64)
            background = stored["background"].astype(np.float32)
            record = json.loads(str(stored["record"]))
    except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise LogoHeadError(f"{path} is no logo head, an .npz of {', '.join(_ARRAYS)}: {error}") from error
    chain = [arrays[name].shape for name in ("input", "hidden", "output")]
    if any(len(shape) != 2 for shape in chain) or chain[0][1] != chain[1][0] or chain[1][1] != chain[2][0]:
        raise LogoHeadError(f"{path} has matrices {chain}, which do not follow each other")
    sides = {
        "input_bias": chain[0][1:],
        "hidden_bias": chain[1][1:],
        "output_bias": chain[2][1:],
        "linear_bias": chain[2][1:],
        "linear": (chain[0][1], chain[2][1]),
    }
    for name, shape in sides.items():
        if arrays[name].shape != shape:
            raise LogoHeadError(f"{path} has {name} {arrays[name].shape} where {shape} belongs")
    if edges.ndim != 2 or edges.shape[1] != 4 or background.ndim != 3 or background.shape[2] != chain[2][1]:
        raise LogoHeadError(f"{path} has windows {edges.shape} and background {background.shape}")
    if not all(np.isfinite(one).all() for one in arrays.values()):
        raise LogoHeadError(f"{path} has values that are not finite")
    background /= np.maximum(np.linalg.norm(background, axis=-1, keepdims=True), 1e-12)
    digest = hashlib.sha256()
    for name in _ARRAYS:
        digest.update(arrays[name].astype("<f4").tobytes())
    digest.update(edges.astype("<f4").tobytes() + background.astype("<f4").tobytes())
    boxes = tuple((float(a), float(b), float(c), float(d)) for a, b, c, d in edges.round(6))
    return LogoHead(arrays, boxes, background, record, digest.hexdigest())
