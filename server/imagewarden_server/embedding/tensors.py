"""Between numpy arrays and TensorProto, the fast way: raw bytes, never one number at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagewarden_server.embedding import _tfs

_NORM_TOLERANCE = 1e-2


class TensorProblem(Exception):
    """A tensor is not what was asked for."""


def write_pictures(tensor: Any, images: NDArray[np.uint8]) -> None:
    """Write pictures uint8 [n, h, w, 3] into an empty TensorProto, as tensor_content.

    In place: a tensor that is made apart and copied into its request costs twenty times as much.
    """
    tensor.dtype = _tfs.DT_UINT8
    for size in images.shape:
        tensor.tensor_shape.dim.add(size=size)
    tensor.tensor_content = images.tobytes()


def write_probe(tensor: Any, values: Sequence[int] = (0,)) -> None:
    """Write the input of the signatures that answer the model card and the background: int32 [n]."""
    tensor.dtype = _tfs.DT_INT32
    tensor.tensor_shape.dim.add(size=len(values))
    tensor.int_val.extend(values)


def floats(name: str, outputs: Any, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """An output of float32 of a known shape, from tensor_content or float_val; its last axis of unit norm.

    Raises:
        TensorProblem: it is missing, of another type or shape, or has vectors that are not finite or not of unit
            norm: whatever it is, it must never be compared.
    """
    tensor = _output(name, outputs, _tfs.DT_FLOAT)
    found = [dimension.size for dimension in tensor.tensor_shape.dim]
    if found != list(shape):
        raise TensorProblem(f"output {name!r} has shape {found}, expected {list(shape)}")
    content, count = tensor.tensor_content, math.prod(shape)
    numbers = len(content) / 4 if content else len(tensor.float_val)
    if numbers != count:
        raise TensorProblem(f"output {name!r} has {numbers:g} numbers for shape {list(shape)}, which takes {count}")
    values = np.frombuffer(content, "<f4") if content else np.array(tensor.float_val, np.float32)
    array = values.astype(np.float32, copy=False).reshape(shape)
    with np.errstate(over="ignore", invalid="ignore"):  # such numbers are refused below
        norms = np.linalg.norm(array, axis=-1)
    if not np.all(np.abs(norms - 1.0) < _NORM_TOLERANCE):  # NaN compares False, and is refused with the rest
        raise TensorProblem(f"output {name!r} has vectors that are not of unit norm, or not finite")
    return array


def text(name: str, outputs: Any) -> bytes:
    """The one string of an output of strings, from string_val or tensor_content.

    A server that runs with tensor_content serialisation writes strings as TensorFlow's `EncodeStringList` does: the
    lengths as varints, then the bytes.

    Raises:
        TensorProblem: it is missing, of another type, or not one string.
    """
    tensor = _output(name, outputs, _tfs.DT_STRING)
    if len(tensor.string_val) == 1:
        return bytes(tensor.string_val[0])
    content = tensor.tensor_content
    length = 0
    for place, byte in enumerate(content[:10]):
        length |= (byte & 0x7F) << (7 * place)
        if not byte & 0x80:
            if len(content) != place + 1 + length:
                break
            return bytes(content[place + 1 :])
    raise TensorProblem(f"output {name!r} is not one string")


def _output(name: str, outputs: Any, dtype: int) -> Any:
    if name not in outputs:
        raise TensorProblem(f"output {name!r} is missing")
    tensor = outputs[name]
    if tensor.dtype != dtype:
        raise TensorProblem(
            f"output {name!r} has dtype {_tfs.dtype_name(tensor.dtype)}, expected {_tfs.dtype_name(dtype)}"
        )
    return tensor
