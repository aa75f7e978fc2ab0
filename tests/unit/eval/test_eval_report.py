"""Reports, plots and panels of a small run made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import skimage
from PIL import Image

from imagewarden_eval import panels, plots, report
from imagewarden_eval.baselines import Pdq, PHash, described, rankings
from imagewarden_eval.judging import Method, at_thresholds, judged
from imagewarden_eval.service import Answer, Candidate

DATA = Path(skimage.__file__).parent / "data"
TRUTHS = ["a", "b"] + [None] * 200
KINDS = {"attack": ["crop-40", "blur"] + [""] * 200}
METHODS = [
    Method(
        "ours, whole", "says", [{"a": 0.9}, {"b": 0.2, "a": 0.1}] + [{"a": number / 1_000} for number in range(200)]
    ),
    Method("pHash", "says", [{"a": 0.9}, {}] + [{}] * 200),
]


def record() -> dict[str, object]:
    answers = [Answer({"a": Candidate("a", scores={"combined": 0.9})}, (), 0.1, {})] * 2 + [
        Answer({}, (), 0.1, {})
    ] * 200
    return {
        "conditions": report.conditions("imagewarden eval copies", 1, callers=2),
        "references": 2,
        "copies": 2,
        "negative_queries": 200,
        "methods": [judged(one, TRUTHS, KINDS) for one in METHODS],
        "shipped": at_thresholds(answers, TRUTHS, {"combined": 0.5}),
        "pdq_at_31": None,
        "check_seconds": {"median": 0.1, "p95": 0.2},
        "attacks": {"crop-40": "a window"},
        "undecided_queries": {"undecided_code_too_plain": 1},
    }


def test_a_report_states_every_method_and_attack(tmp_path: Path) -> None:
    made = {key: value for key, value in record().items() if key != "pdq_at_31"}
    text = report.copies_markdown(made)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert "| method | micro-AP | micro-AP of best matches | right one first | recall at 1e-2 |" in rows
    assert any(row.startswith("| ours, whole | ") and "1.000 (0.342-1.000)" in row for row in rows)
    assert "| crop-40 | 1 | 1.000 | 1.000 |" in rows
    assert "| blur | 1 | 1.000 | 0.000 |" in rows
    assert "recall 0.500" in text
    report.write(tmp_path / "out", made, text)
    assert json.loads((tmp_path / "out" / "report.json").read_text())["references"] == 2


def test_plots_are_drawn(tmp_path: Path) -> None:
    methods = [judged(one, TRUTHS, KINDS) for one in METHODS]
    plots.recall_by(methods, "attack", 1e-2, tmp_path / "a.png")
    plots.precision_recall_curves(METHODS, TRUTHS, tmp_path / "b.png")
    plots.false_alarm_curves(METHODS, TRUTHS, tmp_path / "c.png")
    for name in "abc":
        assert np.asarray(Image.open(tmp_path / f"{name}.png").convert("L")).std() > 5
    plots.recall_by(methods, "attack", 1e-4, tmp_path / "d.png")  # which the queries do not resolve
    assert not (tmp_path / "d.png").exists()


def test_a_panel_shows_the_box_where_it_is(tmp_path: Path) -> None:
    white = Image.new("RGB", (200, 100), (255, 255, 255))
    drawn = np.asarray(panels.draw_tile(panels.Tile(white, "", (0.25, 0.2, 0.75, 0.8)), 200))[:200]
    rows, columns = np.nonzero((drawn == (230, 0, 90)).all(axis=-1))
    assert (columns.min(), columns.max()) == pytest.approx((50, 150), abs=1)
    assert (rows.min(), rows.max()) == pytest.approx((50 + 20, 50 + 80), abs=1)  # it lies in the middle of the tile
    tile = panels.Tile(DATA / "coffee.png", "two\nlines", (0.9, 0.9, 1.4, 1.4))
    panels.save([[tile, tile], [tile]], tmp_path / "panel.jpg", 100)
    with Image.open(tmp_path / "panel.jpg") as saved:
        assert saved.size == (2 * 108 + 8, 2 * 138 + 8)
    panels.save([], tmp_path / "none.jpg")
    assert not (tmp_path / "none.jpg").exists()


@pytest.mark.parametrize("baseline", [PHash(), Pdq()], ids=lambda one: one.name)
def test_a_baseline_finds_the_resized_picture_and_is_not_computed_twice(
    baseline: PHash | Pdq, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg"]
    files = [(DATA / name).read_bytes() for name in names]
    small = tmp_path / "small.png"
    Image.open(DATA / "coffee.png").convert("RGB").resize((300, 200)).save(small)
    vectors = described(baseline, [*files, small.read_bytes()], tmp_path / "cache")
    found = rankings(baseline, vectors[4:], vectors[:4], names)[0]
    assert max(found, key=lambda name: found[name]) == "coffee.png"
    assert found["coffee.png"] > 0.9
    assert max(value for name, value in found.items() if name != "coffee.png") < 0.8

    def refuse(pictures: object) -> None:
        raise AssertionError(pictures)

    monkeypatch.setattr(baseline, "vectors", refuse)
    assert (described(baseline, [*files, small.read_bytes()], tmp_path / "cache") == vectors).all()
