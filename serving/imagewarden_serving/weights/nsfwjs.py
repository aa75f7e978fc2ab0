"""The weights of the npm package nsfwjs: a real Inception v3, read from its scripts without running them.

The package has a TensorFlow.js layers model as scripts: `model.min.js` with the manifest of the tensors, and shards
with a base64 string each. A tensor is uint8 codes with a scale and a minimum (tfjs-converter's quantisation):
value = code x scale + min. Layers 1 to 50 were frozen when it was fine-tuned for moderation, so up to and including
mixed5 it is ImageNet's Inception v3; above it sorts pictures into five classes.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from imagewarden_serving import npm
from imagewarden_serving.architectures import Architecture, keras_with_tensorflow
from imagewarden_serving.jsliteral import LiteralError, parse_literal
from imagewarden_serving.weights._types import Array, Dense, Loaded, Progress, WeightsError, tensors_digest

CLASSES = ("Drawing", "Hentai", "Neutral", "Porn", "Sexy")
"""The head's outputs, in order."""

_FOLDER = "dist/models/inception_v3/"
_SHARDS = 6
_MANIFEST = "weightsManifest:"
_DENSE_LAYERS = 3
_BASE64 = re.compile(r'"([A-Za-z0-9+/]{1000,}={0,2})"')
# The 8-bit codes put a few variances at or below zero; Keras adds its epsilon of 1e-3 to them.
_VARIANCE_FLOOR = 1e-6


def load(architecture: Architecture, progress: Progress) -> Loaded:
    """Fetch the package, convert its weights, and give them to the network.

    Raises:
        WeightsError: the network is not inception_v3, or the package cannot be had or read.
    """
    if architecture.name != "inception_v3":
        raise WeightsError(
            f"the weights of nsfwjs are of inception_v3, not of {architecture.name}; "
            "choose --weights imagenet or a .keras file"
        )
    pinned = npm.NSFWJS
    progress(f"fetching {pinned} by npm (25 MB), unless it is in the cache")
    try:
        tarball = npm.fetch(pinned)
        progress("converting the weights")
        tensors = read_tensors(tarball)
    except npm.NpmError as error:
        raise WeightsError(str(error)) from error
    keras = keras_with_tensorflow()
    model = architecture.build()
    _assign(keras, model, tensors)
    head = tuple(Dense(tensors[f"dense_{n}/kernel"], tensors[f"dense_{n}/bias"]) for n in range(1, _DENSE_LAYERS + 1))
    source = {
        "source": "nsfwjs",
        "package": pinned.name,
        "version": pinned.version,
        "integrity": pinned.integrity,
        "licence": pinned.licence,
    }
    return Loaded(model, "zero_to_one", source, tensors_digest(model, head), head, CLASSES)


def read_tensors(tarball: Path) -> dict[str, Array]:
    """The tensors of the package's Inception v3, float32, by their TensorFlow.js names.

    Raises:
        NpmError: a file is missing.
        WeightsError: the files are not what nsfwjs 4.3.0 has.
    """
    script = npm.read_member(tarball, f"{_FOLDER}model.min.js").decode()
    begin = script.find(_MANIFEST)
    if begin < 0:
        raise WeightsError(f"model.min.js of {tarball} has no {_MANIFEST!r}")
    codes = b"".join(_shard(tarball, number) for number in range(1, _SHARDS + 1))
    try:
        groups = parse_literal(script, begin + len(_MANIFEST))
        tensors: dict[str, Array] = {}
        offset = 0
        for entry in (entry for group in groups for entry in group["weights"]):
            size = math.prod(entry["shape"])
            tensors[entry["name"]] = _dequantised(codes, offset, size, entry)
            offset += size
    except (LiteralError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"the manifest of {tarball} cannot be read: {error!r}") from error
    if offset != len(codes):
        raise WeightsError(f"the manifest of {tarball} names {offset} bytes of weights, and there are {len(codes)}")
    return tensors


def _shard(tarball: Path, number: int) -> bytes:
    member = f"{_FOLDER}group1-shard{number}of{_SHARDS}.min.js"
    found = _BASE64.search(npm.read_member(tarball, member).decode())
    if found is None:
        raise WeightsError(f"{member} of {tarball} has no base64 string")
    try:
        return base64.b64decode(found[1], validate=True)
    except binascii.Error as error:
        raise WeightsError(f"{member} of {tarball} has damaged base64: {error}") from error


def _dequantised(codes: bytes, offset: int, size: int, entry: Mapping[str, Any]) -> Array:
    quantization = entry["quantization"]
    if quantization["dtype"] != "uint8":
        raise ValueError(f"{entry['name']} has codes of {quantization['dtype']}, not uint8")
    raw = np.frombuffer(codes, np.uint8, size, offset).astype(np.float32)
    values: Array = raw * np.float32(quantization["scale"]) + np.float32(quantization["min"])
    return values.reshape(entry["shape"])


def _number(name: str) -> int:
    """The N of `conv2d_N`: Keras gives the first of a process none and counts on from there."""
    found = re.search(r"_(\d+)$", name)
    return int(found[1]) if found else 0


def _assign(keras: Any, model: Any, tensors: Mapping[str, Array]) -> None:
    """Give the N-th convolution and the N-th batch norm, by number, the tensors of that number."""

    def numbered(kind: type) -> list[Any]:
        return sorted((layer for layer in model.layers if isinstance(layer, kind)), key=lambda one: _number(one.name))

    for number, layer in enumerate(numbered(keras.layers.Conv2D), 1):
        layer.set_weights([tensors[f"conv2d_{number}/kernel"]])
    for number, layer in enumerate(numbered(keras.layers.BatchNormalization), 1):
        name = f"batch_normalization_{number}"
        variance = np.maximum(tensors[f"{name}/moving_variance"], np.float32(_VARIANCE_FLOOR))
        layer.set_weights([tensors[f"{name}/beta"], tensors[f"{name}/moving_mean"], variance])
