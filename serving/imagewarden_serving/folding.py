"""Fold batch norms into the convolutions before them: the same function in fewer layers, cut where not needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagewarden_serving.architectures import keras_with_tensorflow


class FoldingError(Exception):
    """The network is not of the kind that can be folded; the message says why."""


@dataclass(frozen=True, slots=True)
class _Wiring:
    """Who feeds whom in a functional model, by layer name."""

    layers: dict[str, Any]
    producers: dict[str, list[str]]
    consumers: dict[str, list[str]]


def fold_batch_norms(model: Any, side: int, keep: Sequence[str]) -> Any:
    """A keras.Model that computes layers of `model` as it does at inference, with batch norms folded where they can be.

    Args:
        model: a functional keras.Model of one input whose layers are each used once.
        side: the new model's input is float32 [N, side, side, 3]; the layers kept must not depend on the input's size.
        keep: the layers whose outputs are wanted; what they do not need is left out.

    Returns:
        A keras.Model whose outputs are a dict by these names, with a biased convolution for each pair of a linear
        convolution and its batch norm.

    Raises:
        FoldingError: a layer is missing, used twice, or the model has several inputs.
    """
    keras = keras_with_tensorflow()
    wiring = _wire(model)
    needed = _ancestors(wiring, keep)
    outputs: dict[str, Any] = {}
    inputs = []
    for name, layer in wiring.layers.items():
        if name not in needed:
            continue
        if isinstance(layer, keras.layers.InputLayer):
            inputs.append(keras.Input((side, side, 3), name=name))
            outputs[name] = inputs[-1]
            continue
        arguments = [outputs[producer] for producer in wiring.producers[name]]
        norm = _norm_after(keras, wiring, name, keep)
        if norm is not None:
            folded = keras.layers.Conv2D.from_config({**layer.get_config(), "use_bias": True})
            outputs[name] = folded(arguments[0])
            folded.set_weights(_fold(layer, norm))
        elif isinstance(layer, keras.layers.BatchNormalization) and (
            _norm_after(keras, wiring, wiring.producers[name][0], keep) is layer
        ):
            outputs[name] = arguments[0]
        else:
            clone = type(layer).from_config(layer.get_config())
            outputs[name] = clone(arguments[0] if len(arguments) == 1 else arguments)
            clone.set_weights(layer.get_weights())
    if len(inputs) != 1:
        raise FoldingError(f"the network has {len(inputs)} inputs, not one")
    return keras.Model(inputs[0], {name: outputs[name] for name in keep}, name="folded")


def _wire(model: Any) -> _Wiring:
    layers = {layer.name: layer for layer in model.layers}
    wiring = _Wiring(layers, {}, {name: [] for name in layers})
    for name, layer in layers.items():
        # Keras has no public way to walk a functional model.
        nodes = layer._inbound_nodes  # noqa: SLF001 -- as said
        if len(nodes) > 1:
            raise FoldingError(
                f"the layer {name!r} is used {len(nodes)} times; layers shared between places do not fold"
            )
        wiring.producers[name] = [
            str(tensor._keras_history.operation.name)  # noqa: SLF001 -- as said
            for node in nodes
            for tensor in node.input_tensors
        ]
        for producer in wiring.producers[name]:
            wiring.consumers.setdefault(producer, []).append(name)
    return wiring


def _ancestors(wiring: _Wiring, names: Sequence[str]) -> set[str]:
    missing = [name for name in names if name not in wiring.layers]
    if missing:
        raise FoldingError(f"the network has no layer {', '.join(map(repr, missing))}")
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += wiring.producers[name]
    return found


def _norm_after(keras: Any, wiring: _Wiring, name: str, keep: Sequence[str]) -> Any | None:
    """The batch norm that alone reads a linear convolution, or None where there is nothing to fold."""
    layer = wiring.layers[name]
    if type(layer) is not keras.layers.Conv2D or keras.activations.serialize(layer.activation) != "linear":
        return None
    readers = wiring.consumers[name]
    if name in keep or len(readers) != 1:
        return None
    reader = wiring.layers[readers[0]]
    return reader if isinstance(reader, keras.layers.BatchNormalization) else None


def _fold(convolution: Any, norm: Any) -> list[NDArray[np.float32]]:
    """Kernel and bias of both together: gamma (x - mean) / sqrt(variance + epsilon) + beta, in double precision."""
    kernel, *bias = (array.astype(np.float64) for array in convolution.get_weights())
    rest = [array.astype(np.float64) for array in norm.get_weights()]
    gamma = rest.pop(0) if norm.scale else np.ones(kernel.shape[-1])
    beta = rest.pop(0) if norm.center else np.zeros(kernel.shape[-1])
    mean, variance = rest
    factor = gamma / np.sqrt(variance + norm.epsilon)
    shift = (bias[0] if bias else 0.0) - mean
    return [(kernel * factor).astype(np.float32), (shift * factor + beta).astype(np.float32)]
