"""The fused score: more of any signal is never less, what is missing counts as nothing, and what file is none."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagewarden_server.matching.fusion import Fusion, fusion_for, read
from imagewarden_server.matching.types import BankKind

KINDS = (BankKind.BANNED, BankKind.ALLOWED, BankKind.BRAND)

bits = st.one_of(st.none(), st.floats(0, 256))
scores = st.one_of(st.none(), st.floats(-1, 30))
inliers = st.one_of(st.none(), st.floats(0, 1_000))
more = st.floats(0, 100)


@given(st.sampled_from(KINDS), bits, scores, inliers)
def test_a_score_is_between_0_and_1(
    kind: BankKind, pdq: float | None, score: float | None, local: float | None
) -> None:
    assert 0 <= fusion_for(kind).score(pdq, score, local) <= 1


@given(st.sampled_from(KINDS), bits, scores, inliers, more)
def test_more_of_any_signal_is_never_a_lower_score(
    kind: BankKind, pdq: float | None, score: float | None, local: float | None, step: float
) -> None:
    fusion = fusion_for(kind)
    base = fusion.score(pdq, score, local)
    assert fusion.score(max((256 if pdq is None else pdq) - step, 0), score, local) >= base
    assert fusion.score(pdq, (score or 0) + step, local) >= base - 1e-12
    assert fusion.score(pdq, score, (local or 0) + step) >= base - 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_not_compared_counts_as_nothing_found(kind: BankKind) -> None:
    fusion = fusion_for(kind)
    assert fusion.score(None, None, None) == fusion.score(256, 0, 0) == fusion.score(128, -0.5, 0)
    assert fusion.score(None, None, None) < 0.5


def test_the_score_is_the_logistic_function_of_the_weighted_sum() -> None:
    fusion = Fusion(bias=-2.0, pdq=3.0, embedding=4.0, local=0.5)
    # -2 + 3 * (1 - 32/128) + 4 * 0.25 + 0.5 * ln(1 + e - 1) = 1.75
    assert fusion.score(32, 0.25, 1.718281828459045) == pytest.approx(0.8519528, abs=1e-6)
    assert Fusion(1e9, 0, 0, 0).score(None, None, None) == pytest.approx(1)
    assert Fusion(-1e9, 0, 0, 0).score(None, None, None) == pytest.approx(0)


def content(**change: Any) -> dict[str, Any]:
    one = {"bias": -1.0, "weights": {"pdq": 1.0, "embedding": 2.0, "local": 3.0}}
    return {"copies": one, "logos": one, "record": {}} | change


def test_a_file_is_read() -> None:
    assert read(json.dumps(content())) == dict.fromkeys(("copies", "logos"), Fusion(-1.0, 1.0, 2.0, 3.0))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nothing",
        "[]",
        "null",
        "{}",
        json.dumps({"copies": content()["copies"]}),
        json.dumps(content(logos={"bias": 0.0})),
        json.dumps(content(logos={"bias": 0.0, "weights": {"pdq": 1.0, "embedding": 2.0}})),
        json.dumps(content(copies={"bias": None, "weights": {"pdq": 1.0, "embedding": 2.0, "local": 1.0}})),
        json.dumps(content(copies={"bias": "high", "weights": {"pdq": 1.0, "embedding": 2.0, "local": 1.0}})),
        json.dumps(content(copies=[])),
    ],
)
def test_what_is_no_fusion_file_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no fusion file|Expecting|could not convert"):
        read(text)


def test_the_shipped_file_says_how_it_was_fitted() -> None:
    text = resources.files("imagewarden_server.matching").joinpath("data", "fusion.json").read_text()
    assert set(read(text)) == {"copies", "logos"}
    assert json.loads(text)["record"]
