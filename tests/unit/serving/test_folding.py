"""Folding batch norms: the same function, layer by layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from imagewarden_serving.folding import FoldingError, fold_batch_norms


@pytest.fixture(scope="module")
def keras() -> Any:
    import keras

    return keras


@pytest.fixture(scope="module")
def network(keras: Any) -> Any:
    """Every way in which a batch norm can follow a convolution, with statistics that are not the identity."""
    layers = keras.layers
    given = keras.Input((None, None, 3), name="given")
    plain = layers.BatchNormalization(scale=False, name="plain_norm")(
        layers.Conv2D(4, 3, use_bias=False, padding="same", name="plain")(given)
    )
    first = layers.ReLU(name="first")(plain)
    biased = layers.BatchNormalization(epsilon=1e-5, name="biased_norm")(layers.Conv2D(5, 1, name="biased")(first))
    read_twice = layers.Conv2D(5, 1, name="read_twice")(first)
    twice_norm = layers.BatchNormalization(name="twice_norm")(read_twice)
    active = layers.BatchNormalization(name="active_norm")(layers.Conv2D(5, 1, activation="relu", name="active")(first))
    kept = layers.Conv2D(5, 1, name="kept")(first)
    kept_norm = layers.BatchNormalization(center=False, name="kept_norm")(kept)
    second = layers.Add(name="second")([biased, read_twice, twice_norm, active, kept_norm])
    pooled = layers.BatchNormalization(name="pool_norm")(layers.AveragePooling2D(2, name="pool")(second))
    unneeded = layers.Dense(3, name="unneeded")(layers.GlobalAveragePooling2D(name="flat")(pooled))
    model = keras.Model(given, unneeded)
    chance = np.random.default_rng(3)
    for layer in model.layers:
        layer.set_weights([chance.uniform(0.2, 1.5, array.shape) for array in layer.get_weights()])
    return model


def test_a_folded_network_computes_what_the_network_computes(keras: Any, network: Any) -> None:
    names = ["first", "second", "kept", "pool_norm"]
    pictures = np.random.default_rng(4).normal(0, 1, (2, 8, 8, 3)).astype(np.float32)
    expected = keras.Model(network.input, {name: network.get_layer(name).output for name in names})(pictures)

    folded = fold_batch_norms(network, 8, names)
    found = folded(pictures)

    for name in names:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-5)
    kinds = [layer.name for layer in folded.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert len(kinds) == 4, "read twice, active, kept and pooled ones cannot be folded; the two others must be"
    assert not [layer for layer in folded.layers if isinstance(layer, keras.layers.Dense)], "not needed for these"
    assert folded.input.shape == (None, 8, 8, 3)


def test_layers_after_those_kept_are_left_out(network: Any) -> None:
    assert {layer.name for layer in fold_batch_norms(network, 8, ["first"]).layers} <= {"given", "plain", "first"}


def test_a_missing_layer_is_refused_by_name(network: Any) -> None:
    with pytest.raises(FoldingError, match="no layer 'mixed3'"):
        fold_batch_norms(network, 8, ["first", "mixed3"])


def test_a_layer_used_twice_is_refused(keras: Any) -> None:
    given = keras.Input((8, 8, 3))
    shared = keras.layers.Conv2D(3, 1, name="shared")
    with pytest.raises(FoldingError, match="'shared' is used 2 times"):
        fold_batch_norms(keras.Model(given, shared(shared(given))), 8, ["shared"])


def test_several_inputs_are_refused(keras: Any) -> None:
    one, two = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    with pytest.raises(FoldingError, match="2 inputs"):
        fold_batch_norms(keras.Model([one, two], keras.layers.Add(name="sum")([one, two])), 8, ["sum"])
