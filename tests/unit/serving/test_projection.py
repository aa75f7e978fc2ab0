"""Reading a fitted projection: arrays alone, and only those that fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from imagewarden_serving.export import BUNDLED_PROJECTION
from imagewarden_serving.projection import ProjectionError, load_projection

MEAN = np.linspace(-1, 1, 6)
MATRIX = np.arange(24, dtype=np.float64).reshape(6, 4)


def saved(path: Path, **arrays: object) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]  # one of the cases is no array
    return path


def test_a_projection_is_read_as_float32_whatever_it_was_saved_as(tmp_path: Path) -> None:
    double = load_projection(saved(tmp_path / "a.npz", mean=MEAN, matrix=MATRIX), 6)
    single = load_projection(
        saved(tmp_path / "b.npz", mean=MEAN.astype(np.float32), matrix=MATRIX.astype(np.float32)), 6
    )
    assert double.mean.dtype == double.matrix.dtype == np.float32
    assert double.dimension == 4
    assert double.sha256 == single.sha256
    other = load_projection(saved(tmp_path / "c.npz", mean=MEAN, matrix=MATRIX + 1), 6)
    assert other.sha256 != double.sha256


def test_the_background_is_of_unit_norm_and_counts_in_the_digest(tmp_path: Path) -> None:
    without = load_projection(saved(tmp_path / "a.npz", mean=MEAN, matrix=MATRIX), 6)
    assert without.background.shape == (0, 1, 4)
    pictures = np.random.default_rng(3).normal(0, 5, (3, 2, 4))
    made = load_projection(saved(tmp_path / "b.npz", mean=MEAN, matrix=MATRIX, background=pictures), 6)
    expected = pictures / np.linalg.norm(pictures, axis=-1, keepdims=True)
    np.testing.assert_allclose(made.background, expected, atol=1e-6)
    assert made.sha256 != without.sha256


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"mean": MEAN}, "no projection"),
        ({"mean": MEAN[:5], "matrix": MATRIX}, "6 channels"),
        ({"mean": MEAN, "matrix": MATRIX[:5]}, "6 channels"),
        ({"mean": MEAN, "matrix": MATRIX[:, :0]}, "6 channels"),
        ({"mean": MEAN, "matrix": MATRIX[:, :, None]}, "6 channels"),
        ({"mean": MEAN * np.nan, "matrix": MATRIX}, "not finite"),
        ({"mean": MEAN, "matrix": MATRIX, "background": np.full((2, 1, 4), np.inf)}, "not finite"),
        ({"mean": MEAN, "matrix": MATRIX, "background": np.ones((2, 4))}, "a background"),
        ({"mean": MEAN, "matrix": MATRIX, "background": np.ones((2, 1, 5))}, "a background"),
        ({"mean": MEAN, "matrix": np.array([["text"] * 4] * 6)}, "no projection"),
        ({"mean": MEAN, "matrix": np.array([{"a": "pickle"}], dtype=object)}, "no projection"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, arrays: dict[str, object], says: str) -> None:
    with pytest.raises(ProjectionError, match=says):
        load_projection(saved(tmp_path / "p.npz", **arrays), 6)


@pytest.mark.parametrize("content", [b"", b"no zip at all", b"PK\x03\x04 cut"])
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "p.npz"
    path.write_bytes(content)
    with pytest.raises(ProjectionError, match="no projection"):
        load_projection(path, 6)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ProjectionError, match=r"gone\.npz"):
        load_projection(tmp_path / "gone.npz", 6)


def test_the_bundled_projection_fits_mixed3() -> None:
    bundled = load_projection(BUNDLED_PROJECTION, 768)
    assert bundled.dimension == 512
    # Frozen: stored vectors are bound to this digest through the model's fingerprint.
    assert bundled.sha256 == "ae45a5da558e4ab22f7c25eb72dd6301357e9a8d5911cf1f2ebf40fd1f0261fa"
