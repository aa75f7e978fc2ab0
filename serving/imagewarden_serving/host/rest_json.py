"""TensorFlow Serving's JSON for Predict: rows (`instances`) or columns (`inputs`) in, `predictions` or `outputs` out.

Source: https://www.tensorflow.org/tfx/serving/api_rest#predict_api
"""

from __future__ import annotations

import base64
import binascii
import json
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from imagewarden_serving.host.errors import invalid
from imagewarden_serving.host.predict import Prediction, check_names
from imagewarden_serving.host.servable import Signature
from imagewarden_serving.host.tensors import Array, dtype_name

_DT_STRING = 7
_SHOWN = 80


@dataclass(frozen=True, slots=True)
class JsonRequest:
    """A parsed body.

    Attributes:
        signature_name: empty means serving_default.
        row_format: whether the values came as `instances`.
        values: what stood under `instances` or `inputs`.
    """

    signature_name: str
    row_format: bool
    values: Any

    def read(self, signature: Signature) -> Mapping[str, Array]:
        """The inputs as arrays: an `InputReader`.

        Raises:
            HostError: INVALID_ARGUMENT.
        """
        columns = self._rows(signature) if self.row_format else self._columns(signature)
        check_names(signature, list(columns))
        return {alias: _array(alias, value, signature.inputs[alias].dtype) for alias, value in columns.items()}

    def _columns(self, signature: Signature) -> dict[str, Any]:
        if isinstance(self.values, dict) and not _is_base64(self.values):
            return self.values
        return {_only_input(signature): self.values}

    def _rows(self, signature: Signature) -> dict[str, list[Any]]:
        rows = self.values
        if not isinstance(rows, list) or not rows:
            raise invalid("Excepting 'instances' to be a list/array with at least one value")
        if not isinstance(rows[0], dict) or _is_base64(rows[0]):
            return {_only_input(signature): rows}
        columns: dict[str, list[Any]] = {alias: [] for alias in rows[0]}
        for row in rows:
            if not isinstance(row, dict) or row.keys() != columns.keys():
                raise invalid(f"instances must all be objects of the same keys, {sorted(columns)}: {_show(row)}")
            for alias, value in row.items():
                columns[alias].append(value)
        return columns


def parse(body: bytes) -> JsonRequest:
    """Read a body.

    Raises:
        HostError: INVALID_ARGUMENT.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise invalid(f"JSON Parse error: {error}") from error
    if not isinstance(document, dict):
        raise invalid("Request must be a JSON object")
    signature_name = document.get("signature_name", "")
    if not isinstance(signature_name, str):
        raise invalid("'signature_name' key must be a string value.")
    if "instances" in document and "inputs" in document:
        raise invalid("Not formatted correctly. 'inputs' and 'instances' keys cannot both be present")
    for key in ("instances", "inputs"):
        if key in document:
            return JsonRequest(signature_name, key == "instances", document[key])
    raise invalid("Missing 'inputs' or 'instances' key")


def render(prediction: Prediction, *, row_format: bool) -> dict[str, Any]:
    """The answer, in the format that was asked in.

    Raises:
        HostError: INVALID_ARGUMENT when rows were asked for and an output has none.
    """
    outputs = {alias: _json_value(alias, array) for alias, array in prediction.outputs.items()}
    single = next(iter(outputs)) if len(outputs) == 1 else None
    if not row_format:
        return {"outputs": outputs[single] if single else outputs}
    if any(array.ndim == 0 for array in prediction.outputs.values()):
        raise invalid("An output has no rows: ask with 'inputs' instead of 'instances'")
    if len({len(array) for array in prediction.outputs.values()}) != 1:
        raise invalid("The outputs have different numbers of rows: ask with 'inputs' instead of 'instances'")
    if single:
        return {"predictions": outputs[single]}
    return {"predictions": [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]}


def _only_input(signature: Signature) -> str:
    if len(signature.inputs) != 1:
        raise invalid(
            f"The signature {signature.name} has {len(signature.inputs)} inputs: name them, {sorted(signature.inputs)}"
        )
    return next(iter(signature.inputs))


def _array(alias: str, value: Any, dtype: int) -> Array:
    if dtype == _DT_STRING:
        return _strings(alias, value)
    target = np.dtype(tf.dtypes.as_dtype(dtype).as_numpy_dtype)
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError, RecursionError) as error:
        raise invalid(f"Input {alias}: lists of different lengths, or too deep: {_show(value)}") from error
    fits = {"i": "iu", "u": "iu", "b": "b"}.get(target.kind, "iuf")
    if array.dtype.kind not in fits and array.size:
        raise invalid(f"JSON Value: {_show(value)} is not of expected type: {dtype_name(dtype)} for input {alias}")
    if target.kind in "iu" and array.size:
        limits = np.iinfo(target)
        if int(array.min()) < limits.min or int(array.max()) > limits.max:
            raise invalid(f"Input {alias}: values must be within {limits.min} and {limits.max}")
    return array.astype(target)


def _strings(alias: str, value: Any) -> Array:
    """Strings, or `{"b64": ...}` objects, in lists of one shape."""
    shape: list[int] = []
    level = value
    while isinstance(level, list):
        shape.append(len(level))
        level = level[0] if level else None
    leaves = [_bytes(alias, leaf) for leaf in _leaves(alias, value, shape)]
    array = np.empty(len(leaves), dtype=object)
    array[:] = leaves
    return array.reshape(shape)


def _leaves(alias: str, value: Any, shape: list[int]) -> Iterator[Any]:
    if not shape:
        if isinstance(value, list):
            raise invalid(f"Input {alias}: a list stands where a value should")
        yield value
        return
    if not isinstance(value, list) or len(value) != shape[0]:
        raise invalid(f"Input {alias}: lists of different lengths")
    for item in value:
        yield from _leaves(alias, item, shape[1:])


def _bytes(alias: str, value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if not _is_base64(value):
        raise invalid(f"JSON Value: {_show(value)} is not of expected type: string for input {alias}")
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid(f"Unable to base64 decode input {alias}: {error}") from error


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str)


def _json_value(alias: str, array: Array) -> Any:
    if array.dtype == object:
        return _json_strings(array.tolist(), binary=alias.endswith("_bytes"))
    if array.dtype.kind == "f" or array.dtype.name == "bfloat16":
        # The shortest decimal that reads back as the same float32: no digits that the model never computed.
        shortest = array.astype(np.float32) if array.dtype.itemsize < 4 else array
        return shortest.astype(str).astype(np.float64).tolist()
    return array.tolist()


def _json_strings(value: Any, *, binary: bool) -> Any:
    if isinstance(value, list):
        return [_json_strings(item, binary=binary) for item in value]
    if binary:
        return {"b64": base64.b64encode(value).decode()}
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise invalid("An output is no UTF-8: its name must end in _bytes to be sent") from error


def _show(value: Any) -> str:
    text = reprlib.repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
