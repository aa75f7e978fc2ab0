"""Weights that Keras itself reads: keras.applications' ImageNet weights, and .keras files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from imagewarden_serving.architectures import SIDE, Architecture, keras_with_tensorflow
from imagewarden_serving.weights._types import Loaded, Progress, WeightsError, tensors_digest

_MAX_REASON = 300


def load_imagenet(architecture: Architecture, progress: Progress) -> Loaded:
    """The network with keras.applications' weights, downloaded once into Keras's own cache.

    Raises:
        WeightsError: keras.applications has no such network, or the download failed.
    """
    if architecture.applications_name is None:
        raise WeightsError(
            f"keras.applications has no weights for {architecture.name}; name a .keras file of it with --weights"
        )
    keras = keras_with_tensorflow()
    progress("fetching the ImageNet weights of keras.applications, unless they are in its cache")
    try:
        model = getattr(keras.applications, architecture.applications_name)(
            weights="imagenet", include_top=False, input_shape=(SIDE, SIDE, 3)
        )
    except Exception as error:  # keras raises bare Exception for a failed download
        raise WeightsError(
            f"the ImageNet weights of {architecture.name} could not be had: {str(error)[:_MAX_REASON]}; "
            "they are downloaded from keras.applications' storage: check the network, "
            "or use --weights nsfwjs, which needs npm alone"
        ) from error
    source = {
        "source": "imagenet",
        "package": "keras.applications",
        "version": str(keras.__version__),
        "licence": "Apache-2.0",
    }
    return Loaded(model, architecture.normalisation, source, tensors_digest(model))


def load_file(architecture: Architecture, path: Path, progress: Progress) -> Loaded:
    """The network of a .keras file, in Keras's safe mode: no code and no pickle of the file runs.

    Raises:
        WeightsError: the file is missing or damaged, or has not this architecture's layers.
    """
    if path.suffix != ".keras" or not path.is_file():
        raise WeightsError(f"{str(path)!r} is neither nsfwjs, nor imagenet, nor a .keras file that exists")
    keras = keras_with_tensorflow()
    progress(f"loading {path}")
    try:
        model = keras.models.load_model(path, custom_objects=_custom(architecture), compile=False, safe_mode=True)
    except (ValueError, OSError, TypeError, KeyError) as error:
        raise WeightsError(f"{path} cannot be loaded: {str(error)[:_MAX_REASON]}") from error
    names = {layer.name for layer in model.layers}
    for layer in (architecture.copy_layer, architecture.semantic_layer):
        if layer not in names:
            raise WeightsError(
                f"{path} has no layer {layer!r}: it is no {architecture.name} as keras.applications names its layers; "
                "name its --architecture, and pass a flat functional model, not one nested in another"
            )
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    source = {"source": "file", "package": path.name, "sha256": sha256}
    return Loaded(model, architecture.normalisation, source, tensors_digest(model))


def _custom(architecture: Architecture) -> dict[str, Any]:
    if architecture.name != "googlenet":
        return {}
    from imagewarden_serving.architectures import googlenet  # noqa: PLC0415 -- imports keras, which takes seconds

    return {"LocalResponseNormalisation": googlenet.LocalResponseNormalisation}
