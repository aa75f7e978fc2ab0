"""Two messages of tensorflow_model_server's text files that tensorflow-serving-api does not ship.

They stand in a descriptor pool of their own, under the real server's names, so that they cannot clash with a later
tensorflow-serving-api that has them. Source: tensorflow_serving/servables/tensorflow/session_bundle_config.proto and
tensorflow_serving/config/monitoring_config.proto.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

_Field = descriptor_pb2.FieldDescriptorProto
_INT64 = ".google.protobuf.Int64Value"
_STRING = ".google.protobuf.StringValue"


def _message(name: str, *fields: descriptor_pb2.FieldDescriptorProto) -> descriptor_pb2.DescriptorProto:
    return descriptor_pb2.DescriptorProto(name=name, field=fields)


def _wrapped(name: str, number: int, kind: str) -> descriptor_pb2.FieldDescriptorProto:
    return _Field(name=name, number=number, type=_Field.TYPE_MESSAGE, type_name=kind, label=_Field.LABEL_OPTIONAL)


def _plain(
    name: str, number: int, kind: descriptor_pb2.FieldDescriptorProto.Type.ValueType, *, repeated: bool = False
) -> descriptor_pb2.FieldDescriptorProto:
    label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
    return _Field(name=name, number=number, type=kind, label=label)


def _pool() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto(
        name="imagewarden_serving/model_server_files.proto",
        package="tensorflow.serving",
        syntax="proto3",
        dependency=["google/protobuf/wrappers.proto"],
    )
    file.message_type.append(
        _message(
            "BatchingParameters",
            _wrapped("max_batch_size", 1, _INT64),
            _wrapped("batch_timeout_micros", 2, _INT64),
            _wrapped("max_enqueued_batches", 3, _INT64),
            _wrapped("num_batch_threads", 4, _INT64),
            _wrapped("thread_pool_name", 5, _STRING),
            _plain("allowed_batch_sizes", 6, _Field.TYPE_INT64, repeated=True),
            _plain("pad_variable_length_inputs", 7, _Field.TYPE_BOOL),
        )
    )
    file.message_type.append(
        _message("PrometheusConfig", _plain("enable", 1, _Field.TYPE_BOOL), _plain("path", 2, _Field.TYPE_STRING))
    )
    file.message_type.append(
        _message("MonitoringConfig", _wrapped("prometheus_config", 1, ".tensorflow.serving.PrometheusConfig"))
    )
    pool.AddSerializedFile(file.SerializeToString())
    return pool


_POOL = _pool()


def _message_class(name: str) -> type[Any]:
    message_class: type[Any] = message_factory.GetMessageClass(
        _POOL.FindMessageTypeByName(f"tensorflow.serving.{name}")
    )
    return message_class


BatchingParametersMessage = _message_class("BatchingParameters")
MonitoringConfigMessage = _message_class("MonitoringConfig")
