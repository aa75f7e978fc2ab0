"""Fit the logo head: from icon packages and photographs to the file that an export bakes into the graph.

Logos are pasted into photographs, and drawn on plain grounds as a registration draws them; windows of both go through
the network's lower layers; and a small head learns to give a window that shows a logo the vector of the logo's drawing.
"""

from __future__ import annotations

import functools
import platform
import random
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imagewarden_serving.fitting import logos_brands, logos_features, logos_training, pictures
from imagewarden_serving.fitting.edits import Box
from imagewarden_serving.fitting.features import Array, model_input
from imagewarden_serving.fitting.logos_drawing import draw
from imagewarden_serving.fitting.logos_scenes import Scene, compose, compressed, sized
from imagewarden_serving.fitting.pictures import FitError, Share
from imagewarden_serving.logo_head import LogoHead, LogoHeadError, load_head, save_head
from imagewarden_serving.logo_windows import boxes

__all__ = ["FITTING_SHARE", "SCENES", "FitError", "Recipe", "Settings", "Share", "fit_logos"]

Settings = logos_training.Settings

SCALES = (0.15, 0.21, 0.30, 0.43, 0.62, 0.85)
ASPECTS = (1.0, 0.6, 1.67)
STEP = 0.6
"""The windows that are learned from: see `logo_windows.boxes`."""

HEAD_ASPECTS = (1.0, 0.6)
"""Of these the shapes that the head is for: a check pays for each window, and wide ones add little to the others."""

SCENES = 10_000
DRAWINGS_EACH = 2
"""Drawings of each identity."""

BACKGROUND_PICTURES = 128
"""Photographs whose vectors go with the head: what scores are normalised by."""

BACKGROUND_WINDOWS = 72
"""Of each the windows kept: those that drawings of logos are most often most like, since only the best ones count."""

FITTING_SHARE = 6
"""One of so many photographs is for fitting."""

_MIN_LOGOS = 10
_MIN_PICTURES = 10
_OPEN_PICTURES = 512
_ASKING_DRAWINGS = 6000


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to fit.

    Attributes:
        weights: `nsfwjs`, `imagenet` or the path of a .keras file, of Inception v3.
        scenes: how many photographs with logos are made.
        share: which of the photographs are for fitting.
        seed: of all that is left to chance.
        training: how the head is trained.
    """

    weights: str = "nsfwjs"
    scenes: int = SCENES
    share: Share = field(default_factory=lambda: Share(0, FITTING_SHARE))
    seed: int = 1
    training: Settings = field(default_factory=Settings)


def fit_logos(
    packages: Sequence[Path],
    directories: Sequence[Path],
    out: Path,
    recipe: Recipe,
    *,
    say: Callable[[str], None] = lambda _: None,
    progress: logos_features.Progress = lambda *_: None,
    network: tuple[logos_features.Pooling, dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Fit a logo head and write it.

    Args:
        packages: unpacked icon packages, see `logos_brands.find`.
        directories: where photographs without logos are.
        out: the .npz to write, see `logo_head`.
        recipe: how to fit.
        say: told what is done, a line each.
        progress: told what is counted, how many are done, of how many.
        network: what pools windows, and its record; None: Inception v3 of the recipe's weights.

    Returns:
        The record, also in the file. `test` is what is found of logos that were held out, for a first look alone: what
        a check finds is measured over the whole service.

    Raises:
        FitError: there is too little to fit on, a file cannot be read or written, or the training diverges.
        ModuleNotFoundError: resvg_py, which draws SVGs, or TensorFlow is not installed.
    """
    if not out.parent.is_dir():
        raise FitError(f"{out.parent} is no directory; make it, or choose another file")
    paths = pictures.find(directories, recipe.share)
    if len(paths) < _MIN_PICTURES:
        raise FitError(f"{len(paths)} pictures are too few to fit on; at least {_MIN_PICTURES} are needed")
    say("drawing logos")
    found = logos_brands.find(packages, seed=recipe.seed)
    if len(found.logos) < _MIN_LOGOS:
        raise FitError(
            f"{len(found.logos)} logos are too few to fit on ({found.unreadable} could not be drawn, {found.unfit} are "
            f"too long, small or faint); at least {_MIN_LOGOS} brands are needed"
        )
    if found.unreadable:
        say(f"{found.unreadable} SVGs could not be drawn and are left out")
    identities = logos_brands.identities(found.logos)
    windows = boxes(SCALES, ASPECTS, STEP)
    pooled, network_record = network or logos_features.pooling(recipe.weights, say)
    artist = _Artist(paths, found.logos, identities, windows, recipe.seed)
    with tempfile.TemporaryDirectory(prefix="imagewarden-logos-") as scratch:
        folder = Path(scratch)
        say(f"pasting {len(found.logos)} logos, {len(identities)} with their turns, into {len(paths)} pictures")
        scenes, entry = logos_features.of_scenes(
            recipe.scenes, artist.scene, windows, pooled, folder, seed=recipe.seed, progress=progress
        )
        # Of those that are seen: nothing would be learned from drawings of the others.
        seen = [int(owner) for owner in np.unique(scenes.owners) if owner >= 0] * DRAWINGS_EACH
        drawings = logos_features.of_drawings(
            len(seen),
            lambda number: artist.drawing(number, seen[number]),
            windows,
            pooled,
            entry,
            folder,
            progress=progress,
        )
        owners = np.array([one.logo for one in identities], np.int32)
        say(f"training on {len(scenes.owners)} windows of scenes and {len(drawings.owners)} of drawings")
        trained = logos_training.train(scenes, drawings, owners, recipe.training, progress)
        asking = drawings.features[np.sort(artist.some(len(drawings.features), _ASKING_DRAWINGS))].astype(np.float32)
    # As the file will have them: what is measured on them then holds for it.
    arrays = {
        name: array.astype(np.float16).astype(np.float32)
        for name, array in {"input": entry.matrix, "input_bias": entry.bias, **trained.arrays}.items()
    }
    kept = boxes(SCALES, HEAD_ASPECTS, STEP)
    photographs = artist.plain(BACKGROUND_PICTURES)
    plain = logos_features.of_pictures(len(photographs), photographs.__getitem__, kept, pooled, progress=progress)
    background = _background(arrays, plain, asking)
    tenth = max(1, len(trained.losses) // 10)
    record = {
        "network": network_record,
        "logos": {
            "packages": [package.name for package in packages],
            "brands": len(found.logos),
            "identities": len(identities),
            "trained_on": trained.identities,
            "unreadable": found.unreadable,
            "unfit": found.unfit,
            "sha256": found.sha256,
        },
        "pictures": {
            "count": len(paths),
            "directories": [directory.name for directory in directories],
            "share": f"{recipe.share.part} of {recipe.share.parts}",
            "sha256": pictures.digest(paths),
        },
        "windows": {
            "count": len(kept),
            "scenes": len(scenes.owners),
            "drawings": len(drawings.owners),
            "background": list(background.shape[:2]),
        },
        "scenes": recipe.scenes,
        "steps": recipe.training.steps,
        "components": len(entry.bias),
        "dimension": background.shape[2],
        "seed": recipe.seed,
        "loss": {
            "first": round(float(np.mean(trained.losses[:tenth])), 4),
            "last": round(float(np.mean(trained.losses[-tenth:])), 4),
        },
        "test": trained.test,
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in ("imagewarden", "tensorflow", "keras", "numpy", "pillow")},
        },
    }
    try:
        save_head(out, arrays, kept, background, record)
        load_head(out)
    except (OSError, LogoHeadError) as error:
        raise FitError(f"{out} cannot be written: {error}") from error
    return record


def _background(arrays: dict[str, Array], plain: Iterable[Array], asking: Array) -> Array:
    """What goes with a head of pictures without logos.

    Args:
        arrays: the head's.
        plain: of each picture the pooled features of all windows, [windows, C].
        asking: reduced features of drawings of logos, [n, K].

    Returns:
        float32 [pictures, BACKGROUND_WINDOWS at most, D], unit norm.
    """
    nowhere = np.zeros((0, 0, 0), np.float32)
    whole = LogoHead(arrays, (), nowhere, {}, "")
    # A head of features that are reduced already.
    unit = {"input": np.eye(len(arrays["input_bias"]), dtype=np.float32), "input_bias": 0 * arrays["input_bias"]}
    drawn = LogoHead({**arrays, **unit}, (), nowhere, {}, "").apply(asking)
    kept = []
    for features in plain:
        vectors = whole.apply(features)
        asked = np.bincount((drawn @ vectors.T).argmax(1), minlength=len(vectors))
        kept.append(vectors[np.argsort(-asked, kind="stable")[:BACKGROUND_WINDOWS]])
    return np.stack(kept)


class _Artist:
    """Makes scenes and drawings by their numbers, each of its own chance: one more changes nothing in the others."""

    def __init__(
        self,
        paths: Sequence[Path],
        logos: Sequence[logos_brands.Logo],
        identities: Sequence[logos_brands.Identity],
        windows: Sequence[Box],
        seed: int,
    ) -> None:
        self._paths = paths
        self._logos = logos
        self._identities = identities
        self._windows = windows
        self._seed = seed
        # Few photographs are opened many times.
        self._photograph = functools.lru_cache(_OPEN_PICTURES)(lambda path: sized(pictures.read(path)))

    def scene(self, number: int) -> Scene:
        """A photograph with logos in it."""
        chance = self._chance("scene", number)
        return compose(self._photograph(chance.choice(self._paths)), self._picture, len(self._identities), chance)

    def drawing(self, number: int, identity: int) -> tuple[NDArray[np.uint8], list[int], int]:
        """A picture of an identity, the windows that it fills, and the identity's number."""
        return (*draw(self._picture(identity), self._windows, self._chance("drawing", number)), identity)

    def some(self, count: int, most: int) -> list[int]:
        """So many numbers below `count` at most."""
        return self._chance("some", 0).sample(range(count), min(count, most))

    def plain(self, most: int) -> list[NDArray[np.uint8]]:
        """Photographs without logos as the network sees them, uint8 [299, 299, 3]."""
        chosen = self._chance("plain", 0).sample(self._paths, min(most, len(self._paths)))
        return [
            model_input(compressed(self._photograph(path), self._chance("plain", number)))
            for number, path in enumerate(chosen, 1)
        ]

    def _picture(self, identity: int) -> Image.Image:
        one = self._identities[identity]
        return one.of(self._logos[one.logo].picture())

    def _chance(self, kind: str, number: int) -> random.Random:
        return random.Random(f"{self._seed} {kind} {number}")  # noqa: S311 -- no secret
