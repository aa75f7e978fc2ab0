"""Warm-up: the requests in assets.extra run before a version is AVAILABLE, so that no caller pays for the first."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import prediction_log_pb2

from imagewarden_serving.host.errors import Code, HostError, invalid
from imagewarden_serving.host.predict import checked_call, proto_inputs
from imagewarden_serving.host.servable import Servable

WARMUP_FILE = Path("assets.extra") / "tf_serving_warmup_requests"
MAX_RECORDS = 1_000
_LOG = logging.getLogger(__name__)


def warm_up(servable: Servable, path: Path) -> int:
    """Run the warm-up requests of a version directory, if it has any.

    Returns:
        How many ran.

    Raises:
        HostError: a record cannot be read or run, or there are more than `MAX_RECORDS`.
    """
    file = path / WARMUP_FILE
    if not file.is_file():
        return 0
    count = 0
    for log in _records(file):
        if count == MAX_RECORDS:
            raise invalid(f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {file}")
        count += 1
        kind = log.WhichOneof("log_type")
        if kind != "predict_log":
            _LOG.warning("%s: record %d is a %s, which this host does not serve: skipped", file, count, kind)
            continue
        request = log.predict_log.request
        try:
            call = checked_call(
                servable, request.model_spec.signature_name, list(request.output_filter), proto_inputs(request.inputs)
            )
            servable.run(call.signature, call.outputs, call.inputs)
        except HostError as error:
            raise HostError(error.code, f"warm-up record {count} of {file}: {error.message}") from error
    return count


def _records(file: Path) -> Iterator[Any]:
    try:
        for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
            yield prediction_log_pb2.PredictionLog.FromString(record)
    except (tf.errors.OpError, DecodeError) as error:
        raise HostError(Code.DATA_LOSS, f"Failed to read warm-up records of {file}: {error}") from error
