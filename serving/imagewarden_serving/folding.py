"""Fold batch norms into the convolutions before them: the same function with half of the layers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def fold_batch_norms(model: Any) -> Any:
    """A keras.Model that computes what `model` does at inference, its batch norms folded where a convolution precedes.

    Args:
        model: a functional keras.Model whose layers are each used once.

    Returns:
        A new keras.Model with a convolution with bias for each convolution and batch norm.
    """
    import keras  # noqa: PLC0415 -- seconds and hundreds of megabytes: only for those who build a model

    consumers: dict[str, list[str]] = {}
    producers: dict[str, list[str]] = {}
    for layer in model.layers:
        names = [_producer(tensor) for tensor in _inputs(layer)]
        producers[layer.name] = names
        for name in names:
            consumers.setdefault(name, []).append(layer.name)
    by_name = {layer.name: layer for layer in model.layers}
    outputs: dict[str, Any] = {}
    for layer in model.layers:
        if isinstance(layer, keras.layers.InputLayer):
            outputs[layer.name] = keras.Input(layer.batch_shape[1:], name=layer.name)
            continue
        arguments = [outputs[name] for name in producers[layer.name]]
        norm = _foldable(layer, consumers, by_name)
        if norm is not None:
            folded = _convolution(layer)
            outputs[layer.name] = folded(arguments[0])
            folded.set_weights(_fold(layer, norm))
        elif isinstance(layer, keras.layers.BatchNormalization) and _folded_into(layer, producers, consumers, by_name):
            outputs[layer.name] = arguments[0]
        else:
            clone = type(layer).from_config(layer.get_config())
            outputs[layer.name] = clone(arguments[0] if len(arguments) == 1 else arguments)
            clone.set_weights(layer.get_weights())
    ends = [outputs[_producer(tensor)] for tensor in model.outputs]
    begins = [outputs[_producer(tensor)] for tensor in model.inputs]
    return keras.Model(begins, {"layers": outputs, "output": ends[0]})


def _inputs(layer: Any) -> list[Any]:
    nodes = layer._inbound_nodes  # noqa: SLF001 -- keras has no public way to walk a functional model
    return list(nodes[0].input_tensors) if nodes else []


def _producer(tensor: Any) -> str:
    history = tensor._keras_history  # noqa: SLF001 -- as above
    return str(history.operation.name)


def _foldable(layer: Any, consumers: dict[str, list[str]], by_name: dict[str, Any]) -> Any | None:
    """The batch norm that alone reads a linear convolution, or None."""
    import keras  # noqa: PLC0415 -- as above

    if type(layer) is not keras.layers.Conv2D or keras.activations.serialize(layer.activation) != "linear":
        return None
    readers = consumers.get(layer.name, [])
    if len(readers) != 1 or not isinstance(by_name[readers[0]], keras.layers.BatchNormalization):
        return None
    return by_name[readers[0]]


def _folded_into(
    layer: Any, producers: dict[str, list[str]], consumers: dict[str, list[str]], by_name: dict[str, Any]
) -> bool:
    return _foldable(by_name[producers[layer.name][0]], consumers, by_name) is layer


def _convolution(layer: Any) -> Any:
    import keras  # noqa: PLC0415 -- as above

    config = layer.get_config()
    config["use_bias"] = True
    return keras.layers.Conv2D.from_config(config)


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
