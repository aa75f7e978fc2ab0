"""GoogLeNet against the paper: Szegedy et al., Going Deeper with Convolutions, CVPR 2015, table 1."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

# type: (output size, #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj, params in units of 1,024)
INCEPTIONS = {
    "inception_3a": ((28, 28, 256), 64, 96, 128, 16, 32, 32, 159),
    "inception_3b": ((28, 28, 480), 128, 128, 192, 32, 96, 64, 380),
    "inception_4a": ((14, 14, 512), 192, 96, 208, 16, 48, 64, 364),
    "inception_4b": ((14, 14, 512), 160, 112, 224, 24, 64, 64, 437),
    "inception_4c": ((14, 14, 512), 128, 128, 256, 24, 64, 64, 463),
    "inception_4d": ((14, 14, 528), 112, 144, 288, 32, 64, 64, 580),
    "inception_4e": ((14, 14, 832), 256, 160, 320, 32, 128, 128, 840),
    "inception_5a": ((7, 7, 832), 256, 160, 320, 32, 128, 128, 1072),
    "inception_5b": ((7, 7, 1024), 384, 192, 384, 48, 128, 128, 1388),
}
OTHERS = {
    "conv1_7x7": (112, 112, 64),
    "pool1_3x3": (56, 56, 64),
    "conv2_3x3": (56, 56, 192),
    "pool2_3x3": (28, 28, 192),
    "pool_before_inception_4a": (14, 14, 480),
    "pool_before_inception_5a": (7, 7, 832),
    "pool5": (1024,),
    "drop": (1024,),
    "classifier": (1000,),
}


@pytest.fixture(scope="module")
def network() -> Any:
    from imagewarden_serving.architectures.googlenet import build_googlenet

    return build_googlenet()


@pytest.mark.parametrize("name", [*INCEPTIONS, *OTHERS])
def test_output_sizes_are_the_paper_s(network: Any, name: str) -> None:
    expected = INCEPTIONS[name][0] if name in INCEPTIONS else OTHERS[name]
    assert network.get_layer(name).output.shape[1:] == expected


@pytest.mark.parametrize("name", INCEPTIONS)
def test_the_modules_filters_and_parameters_are_the_paper_s(network: Any, name: str) -> None:
    _, one, reduce3, three, reduce5, five, projection, thousands = INCEPTIONS[name]
    paths = [
        ("1x1", one, 1),
        ("3x3_reduce", reduce3, 1),
        ("3x3", three, 3),
        ("5x5_reduce", reduce5, 1),
        ("5x5", five, 5),
        ("pool_proj", projection, 1),
    ]
    layers = [network.get_layer(f"{name}_{path}") for path, _, _ in paths]
    assert [layer.filters for layer in layers] == [filters for _, filters, _ in paths]
    assert [layer.kernel_size for layer in layers] == [(size, size) for _, _, size in paths]
    # The paper's own column is within 8% of what its filters come to (4c: 497 thousand, printed 463).
    assert sum(layer.count_params() for layer in layers) / 1024 == pytest.approx(thousands, rel=0.08)


def test_all_parameters_are_as_many_as_the_authors_caffe_model_has(network: Any) -> None:
    # BVLC's bvlc_googlenet without the auxiliary classifiers.
    assert network.count_params() == 6_998_552
    assert network.get_layer("conv2_3x3_reduce").count_params() + network.get_layer("conv2_3x3").count_params() == (
        pytest.approx(112 * 1024, rel=0.01)
    )


def test_the_network_is_22_layers_deep_counting_those_with_parameters(network: Any) -> None:
    @cache
    def depth(layer: Any) -> int:
        nodes = layer._inbound_nodes
        before = [tensor._keras_history.operation for node in nodes for tensor in node.input_tensors]
        return max(map(depth, before), default=0) + bool(layer.weights)

    assert depth(network.get_layer("classifier")) == 22


def test_local_response_normalisation_is_the_formula_of_krizhevsky_et_al() -> None:
    from imagewarden_serving.architectures.googlenet import LocalResponseNormalisation

    maps = np.random.default_rng(1).normal(0, 100, (1, 2, 2, 7)).astype(np.float32)
    squares = np.pad(maps.astype(np.float64) ** 2, [(0, 0)] * 3 + [(2, 2)])
    sums = sum(squares[..., offset : offset + 7] for offset in range(5))
    expected = maps / (1 + 1e-4 / 5 * sums) ** 0.75
    np.testing.assert_allclose(LocalResponseNormalisation()(maps), expected, rtol=1e-4)


def test_at_299_pixels_without_a_classifier_it_gives_maps(network: Any) -> None:
    from imagewarden_serving.architectures import ARCHITECTURES

    chosen = ARCHITECTURES["googlenet"]
    model = chosen.build()
    assert model.input_shape == (None, 299, 299, 3)
    assert model.get_layer(chosen.copy_layer).output.shape == (None, 19, 19, 512)
    assert model.output.shape == (None, 10, 10, 1024)
    classifier = network.get_layer("classifier").count_params()
    assert model.count_params() == network.count_params() - classifier
