"""Reading JavaScript literals: what minifiers write, and nothing that would have to run."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagewarden_serving.jsliteral import LiteralError, parse_literal

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters='"\\')),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.from_regex(r"[A-Za-z_$][A-Za-z0-9_$]{0,8}", fullmatch=True), inner, max_size=4)
    ),
    max_leaves=12,
)


def test_what_a_minifier_writes_is_read() -> None:
    text = (
        'n.exports={name:"conv2d_1/kernel",shape:[3,3],on:!0,off:!1,none:null,min:-.69,scale:1e-4,"class":[],a:{}};more'
    )
    assert parse_literal(text, text.index("{")) == {
        "name": "conv2d_1/kernel",
        "shape": [3, 3],
        "on": True,
        "off": False,
        "none": None,
        "min": -0.69,
        "scale": 0.0001,
        "class": [],
        "a": {},
    }


@given(VALUES)
def test_json_is_read_as_json_is(value: Any) -> None:
    # allow_nan stays out of the strategy: NaN and Infinity are names in JavaScript, not literals.
    assert parse_literal(json.dumps(value)) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1,",
        "[1 2]",
        "[1,]",
        "[,]",
        "{a:1,}",
        "{a 1}",
        "{1:2}",
        "{!0:1}",
        "{a:1,a:2}",
        "{a:b}",
        "alert(1)",
        "[f()]",
        "[1+1]",
        "[`x`]",
        "[0x10]",
        "[1.2.3]",
        "[12px]",
        '["\\u0041"]',
        '["unended]',
        "{get a(){return 1}}",
        "[...x]",
        "}",
        "[!2]",
        "[nullish]",
        "[" * 200 + "]" * 200,
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(LiteralError):
        parse_literal(text)
