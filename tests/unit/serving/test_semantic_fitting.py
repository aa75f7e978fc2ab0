"""What a fit of the semantic head learns, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from imagewarden_serving.cli import app
from imagewarden_serving.fitting import semantic
from imagewarden_serving.fitting.semantic import FitError, Recipe, collect, fit_semantic, principal
from imagewarden_serving.semantic_head import LAYERS, PLACES, load_semantic_head

Array = NDArray[np.float32]


def rows(pictures: int = 40, channels: int = 12, rank: int = 3) -> Array:
    """Features of few directions, and a little noise."""
    chance = np.random.default_rng(2)
    spread = chance.normal(0, 1, (pictures, PLACES, rank)) * np.array([3.0, 2.0, 1.0])
    made = spread @ chance.normal(0, 1, (rank, channels)) + chance.normal(0, 0.01, (pictures, PLACES, channels)) + 5
    return np.asarray(made, np.float32)


@pytest.mark.parametrize("channels", [12, 500])
def test_the_axes_are_whitened_and_centred_whichever_product_is_smaller(channels: int) -> None:
    made = rows(channels=channels)
    mean, matrix, kept = principal(made, 3)
    assert (mean.shape, matrix.shape) == ((9, channels), (channels, 3))
    assert kept > 0.99
    flat = ((made - mean) @ matrix).reshape(-1, 3)
    np.testing.assert_allclose(flat.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(np.cov(flat.T), np.eye(3), atol=0.15)


def test_more_axes_than_there_can_be_are_refused() -> None:
    with pytest.raises(FitError, match="13 dimensions cannot be had of these pictures and layers; choose 1 to 12"):
        principal(rows(), 13)
    with pytest.raises(FitError, match="choose 1 to 9"):
        principal(rows(pictures=2, channels=50), 10)


def photographs(home: Path, count: int) -> list[Path]:
    chance = np.random.default_rng(1)
    home.mkdir(exist_ok=True)
    made = []
    for number in range(count):
        made.append(home / f"{number:03}.png")
        Image.fromarray(chance.integers(0, 256, (12, 16, 3), np.uint8)).save(made[-1])
    return made


def coarse(images: NDArray[np.uint8]) -> Array:
    """A stand-in for a network: the colours of nine parts of a picture, and their squares."""
    values = images[:, :297, :297].astype(np.float32) / 255
    cells = values.reshape(len(images), 3, 99, 3, 99, 3).mean(axis=(2, 4)).reshape(len(images), 9, 3)
    return np.concatenate([cells, cells**2], axis=-1)


def test_all_pictures_are_read_in_their_order(tmp_path: Path) -> None:
    paths = photographs(tmp_path, 19)
    told: list[tuple[int, int]] = []
    found = collect(paths, coarse, lambda done, total: told.append((done, total)))
    assert found.shape == (19, 9, 6)
    assert told == [(16, 19), (19, 19)]
    np.testing.assert_allclose(collect(paths[17:], coarse, lambda *_: None), found[17:])


def test_a_fit_writes_the_head_that_an_export_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stand_in(*_: Any) -> tuple[semantic.Features, str]:
        return coarse, "ab" * 32

    monkeypatch.setattr(semantic, "features_of", stand_in)
    paths = photographs(tmp_path / "pictures", 50)
    record = fit_semantic([tmp_path / "pictures"], tmp_path / "head.npz", Recipe(dimensions=2))
    head = load_semantic_head(tmp_path / "head.npz")
    assert (head.layers, head.dimension, head.weights_sha256) == (LAYERS, 18, "ab" * 32)
    assert head.record == record
    assert record["pictures"]["count"] == 50
    vectors = head.apply(collect(paths, coarse, lambda *_: None))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    again = tmp_path / "again.npz"
    fit_semantic([tmp_path / "pictures"], again, Recipe(dimensions=2))
    assert load_semantic_head(again).sha256 == head.sha256


def test_what_cannot_be_fitted_on_is_said_before_the_network_is_loaded(tmp_path: Path) -> None:
    out = tmp_path / "head.npz"
    with pytest.raises(FitError, match="nowhere is no directory"):
        fit_semantic([tmp_path], tmp_path / "nowhere" / "head.npz", Recipe())
    with pytest.raises(FitError, match="has 0 pictures"):
        fit_semantic([tmp_path], out, Recipe())
    photographs(tmp_path / "few", 3)
    with pytest.raises(FitError, match="3 pictures are too few to fit on; at least 50"):
        fit_semantic([tmp_path / "few"], out, Recipe())
    assert not out.exists()


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    common = ["fit-semantic", "--images", str(tmp_path), "--out", str(tmp_path / "head.npz")]
    run = CliRunner().invoke(app, common)
    assert run.exit_code == 1
    assert "has 0 pictures, and none of them is for fitting" in run.stderr
    run = CliRunner().invoke(app, [*common, "--parts", "2", "--part", "2"])
    assert run.exit_code == 2
    assert "--part 2 is none of --parts 2" in run.stderr
