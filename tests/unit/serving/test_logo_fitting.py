"""`imagewarden model fit-logos` from end to end, and what it refuses."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.unit.serving.logo_material import BODIES, CHANNELS, coarse_pooling, iconify, photographs
from typer.testing import CliRunner

from imagewarden_serving.cli import app
from imagewarden_serving.fitting import logos
from imagewarden_serving.fitting.logos import FitError, Recipe, Settings, Share, fit_logos
from imagewarden_serving.logo_head import load_head

NETWORK = coarse_pooling, {"architecture": "stand-in"}
TINY = Recipe(scenes=24, share=Share(), training=Settings(steps=5))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photographs(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return iconify(tmp_path_factory.mktemp("package"))


@pytest.fixture
def _few_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logos, "SCALES", (0.3, 0.6))
    monkeypatch.setattr(logos, "BACKGROUND_PICTURES", 4)
    monkeypatch.setattr(logos, "BACKGROUND_WINDOWS", 6)


@pytest.mark.usefixtures("_few_windows")
def test_a_fit_writes_a_head_that_is_the_same_again(package: Path, pictures: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    stages: dict[str, tuple[int, int]] = {}
    out = tmp_path / "one.npz"
    record = fit_logos(
        [package],
        [pictures],
        out,
        TINY,
        say=lines.append,
        progress=lambda what, done, total: stages.update({what: (done, total)}),
        network=NETWORK,
    )
    head = load_head(out)
    assert head.record == json.loads(json.dumps(record))
    assert head.dimension == record["dimension"] == 256
    assert head.background.shape == (4, 6, 256)
    assert len(head.boxes) == record["windows"]["count"]
    assert {round((right - left) / (bottom - top), 1) for left, top, right, bottom in head.boxes} == {0.6, 1.0}
    assert head.arrays["input"].shape == (CHANNELS, record["components"])
    assert record["logos"]["brands"] == len(BODIES)
    assert record["logos"]["identities"] > 3 * len(BODIES)
    assert record["pictures"]["count"] == 10
    assert record["network"] == {"architecture": "stand-in"}
    assert record["loss"]["last"] < record["loss"]["first"]
    assert list(stages) == ["scenes", "drawings", "training", "pictures without logos"]
    assert all(done == total for done, total in stages.values())
    assert "drawing logos" in lines
    fit_logos([package], [pictures], tmp_path / "two.npz", TINY, network=NETWORK)
    assert load_head(tmp_path / "two.npz").sha256 == head.sha256


@pytest.mark.usefixtures("_few_windows")
def test_only_the_share_for_fitting_is_fitted_on(package: Path, pictures: Path, tmp_path: Path) -> None:
    chosen = [path for path in pictures.iterdir() if hashlib.sha256(path.name.encode()).digest()[0] % 6 == 0]
    with pytest.raises(FitError, match=f"{len(chosen)} pictures are too few" if chosen else "none of them"):
        fit_logos([package], [pictures], tmp_path / "out.npz", Recipe(scenes=4), network=NETWORK)


def test_too_little_to_fit_on_is_refused(package: Path, pictures: Path, tmp_path: Path) -> None:
    few = iconify(tmp_path / "few", BODIES[:3])
    with pytest.raises(FitError, match=r"3 logos are too few to fit on \(0 could not be drawn"):
        fit_logos([few], [pictures], tmp_path / "out.npz", TINY, network=NETWORK)
    with pytest.raises(FitError, match="gone is no directory"):
        fit_logos([package], [tmp_path / "gone"], tmp_path / "out.npz", TINY, network=NETWORK)
    with pytest.raises(FitError, match="nowhere is no directory; make it"):
        fit_logos([package], [pictures], tmp_path / "nowhere" / "out.npz", TINY, network=NETWORK)
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.usefixtures("_few_windows")
def test_windows_that_all_look_the_same_are_refused(package: Path, pictures: Path, tmp_path: Path) -> None:
    def blind(_: object, windows: Sequence[Sequence[object]]) -> list[NDArray[np.float32]]:
        return [np.ones((len(one), CHANNELS), np.float32) for one in windows]

    with pytest.raises(FitError, match="look the same"):
        fit_logos([package], [pictures], tmp_path / "out.npz", TINY, network=(blind, {}))
    assert not (tmp_path / "out.npz").exists()


def test_the_command_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["fit-logos", "--logos", str(tmp_path), "--images", str(tmp_path), "--out", str(tmp_path / "o.npz")]
    answer = CliRunner().invoke(app, arguments)
    assert answer.exit_code == 1
    assert "has 0 pictures" in answer.stderr
    assert "Traceback" not in answer.stderr
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "resvg_py" else found(name))
    answer = CliRunner().invoke(app, arguments)
    assert answer.exit_code == 1
    assert "resvg_py is not installed" in answer.stderr
    assert "pip install 'imagewarden[serving]' resvg-py" in answer.stderr
