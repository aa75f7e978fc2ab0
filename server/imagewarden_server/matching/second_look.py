"""The second look at logos: where the embedding sees one, its shape finds the place, and a network decides.

The shape (`shapes`) is laid over the picture around the window; the piece where it fits best goes to the network
(`verifier`) beside the drawing. What both say is added to what keypoints say of the logo.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imagewarden_server import media
from imagewarden_server.matching import shapes, verifier
from imagewarden_server.matching.ports import StoredLocal
from imagewarden_server.matching.types import Box

# What a deviation of the shape and a unit of the network's logit add to the logarithm of the inliers, and the logit
# that says nothing: by logistic regression, docs/logos.md.
_SHAPE, _LOGIT, _NOTHING = 0.218, 0.145, -1.0
_WORST_SHAPE = -1.0


@dataclass(frozen=True, slots=True)
class Stored:
    """What is stored of one logo for the second look, ready for use."""

    templates: Sequence[shapes.Template]
    drawings: Sequence[verifier.Drawn]


class Shelf:
    """Stored sets made ready for use, those that were used last; any thread."""

    def __init__(self, most: int = 400) -> None:
        """`most` sets of about 100 KB each."""
        self._most = most
        self._ready: OrderedDict[int, shapes.Template | verifier.Drawn] = OrderedDict()
        self._lock = threading.Lock()

    def stored(self, rows: Iterable[StoredLocal]) -> dict[int, Stored]:
        """What rows of the extractors `SHAPES` and `DRAWINGS` are of each entry, by its key."""
        found: dict[int, list[shapes.Template | verifier.Drawn]] = {}
        for row in rows:
            found.setdefault(row.entry, []).append(self._of(row))
        return {
            entry: Stored(
                [one for one in ready if isinstance(one, shapes.Template)],
                [one for one in ready if isinstance(one, verifier.Drawn)],
            )
            for entry, ready in found.items()
        }

    def _of(self, row: StoredLocal) -> shapes.Template | verifier.Drawn:
        # A row of the catalogue never changes, and its key is never given again.
        with self._lock:
            if row.key in self._ready:
                self._ready.move_to_end(row.key)
                return self._ready[row.key]
        shape = row.extractor == media.SHAPES
        ready = shapes.unpack(row.features) if shape else verifier.prepare(media.undrawn(row.features))
        with self._lock:
            self._ready[row.key] = ready
            while len(self._ready) > self._most:
                self._ready.popitem(last=False)
        return ready


@dataclass(frozen=True, slots=True)
class Seen:
    """How well a logo fits, 0 and more, in the logarithm of inliers; and where."""

    fit: float
    box: Box


def look(pixels: NDArray[np.uint8], stored: Mapping[int, Stored], windows: Mapping[int, Box]) -> dict[int, Seen]:
    """Look for logos where the embedding sees them.

    Args:
        pixels: uint8 [height, width, 3] of the picture.
        stored: what is stored of each logo, by its key.
        windows: where the embedding sees them, by key.

    Returns:
        What was seen, by key; none of a logo that has no shape, or has no room there.
    """
    picture = media.Shapes(pixels)
    laid = {key: shapes.look(picture, stored[key].templates, window) for key, window in windows.items()}
    placed = {key: one for key, one in laid.items() if one is not None}
    pieces = media.Pieces(picture.pixels) if placed else None
    pairs = [(key, drawn) for key in placed for drawn in stored[key].drawings]
    cut = [pieces.cut(placed[key].pose) for key, _ in pairs] if pieces is not None else []
    logits: dict[int, float] = {}
    for (key, _), logit in zip(pairs, verifier.likely(cut, [drawn for _, drawn in pairs]), strict=True):
        logits[key] = max(logit, logits.get(key, -math.inf))
    return {key: Seen(fit(one.score, logits.get(key)), one.box) for key, one in placed.items()}


def fit(shape: float, logit: float | None) -> float:
    """What the shape's deviations and the network's logit say; a logo without a drawing has the shape alone."""
    said = 0.0 if logit is None else logit - _NOTHING
    return max(0.0, _SHAPE * max(_WORST_SHAPE, shape) + _LOGIT * said)


def stronger(inliers: float, fitting: float) -> float:
    """LOCAL's value of a logo: its inliers, and more by how well it fits; what fits not at all takes none."""
    return (1 + inliers) * math.exp(fitting) - 1
