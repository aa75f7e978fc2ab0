"""The light descriptors are TensorFlow Serving's own: message by message, byte by byte, beside the official package."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from google.protobuf import descriptor_pb2

from imagewarden_server.embedding import _tfs
from imagewarden_server.embedding.tensors import pictures_tensor


@pytest.fixture(scope="module")
def official() -> dict[str, Any]:
    """The official modules: TensorFlow loads beside the light descriptors, in this very process."""
    from tensorflow_serving.apis import (
        get_model_metadata_pb2,
        get_model_status_pb2,
        model_service_pb2,
        predict_pb2,
        prediction_service_pb2,
    )

    return {
        "predict": predict_pb2,
        "metadata": get_model_metadata_pb2,
        "status": get_model_status_pb2,
        "prediction_service": prediction_service_pb2,
        "model_service": model_service_pb2,
    }


def file_protos(official: dict[str, Any]) -> dict[str, descriptor_pb2.FileDescriptorProto]:
    found: dict[str, descriptor_pb2.FileDescriptorProto] = {}

    def visit(file: Any) -> None:
        if file.name not in found:
            proto = descriptor_pb2.FileDescriptorProto()
            file.CopyToProto(proto)
            found[file.name] = proto
            for dependency in file.dependencies:
                visit(dependency)

    visit(official["prediction_service"].DESCRIPTOR)
    visit(official["model_service"].DESCRIPTOR)
    return found


def test_every_file_is_equal_to_the_official_one(official: dict[str, Any]) -> None:
    files = file_protos(official)
    assert len(files) > 20
    for name, expected in files.items():
        proto = descriptor_pb2.FileDescriptorProto()
        _tfs.POOL.FindFileByName(name).CopyToProto(proto)
        assert proto == expected, name


def test_method_paths_are_the_services_own(official: dict[str, Any]) -> None:
    services = {
        _tfs.PREDICT: official["prediction_service"].DESCRIPTOR.services_by_name["PredictionService"],
        _tfs.GET_MODEL_METADATA: official["prediction_service"].DESCRIPTOR.services_by_name["PredictionService"],
        _tfs.GET_MODEL_STATUS: official["model_service"].DESCRIPTOR.services_by_name["ModelService"],
    }
    for path, service in services.items():
        _, service_name, method = path.split("/")
        assert service.full_name == service_name
        assert method in service.methods_by_name


def test_numbers_are_tensorflows(official: dict[str, Any]) -> None:
    import tensorflow as tf

    assert (
        tf.float32.as_datatype_enum,
        tf.int32.as_datatype_enum,
        tf.uint8.as_datatype_enum,
        tf.string.as_datatype_enum,
    ) == (_tfs.DT_FLOAT, _tfs.DT_INT32, _tfs.DT_UINT8, _tfs.DT_STRING)
    assert official["status"].ModelVersionStatus.AVAILABLE == _tfs.AVAILABLE


def test_a_request_reads_the_same_on_the_other_side(official: dict[str, Any]) -> None:
    import tensorflow as tf

    pictures = np.random.default_rng(1).integers(0, 256, (2, 299, 299, 3), np.uint8)
    request = _tfs.PredictRequest(output_filter=["embedding"])
    request.model_spec.name = "inception"
    request.model_spec.version.value = 7
    request.inputs["images"].CopyFrom(pictures_tensor(pictures))
    read = official["predict"].PredictRequest.FromString(request.SerializeToString())
    assert (read.model_spec.name, read.model_spec.version.value, list(read.output_filter)) == (
        "inception",
        7,
        ["embedding"],
    )
    assert np.array_equal(tf.make_ndarray(read.inputs["images"]), pictures)
    answer = official["predict"].PredictResponse()
    answer.outputs["embedding"].CopyFrom(tf.make_tensor_proto(np.ones((1, 4), np.float32)))
    assert _tfs.PredictResponse.FromString(answer.SerializeToString()).outputs["embedding"].dtype == _tfs.DT_FLOAT


def test_the_client_loads_no_tensorflow() -> None:
    code = "import sys, imagewarden_server.embedding; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
