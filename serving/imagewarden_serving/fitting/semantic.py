"""Fit the semantic head: principal axes of many layers' features, from photographs without a word about them.

In closed form, and unsupervised: what is in a picture is never told. Jegou and Chum (Negative evidences and
co-occurences in image retrieval: the benefit of PCA and whitening, ECCV 2012) show what whitening does for similarity.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagewarden_serving import weights as weight_sources
from imagewarden_serving.architectures import ARCHITECTURES, SIDE, WrongBackend
from imagewarden_serving.fitting import pictures
from imagewarden_serving.fitting.features import faster, model_input
from imagewarden_serving.fitting.pictures import FitError, Share
from imagewarden_serving.folding import FoldingError, fold_batch_norms
from imagewarden_serving.semantic_head import LAYERS, PLACES, SemanticHeadError, load_semantic_head, save_semantic_head

__all__ = ["DIMENSIONS", "FitError", "Recipe", "Share", "fit_semantic", "principal"]

Array = NDArray[np.float32]
Features = Callable[[NDArray[np.uint8]], Array]
"""From uint8 [n, 299, 299, 3] to a head's features, float32 [n, 9, C]."""

DIMENSIONS = 448
"""Of each of the nine windows: 4,032 in all."""

RIDGE = 1e-3
"""Added to each eigenvalue, as a share of the first: the last axes of a few pictures are mostly noise."""

ARCHITECTURE = "inception_v3"

EVERYTHING = Share()

_MIN_PICTURES = 50
_BATCH = 16


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to fit.

    Attributes:
        weights: `nsfwjs`, `imagenet` or the path of a .keras file, of inception_v3.
        dimensions: of each window.
        share: which of the pictures are for fitting.
    """

    weights: str = "nsfwjs"
    dimensions: int = DIMENSIONS
    share: Share = EVERYTHING


def fit_semantic(
    directories: Sequence[Path],
    out: Path,
    recipe: Recipe,
    *,
    say: Callable[[str], None] = lambda _: None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> dict[str, Any]:
    """Fit a semantic head and write it.

    Args:
        directories: where the photographs are.
        out: the .npz to write, see `semantic_head`.
        recipe: how to fit.
        say: told what is done, a line each.
        progress: told how many pictures of how many are done.

    Returns:
        The record, also in the file.

    Raises:
        FitError: there are too few pictures, one cannot be read, a setting is wrong, or the file cannot be written.
    """
    if not out.parent.is_dir():
        raise FitError(f"{out.parent} is no directory; make it, or choose another file")
    paths = pictures.find(directories, recipe.share)
    if len(paths) < _MIN_PICTURES:
        raise FitError(f"{len(paths)} pictures are too few to fit on; at least {_MIN_PICTURES} are needed")
    features, digest = features_of(recipe.weights, LAYERS, say)
    say(f"reading {len(paths)} pictures and their mirrors")
    rows = collect(paths, features, progress)
    say(f"finding {recipe.dimensions} axes of {PLACES * len(rows)} windows")
    mean, matrix, kept = principal(rows, recipe.dimensions)
    record = {
        "network": {"architecture": ARCHITECTURE, "layers": list(LAYERS), "weights_sha256": digest},
        "pictures": {
            "count": len(paths),
            "directories": [directory.name for directory in directories],
            "share": f"{recipe.share.part} of {recipe.share.parts}",
            "sha256": pictures.digest(paths),
        },
        "dimensions": recipe.dimensions,
        "ridge": RIDGE,
        "variance_kept": round(kept, 4),
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in ("imagewarden", "tensorflow", "numpy", "pillow")},
        },
    }
    try:
        save_semantic_head(out, LAYERS, mean, matrix, digest, record)
        load_semantic_head(out)
    except (OSError, SemanticHeadError) as error:
        raise FitError(f"{out} cannot be written: {error}") from error
    return record


def features_of(weights: str, layers: Sequence[str], say: Callable[[str], None]) -> tuple[Features, str]:
    """What makes a head's features of pictures, and the digest of the network's weights.

    Raises:
        FitError: the weights cannot be had, or have no such layers.
    """
    try:
        loaded = weight_sources.load(ARCHITECTURES[ARCHITECTURE], weights, say)
        folded = fold_batch_norms(loaded.model, SIDE, list(layers))
    except (weight_sources.WeightsError, WrongBackend, FoldingError) as error:
        raise FitError(str(error)) from error
    import tensorflow as tf  # noqa: PLC0415 -- takes seconds: after all that can be refused without it

    from imagewarden_serving.graph import normalise_pixels, pool_meaning  # noqa: PLC0415 -- imports TensorFlow

    @tf.function(input_signature=[tf.TensorSpec([None, SIDE, SIDE, 3], tf.uint8)])  # type: ignore[untyped-decorator]
    def run(images: Any) -> Any:
        pixels = normalise_pixels(images, loaded.normalisation)
        mirrored = folded(tf.reverse(pixels, [2]), training=False)
        return pool_meaning(folded(pixels, training=False), mirrored, layers)

    def features(images: NDArray[np.uint8]) -> Array:
        with faster():
            return np.asarray(run(images), np.float32)

    return features, loaded.digest


def collect(paths: Sequence[Path], features: Features, progress: Callable[[int, int], None]) -> Array:
    """The features of pictures: float32 [n, 9, C].

    Raises:
        FitError: a picture cannot be read.
    """
    found = []
    for begin in range(0, len(paths), _BATCH):
        batch = [model_input(pictures.read(path)) for path in paths[begin : begin + _BATCH]]
        found.append(features(np.stack(batch)))
        progress(begin + len(batch), len(paths))
    return np.concatenate(found)


def principal(rows: Array, dimensions: int) -> tuple[Array, Array, float]:
    """The whitened principal axes that all windows share.

    Args:
        rows: float32 [n, 9, C], a window's features each.
        dimensions: D.

    Returns:
        The mean of each window, float32 [9, C]; the matrix, float32 [C, D], whose columns have the variance 1 over all
        windows, but for `RIDGE`; and the share of the variance that these axes have.

    Raises:
        FitError: there are fewer channels than dimensions, or no more windows than dimensions.
    """
    channels = rows.shape[-1]
    most = min(channels, rows.shape[0] * rows.shape[1] - rows.shape[1])
    if not 1 <= dimensions <= most:
        raise FitError(f"{dimensions} dimensions cannot be had of these pictures and layers; choose 1 to {most}")
    mean = rows.mean(axis=0)
    flat = (rows - mean).reshape(-1, channels)
    # The smaller one of the two symmetric products has all the axes: of some hundred pictures that is the windows'.
    small = len(flat) < channels
    product = (flat @ flat.T if small else flat.T @ flat).astype(np.float64) / len(flat)
    values, axes = np.linalg.eigh(product)
    kept = float(values[-dimensions:].sum() / np.trace(product))
    values, axes = values[::-1][:dimensions], axes[:, ::-1][:, :dimensions]
    if small:
        axes = flat.T.astype(np.float64) @ axes
        axes /= np.linalg.norm(axes, axis=0)
    matrix = axes * (np.maximum(values, 0.0) + RIDGE * values[0]) ** -0.5
    # An axis has no sign of its own; one is chosen, so that the same pictures give the same file.
    matrix *= np.sign(matrix[np.abs(matrix).argmax(axis=0), np.arange(dimensions)])
    return mean.astype(np.float32), matrix.astype(np.float32), kept
