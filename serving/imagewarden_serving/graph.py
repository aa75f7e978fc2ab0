"""The exported graph: from uint8 pictures to descriptors, frozen, and such that what is not asked is not computed.

It is a plain graph with no function around it, as TensorFlow 1 wrote it: a session that is asked for `embedding` alone
prunes all that comes after its layer, in the real server as in the embedded host. A signature that is a function call
would be computed whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from imagewarden_serving.architectures import SIDE
from imagewarden_serving.card import Windows
from imagewarden_serving.decoding import decode_pictures
from imagewarden_serving.logo_head import COARSE_LAYER, FINE_LAYER, LogoHead
from imagewarden_serving.logo_windows import Bands, Grid, bands
from imagewarden_serving.logo_windows import quarters as logo_quarters
from imagewarden_serving.projection import Projection
from imagewarden_serving.semantic_head import MIRRORED, SemanticHead, averaging
from imagewarden_serving.weights import Loaded

# Powers of 3 below stand for generalised-mean pooling with p = 3 (Radenovic, Tolias, Chum: Fine-tuning CNN Image
# Retrieval with No Human Annotation, 2018); written out, since a cube is twenty times cheaper than tf.pow.
GEM_P = 3.0

FINE_GRID = Grid(35, 8, 13)
COARSE_GRID = Grid(17, 16, 21)
"""Where Inception v3's maps lie in an input of 299 pixels, by its paddings and strides."""

_FLOOR = 1e-6
_CAFFE_MEAN = (103.939, 116.779, 123.68)
_PREFIX = "output_"


@dataclass(frozen=True, slots=True)
class Built:
    """A graph ready to be saved.

    Attributes:
        graph: the frozen graph with its placeholders.
        images: uint8 [N, 299, 299, 3]; computed from `image_bytes` where it is not fed.
        image_bytes: string [N].
        probe: int32 [N].
        card: string [N].
        backgrounds: by signature, float32 [N, windows, D]: of the background pictures that `probe` numbers.
        outputs: the output tensors by name, all float32 with N in front.
    """

    graph: tf.Graph
    images: Any
    image_bytes: Any
    probe: Any
    card: Any
    backgrounds: Mapping[str, Any]
    outputs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Head:
    """What is made of a network's layers.

    Attributes:
        copy_layer: pooled to `embedding` and `regions`.
        semantic_layer: read by the class scores, and averaged to `semantic` where there is no head for it.
        places: the windows of `regions` over the copy layer's map.
        projection: of `embedding` and `regions`, or None.
        logos: what makes `logos` of FINE_LAYER and COARSE_LAYER; None: `logos` are `regions`.
        semantic: what makes `semantic` of its layers, of the picture and of its mirror; None: the average.
    """

    copy_layer: str
    semantic_layer: str
    places: Windows
    projection: Projection | None
    logos: LogoHead | None
    semantic: SemanticHead | None = None


def normalise_pixels(images: Any, normalisation: str) -> Any:
    """What the weights take, float32, of uint8 pictures [N, H, W, 3]."""
    pixels = tf.cast(images, tf.float32)
    if normalisation == "zero_to_one":
        return pixels * (1.0 / 255.0)
    if normalisation == "minus_one_to_one":
        return pixels * (1.0 / 127.5) - 1.0
    return pixels[..., ::-1] - tf.constant(_CAFFE_MEAN, tf.float32)


def pooling_matrix(places: Windows) -> NDArray[np.float32]:
    """The matrix that averages the cells of each window: float32 [R, cells * cells]."""
    matrix = np.zeros((len(places.places), places.cells, places.cells), np.float32)
    for row, (top, left, size) in enumerate(places.places):
        matrix[row, top : top + size, left : left + size] = 1.0 / size**2
    return matrix.reshape(len(places.places), -1)


def describe_copy(maps: Any, places: Windows, projection: Projection | None) -> tuple[Any, Any]:
    """The copy descriptors of maps [N, H, W, C]: `embedding` [N, D] and `regions` [N, R, D], of unit norm."""
    clipped = tf.maximum(maps, _FLOOR)
    cubes = clipped * clipped * clipped
    whole = tf.pow(tf.reduce_mean(cubes, axis=[1, 2]), 1.0 / GEM_P)
    # N is said, not left to be found: a picture of another size fails here and is not pooled into its neighbours.
    flat = tf.reshape(cubes, [tf.shape(maps)[0], places.cells**2, maps.shape[-1]])
    pooled = tf.pow(tf.einsum("rk,nkc->nrc", tf.constant(pooling_matrix(places)), flat), 1.0 / GEM_P)
    return _project(whole, projection), _project(pooled, projection)


def describe_logos(fine: Any, coarse: Any, head: LogoHead) -> Any:
    """The logo vectors of two maps [N, H, W, C] of one input: [N, windows, D], of unit norm."""
    quarters = _gem(fine, bands(logo_quarters(head.boxes), FINE_GRID, SIDE))
    channels = int(fine.shape[-1])
    side_by_side = tf.reshape(
        tf.transpose(tf.reshape(quarters, [-1, 4, len(head.boxes), channels]), [0, 2, 1, 3]),
        [-1, len(head.boxes), 4 * channels],
    )
    whole = _gem(coarse, bands(head.boxes, COARSE_GRID, SIDE))
    held = {name: tf.constant(array) for name, array in head.arrays.items()}
    pooled = tf.concat([tf.math.l2_normalize(side_by_side, axis=-1), tf.math.l2_normalize(whole, axis=-1)], axis=-1)
    entered = tf.tensordot(pooled, held["input"], axes=1) + held["input_bias"]
    inner = tf.nn.gelu(tf.tensordot(entered, held["hidden"], axes=1) + held["hidden_bias"], approximate=True)
    straight = tf.tensordot(entered, held["linear"], axes=1) + held["linear_bias"]
    return tf.math.l2_normalize(straight + tf.tensordot(inner, held["output"], axes=1) + held["output_bias"], axis=-1)


def pool_meaning(layers: Mapping[str, Any], mirrored: Mapping[str, Any], names: Sequence[str]) -> Any:
    """A semantic head's features, [N, 9, C], of maps [N, H, W, c] by layer: of a picture, and of its mirror."""
    found = []
    for name in names:
        here, there = (_average(maps[name], averaging(int(maps[name].shape[1]))) for maps in (layers, mirrored))
        both = (here + tf.gather(there, tf.constant(MIRRORED), axis=1)) * 0.5
        found.append(tf.math.l2_normalize(tf.sqrt(tf.maximum(both, 0.0)), axis=-1))
    return tf.concat(found, axis=-1) * (1.0 / len(names) ** 0.5)


def describe_meaning(layers: Mapping[str, Any], mirrored: Mapping[str, Any], head: SemanticHead) -> Any:
    """The semantic vectors of maps as `pool_meaning` takes them: [N, 9 D], of unit norm."""
    centred = pool_meaning(layers, mirrored, head.layers) - tf.constant(head.mean)
    rows = tf.tensordot(centred, tf.constant(head.matrix), axes=1)
    return tf.math.l2_normalize(tf.reshape(rows, [tf.shape(rows)[0], head.dimension]), axis=-1)


def _average(maps: Any, matrix: NDArray[np.float32]) -> Any:
    flat = tf.reshape(maps, [tf.shape(maps)[0], matrix.shape[1], maps.shape[-1]])
    return tf.einsum("rk,nkc->nrc", tf.constant(matrix), flat)


def _gem(maps: Any, over: Bands) -> Any:
    """Generalised means of the cells of [N, H, W, C] over windows: [N, windows, C]."""
    clipped = tf.maximum(maps, _FLOOR)
    cubes = clipped * clipped * clipped
    count, most, cells = over.across.shape
    # N is said, not left to be found: a picture of another size fails here and is not pooled into its neighbours.
    rows = tf.matmul(tf.constant(over.down), tf.reshape(cubes, [tf.shape(maps)[0], cells, cells * maps.shape[-1]]))
    banded = tf.reshape(rows, [tf.shape(maps)[0], count, cells, maps.shape[-1]])
    means = tf.reshape(tf.matmul(tf.constant(over.across), banded), [tf.shape(maps)[0], count * most, maps.shape[-1]])
    # The cube root: tf.pow takes three times as long.
    return tf.exp(tf.math.log(tf.gather(means, tf.constant(over.places), axis=1)) * (1.0 / GEM_P))


def _project(pooled: Any, projection: Projection | None) -> Any:
    unit = tf.math.l2_normalize(pooled, axis=-1)
    if projection is None:
        return unit
    centred = unit - tf.constant(projection.mean)
    return tf.math.l2_normalize(tf.tensordot(centred, tf.constant(projection.matrix), axes=1), axis=-1)


def _classify(average: Any, loaded: Loaded) -> Any:
    features = average
    for layer in loaded.nsfw[:-1]:
        features = tf.nn.relu(tf.linalg.matmul(features, tf.constant(layer.kernel)) + tf.constant(layer.bias))
    last = loaded.nsfw[-1]
    return tf.nn.softmax(tf.linalg.matmul(features, tf.constant(last.kernel)) + tf.constant(last.bias))


def freeze(folded: Any, loaded: Loaded, head: Head) -> tuple[Any, list[str]]:
    """The network and its outputs as a GraphDef of constants.

    Args:
        folded: the keras.Model that gives all of the head's layers by name.
        loaded: its normalisation and class head.
        head: what is made of the layers.

    Returns:
        The GraphDef, whose input `images:0` is left open, and the names of the outputs: `output_` and each one's own.
    """
    names: list[str] = []

    def compute(images: Any) -> dict[str, Any]:
        pixels = normalise_pixels(images, loaded.normalisation)
        layers = folded(pixels, training=False)
        embedding, regions = describe_copy(layers[head.copy_layer], head.places, head.projection)
        average = tf.reduce_mean(layers[head.semantic_layer], axis=[1, 2])
        last_pool = tf.math.l2_normalize(average, axis=-1)
        outputs = {
            "embedding": embedding,
            "regions": regions,
            "logos": regions
            if head.logos is None
            else describe_logos(layers[FINE_LAYER], layers[COARSE_LAYER], head.logos),
            # A second pass, by the mirror, for who asks for `semantic`: the other outputs do not need it.
            "semantic": last_pool
            if head.semantic is None
            else describe_meaning(layers, folded(tf.reverse(pixels, [2]), training=False), head.semantic),
            # What others describe a picture by: for who measures against it.
            "last_pool": last_pool,
        }
        if loaded.nsfw:
            outputs["nsfw"] = _classify(average, loaded)
        names[:] = [_PREFIX + name for name in outputs]
        return {name: tf.identity(tensor, name=_PREFIX + name) for name, tensor in outputs.items()}

    spec = tf.TensorSpec([None, SIDE, SIDE, 3], tf.uint8, name="images")
    concrete = tf.function(compute, input_signature=[spec]).get_concrete_function()
    frozen = convert_variables_to_constants_v2(concrete).graph.as_graph_def()
    # `build` puts its own `images` in the place of this placeholder.
    del frozen.node[[node.name for node in frozen.node].index("images")]
    return frozen, names


def build(frozen: Any, output_ops: list[str], card_json: str, backgrounds: Mapping[str, NDArray[np.float32]]) -> Built:
    """Put the frozen network, the decoding of encoded pictures and the model card into one graph.

    `images` is a placeholder with a default: fed by one signature, decoded from `image_bytes` in the other, so that
    both share one copy of the network.
    """
    graph = tf.Graph()
    with graph.as_default():
        image_bytes = tf.compat.v1.placeholder(tf.string, [None], name="image_bytes")
        decoded = decode_pictures(image_bytes, SIDE)
        images = tf.compat.v1.placeholder_with_default(decoded, [None, SIDE, SIDE, 3], name="images")
        tensors = tf.import_graph_def(
            frozen, input_map={"images:0": images}, return_elements=[f"{op}:0" for op in output_ops], name=""
        )
        names = [op.removeprefix(_PREFIX) for op in output_ops]
        outputs = {name: tf.identity(tensor, name=name) for name, tensor in zip(names, tensors, strict=True)}
        probe = tf.compat.v1.placeholder(tf.int32, [None], name="probe")
        card = tf.fill([tf.shape(probe)[0]], tf.constant(card_json), name="card")
        # Which picture, for each row: so the whole is asked for in parts, and one batch of it is as any other.
        known = {name: tf.gather(tf.constant(one), probe, name=name) for name, one in backgrounds.items()}
    return Built(graph, images, image_bytes, probe, card, known, outputs)


def save(built: Built, directory: Path) -> None:
    """Write a SavedModel with its signatures: `serving_default`, `encoded`, `describe`, and one for each background."""
    outputs = dict(built.outputs)
    signatures = {
        "serving_default": ({"images": built.images}, outputs),
        "encoded": ({"image_bytes": built.image_bytes}, outputs),
        "describe": ({"probe": built.probe}, {"card": built.card}),
        **{name: ({"probe": built.probe}, {"background": one}) for name, one in built.backgrounds.items()},
    }
    with tf.compat.v1.Session(graph=built.graph) as session:
        builder = tf.compat.v1.saved_model.Builder(str(directory))
        builder.add_meta_graph_and_variables(
            session,
            [tf.saved_model.SERVING],
            signature_def_map={
                name: SignatureDef(
                    inputs={alias: _tensor_info(tensor) for alias, tensor in given.items()},
                    outputs={alias: _tensor_info(tensor) for alias, tensor in answered.items()},
                    method_name=tf.saved_model.PREDICT_METHOD_NAME,
                )
                for name, (given, answered) in signatures.items()
            },
            clear_devices=True,
        )
        builder.save()


def _tensor_info(tensor: Any) -> Any:
    return TensorInfo(name=tensor.name, dtype=tensor.dtype.as_datatype_enum, tensor_shape=tensor.shape.as_proto())
