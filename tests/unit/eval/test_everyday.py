"""`eval everyday`: which pictures are asked, and what the report says."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imagewarden_eval import everyday, ordinary
from imagewarden_eval.attacks import ATTACKS
from imagewarden_eval.datasets import Photograph
from imagewarden_eval.errors import EvaluationError

OTHERS = [Photograph(f"a/{number}.jpg", Path(f"/nowhere/{number}.jpg")) for number in range(5)]


def test_all_pictures_are_asked_as_they_are_before_any_is_edited() -> None:
    queries = ordinary.plan(OTHERS, 12)
    assert [one.picture for one in queries[:5]] == OTHERS
    assert all(one.attack is None for one in queries[:5])
    assert all(one.attack is not None for one in queries[5:])
    assert [one.picture for one in queries[5:10]] == OTHERS
    assert len({(one.picture, one.attack) for one in queries}) == 12, "never the same twice"
    assert queries[5].name == f"a/0.jpg, {ATTACKS[0].name}"


def test_fewer_queries_than_pictures() -> None:
    assert ordinary.plan(OTHERS, 3) == [ordinary.Query(one, None) for one in OTHERS[:3]]


def test_no_pictures_are_an_error_that_says_what_to_do() -> None:
    with pytest.raises(EvaluationError, match="fewer references"):
        ordinary.plan([], 10)


def test_an_upload_is_a_jpeg_of_the_size_that_people_send(tmp_path: Path) -> None:
    path = tmp_path / "tall.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (60, 30, 3), np.uint8)).save(path)
    files = [everyday.uploaded(path, 1280, number) for number in range(3)]
    pixels = set()
    for data in files:
        made = Image.open(io.BytesIO(data))
        assert (made.format, made.size) == ("JPEG", (640, 1280))
        pixels.add(made.tobytes())
    assert len(pixels) == 3, "each round's is new to a server that remembers"
    assert Image.open(io.BytesIO(everyday.uploaded(path, None, 0))).size == (30, 60)


def test_the_report_names_each_alarm_and_each_ratio() -> None:
    record = {
        "conditions": {"command": "imagewarden eval everyday"},
        "pictures": 1000,
        "logos": 300,
        "ordinary": {
            "queries": 3000,
            "edited": 1500,
            "undecided": 2,
            "alarms": 1,
            "rate": 1 / 3000,
            "proven_under": 0.0016,
            "by": {"pictures, LOCAL": 1},
            "each": [
                {
                    "picture": "x.jpg",
                    "matches": [
                        {
                            "entry": "y.jpg",
                            "bank": "banks/b",
                            "signal": "LOCAL",
                            "score": 19.5,
                            "evidence": {"LOCAL": 19.5, "COMBINED": 0.25},
                        }
                    ],
                }
            ],
        },
        "cost": {
            "as they are": {
                "check_ms": 90.0,
                "textbook_ms": 80.0,
                "ratio": 1.125,
                "ratio_by_round": [1.11, 1.13],
                "stages_ms": {"decode": 2.0},
            }
        },
    }
    said = everyday.markdown(record)
    assert "1,000 banned pictures and 300 logos" in said
    assert "1 alarms, a rate of 3.33e-04 (under 1.60e-03 at 95%)" in said
    assert "| x.jpg | y.jpg | LOCAL | 19.5 | LOCAL 19.5, COMBINED 0.25 |" in said
    assert "| as they are | 90.0 | 80.0 | 1.125 | 1.11, 1.13 |" in said
    assert "decode 2.0" in said
