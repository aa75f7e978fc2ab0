"""The file of a semantic head: written, read back, and refused when it is not one; and what it computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from imagewarden_serving.export import BUNDLED_SEMANTIC_HEAD
from imagewarden_serving.semantic_head import (
    LAYERS,
    MIRRORED,
    SemanticHead,
    SemanticHeadError,
    averaging,
    load_semantic_head,
    save_semantic_head,
)

Array = NDArray[np.float32]

NAMES = ("fine", "coarse")
SIDES, CHANNELS = (17, 8), (4, 6)


def parts(seed: int = 3) -> tuple[Array, Array]:
    chance = np.random.default_rng(seed)
    return chance.normal(0, 0.1, (9, 10)).astype(np.float32), chance.normal(0, 1, (10, 5)).astype(np.float32)


def saved(path: Path, **changed: Any) -> Path:
    """A head's file, with other arrays in the place of its own; None leaves one out."""
    save_semantic_head(path, NAMES, *parts(), "ab" * 32, {"pictures": 60})
    with np.load(path) as file:
        held = {**file, **changed}
    with path.open("wb") as out:
        np.savez(out, **{name: value for name, value in held.items() if value is not None})
    return path


def maps(seed: int = 7) -> dict[str, Array]:
    chance = np.random.default_rng(seed)
    return {
        name: np.abs(chance.normal(0, 2, (2, side, side, count))).astype(np.float32)
        for name, side, count in zip(NAMES, SIDES, CHANNELS, strict=True)
    }


def test_a_head_is_read_as_it_was_written(tmp_path: Path) -> None:
    head = load_semantic_head(saved(tmp_path / "a.npz"))
    mean, matrix = parts()
    assert (head.layers, head.dimension, head.weights_sha256, head.record) == (NAMES, 45, "ab" * 32, {"pictures": 60})
    np.testing.assert_array_equal(head.mean, mean)
    np.testing.assert_array_equal(head.matrix, matrix.astype(np.float16))
    assert head.mean.dtype == head.matrix.dtype == np.float32


def test_a_head_is_known_by_all_that_decides_its_vectors(tmp_path: Path) -> None:
    mean, matrix = parts()
    first = load_semantic_head(saved(tmp_path / "a.npz")).sha256
    assert load_semantic_head(saved(tmp_path / "b.npz", record=np.array("{}"))).sha256 == first
    others = {
        load_semantic_head(saved(tmp_path / "c.npz", **changed)).sha256
        for changed in ({"mean": mean + 1}, {"matrix": matrix * 2}, {"layers": np.array(["coarse", "fine"])})
    }
    assert len(others | {first}) == 4


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"mean": None}, "no semantic head"),
        ({"weights_sha256": None}, "no semantic head"),
        ({"record": np.array("{not json")}, "no semantic head"),
        ({"matrix": np.array([["text"] * 5] * 10)}, "no semantic head"),
        ({"matrix": np.array([{"a": "pickle"}], dtype=object)}, "no semantic head"),
        ({"mean": np.zeros((4, 10))}, "do not belong together"),
        ({"mean": np.zeros((9, 11))}, "do not belong together"),
        ({"matrix": np.zeros((10, 0))}, "do not belong together"),
        ({"layers": np.array([], dtype="<U4")}, "names the layers none"),
        ({"layers": np.array(["fine", "fine"])}, "each once"),
        ({"mean": np.full((9, 10), np.nan)}, "not finite"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, changed: dict[str, Any], says: str) -> None:
    with pytest.raises(SemanticHeadError, match=says):
        load_semantic_head(saved(tmp_path / "head.npz", **changed))


@pytest.mark.parametrize("content", [b"", b"no zip at all", b"PK\x03\x04 cut", None])
def test_a_file_that_is_no_archive_or_not_there_is_refused_by_name(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "head.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SemanticHeadError, match=r"head\.npz is no semantic head"):
        load_semantic_head(path)


def test_a_head_stands_on_its_own_network_alone(tmp_path: Path) -> None:
    head = load_semantic_head(saved(tmp_path / "a.npz"))
    head.check(10, "ab" * 32)
    with pytest.raises(SemanticHeadError, match="takes 10 channels of fine, coarse, and this network has 12"):
        head.check(12, "ab" * 32)
    with pytest.raises(SemanticHeadError, match="fitted on the weights abababababab, and these are cdcdcdcdcdcd"):
        head.check(10, "cd" * 32)


@pytest.mark.parametrize("side", [8, 17])
def test_nine_windows_cover_the_map_and_average_it(side: int) -> None:
    matrix = averaging(side)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-5)
    assert (matrix.sum(axis=0) > 0).all()
    turned = matrix.reshape(9, side, side)[:, :, ::-1]
    np.testing.assert_array_equal(turned[list(MIRRORED)], matrix.reshape(9, side, side))


def features(layers: dict[str, Array], mirrored: dict[str, Array]) -> Array:
    """A head's features written once more, window by window, in double precision."""
    found = []
    for name in NAMES:
        side = layers[name].shape[1]
        size = {17: 7, 8: 4}[side]
        offsets = {17: (0, 5, 10), 8: (0, 2, 4)}[side]
        rows = []
        for top in offsets:
            for left in offsets:
                here = layers[name][:, top : top + size, left : left + size].astype(np.float64).mean(axis=(1, 2))
                other = side - size - left
                there = mirrored[name][:, top : top + size, other : other + size].astype(np.float64).mean(axis=(1, 2))
                root = np.sqrt((here + there) / 2)
                rows.append(root / np.linalg.norm(root, axis=-1, keepdims=True))
        found.append(np.stack(rows, axis=1))
    return np.asarray(np.concatenate(found, axis=-1) / np.sqrt(2), np.float32)


def test_the_graph_computes_what_numpy_does() -> None:
    from imagewarden_serving import graph

    layers, mirrored = maps(), maps(8)
    expected = features(layers, mirrored)
    np.testing.assert_allclose(graph.pool_meaning(layers, mirrored, NAMES), expected, atol=1e-5)
    head = SemanticHead(NAMES, *parts(), "", {}, "digest")
    found = np.asarray(graph.describe_meaning(layers, mirrored, head))
    assert found.shape == (2, 45)
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, atol=1e-5)
    np.testing.assert_allclose(found, head.apply(expected), atol=1e-5)
    assert np.abs(found[0] - found[1]).max() > 0.02


def test_a_picture_and_its_mirror_change_places_of_windows_alone() -> None:
    from imagewarden_serving import graph

    layers = maps()
    mirrored = {name: one[:, :, ::-1] for name, one in layers.items()}
    straight = np.asarray(graph.pool_meaning(layers, mirrored, NAMES))
    turned = np.asarray(graph.pool_meaning(mirrored, layers, NAMES))
    np.testing.assert_allclose(turned[:, list(MIRRORED)], straight, atol=1e-5)


def test_the_bundled_head_is_for_the_default_weights() -> None:
    head = load_semantic_head(BUNDLED_SEMANTIC_HEAD)
    assert (head.layers, head.dimension) == (LAYERS, 4032)
    head.check(5120, "48e0aeb0a1a5963fb4f0dea92dd6c307db2f8155757510da216c318e503c0d6c")
    # Frozen: stored vectors are bound to this digest through the model's fingerprint.
    assert head.sha256 == "c8f1c7982830b45497e53a9656cf5261a80268e72790995b83b70eb42ff9d9b5"
