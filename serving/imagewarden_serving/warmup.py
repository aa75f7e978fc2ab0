"""Warm-up requests: what a host runs through a new version before it calls it AVAILABLE."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from imagewarden_serving.architectures import SIDE

FOLDER = "assets.extra"
FILE_NAME = "tf_serving_warmup_requests"
_CHECK = ("embedding", "regions")
_IMAGE_OUTPUTS = (
    _CHECK,
    ("logos",),
    ("embedding", "logos", "regions"),
    ("semantic",),
    ("embedding",),
)
_SEED = 299


def requests(model_name: str) -> list[predict_pb2.PredictRequest]:
    """A request for each set of outputs that the moderation server asks for, and one for each other signature.

    A session prepares a graph of its own for each set of outputs at its first run: here, so that no upload waits. None
    for the backgrounds: they only read what is stored, and not every model has them.
    """
    noise = np.random.default_rng(_SEED).integers(0, 256, (1, SIDE, SIDE, 3), np.uint8)
    jpeg = tf.io.encode_jpeg(noise[0]).numpy()
    return [
        *(_request(model_name, "serving_default", "images", noise, outputs) for outputs in _IMAGE_OUTPUTS),
        _request(model_name, "serving_default", "images", noise, ()),
        _request(model_name, "encoded", "image_bytes", [jpeg], _CHECK),
        _request(model_name, "describe", "probe", np.zeros(1, np.int32), ()),
    ]


def _request(
    model_name: str, signature: str, alias: str, value: object, outputs: tuple[str, ...]
) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest(output_filter=outputs)
    request.model_spec.name = model_name
    request.model_spec.signature_name = signature
    request.inputs[alias].CopyFrom(tf.make_tensor_proto(value))
    return request


def write(model_name: str, version_directory: Path) -> None:
    """Write the warm-up file, a TFRecord of PredictionLog, into a version's assets.extra."""
    directory = version_directory / FOLDER
    directory.mkdir()
    with tf.io.TFRecordWriter(str(directory / FILE_NAME)) as writer:
        for request in requests(model_name):
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())
