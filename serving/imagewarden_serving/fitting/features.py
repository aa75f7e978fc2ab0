"""Pooled features of one layer, without a projection: what a projection is fitted on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imagewarden_serving import weights as weight_sources
from imagewarden_serving.architectures import ARCHITECTURES, SIDE, WrongBackend
from imagewarden_serving.fitting.edits import Box
from imagewarden_serving.fitting.pictures import FitError
from imagewarden_serving.folding import FoldingError, fold_batch_norms

Array = NDArray[np.float32]
Maps = Callable[[NDArray[np.uint8]], Array]
"""From uint8 [n, 299, 299, 3] to the layer's maps, float32 [n, cells, cells, C]."""

Window = tuple[int, int, int, int]
"""Top, left, height, width in cells of a map."""

GEM_P = 3.0
_FLOOR = 1e-6
# Where the processor multiplies in bfloat16, three times as fast; pooled features keep a cosine of 0.9999 and more.
_FASTER = {"auto_mixed_precision_onednn_bfloat16": True}


def maps_of(
    architecture: str, weights: str, layer: str | None, progress: Callable[[str], None]
) -> tuple[Maps, dict[str, Any]]:
    """A network up to a layer, and what it is: for the record of a fit.

    Args:
        architecture: one of `ARCHITECTURES`.
        weights: `nsfwjs`, `imagenet` or the path of a .keras file.
        layer: None: the architecture's.
        progress: told what is done, a line each.

    Raises:
        FitError: a name is wrong, or the weights cannot be had.
    """
    chosen = ARCHITECTURES.get(architecture)
    if chosen is None:
        raise FitError(f"no architecture {architecture!r}; there are {', '.join(sorted(ARCHITECTURES))}")
    name = layer or chosen.copy_layer
    try:
        loaded = weight_sources.load(chosen, weights, progress)
        folded = fold_batch_norms(loaded.model, SIDE, [name])
    except (weight_sources.WeightsError, WrongBackend, FoldingError) as error:
        raise FitError(str(error)) from error
    shape = tuple(folded.output[name].shape)
    if len(shape) != 4 or shape[1] != shape[2] or shape[1] is None:
        raise FitError(f"the layer {name!r} gives {shape}, no square map; choose one before the last pooling")
    import tensorflow as tf  # noqa: PLC0415 -- takes seconds: after all that can be refused without it

    from imagewarden_serving.graph import normalise_pixels  # noqa: PLC0415 -- imports TensorFlow

    @tf.function(input_signature=[tf.TensorSpec([None, SIDE, SIDE, 3], tf.uint8)])  # type: ignore[untyped-decorator]
    def run(images: Any) -> Any:
        return folded(normalise_pixels(images, loaded.normalisation), training=False)[name]

    def maps(images: NDArray[np.uint8]) -> Array:
        with faster():
            return np.asarray(run(images), np.float32)

    return maps, {
        "architecture": architecture,
        "layer": name,
        "pooling": f"gem {GEM_P:g}",
        "weights_sha256": loaded.digest,
    }


@contextmanager
def faster() -> Iterator[None]:
    """Let TensorFlow multiply in bfloat16 meanwhile, where the processor can: pooled features hardly change by it."""
    import tensorflow as tf  # noqa: PLC0415 -- takes seconds: after all that can be refused without it

    before = tf.config.optimizer.get_experimental_options()
    tf.config.optimizer.set_experimental_options(_FASTER)
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({key: before.get(key, False) for key in _FASTER})


def model_input(picture: Image.Image) -> NDArray[np.uint8]:
    """What the network sees of a picture: uint8 [299, 299, 3], the aspect ratio not kept."""
    return np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def pooled(cells: Array, windows: Sequence[Window]) -> Array:
    """The generalised means of a map [cells, cells, C] over windows, of unit norm: float32 [len(windows), C]."""
    cubes = np.maximum(cells, _FLOOR) ** GEM_P
    rows = np.stack(
        [cubes[top : top + height, left : left + width].mean(axis=(0, 1)) for top, left, height, width in windows]
    )
    rows **= 1 / GEM_P
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def nearest(box: Box, windows: Sequence[Window], cells: int) -> tuple[Window, float]:
    """The window that covers a box best, and their intersection over union."""
    left, top, right, bottom = (edge * cells for edge in box)

    def overlap(window: Window) -> float:
        first, second, height, width = window
        shared = max(0.0, min(bottom, first + height) - max(top, first)) * max(
            0.0, min(right, second + width) - max(left, second)
        )
        return shared / (height * width + (bottom - top) * (right - left) - shared)

    best = max(windows, key=overlap)
    return best, overlap(best)
