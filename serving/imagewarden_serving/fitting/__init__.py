"""Fit the projection of the copy descriptor: from photographs to the file that an export bakes into the graph."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagewarden_serving.fitting import pictures, samples, whitening
from imagewarden_serving.fitting.edits import EDITS
from imagewarden_serving.fitting.features import maps_of
from imagewarden_serving.fitting.pictures import FitError, Share

__all__ = ["DIMENSIONS", "EDITS_EACH", "RIDGE", "FitError", "Recipe", "Share", "fit"]

DIMENSIONS = whitening.DIMENSIONS
RIDGE = whitening.RIDGE
EDITS_EACH = 20

EVERYTHING = Share()

_MIN_PICTURES = 50


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to fit.

    Attributes:
        architecture: one of `ARCHITECTURES`.
        weights: `nsfwjs`, `imagenet` or the path of a .keras file.
        layer: the layer that is pooled; None: the architecture's.
        dimensions: of the descriptor.
        edits_each: edits of each picture, at most `len(EDITS)`.
        ridge: see `whitening.RIDGE`.
        seed: of the edits' chance.
        share: which of the pictures are for fitting.
    """

    architecture: str = "inception_v3"
    weights: str = "nsfwjs"
    layer: str | None = None
    dimensions: int = DIMENSIONS
    edits_each: int = EDITS_EACH
    ridge: float = RIDGE
    seed: int = 1
    share: Share = EVERYTHING


def fit(
    directories: Sequence[Path],
    out: Path,
    recipe: Recipe,
    *,
    say: Callable[[str], None] = lambda _: None,
    progress: samples.Progress = lambda *_: None,
) -> dict[str, Any]:
    """Fit a projection and write it.

    Args:
        directories: where the photographs are.
        out: the .npz to write: `mean` [C], `matrix` [C, D], `background` [pictures, 5, D] (the descriptors of
            `pictures.brought`, to normalise scores by), and `record`, a JSON text of how it was made.
        recipe: how to fit.
        say: told what is done, a line each.
        progress: told how many pictures of how many are done.

    Returns:
        The record, also in the file. `similarity` are cosines of the pictures fitted on, for a first look alone: what
        a descriptor finds is measured on other pictures.

    Raises:
        FitError: there are too few pictures, one cannot be read, a setting is wrong, or the file cannot be written.
    """
    if not 1 <= recipe.edits_each <= len(EDITS):
        raise FitError(f"{recipe.edits_each} edits each cannot be made; choose 1 to {len(EDITS)}")
    if not out.parent.is_dir():
        raise FitError(f"{out.parent} is no directory; make it, or choose another file")
    paths = pictures.find(directories, recipe.share)
    if len(paths) < _MIN_PICTURES:
        raise FitError(f"{len(paths)} pictures are too few to fit on; at least {_MIN_PICTURES} are needed")
    maps, network = maps_of(recipe.architecture, recipe.weights, recipe.layer, say)
    say(f"editing {len(paths)} pictures, {recipe.edits_each} edits each")
    collected = samples.collect(paths, maps, edits_each=recipe.edits_each, seed=recipe.seed, progress=progress)
    say(f"whitening {len(collected.features)} vectors")
    learned = whitening.learn(collected.features, collected.pictures, dimensions=recipe.dimensions, ridge=recipe.ridge)
    brought = pictures.brought(paths, directories)
    record = {
        "network": network,
        "pictures": {
            "count": len(paths),
            "background": len(brought),
            "directories": [directory.name for directory in directories],
            "share": f"{recipe.share.part} of {recipe.share.parts}",
            "sha256": pictures.digest(paths),
        },
        "edits": {"each": recipe.edits_each, "kinds": sorted({edit.__name__ for edit in EDITS})},
        "vectors": len(collected.features),
        "dimensions": recipe.dimensions,
        "ridge": recipe.ridge,
        "seed": recipe.seed,
        "similarity": _similarity(learned.project(collected.features), collected.pictures),
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in ("imagewarden", "tensorflow", "numpy", "pillow")},
        },
    }
    whitening.save(learned, learned.project(collected.background[brought]), record, out)
    return record


def _similarity(descriptors: NDArray[np.float32], numbers: NDArray[np.int32]) -> dict[str, float]:
    """Of a picture's first vector: the median cosine with its others, the 99.9th percentile with other pictures'."""
    _, firsts = np.unique(numbers, return_index=True)
    cosines = descriptors @ descriptors[firsts].T
    same = numbers[:, None] == numbers[firsts][None, :]
    own = cosines[same & (np.arange(len(numbers))[:, None] != firsts[None, :])]
    return {
        "same_median": round(float(np.median(own)), 4),
        "other_999": round(float(np.quantile(cosines[~same], 0.999)), 4),
    }
