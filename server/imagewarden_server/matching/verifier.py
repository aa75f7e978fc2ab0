"""The last word on a logo: a small network that sees a piece of the picture and the drawing side by side.

What no fixed measure decides, whether these edges and colours are this logo in another ink, tilted, half covered, or
just another round sign, is learned from logos pasted into photographs (tools/fit_logo_verifier.py). Colours may change
as a whole, so the network is given beside the piece what the drawing explains of it: the piece as the best linear mix
of the ground, the logo's area and the logo's colours.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from imagewarden_server.media.drawings import SIDE

NETWORK = Path(__file__).parent / "data" / "logo-verifier.onnx"

CHANNELS = 14
"""The piece, what the drawing explains of it, how far they differ, the drawing's alpha and colours, the difference."""

Floats = NDArray[np.float32]

_PIXELS = SIDE * SIDE
_RIM = (7, 7)
_RIM_WEIGHT = 3.0
# The ridge of the mix: a logo of one colour has nothing to say of the others.
_RIDGE: Floats = np.diag([1.0, 1.0, 4.0, 4.0, 4.0]).astype(np.float32)
_FAINT = 0.04
_LEAST = 1e-3
_MOST = 4.0


@dataclass(frozen=True, slots=True)
class Drawn:
    """What of the comparison depends on the drawing alone.

    Attributes:
        planes: float32 [4, pixels]: red, green, blue, alpha, 0 to 1.
        weights: float32 [pixels]: the logo and a rim around it.
        basis: float32 [5, pixels]: ground, logo, and the logo's colours without their mean.
        solver: float32 [5, pixels]: a piece's weights in that basis are the product with it.
    """

    planes: Floats
    weights: Floats
    basis: Floats
    solver: Floats


def prepare(drawing: NDArray[np.uint8]) -> Drawn:
    """Of a drawing uint8 [48, 48, 4], colours multiplied by alpha."""
    planes = np.ascontiguousarray(drawing.transpose(2, 0, 1)).reshape(4, _PIXELS).astype(np.float32)
    planes /= np.float32(255)
    alpha = planes[3]
    blurred = np.asarray(cv2.blur(alpha.reshape(SIDE, SIDE), _RIM), np.float32).ravel()
    weights = np.minimum(blurred * np.float32(_RIM_WEIGHT), np.float32(1))
    mean = (planes[:3] @ weights) / ((alpha * weights).sum() + _LEAST)
    basis = np.concatenate([(1 - alpha)[None], alpha[None], planes[:3] - alpha * mean[:, None]], dtype=np.float32)
    weighed = basis * weights
    solver = np.linalg.solve(weighed @ basis.T + _RIDGE, weighed)
    return Drawn(planes, weights, basis, np.asarray(solver, np.float32))


def channels(piece: NDArray[np.uint8], drawn: Drawn) -> Floats:
    """What the network sees of a piece uint8 [48, 48, 3] and a drawing: float32 [14, 48, 48]."""
    planes = np.ascontiguousarray(piece.transpose(2, 0, 1)).reshape(3, _PIXELS).astype(np.float32) / 255
    total = drawn.weights.sum() + _LEAST
    centred = planes - (planes @ drawn.weights / total)[:, None]
    mix = drawn.solver @ centred.T
    spread = np.sqrt((centred * centred * drawn.weights).sum() / (3 * total) + 1e-6) + _FAINT
    seen: Floats = np.empty((CHANNELS, _PIXELS), np.float32)
    seen[0:3] = centred / spread
    seen[3:6] = mix.T @ drawn.basis / spread
    seen[6] = np.abs(seen[0:3] - seen[3:6]).sum(0) * drawn.weights / 3
    seen[7] = drawn.planes[3]
    seen[8:11] = drawn.planes[:3]
    seen[11:14] = planes * drawn.planes[3] - drawn.planes[:3]
    return np.clip(seen, -_MOST, _MOST).reshape(CHANNELS, SIDE, SIDE)


def likely(pieces: Sequence[NDArray[np.uint8]], drawings: Sequence[Drawn]) -> list[float]:
    """The logits that each piece shows the logo of its drawing; on any thread."""
    if not pieces:
        return []
    batch = np.stack([channels(piece, drawn) for piece, drawn in zip(pieces, drawings, strict=True)])
    network, lock = _network()
    with lock:
        network.setInput(batch)
        answer = network.forward()
    return [float(value) for value in np.asarray(answer).ravel()]


@functools.cache
def _network() -> tuple[cv2.dnn.Net, threading.Lock]:
    # One for all threads, one at a time: it keeps what it computes in itself.
    return cv2.dnn.readNetFromONNX(str(NETWORK)), threading.Lock()
