"""The file of a logo head: written, read back, and refused when it is not one; and what it computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from imagewarden_serving.fitting.logos_features import pool
from imagewarden_serving.logo_head import LogoHead, LogoHeadError, load_head, save_head
from imagewarden_serving.logo_windows import Grid, averaging, boxes, quarters

Array = NDArray[np.float32]

WINDOWS = boxes((0.3, 0.8), (1.0, 0.5), 0.5)
FINE, COARSE = 6, 5
"""Channels of maps."""


def arrays(seed: int = 3) -> dict[str, Array]:
    chance = np.random.default_rng(seed)
    shapes = {
        "input": (4 * FINE + COARSE, 9),
        "input_bias": (9,),
        "linear": (9, 7),
        "linear_bias": (7,),
        "hidden": (9, 11),
        "hidden_bias": (11,),
        "output": (11, 7),
        "output_bias": (7,),
    }
    return {name: chance.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}


def background(pictures: int = 3) -> Array:
    rows = np.random.default_rng(4).normal(0, 1, (pictures, len(WINDOWS), 7)).astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), np.float32)


def saved(path: Path, **changed: Any) -> Path:
    """A head's file, with other arrays in the place of its own; None leaves one out."""
    save_head(path, arrays(), WINDOWS, background(), {"seed": 3})
    with np.load(path) as file:
        held = {**file, **changed}
    with path.open("wb") as out:
        np.savez(out, **{name: value for name, value in held.items() if value is not None})
    return path


def test_a_head_is_read_as_it_was_written(tmp_path: Path) -> None:
    save_head(tmp_path / "a.npz", arrays(), WINDOWS, background(), {"seed": 3, "scenes": 60})
    head = load_head(tmp_path / "a.npz")
    assert head.record == {"seed": 3, "scenes": 60}
    assert head.dimension == 7
    np.testing.assert_allclose(head.boxes, WINDOWS, atol=1e-6)
    for name, array in arrays().items():
        assert head.arrays[name].dtype == np.float32
        np.testing.assert_array_equal(head.arrays[name], array.astype(np.float16))
    np.testing.assert_allclose(np.linalg.norm(head.background, axis=-1), 1, atol=1e-6)
    # Bytes of 1/127: half of one in each of 7 coordinates.
    np.testing.assert_allclose(head.background, background(), atol=0.02)


def test_a_head_is_known_by_all_that_decides_its_vectors_and_scores(tmp_path: Path) -> None:
    def digest(matrices: dict[str, Array], places: list[Any], without: Array, record: dict[str, Any]) -> str:
        save_head(tmp_path / "one.npz", matrices, places, without, record)
        return load_head(tmp_path / "one.npz").sha256

    first = digest(arrays(), WINDOWS, background(), {"seed": 3})
    assert digest(arrays(), WINDOWS, background(), {"seed": 3, "note": "of another day"}) == first
    moved = [(0.01, *WINDOWS[0][1:]), *WINDOWS[1:]]
    others = {
        digest(arrays(5), WINDOWS, background(), {}),
        digest({**arrays(), "output_bias": arrays()["output_bias"] + 1}, WINDOWS, background(), {}),
        digest(arrays(), moved, background(), {}),
        digest(arrays(), WINDOWS, background(2), {}),
    }
    assert len(others | {first}) == 5


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"hidden_bias": None}, "no logo head"),
        ({"record": None}, "no logo head"),
        ({"record": np.array("{not json")}, "no logo head"),
        ({"linear": np.array([["text"] * 7] * 9)}, "no logo head"),
        ({"input": np.array([{"a": "pickle"}], dtype=object)}, "no logo head"),
        ({"hidden": np.zeros((8, 11))}, "do not follow each other"),
        ({"output": np.zeros(11)}, "do not follow each other"),
        ({"linear": np.zeros((9, 6))}, r"has linear \(9, 6\) where"),
        ({"linear_bias": np.zeros(6)}, "has linear_bias"),
        ({"hidden_bias": np.zeros((1, 11))}, "has hidden_bias"),
        ({"boxes": np.zeros((len(WINDOWS), 3))}, "has windows"),
        ({"background": np.zeros((3, 4, 6), np.int8)}, "has windows"),
        ({"linear_bias": np.full(7, np.nan)}, "not finite"),
        ({"input": np.full((29, 9), np.inf)}, "not finite"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, changed: dict[str, Any], says: str) -> None:
    with pytest.raises(LogoHeadError, match=says):
        load_head(saved(tmp_path / "head.npz", **changed))


def test_a_head_is_for_the_weights_that_it_was_fitted_on(tmp_path: Path) -> None:
    path = tmp_path / "head.npz"
    save_head(path, arrays(), WINDOWS, background(), {"network": {"weights_sha256": "ab" * 32}})
    head = load_head(path)
    head.check("ab" * 32)
    with pytest.raises(LogoHeadError, match="weights abababababab, and these are cdcdcdcdcdcd: fit it anew"):
        head.check("cd" * 32)
    save_head(path, arrays(), WINDOWS, background(), {})
    load_head(path).check("cd" * 32)  # says nothing of its weights


@pytest.mark.parametrize("content", [b"", b"no zip at all", b"PK\x03\x04 cut"])
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "head.npz"
    path.write_bytes(content)
    with pytest.raises(LogoHeadError, match=r"head\.npz is no logo head"):
        load_head(path)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(LogoHeadError, match=r"gone\.npz"):
        load_head(tmp_path / "gone.npz")


def maps(pictures: int = 2) -> tuple[Array, Array]:
    """Two maps of pictures; half of the values below zero, as pooling meets them when a layer has no ReLU."""
    chance = np.random.default_rng(7)
    fine = chance.normal(0, 2, (pictures, 35, 35, FINE)).astype(np.float32)
    return fine, chance.normal(0, 2, (pictures, 17, 17, COARSE)).astype(np.float32)


def features(fine: Array, coarse: Array) -> Array:
    """The pooled features of all windows of one picture, written once more, in double precision."""

    def means(cells: Array, places: Any, grid: Grid) -> NDArray[np.float64]:
        weights = averaging(places, grid, 299).astype(np.float64)
        cubes = np.maximum(cells.astype(np.float64), 1e-6).reshape(-1, cells.shape[-1]) ** 3
        return np.asarray((weights @ cubes) ** (1 / 3))

    apart = means(fine, quarters(WINDOWS), Grid(35, 8, 13))
    rows = []
    for window in range(len(WINDOWS)):
        four = np.concatenate([apart[quarter * len(WINDOWS) + window] for quarter in range(4)])
        whole = means(coarse, WINDOWS, Grid(17, 16, 21))[window]
        rows.append(np.concatenate([four / np.linalg.norm(four), whole / np.linalg.norm(whole)]))
    return np.stack(rows).astype(np.float32)


def test_what_a_fit_pools_and_what_numpy_computes_is_what_the_graph_computes() -> None:
    from imagewarden_serving import graph

    fine, coarse = maps()
    head = LogoHead(arrays(), tuple(WINDOWS), background(), {}, "digest")
    found = np.asarray(graph.describe_logos(fine, coarse, head))
    assert found.shape == (2, len(WINDOWS), 7)
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, atol=1e-5)
    for picture in range(2):
        expected = features(fine[picture], coarse[picture])
        np.testing.assert_allclose(pool(fine[picture], coarse[picture], WINDOWS), expected, atol=1e-5)
        np.testing.assert_allclose(found[picture], head.apply(expected), atol=1e-5)
    assert np.abs(found[0] - found[1]).max() > 0.1


def test_a_window_pools_its_own_part_of_the_picture() -> None:
    fine, coarse = (np.ones((size, size, 2), np.float32) for size in (35, 17))
    # The second channel lights up in the picture's upper left eighth alone.
    fine[..., 1], coarse[..., 1] = 1e-6, 1e-6
    fine[:3, :3, 1], coarse[:2, :2, 1] = 5, 5
    window, elsewhere = pool(fine, coarse, [(0.0, 0.0, 0.26, 0.26), (0.5, 0.5, 0.9, 0.9)])
    top_left, top_right, bottom_left, bottom_right = window[:8].reshape(4, 2)
    assert top_left[1] > 4 * top_left[0]
    assert all(quarter[1] < 0.1 * top_left[1] for quarter in (top_right, bottom_left, bottom_right))
    assert window[9] > window[8]
    assert elsewhere[9] < 1e-5


def test_no_windows_pool_to_no_rows() -> None:
    fine, coarse = maps(1)
    assert pool(fine[0], coarse[0], []).shape == (0, 4 * FINE + COARSE)
