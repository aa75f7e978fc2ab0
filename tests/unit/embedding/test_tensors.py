"""TensorProto's forms, read and written."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.embedding.model_host import encoded_strings

from imagewarden_server.embedding import _tfs
from imagewarden_server.embedding.tensors import TensorProblem, text


def outputs(**fields: Any) -> Any:
    response = _tfs.PredictResponse()
    response.outputs["card"].CopyFrom(_tfs.TensorProto(dtype=_tfs.DT_STRING, **fields))
    return response.outputs


@pytest.mark.parametrize("length", [0, 1, 127, 128, 20_000])
def test_a_string_from_either_form(length: int) -> None:
    assert text("card", outputs(string_val=[b"x" * length])) == b"x" * length
    assert text("card", outputs(tensor_content=encoded_strings(b"x" * length))) == b"x" * length


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"string_val": [b"a", b"b"]},
        {"tensor_content": encoded_strings(b"a", b"b")},
        {"tensor_content": b"\x05abcd"},
        {"tensor_content": b"\x03abcd"},
        {"tensor_content": b"\xff" * 40},
        {"tensor_content": b"\x80"},
    ],
)
def test_what_is_not_one_string(fields: dict[str, Any]) -> None:
    with pytest.raises(TensorProblem, match="not one string"):
        text("card", outputs(**fields))


def test_a_string_of_another_type_or_missing() -> None:
    with pytest.raises(TensorProblem, match="DT_FLOAT, expected DT_STRING"):
        text("card", {"card": _tfs.TensorProto(dtype=_tfs.DT_FLOAT)})
    with pytest.raises(TensorProblem, match="missing"):
        text("card", {})
