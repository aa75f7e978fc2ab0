"""Weights by name: `nsfwjs` (from npm, parsed, never executed), `imagenet` (keras.applications), or a .keras file."""

from __future__ import annotations

from pathlib import Path

from imagewarden_serving.architectures import Architecture
from imagewarden_serving.weights._types import Dense, Loaded, Progress, WeightsError, tensors_digest

__all__ = ["DEFAULT", "Dense", "Loaded", "Progress", "WeightsError", "load", "tensors_digest"]

DEFAULT = "nsfwjs"
"""The weights that anyone with npm can have."""


def load(architecture: Architecture, weights: str, progress: Progress) -> Loaded:
    """Build a network and give it weights.

    Args:
        architecture: which network.
        weights: `nsfwjs`, `imagenet`, or the path of a .keras file of this architecture.
        progress: told what is done, a line each.

    Raises:
        WeightsError: these weights are not for this network, or cannot be had.
    """
    # Each source is imported when asked for: keras takes seconds to load.
    if weights == "nsfwjs":
        from imagewarden_serving.weights import nsfwjs  # noqa: PLC0415 -- as said

        return nsfwjs.load(architecture, progress)
    from imagewarden_serving.weights import keras_sources  # noqa: PLC0415 -- as said

    if weights == "imagenet":
        return keras_sources.load_imagenet(architecture, progress)
    return keras_sources.load_file(architecture, Path(weights), progress)
