"""The networks that can be exported, each with what its descriptor needs to know."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Model = Any
"""A keras.Model: TensorFlow is only loaded by those who build one."""

SIDE = 299
"""The input's height and width in pixels."""


NORMALISATIONS = ("zero_to_one", "minus_one_to_one", "caffe")
"""How pixels 0..255 become a network's input: x / 255; x / 127.5 - 1; BGR less ImageNet's mean colour."""


class WrongBackend(Exception):
    """Keras is set to compute with something else than TensorFlow."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """A network without its classifier.

    Attributes:
        name: as `--architecture` takes it.
        build: makes the untrained keras.Model from float32 [N, 299, 299, 3] to its last map.
        copy_layer: the layer that the copy descriptor pools: the first map of stride 16, since late layers forget what
            a copy keeps. Measured best among inception_v3's; taken by likeness in the others.
        semantic_layer: the last map, whose average says what is in the picture.
        normalisation: what its ImageNet weights take: one of `NORMALISATIONS`.
        applications_name: its name in keras.applications; None: not there.
    """

    name: str
    build: Callable[[], Model]
    copy_layer: str
    semantic_layer: str
    normalisation: str
    applications_name: str | None


def keras_with_tensorflow() -> Any:
    """The module keras, once it is sure to compute with TensorFlow; importing it takes seconds.

    Raises:
        WrongBackend: KERAS_BACKEND or keras.json chose another backend.
    """
    named = os.environ.get("KERAS_BACKEND", "tensorflow")
    if named == "tensorflow":
        import keras  # noqa: PLC0415 -- seconds and hundreds of megabytes: only for those who build a model

        named = str(keras.backend.backend())
    if named != "tensorflow":
        raise WrongBackend(
            f"keras is set to {named!r}, and a SavedModel needs TensorFlow; set KERAS_BACKEND=tensorflow"
        )
    return keras


def _inception_v3() -> Model:
    return keras_with_tensorflow().applications.InceptionV3(
        weights=None, include_top=False, input_shape=(SIDE, SIDE, 3)
    )


def _resnet50() -> Model:
    return keras_with_tensorflow().applications.ResNet50(weights=None, include_top=False, input_shape=(SIDE, SIDE, 3))


def _googlenet() -> Model:
    keras_with_tensorflow()
    from imagewarden_serving.architectures.googlenet import build_googlenet  # noqa: PLC0415 -- imports keras

    return build_googlenet(side=SIDE, classes=None)


ARCHITECTURES: dict[str, Architecture] = {
    one.name: one
    for one in (
        Architecture("inception_v3", _inception_v3, "mixed3", "mixed10", "minus_one_to_one", "InceptionV3"),
        Architecture("resnet50", _resnet50, "conv4_block1_out", "conv5_block3_out", "caffe", "ResNet50"),
        Architecture("googlenet", _googlenet, "inception_4a", "inception_5b", "caffe", None),
    )
}
