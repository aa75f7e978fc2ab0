"""The pooling of maps to descriptors, against the same written in numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from imagewarden_serving import card as cards
from imagewarden_serving.logo_head import LogoHead
from imagewarden_serving.logo_windows import Grid, averaging, quarters
from imagewarden_serving.projection import Projection

Array = NDArray[np.float32]


@pytest.fixture(scope="module")
def graph() -> Any:
    from imagewarden_serving import graph

    return graph


@pytest.fixture(scope="module")
def maps() -> Array:
    # Half of the values below zero: what pooling meets when a layer has no ReLU.
    return np.random.default_rng(5).normal(0, 2, (3, 17, 17, 8)).astype(np.float32)


def unit(rows: NDArray[Any]) -> NDArray[Any]:
    scaled: NDArray[Any] = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return scaled


def gem(cells: Array) -> NDArray[np.float64]:
    """Generalised mean, p = 3, over the cells of maps [N, H, W, C]."""
    pooled: NDArray[np.float64] = np.mean(np.maximum(cells.astype(np.float64), 1e-6) ** 3, axis=(1, 2)) ** (1 / 3)
    return pooled


def test_descriptors_are_generalised_means_of_the_map_and_of_each_window(graph: Any, maps: Array) -> None:
    places = cards.windows(17)
    embedding, regions = graph.describe_copy(maps, places, None)
    np.testing.assert_allclose(embedding, unit(gem(maps)), atol=1e-5)
    assert regions.shape == (3, 39, 8)
    for row, (top, left, size) in enumerate(places.places):
        window = maps[:, top : top + size, left : left + size]
        np.testing.assert_allclose(regions[:, row], unit(gem(window)), atol=1e-5)


def test_a_projection_centres_turns_and_normalises_both(graph: Any, maps: Array) -> None:
    chance = np.random.default_rng(6)
    projection = Projection(
        chance.normal(0, 0.1, 8).astype(np.float32),
        chance.normal(0, 1, (8, 3)).astype(np.float32),
        np.zeros((0, 1, 3), np.float32),
        "digest",
    )
    places = cards.windows(17, (9,))
    plain, plain_regions = graph.describe_copy(maps, places, None)
    embedding, regions = graph.describe_copy(maps, places, projection)
    assert embedding.shape == (3, 3)
    assert regions.shape == (3, 10, 3)
    np.testing.assert_allclose(embedding, unit((plain - projection.mean) @ projection.matrix), atol=1e-5)
    np.testing.assert_allclose(regions, unit((plain_regions - projection.mean) @ projection.matrix), atol=1e-5)


def test_an_empty_map_still_gives_unit_norms(graph: Any) -> None:
    embedding, regions = graph.describe_copy(np.zeros((1, 17, 17, 8), np.float32), cards.windows(17), None)
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=-1), 1, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(regions, axis=-1), 1, atol=1e-6)


def test_maps_of_another_size_are_refused_and_not_mixed_with_their_neighbours(graph: Any) -> None:
    import tensorflow as tf

    # 17 maps of 34 x 34 have the cells of 68 maps of 17 x 17.
    with pytest.raises(tf.errors.InvalidArgumentError):
        graph.describe_copy(np.ones((1, 34, 34, 8), np.float32), cards.windows(17), None)


@pytest.mark.parametrize(
    ("normalisation", "expected"),
    [
        ("zero_to_one", [1.0, 0.0, 51 / 255]),
        ("minus_one_to_one", [1.0, -1.0, 51 / 127.5 - 1]),
        ("caffe", [51 - 103.939, 0 - 116.779, 255 - 123.68]),
    ],
)
def test_pixels_are_normalised_as_the_weights_want_them(graph: Any, normalisation: str, expected: list[float]) -> None:
    red_with_blue = np.array([[[[255, 0, 51]]]], np.uint8)
    found = graph.normalise_pixels(red_with_blue, normalisation)
    np.testing.assert_allclose(found[0, 0, 0], expected, atol=1e-4)


def test_logo_vectors_are_what_the_head_makes_of_both_maps(graph: Any) -> None:
    """The graph's operations beside the head's own numpy, which the fit measured."""
    chance = np.random.default_rng(7)
    fine_channels, coarse_channels, inner, dimension = 3, 5, 6, 4
    shapes = {
        "input": (4 * fine_channels + coarse_channels, inner),
        "input_bias": (inner,),
        "linear": (inner, dimension),
        "linear_bias": (dimension,),
        "hidden": (inner, 8),
        "hidden_bias": (8,),
        "output": (8, dimension),
        "output_bias": (dimension,),
    }
    arrays = {name: chance.normal(0, 1, shape).astype(np.float32) for name, shape in shapes.items()}
    boxes = ((0.0, 0.0, 1.0, 1.0), (0.0, 0.0, 0.14, 0.14), (0.3, 0.2, 0.7, 0.9), (0.86, 0.86, 1.0, 1.0))
    head = LogoHead(arrays, boxes, np.zeros((0, 1, dimension), np.float32), {}, "digest")
    fine = chance.normal(1, 1, (2, 35, 35, fine_channels)).astype(np.float32)
    coarse = chance.normal(1, 1, (2, 17, 17, coarse_channels)).astype(np.float32)
    found = graph.describe_logos(fine, coarse, head)
    assert found.shape == (2, len(boxes), dimension)

    def pooled(maps: Array, windows: Sequence[Sequence[float]], grid: Grid) -> NDArray[np.float64]:
        cubes = np.maximum(maps.astype(np.float64), 1e-6) ** 3
        weights = averaging(windows, grid, 299)
        means: NDArray[np.float64] = np.einsum("rk,nkc->nrc", weights, cubes.reshape(2, -1, maps.shape[-1])) ** (1 / 3)
        return means

    for place, box in enumerate(boxes):
        # All four quarters side by side: top left, top right, bottom left, bottom right.
        parts = [pooled(fine, [quarter], graph.FINE_GRID)[:, 0] for quarter in quarters([box])]
        whole = pooled(coarse, [box], graph.COARSE_GRID)[:, 0]
        features = np.concatenate([unit(np.concatenate(parts, axis=1)), unit(whole)], axis=1).astype(np.float32)
        np.testing.assert_allclose(found[:, place], head.apply(features), atol=2e-4)
