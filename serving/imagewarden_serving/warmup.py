"""Warm-up requests: what a host runs through a new version before it calls it AVAILABLE."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from imagewarden_serving.architectures import SIDE

FILE_NAME = "tf_serving_warmup_requests"
_CHECK_OUTPUTS = (("embedding",), ("embedding", "regions"))
_ALL_OUTPUTS = ("embedding", "regions", "semantic")
_SEED = 299


def requests(model_name: str) -> list[predict_pb2.PredictRequest]:
    """One request of each kind that the moderation server sends, and one of encoded bytes.

    The first run of each set of outputs costs the most: each is run here, so that no upload pays for it.
    """
    noise = np.random.default_rng(_SEED).integers(0, 256, (1, SIDE, SIDE, 3), np.uint8)
    built = []
    for outputs in (*_CHECK_OUTPUTS, _ALL_OUTPUTS):
        request = _request(model_name, "serving_default", outputs)
        request.inputs["images"].CopyFrom(tf.make_tensor_proto(noise))
        built.append(request)
    encoded = _request(model_name, "encoded", _ALL_OUTPUTS)
    encoded.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([tf.io.encode_jpeg(noise[0]).numpy()]))
    card = _request(model_name, "describe", ("card",))
    card.inputs["probe"].CopyFrom(tf.make_tensor_proto(np.zeros(1, np.int32)))
    return [*built, encoded, card]


def _request(model_name: str, signature: str, outputs: tuple[str, ...]) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest(output_filter=outputs)
    request.model_spec.name = model_name
    request.model_spec.signature_name = signature
    return request


def write(model_name: str, version_directory: Path) -> None:
    """Write the warm-up file into a version's assets.extra."""
    directory = version_directory / "assets.extra"
    directory.mkdir()
    with tf.io.TFRecordWriter(str(directory / FILE_NAME)) as writer:
        for request in requests(model_name):
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())
