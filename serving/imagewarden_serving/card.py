"""The model card: what a model is and what decides its vectors, as JSON. Imports no TensorFlow."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SCHEMA_VERSION = 1
FILE_NAME = "model_card.json"

GRID = 17
"""Window sizes are said in cells of a map of this side, Inception v3's mixed3; other maps scale them."""

WINDOW_SIZES = (12, 9, 6)
"""The default window sizes of `regions`."""

_DECISIVE = ("architecture", "input", "embedding", "regions", "logos", "semantic", "nsfw")


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows of `regions` over a map.

    Attributes:
        cells: the map's side in cells.
        sizes: the windows' sides in cells, the whole map first.
        places: (top, left, size) of each window in cells, in the order of the output's rows.
    """

    cells: int
    sizes: tuple[int, ...]
    places: tuple[tuple[int, int, int], ...]

    @property
    def boxes(self) -> list[list[float]]:
        """Each window as a box of the input: left, top, right, bottom as fractions."""
        return [
            [round(edge / self.cells, 6) for edge in (left, top, left + size, top + size)]
            for top, left, size in self.places
        ]


def windows(cells: int, sizes: Sequence[int] = WINDOW_SIZES) -> Windows:
    """The whole map, then square windows at strides of about half a window, both edges covered.

    On mixed3's 17 cells the default sizes make 1 + 4 + 9 + 25 = 39 windows.

    Args:
        cells: the map's side in cells.
        sizes: window sides in cells of a map of `GRID` cells.

    Raises:
        ValueError: a size is not between 1 and `GRID`.
    """
    if not all(1 <= size <= GRID for size in sizes):
        raise ValueError(f"window sizes {tuple(sizes)} are not all between 1 and {GRID} cells")
    scaled = tuple(dict.fromkeys((cells, *(max(1, round(size * cells / GRID)) for size in sizes))))
    places = []
    for size in scaled:
        offsets = _offsets(cells, size)
        places += [(top, left, size) for top in offsets for left in offsets]
    return Windows(cells, scaled, tuple(places))


def _offsets(cells: int, size: int) -> list[int]:
    last = cells - size
    # The number of even steps whose length is nearest to half a window; of two as near, the fewer.
    steps = max(1, -(-(4 * last - size) // (2 * size)))
    return sorted({round(step * last / steps) for step in range(steps + 1)})


def fingerprint(card: Mapping[str, Any]) -> str:
    """SHA-256, hexadecimal, of the canonical JSON of all that decides a model's vectors.

    Two models of equal fingerprints give the same vectors up to the arithmetic of the machine: theirs are comparable.
    Name, version, date, tools, and where the weights came from do not count; their tensors do.
    """
    kept = {key: card[key] for key in _DECISIVE} | {"tensors_sha256": card["weights"]["tensors_sha256"]}
    canonical = json.dumps(kept, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def to_json(card: Mapping[str, Any]) -> str:
    """The card as it is written and answered."""
    return json.dumps(card, indent=2, sort_keys=True, ensure_ascii=True, allow_nan=False) + "\n"
