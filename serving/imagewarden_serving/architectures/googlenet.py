"""GoogLeNet, the first Inception network, as a Keras model.

Szegedy, Liu, Jia, Sermanet, Reed, Anguelov, Erhan, Vanhoucke, Rabinovich: Going Deeper with Convolutions, CVPR 2015,
table 1. The auxiliary classifiers, which only training uses, are left out. Local response normalisation is where
figure 3 has it, with the constants of BVLC's Caffe model of it (5 channels, alpha 1e-4 over them, beta 0.75), whose
input is BGR less ImageNet's mean colour: the normalisation `caffe`. Layers have that model's names, with `_` for `/`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
from keras import layers


@dataclass(frozen=True, slots=True)
class Module:
    """One inception module: a row of the paper's table 1, the numbers of filters.

    Attributes:
        reduce3: 1x1 filters before the 3x3 ones; `reduce5` the same before the 5x5 ones.
        projection: 1x1 filters after the pooling path.
    """

    name: str
    one: int
    reduce3: int
    three: int
    reduce5: int
    five: int
    projection: int

    @property
    def filters(self) -> int:
        """The module's output depth."""
        return self.one + self.three + self.five + self.projection


MODULES = (
    Module("inception_3a", 64, 96, 128, 16, 32, 32),
    Module("inception_3b", 128, 128, 192, 32, 96, 64),
    Module("inception_4a", 192, 96, 208, 16, 48, 64),
    Module("inception_4b", 160, 112, 224, 24, 64, 64),
    Module("inception_4c", 128, 128, 256, 24, 64, 64),
    Module("inception_4d", 112, 144, 288, 32, 64, 64),
    Module("inception_4e", 256, 160, 320, 32, 128, 128),
    Module("inception_5a", 256, 160, 320, 32, 128, 128),
    Module("inception_5b", 384, 192, 384, 48, 128, 128),
)
_POOL_BEFORE = frozenset({"inception_4a", "inception_5a"})


@keras.saving.register_keras_serializable(package="imagewarden")
class LocalResponseNormalisation(layers.Layer):  # type: ignore[misc]  # keras has no types
    """Local response normalisation over channels, as AlexNet's (Krizhevsky et al. 2012, section 3.3): n 5, k 1."""

    def call(self, inputs: Any) -> Any:
        """Normalise float32 [N, H, W, C]."""
        import tensorflow as tf  # noqa: PLC0415 -- keras has no such operation of its own

        return tf.nn.local_response_normalization(inputs, depth_radius=2, bias=1.0, alpha=2e-5, beta=0.75)


def _conv(inputs: Any, filters: int, size: int, name: str, strides: int = 1) -> Any:
    return layers.Conv2D(filters, size, strides=strides, padding="same", activation="relu", name=name)(inputs)


def _pool(inputs: Any, name: str) -> Any:
    return layers.MaxPooling2D(3, strides=2, padding="same", name=name)(inputs)


def _module(inputs: Any, module: Module) -> Any:
    name = module.name
    one = _conv(inputs, module.one, 1, f"{name}_1x1")
    three = _conv(_conv(inputs, module.reduce3, 1, f"{name}_3x3_reduce"), module.three, 3, f"{name}_3x3")
    five = _conv(_conv(inputs, module.reduce5, 1, f"{name}_5x5_reduce"), module.five, 5, f"{name}_5x5")
    pooled = layers.MaxPooling2D(3, strides=1, padding="same", name=f"{name}_pool")(inputs)
    projected = _conv(pooled, module.projection, 1, f"{name}_pool_proj")
    return layers.Concatenate(name=name)([one, three, five, projected])


def build_googlenet(side: int = 224, classes: int | None = 1000) -> Any:
    """GoogLeNet, untrained.

    Args:
        side: the input's height and width; the paper's is 224.
        classes: how many the classifier has; None: without it, the output is the last module's map.

    Returns:
        A keras.Model from float32 [N, side, side, 3].
    """
    inputs = layers.Input((side, side, 3))
    x = _conv(inputs, 64, 7, "conv1_7x7", strides=2)
    x = _pool(x, "pool1_3x3")
    x = LocalResponseNormalisation(name="pool1_norm")(x)
    x = _conv(x, 64, 1, "conv2_3x3_reduce")
    x = _conv(x, 192, 3, "conv2_3x3")
    x = LocalResponseNormalisation(name="conv2_norm")(x)
    x = _pool(x, "pool2_3x3")
    for module in MODULES:
        if module.name in _POOL_BEFORE:
            x = _pool(x, f"pool_before_{module.name}")
        x = _module(x, module)
    if classes is None:
        return keras.Model(inputs, x, name="googlenet")
    x = layers.GlobalAveragePooling2D(name="pool5")(x)
    x = layers.Dropout(0.4, name="drop")(x)
    return keras.Model(inputs, layers.Dense(classes, activation="softmax", name="classifier")(x), name="googlenet")
