"""The bundled semantic head in the exported graph: its numbers, and what it costs whom."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray
from tests.integration.serving.saved_model import SavedModel

from imagewarden_serving.architectures import ARCHITECTURES
from imagewarden_serving.export import BUNDLED_SEMANTIC_HEAD, ExportError, ExportResult, export
from imagewarden_serving.semantic_head import MIRRORED, averaging, load_semantic_head, save_semantic_head
from imagewarden_serving.weights import load

pytestmark = [pytest.mark.model, pytest.mark.slow]

TO_MIXED3, TO_MIXED8 = 30, 76
"""Convolutions."""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    return export(tmp_path_factory.mktemp("semantic"), semantic_head=BUNDLED_SEMANTIC_HEAD)


@pytest.fixture(scope="module")
def model(exported: ExportResult) -> Iterator[SavedModel]:
    made = SavedModel(exported.directory)
    yield made
    made.close()


def test_the_card_says_what_the_vector_is(exported: ExportResult) -> None:
    head = load_semantic_head(BUNDLED_SEMANTIC_HEAD)
    said = exported.card["semantic"]
    assert (said["dimension"], said["head_sha256"]) == (4032, head.sha256)
    assert said["layer"] == "mixed3+mixed4+mixed5+mixed6+mixed7+mixed8"


def test_the_graph_gives_what_the_head_makes_of_the_network_with_its_batch_norms(
    model: SavedModel, pictures: NDArray[np.uint8]
) -> None:
    import keras

    head = load_semantic_head(BUNDLED_SEMANTIC_HEAD)
    inner = load(ARCHITECTURES["inception_v3"], "nsfwjs", lambda _: None).model
    layers = keras.Model(inner.input, [inner.get_layer(name).output for name in head.layers])
    scaled = pictures[:2].astype(np.float32) / 255
    found = []
    for here, there in zip(layers(scaled), layers(scaled[:, :, ::-1]), strict=True):
        windows = averaging(int(here.shape[1]))
        means = [
            np.einsum("rk,nkc->nrc", windows, one.numpy().reshape(2, windows.shape[1], -1)) for one in (here, there)
        ]
        root = np.sqrt(np.maximum((means[0] + means[1][:, list(MIRRORED)]) / 2, 0))
        found.append(root / np.linalg.norm(root, axis=-1, keepdims=True))
    expected = head.apply(np.concatenate(found, axis=-1) / np.sqrt(len(found)))
    answer = model.run("serving_default", pictures[:2], ("semantic",))["semantic"]
    assert answer.shape == (2, 4032)
    assert np.sum(answer * expected, axis=1).min() > 0.999


def test_who_does_not_ask_for_it_does_not_pay(model: SavedModel, pictures: NDArray[np.uint8]) -> None:
    def executed(outputs: tuple[str, ...]) -> int:
        options = tf.compat.v1.RunOptions(output_partition_graphs=True)
        account: Any = tf.compat.v1.RunMetadata()
        model.run("serving_default", pictures[:1], outputs, options=options, run_metadata=account)
        kinds = {"Conv2D", "_FusedConv2D", "_MklNativeFusedConv2D", "_MklNativeConv2D"}
        return sum(node.op in kinds for part in account.partition_graphs for node in part.node)

    assert executed(("embedding", "regions")) == TO_MIXED3
    assert executed(("semantic",)) == 2 * TO_MIXED8


def test_a_head_of_other_weights_is_refused(tmp_path: Any) -> None:
    head = load_semantic_head(BUNDLED_SEMANTIC_HEAD)
    save_semantic_head(tmp_path / "other.npz", head.layers, head.mean, head.matrix, "cd" * 32, {})
    with pytest.raises(ExportError, match="fitted on the weights cdcdcdcdcdcd"):
        export(tmp_path, semantic_head=tmp_path / "other.npz")
