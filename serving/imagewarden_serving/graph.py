"""The exported graph: from uint8 pictures to descriptors, frozen, laid out so that what is not asked is not computed.

It is a plain graph without functions around it, as TensorFlow 1 wrote it: a session that is asked for `embedding` alone
prunes all that comes after its layer, in the real server as in the embedded host. A signature behind a function call
would be computed whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from imagewarden_serving.architectures import SIDE, Architecture
from imagewarden_serving.card import Windows
from imagewarden_serving.folding import fold_batch_norms
from imagewarden_serving.projection import Projection
from imagewarden_serving.weights import Loaded

GEM_P = 3.0
"""The exponent of generalised-mean pooling (Radenovic, Tolias, Chum: Fine-tuning CNN Image Retrieval, 2018)."""

_FLOOR = 1e-6
_CAFFE_MEAN = (103.939, 116.779, 123.68)

NORMALISATIONS = ("zero_to_one", "minus_one_to_one", "caffe")
"""How pixels 0..255 become a network's input: x / 255; x / 127.5 - 1; BGR less ImageNet's mean."""


@dataclass(frozen=True, slots=True)
class Built:
    """A graph ready to be saved.

    Attributes:
        graph: the frozen graph with its placeholders.
        images: uint8 [N, 299, 299, 3], computed from `image_bytes` where it is not fed.
        image_bytes: string [N].
        probe: int32 [N].
        card: string [N].
        outputs: the output tensors by name, all float32.
    """

    graph: tf.Graph
    images: Any
    image_bytes: Any
    probe: Any
    card: Any
    outputs: Mapping[str, Any]


def normalise_pixels(images: Any, normalisation: str) -> Any:
    """What the weights take, float32, of uint8 pictures [N, H, W, 3]."""
    pixels = tf.cast(images, tf.float32)
    if normalisation == "zero_to_one":
        return pixels * (1.0 / 255.0)
    if normalisation == "minus_one_to_one":
        return pixels * (1.0 / 127.5) - 1.0
    if normalisation == "caffe":
        return pixels[..., ::-1] - tf.constant(_CAFFE_MEAN, tf.float32)
    raise ValueError(f"normalisation {normalisation!r} is none of {', '.join(NORMALISATIONS)}")


def pooling_matrix(places: Windows) -> NDArray[np.float32]:
    """The matrix that averages the cells of each window: float32 [R, cells * cells]."""
    matrix = np.zeros((len(places.places), places.cells, places.cells), np.float32)
    for row, (top, left, size) in enumerate(places.places):
        matrix[row, top : top + size, left : left + size] = 1.0 / size**2
    return matrix.reshape(len(places.places), -1)


def describe(maps: Any, places: Windows, projection: Projection | None) -> tuple[Any, Any]:
    """The copy descriptor of maps [N, H, W, C]: `embedding` [N, D] and `regions` [N, R, D], unit norm."""
    powers = tf.pow(tf.maximum(maps, _FLOOR), GEM_P)
    whole = tf.pow(tf.reduce_mean(powers, axis=[1, 2]), 1.0 / GEM_P)
    channels = maps.shape[-1]
    flat = tf.reshape(powers, [-1, places.cells**2, channels])
    # A batched product keeps N in front, whatever N is.
    pooled = tf.pow(tf.einsum("rk,nkc->nrc", tf.constant(pooling_matrix(places)), flat), 1.0 / GEM_P)
    return _project(whole, projection), _project(pooled, projection)


def _project(pooled: Any, projection: Projection | None) -> Any:
    unit = tf.math.l2_normalize(pooled, axis=-1)
    if projection is None:
        return unit
    centred = unit - tf.constant(projection.mean)
    return tf.math.l2_normalize(tf.tensordot(centred, tf.constant(projection.matrix), axes=1), axis=-1)


def _classify(average: Any, loaded: Loaded) -> Any:
    x = average
    for layer in loaded.nsfw[:-1]:
        x = tf.nn.relu(tf.linalg.matmul(x, tf.constant(layer.kernel)) + tf.constant(layer.bias))
    last = loaded.nsfw[-1]
    return tf.nn.softmax(tf.linalg.matmul(x, tf.constant(last.kernel)) + tf.constant(last.bias))


def freeze(
    architecture: Architecture, loaded: Loaded, copy_layer: str, places: Windows, projection: Projection | None
) -> tuple[Any, list[str]]:
    """The network with folded batch norms and its outputs as a GraphDef of constants.

    Returns:
        The GraphDef, whose placeholder is `images`, and the names of the outputs, each an op of that name.
    """
    folded = fold_batch_norms(loaded.model)
    names: list[str] = []

    @tf.function(  # type: ignore[untyped-decorator]  # TensorFlow has no types
        input_signature=[tf.TensorSpec([None, SIDE, SIDE, 3], tf.uint8, name="images")]
    )
    def compute(images: Any) -> dict[str, Any]:
        layers = folded(normalise_pixels(images, loaded.normalisation), training=False)["layers"]
        embedding, regions = describe(layers[copy_layer], places, projection)
        average = tf.reduce_mean(layers[architecture.semantic_layer], axis=[1, 2])
        outputs = {
            "embedding": embedding,
            "regions": regions,
            "semantic": tf.math.l2_normalize(average, axis=-1),
        }
        if loaded.nsfw:
            outputs["nsfw"] = _classify(average, loaded)
        names[:] = list(outputs)
        return {name: tf.identity(tensor, name=f"output_{name}") for name, tensor in outputs.items()}

    concrete = compute.get_concrete_function()
    frozen = convert_variables_to_constants_v2(concrete)
    return frozen.graph.as_graph_def(), [f"output_{name}" for name in names]


def build(frozen: Any, output_ops: list[str], card_json: str) -> Built:
    """Put the frozen network, the decoding of encoded pictures and the model card into one graph.

    `images` is a placeholder with a default: fed by one signature, decoded from `image_bytes` in the other, so that
    both share one copy of the network.
    """
    graph = tf.Graph()
    with graph.as_default():
        image_bytes = tf.compat.v1.placeholder(tf.string, [None], name="image_bytes")
        decoded = tf.map_fn(_decode, image_bytes, fn_output_signature=tf.TensorSpec([SIDE, SIDE, 3], tf.uint8))
        images = tf.compat.v1.placeholder_with_default(decoded, [None, SIDE, SIDE, 3], name="images")
        tensors = tf.import_graph_def(
            frozen, input_map={"images:0": images}, return_elements=[f"{op}:0" for op in output_ops], name=""
        )
        outputs = {
            op.removeprefix("output_"): tf.identity(tensor, name=op.removeprefix("output_"))
            for op, tensor in zip(output_ops, tensors, strict=True)
        }
        probe = tf.compat.v1.placeholder(tf.int32, [None], name="probe")
        card = tf.fill([tf.shape(probe)[0]], tf.constant(card_json), name="card")
    return Built(graph, images, image_bytes, probe, card, outputs)


def _decode(encoded: Any) -> Any:
    """One JPEG, PNG, GIF or BMP file as uint8 [299, 299, 3], resized as the moderation server does: plainly."""
    picture = tf.image.decode_image(encoded, channels=3, expand_animations=False)
    resized = tf.image.resize(picture, [SIDE, SIDE], method="bilinear", antialias=True)
    return tf.cast(tf.round(tf.clip_by_value(resized, 0.0, 255.0)), tf.uint8)


def save(built: Built, directory: Path) -> None:
    """Write a SavedModel with the signatures `serving_default`, `encoded` and `describe`."""
    v1 = tf.compat.v1.saved_model
    signature = v1.signature_def_utils.predict_signature_def
    outputs = dict(built.outputs)
    with tf.compat.v1.Session(graph=built.graph) as session:
        builder = v1.builder.SavedModelBuilder(str(directory))
        builder.add_meta_graph_and_variables(
            session,
            [v1.tag_constants.SERVING],
            signature_def_map={
                "serving_default": signature({"images": built.images}, outputs),
                "encoded": signature({"image_bytes": built.image_bytes}, outputs),
                "describe": signature({"probe": built.probe}, {"card": built.card}),
            },
            clear_devices=True,
        )
        builder.save()
