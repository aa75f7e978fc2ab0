"""TensorProto to numpy and back, with a hostile sender in mind."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from imagewarden_serving.host.errors import invalid

Array = npt.NDArray[Any]

MAX_TENSOR_BYTES = 256 * 2**20
"""A few bytes of message can name a tensor of terabytes: its values are repeated to fill the shape."""

_DT_STRING = 7
_VALUE_FIELDS = {
    "float32": "float_val",
    "float64": "double_val",
    "int8": "int_val",
    "int16": "int_val",
    "int32": "int_val",
    "uint8": "int_val",
    "uint16": "int_val",
    "int64": "int64_val",
    "uint32": "uint32_val",
    "uint64": "uint64_val",
    "bool": "bool_val",
}
# What TensorFlow's C++ calls its types in messages.
_CPP_NAMES = {"float16": "half", "float32": "float", "float64": "double"}


class MalformedTensor(ValueError):
    """The parts of a TensorProto contradict each other."""


def dtype_name(dtype: int) -> str:
    """The name of a DataType as the real server writes it: `float`, not `float32`."""
    try:
        name: str = tf.dtypes.as_dtype(dtype).name
    except TypeError:
        return f"DataType {dtype}"
    return _CPP_NAMES.get(name, name)


def decode(proto: Any) -> Array:
    """Read a TensorProto.

    Numeric tensor_content is not copied: the array is read-only and keeps the message's bytes alive.

    Returns:
        An array of the proto's dtype and shape; strings are an object array of bytes.

    Raises:
        MalformedTensor: values do not fit the shape, or the dtype is none that can be sent.
    """
    shape = _shape(proto)
    count = math.prod(shape)
    if proto.dtype == _DT_STRING:
        return _decode_strings(proto, shape, count)
    try:
        dtype = np.dtype(tf.dtypes.as_dtype(proto.dtype).as_numpy_dtype)
    except (TypeError, KeyError) as error:
        raise MalformedTensor(f"dtype {proto.dtype} cannot be sent") from error
    if dtype.hasobject:
        raise MalformedTensor(f"dtype {proto.dtype} cannot be sent")
    if count * dtype.itemsize > MAX_TENSOR_BYTES:
        raise MalformedTensor(f"shape {list(shape)} is over {MAX_TENSOR_BYTES} bytes")
    if proto.tensor_content:
        if len(proto.tensor_content) != count * dtype.itemsize:
            raise MalformedTensor(f"{len(proto.tensor_content)} bytes do not fill {list(shape)} of {dtype}")
        return np.frombuffer(proto.tensor_content, dtype).reshape(shape)
    return _decode_values(proto, dtype, shape, count)


def _shape(proto: Any) -> tuple[int, ...]:
    if proto.tensor_shape.unknown_rank:
        raise MalformedTensor("the shape is unknown")
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    if any(size < 0 for size in shape):
        raise MalformedTensor(f"shape {list(shape)} has a negative dimension")
    return shape


def _decode_values(proto: Any, dtype: np.dtype[Any], shape: tuple[int, ...], count: int) -> Array:
    if dtype == np.float16:
        values = np.array(proto.half_val, np.uint16).view(np.float16)
    else:
        field = _VALUE_FIELDS.get(dtype.name)
        if field is None:
            raise MalformedTensor(f"{dtype.name} must be sent as tensor_content")
        # Values wider than the dtype wrap, as in the real server.
        values = np.array(getattr(proto, field)).astype(dtype, casting="unsafe")
    return _fill(values, shape, count)


def _decode_strings(proto: Any, shape: tuple[int, ...], count: int) -> Array:
    if count * 8 > MAX_TENSOR_BYTES:
        raise MalformedTensor(f"shape {list(shape)} has too many strings")
    if proto.tensor_content:
        raise MalformedTensor("strings must be sent as string_val")
    values = np.empty(len(proto.string_val), dtype=object)
    values[:] = list(proto.string_val)
    if not len(values):
        values = np.array([b""], dtype=object)
    return _fill(values, shape, count)


def _fill(values: Array, shape: tuple[int, ...], count: int) -> Array:
    """Fewer values than the shape needs: the last one is repeated, as `Tensor::FromProto` does."""
    if len(values) > count and not (count == 0 and len(values) == 1):
        raise MalformedTensor(f"{len(values)} values do not fit {list(shape)}")
    if len(values) < count:
        last = values[-1] if len(values) else values.dtype.type(0)
        tail = np.full(count - len(values), last, dtype=values.dtype)
        values = np.concatenate([values, tail])
    return values[:count].reshape(shape)


def encode(array: Array, dtype: int, proto: Any) -> None:
    """Write an array into an empty TensorProto: tensor_content, or string_val for strings."""
    proto.dtype = dtype
    for size in array.shape:
        proto.tensor_shape.dim.add().size = size
    if dtype == _DT_STRING:
        proto.string_val.extend(array.ravel().tolist())
    else:
        proto.tensor_content = array.tobytes()


def check_dtype(index: int, array: Array, dtype: int) -> None:
    """Refuse what the graph would refuse, before it joins a batch.

    Raises:
        HostError: INVALID_ARGUMENT in TensorFlow's own words.
    """
    sent = _DT_STRING if array.dtype == object else int(tf.dtypes.as_dtype(array.dtype).as_datatype_enum)
    if sent != dtype:
        raise invalid(f"Expects arg[{index}] to be {dtype_name(dtype)} but {dtype_name(sent)} is provided")
