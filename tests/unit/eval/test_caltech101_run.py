"""The whole run, through the model host and a real server, on parts of four photographs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from tests.unit.eval.caltech101_folder import PHOTOGRAPHS, make_folder
from typer.testing import CliRunner

from imagewarden_eval import caltech101, caltech101_report
from imagewarden_eval.caltech101_command import register
from imagewarden_eval.caltech101_data import LayoutError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "caltech101")


@pytest.mark.model
@pytest.mark.slow
def test_parts_of_a_photograph_are_found_and_told_apart(folder: Path, model_host: str, tmp_path: Path) -> None:
    out = tmp_path / "report"
    options = caltech101.Options(
        images=folder, out=out, model_address=model_host, training=(3, 6), splits=2, quiet=True
    )
    result = caltech101.run(options)
    assert (result.gallery, result.queries) == (12, 12)
    for metric in ("cosine", "euclidean"):
        assert result.served.agreement[metric].agrees
        served, exact = result.served.by_metric[metric], result.exact["semantic"][metric]
        assert served.precision[1] > 0.9
        # The gallery has fewer than a hundred: the server's ranking is the whole one.
        assert served.mean_average_precision == pytest.approx(exact.mean_average_precision)
    assert set(result.accuracy) == {
        "semantic", "embedding", "hog", "lbp", "gabor", "colour", "sift words", "sift pyramid"
    }  # fmt: skip
    (with_three,) = result.accuracy["semantic"]["svm"]
    assert with_three.per_category == 3
    assert with_three.mean > 0.9
    assert result.too_small[6] == tuple(sorted(PHOTOGRAPHS))
    record = json.loads((out / "report.json").read_text())
    assert record == json.loads(json.dumps(caltech101_report.to_json(result)))
    assert record["served"]["metrics"]["cosine"]["queries"] == 12
    text = (out / "report.md").read_text()
    assert "the same answers" in text
    assert "not the same answers" not in text
    assert "With 6 training pictures 4 of 4 categories are left out" in text
    assert re.search(r"Left out: resnet50, of which no model was given", text)
    for name in ("neighbours", "worst", "features"):
        with Image.open(out / f"caltech101-{name}.jpg") as panel:
            assert np.asarray(panel.convert("L")).std() > 10
    assert (out / "caltech101-tsne.png").stat().st_size < 300_000
    # A second run asks the model for nothing that it has said.
    kept = {path: path.stat().st_mtime_ns for path in (out / "cache").iterdir()}
    again = caltech101.run(options)
    assert {path: path.stat().st_mtime_ns for path in (out / "cache").iterdir()} == kept
    assert again.accuracy["semantic"]["svm"][0].by_split == with_three.by_split


def test_another_layout_is_said_before_anything_is_started(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="picture outside of a category"):
        caltech101.run(caltech101.Options(images=folder / "coffee", out=tmp_path / "out", quiet=True))
    assert not (tmp_path / "out").exists()


def test_the_command_says_what_is_wrong_in_one_line(folder: Path, tmp_path: Path) -> None:
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    asked = ["caltech101", "--out", str(tmp_path / "out"), "--model-base-path", str(tmp_path / "none")]
    found = CliRunner().invoke(app, [*asked, "--images", str(folder / "coffee")])
    assert found.exit_code == 1
    assert found.stderr.startswith("imagewarden eval caltech101: ")
    assert "is a picture outside of a category" in found.stderr
    found = CliRunner().invoke(app, [*asked, "--images", str(folder)])
    assert found.exit_code == 1
    assert "none has no version of a model" in found.stderr


def test_a_quick_run_takes_a_few_categories(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"category{number:02}").mkdir()
        for picture in range(1, 26):
            (tmp_path / f"category{number:02}" / f"image_{picture:04}.jpg").touch()
    options = caltech101.Options(images=tmp_path, out=tmp_path / "out", quick=True)
    data, said = caltech101._data(options)
    assert np.bincount(data.labels).tolist() == [20] * 12
    assert said == ["all but 240 pictures of 12 categories, since the run is a quick one"]
    assert caltech101._data(options)[0].paths == data.paths


@pytest.mark.parametrize(
    ("card", "expected"),
    [('{"architecture": "resnet50"}', "resnet50"), ("{}", "mine"), ("no JSON", "mine"), (None, "mine")],
)
def test_a_model_is_called_by_its_architecture(tmp_path: Path, card: str | None, expected: str) -> None:
    for version in ("2", "10"):
        (tmp_path / "mine" / version).mkdir(parents=True)
    if card is not None:
        (tmp_path / "mine" / "10" / "model_card.json").write_text(card)
    assert caltech101._architecture(tmp_path / "mine") == expected
