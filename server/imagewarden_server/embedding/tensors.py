"""Between numpy arrays and TensorProto, the fast way: raw bytes, never one number at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagewarden_server.embedding import _tfs


class TensorProblem(Exception):
    """A tensor is not what was asked for."""


def pictures_tensor(images: NDArray[np.uint8]) -> Any:
    """Pictures uint8 [n, h, w, 3] as a TensorProto of tensor_content."""
    tensor = _tfs.TensorProto(dtype=_tfs.DT_UINT8, tensor_content=np.ascontiguousarray(images).tobytes())
    for size in images.shape:
        tensor.tensor_shape.dim.add(size=size)
    return tensor


def probe_tensor() -> Any:
    """The input of the signature that answers the model card: int32 [1]."""
    tensor = _tfs.TensorProto(dtype=_tfs.DT_INT32, int_val=[0])
    tensor.tensor_shape.dim.add(size=1)
    return tensor


def floats(name: str, outputs: Any, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """An output of float32 of a known shape, from tensor_content or float_val; its last axis of unit norm.

    Raises:
        TensorProblem: it is missing, of another type or shape, or has vectors that are not finite or not of unit
            norm: whatever it is, it must never be compared.
    """
    if name not in outputs:
        raise TensorProblem(f"output {name!r} is missing")
    tensor = outputs[name]
    if tensor.dtype != _tfs.DT_FLOAT:
        raise TensorProblem(f"output {name!r} has dtype {tensor.dtype}, not float32")
    found = tuple(dimension.size for dimension in tensor.tensor_shape.dim)
    if found != shape:
        raise TensorProblem(f"output {name!r} has shape {list(found)}, expected {list(shape)}")
    content = tensor.tensor_content
    values = np.frombuffer(content, "<f4") if content else np.array(tensor.float_val, np.float32)
    if values.size != int(np.prod(shape)):
        raise TensorProblem(f"output {name!r} has {values.size} numbers for shape {list(shape)}")
    array = values.astype(np.float32, copy=False).reshape(shape)
    norms = np.linalg.norm(array, axis=-1)
    if not np.all(np.abs(norms - 1.0) < 1e-2):  # NaN compares False, and is refused with the rest
        raise TensorProblem(f"output {name!r} has vectors that are not of unit norm, or not finite")
    return array
