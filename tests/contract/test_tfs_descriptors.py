"""The light descriptors are TensorFlow Serving's own: message by message, byte by byte, beside the official package."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from google.protobuf import descriptor_pb2
from tests.unit.embedding.model_host import encoded_strings

from imagewarden_server.embedding import _tfs
from imagewarden_server.embedding.tensors import TensorProblem, floats, text, write_pictures


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
    write_pictures(request.inputs["images"], pictures)
    read = official["predict"].PredictRequest.FromString(request.SerializeToString())
    assert (read.model_spec.name, read.model_spec.version.value, list(read.output_filter)) == (
        "inception",
        7,
        ["embedding"],
    )
    assert np.array_equal(tf.make_ndarray(read.inputs["images"]), pictures)


def unit_vectors() -> Any:
    vectors = np.random.default_rng(2).standard_normal((3, 2, 16)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@pytest.mark.parametrize("field", ["tensor_content", "float_val"])
def test_an_answer_of_the_other_side_is_read_the_same(official: dict[str, Any], field: str) -> None:
    import tensorflow as tf

    vectors = unit_vectors()
    answer = official["predict"].PredictResponse()
    answer.model_spec.name = "inception"
    answer.model_spec.version.value = 2**40
    tensor = answer.outputs["regions"]
    tensor.CopyFrom(tf.make_tensor_proto(vectors))
    if field == "float_val":
        tensor.ClearField("tensor_content")
        tensor.float_val.extend(vectors.ravel().tolist())
    read = _tfs.PredictResponse.FromString(answer.SerializeToString())
    assert read.model_spec.version.value == 2**40
    assert np.array_equal(floats("regions", read.outputs, (3, 2, 16)), vectors)
    with pytest.raises(TensorProblem):
        floats("regions", read.outputs, (3, 16, 2))


@pytest.mark.parametrize("length", [0, 1, 127, 128, 20_000])
def test_strings_in_tensor_content_are_tensorflows(length: int) -> None:
    """What TensorFlow's own decoder takes for one string is what the client reads: a server may answer its card so."""
    import tensorflow as tf

    string = b"x" * length
    tensor = _tfs.TensorProto(dtype=_tfs.DT_STRING, tensor_content=encoded_strings(string))
    tensor.tensor_shape.dim.add(size=1)
    assert tf.io.parse_tensor(tensor.SerializeToString(), tf.string).numpy().tolist() == [string]
    assert text("card", {"card": tensor}) == string


def test_status_and_metadata_read_the_same(official: dict[str, Any]) -> None:
    status = official["status"].GetModelStatusResponse()
    one = status.model_version_status.add(version=3, state=official["status"].ModelVersionStatus.LOADING)
    one.status.error_message = "not yet"
    (read,) = _tfs.GetModelStatusResponse.FromString(status.SerializeToString()).model_version_status
    assert (read.version, _tfs.state_name(read.state), read.status.error_message) == (3, "LOADING", "not yet")
    signatures = official["metadata"].SignatureDefMap()
    images = signatures.signature_def["serving_default"].inputs["images"]
    images.dtype = _tfs.DT_UINT8
    images.tensor_shape.dim.add(size=-1)
    metadata = official["metadata"].GetModelMetadataResponse()
    metadata.metadata["signature_def"].Pack(signatures)
    packed = _tfs.GetModelMetadataResponse.FromString(metadata.SerializeToString()).metadata["signature_def"]
    found = _tfs.SignatureDefMap.FromString(packed.value).signature_def["serving_default"].inputs["images"]
    assert (_tfs.dtype_name(found.dtype), found.tensor_shape.dim[0].size) == ("DT_UINT8", -1)
    request = _tfs.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.version.value = 3
    asked = official["metadata"].GetModelMetadataRequest.FromString(request.SerializeToString())
    assert (asked.model_spec.version.value, list(asked.metadata_field)) == (3, ["signature_def"])


def test_the_two_pools_know_nothing_of_each_other(official: dict[str, Any]) -> None:
    theirs = official["predict"].PredictRequest.DESCRIPTOR
    assert _tfs.PredictRequest.DESCRIPTOR is not theirs
    assert _tfs.PredictRequest.DESCRIPTOR.full_name == theirs.full_name


def test_the_client_loads_no_tensorflow() -> None:
    code = (
        "import sys, imagewarden_server.embedding; loaded = {name.partition('.')[0] for name in sys.modules}; "
        "print(*loaded & {'tensorflow', 'tensorflow_serving', 'keras'})"
    )
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert not result.stdout.strip()
