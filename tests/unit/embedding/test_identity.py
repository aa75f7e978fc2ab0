"""Cards: what of them is believed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.unit.embedding.model_host import BACKGROUND, BACKGROUND_WINDOWS, LOGO_BOXES, D, L, card

from imagewarden_server.embedding.identity import ModelProblem, model_info
from imagewarden_server.matching.types import Box


def test_a_card_says_who_the_model_is() -> None:
    info = model_info("inception", 7, json.dumps(card("0123456789abcdef" * 4)).encode())
    assert info.label == "inception/7@0123456789ab"
    assert (info.dimensions, info.semantic_dimensions) == (8, 16)
    assert info.regions == (Box(0, 0, 1, 1), Box(0, 0, 0.5, 0.5))
    assert info.copy_background == (BACKGROUND, BACKGROUND_WINDOWS)
    assert (info.logo_dimensions, info.logo_background) == (L, (BACKGROUND, BACKGROUND_WINDOWS))
    assert info.logo_windows == (Box(0, 0, 0.2, 0.2), Box(0.1, 0, 0.3, 0.2), Box(0.2, 0.2, 1, 1))


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff", b"[]", b"null", b"{}", b"[" * 100_000, b'{"fingerprint": 1}'],
)
def test_what_is_no_card(data: bytes) -> None:
    with pytest.raises(ModelProblem, match=r"no readable card.*imagewarden model export"):
        model_info("inception", 1, data)


def regions(boxes: list[list[float]]) -> dict[str, Any]:
    return {"boxes": boxes}


def logos(**change: Any) -> dict[str, Any]:
    return {"boxes": LOGO_BOXES, "dimension": L, "background": [BACKGROUND, BACKGROUND_WINDOWS]} | change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fingerprint": ""}, "SHA-256"),
        ({"fingerprint": "F" * 64}, "SHA-256"),
        ({"fingerprint": "f" * 63 + "\n"}, "SHA-256"),
        ({"embedding": {"dimension": 0, "background": [0, 0]}}, "dimensions"),
        ({"embedding": {"dimension": float("inf")}}, "OverflowError"),
        ({"embedding": {"dimension": D}}, "KeyError.*background"),
        ({"embedding": {"dimension": D, "background": [2, -1]}}, r"background of \(2, -1\)"),
        ({"semantic": {"dimension": -1}}, "dimensions"),
        ({"semantic": {"dimension": "many"}}, "ValueError"),
        ({"regions": regions([])}, "no regions"),
        ({"regions": regions([[0, 0, 1]])}, "TypeError"),
        ({"regions": regions([[0, 0, 1, 1.5]])}, "no box"),
        ({"regions": regions([[0.5, 0, 0.5, 1]])}, "no box"),
        ({"regions": regions([[0, 0, 1, float("nan")]])}, "no box"),
        ({"logos": logos(boxes=[])}, "no windows for logos"),
        ({"logos": logos(boxes=[[0, 0.5, 1, 0.5]])}, "no box"),
        ({"logos": logos(dimension=0)}, "dimensions"),
        ({"logos": logos(background=[-1, 2])}, r"background of \(-1, 2\)"),
        ({"logos": logos(background=[2, -1])}, r"background of \(2, -1\)"),
        ({"logos": logos(background=[10_001, 2])}, r"background of \(10001, 2\)"),
        ({"logos": logos(background=[2, 10_001])}, r"background of \(2, 10001\)"),
        ({"logos": logos(background=[2])}, "IndexError"),
        ({"logos": logos(background=7)}, "TypeError"),
        ({"logos": {"boxes": LOGO_BOXES, "dimension": L}}, "KeyError.*background"),
    ],
)
def test_a_card_that_makes_no_sense(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelProblem, match=f"{said}.*imagewarden model export"):
        model_info("inception", 1, json.dumps(card() | change).encode())
