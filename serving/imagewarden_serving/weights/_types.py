"""What a source of weights gives."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Progress = Callable[[str], None]


class WeightsError(Exception):
    """Weights could not be had; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Dense:
    """One layer of a classifier's head: kernel float32 [in, out], bias float32 [out]."""

    kernel: Array
    bias: Array


@dataclass(frozen=True, slots=True)
class Loaded:
    """A network with its weights.

    Attributes:
        model: the keras.Model, weights set.
        normalisation: what these weights take: one of `architectures.NORMALISATIONS`.
        source: for the model card: where the weights come from.
        digest: SHA-256 over all tensors, hexadecimal.
        nsfw: the head's layers over the last average pool: all but the last are followed by ReLU, the last by softmax.
        nsfw_classes: the names of its outputs.
    """

    model: Any
    normalisation: str
    source: Mapping[str, str]
    digest: str
    nsfw: tuple[Dense, ...] = ()
    nsfw_classes: tuple[str, ...] = ()


def tensors_digest(model: Any, head: tuple[Dense, ...] = ()) -> str:
    """SHA-256, hexadecimal, over shape and little-endian float32 bytes of all tensors of a model, in Keras's order."""
    digest = hashlib.sha256()
    arrays = [*model.get_weights(), *(array for layer in head for array in (layer.kernel, layer.bias))]
    for array in arrays:
        digest.update(repr(tuple(map(int, array.shape))).encode())
        digest.update(np.ascontiguousarray(array, dtype="<f4").tobytes())
    return digest.hexdigest()
