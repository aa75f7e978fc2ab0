"""TensorFlow Serving's messages without TensorFlow.

They are read from a FileDescriptorSet into a pool of their own: the default pool refuses a second file of the same name,
so that a process may load the official package beside these.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

_DATA = files(__package__).joinpath("descriptors.binpb").read_bytes()


def _load() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    for module in (any_pb2, wrappers_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    for file in descriptor_pb2.FileDescriptorSet.FromString(_DATA).file:
        pool.Add(file)
    return pool


POOL = _load()


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(name))


PredictRequest = _message("tensorflow.serving.PredictRequest")
PredictResponse = _message("tensorflow.serving.PredictResponse")
GetModelMetadataRequest = _message("tensorflow.serving.GetModelMetadataRequest")
GetModelMetadataResponse = _message("tensorflow.serving.GetModelMetadataResponse")
GetModelStatusRequest = _message("tensorflow.serving.GetModelStatusRequest")
GetModelStatusResponse = _message("tensorflow.serving.GetModelStatusResponse")
SignatureDefMap = _message("tensorflow.serving.SignatureDefMap")
TensorProto = _message("tensorflow.TensorProto")

DT_FLOAT = 1
DT_INT32 = 3
DT_UINT8 = 4
DT_STRING = 7

AVAILABLE = 30


def dtype_name(number: int) -> str:
    """A tensor type's name, for people."""
    return _enum_name("tensorflow.DataType", number)


def state_name(number: int) -> str:
    """The name of a state of a model's version, for people."""
    return _enum_name("tensorflow.serving.ModelVersionStatus.State", number)


def _enum_name(enum: str, number: int) -> str:
    value = POOL.FindEnumTypeByName(enum).values_by_number.get(number)
    return str(number) if value is None else value.name


PREDICT = "/tensorflow.serving.PredictionService/Predict"
GET_MODEL_METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
GET_MODEL_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
