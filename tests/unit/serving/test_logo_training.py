"""Training a head: it learns to tell logos apart, the same from the same seed, and says what is too little."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.unit.serving.logo_material import BODIES, PHOTOGRAPHS, coarse_pooling, iconify

from imagewarden_serving.fitting.logos_brands import find
from imagewarden_serving.fitting.logos_drawing import draw
from imagewarden_serving.fitting.logos_features import Rows, learn_entry, of_drawings, of_scenes
from imagewarden_serving.fitting.logos_scenes import Scene, compose, sized
from imagewarden_serving.fitting.logos_training import RATE, Settings, one_cycle, train
from imagewarden_serving.fitting.pictures import FitError
from imagewarden_serving.logo_head import LogoHead
from imagewarden_serving.logo_windows import boxes

WINDOWS = boxes((0.2, 0.4, 0.8), (1.0, 0.6), 0.5)
LOGOS = np.arange(len(BODIES), dtype=np.int32)


def rows(folder: Path, scenes: int) -> tuple[Rows, Rows]:
    """Windows of scenes and of drawings of logos, over real photographs, with a stand-in for the network."""
    pictures = [logo.picture() for logo in sorted(find([iconify(folder / "set")], seed=1).logos, key=name)]
    photographs = []
    for path in PHOTOGRAPHS[:3]:
        with Image.open(path) as image:
            photographs.append(sized(image.convert("RGB")))

    def chance(kind: str, number: int) -> random.Random:
        return random.Random(f"{kind} {number}")  # noqa: S311 -- no secret

    def scene(number: int) -> Scene:
        return compose(photographs[number % 3], pictures.__getitem__, len(pictures), chance("scene", number))

    def drawing(number: int) -> tuple[NDArray[np.uint8], list[int], int]:
        owner = number % len(pictures)
        return (*draw(pictures[owner], WINDOWS, chance("drawing", number)), owner)

    shown, entry = of_scenes(scenes, scene, WINDOWS, coarse_pooling, folder, seed=1)
    drawn = of_drawings(6 * len(pictures), drawing, WINDOWS, coarse_pooling, entry, folder)
    return shown, drawn


def name(logo: object) -> str:
    return str(getattr(logo, "brand", ""))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Rows, Rows]:
    return rows(tmp_path_factory.mktemp("rows"), 64)


def vectors(arrays: dict[str, NDArray[np.float32]], features: NDArray[np.float16]) -> NDArray[np.float32]:
    width = features.shape[1]
    unit = {"input": np.eye(width, dtype=np.float32), "input_bias": np.zeros(width, np.float32)}
    return LogoHead({**arrays, **unit}, (), np.zeros((0, 0, 1), np.float32), {}, "").apply(features.astype(np.float32))


def test_a_short_training_lowers_the_loss_and_tells_two_logos_apart(made: tuple[Rows, Rows]) -> None:
    shown, drawn = made
    # Trained on three of four rows, asked of the others.
    asked = np.arange(len(shown.owners)) % 4 == 3
    part = Rows(shown.features[~asked], shown.owners[~asked], shown.sizes[~asked])
    trained = train(part, drawn, LOGOS, Settings(steps=40, seed=2, held_out=0))
    assert len(trained.losses) == 40
    assert np.mean(trained.losses[-5:]) < 0.8 * np.mean(trained.losses[:5])
    assert trained.identities == len(LOGOS)
    owners, known = shown.owners[asked], vectors(trained.arrays, drawn.features)
    windows = vectors(trained.arrays, shown.features[asked])
    alike = np.stack([(windows @ known[drawn.owners == logo].T).max(1) for logo in LOGOS], axis=1)
    # Two logos of the same colours, and two of others.
    for one, two in ((0, 1), (0, 4)):
        ones, twos = alike[owners == one], alike[owners == two]
        right = np.concatenate([ones[:, one] > ones[:, two], twos[:, two] > twos[:, one]])
        assert len(right) > 8
        assert right.mean() > 0.75
    showing = owners >= 0
    own = alike[showing, owners[showing]]
    assert (alike[showing].argmax(1) == owners[showing]).mean() > 0.25, "three times what chance would find"
    assert np.median(own) > np.quantile(alike[~showing], 0.75), "what shows no logo is less like each"


def test_the_same_seed_trains_the_same_head_and_another_does_not(made: tuple[Rows, Rows]) -> None:
    shown, drawn = made
    once, again, other = (train(shown, drawn, LOGOS, Settings(steps=4, seed=seed)) for seed in (2, 2, 3))
    assert once.losses == again.losses
    for key, array in once.arrays.items():
        np.testing.assert_array_equal(array, again.arrays[key])
    assert once.losses != other.losses
    assert {key: array.shape[-1] for key, array in once.arrays.items()} == {
        "linear": 256,
        "linear_bias": 256,
        "hidden": 1024,
        "hidden_bias": 1024,
        "output": 256,
        "output_bias": 256,
    }


def test_logos_held_out_are_tested_by_size_and_not_trained_on(made: tuple[Rows, Rows]) -> None:
    shown, drawn = made
    trained = train(shown, drawn, LOGOS, Settings(steps=3, held_out=5))
    assert trained.identities == len(LOGOS) - 1, "an eighth of them at most"
    assert trained.test
    assert [row["up_to"] for row in trained.test] == sorted(row["up_to"] for row in trained.test)
    for row in trained.test:
        assert row["windows"] >= 1
        assert 0 <= row["found"] <= 1
        assert 0 <= row["first"] <= 1
    assert train(shown, drawn, LOGOS, Settings(steps=1, held_out=0)).test == []


def test_too_little_is_refused(made: tuple[Rows, Rows]) -> None:
    shown, drawn = made
    first = shown.owners == 0
    alone = Rows(shown.features[first], shown.owners[first], shown.sizes[first])
    with pytest.raises(FitError, match="1 logos with 0 windows without one are too little"):
        train(alone, drawn, LOGOS, Settings(steps=1))
    with pytest.raises(FitError, match="0 windows without one"):
        train(replace(shown, owners=np.maximum(shown.owners, 0)), drawn, LOGOS, Settings(steps=1))


def test_a_training_that_diverges_is_said_so(made: tuple[Rows, Rows]) -> None:
    shown, drawn = made
    broken = replace(shown, features=np.full_like(shown.features, np.nan))
    with pytest.raises(FitError, match=r"diverged at step 1 of 2"):
        train(broken, drawn, LOGOS, Settings(steps=2))


def test_the_rate_goes_up_a_tenth_of_the_way_and_down_the_rest() -> None:
    rates = [one_cycle(step, 101) for step in range(101)]
    assert rates[0] == pytest.approx(RATE / 25)
    assert max(rates) <= RATE
    assert rates.index(max(rates)) in {9, 10}
    assert rates[-1] == pytest.approx(RATE / 25e4)
    assert rates[:9] == sorted(rates[:9])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert one_cycle(0, 1) <= RATE


def test_features_are_reduced_to_components_of_like_variance() -> None:
    chance = np.random.default_rng(1)
    mixed = chance.normal(0, 1, (800, 4)) @ chance.normal(0, 1, (4, 12)) * np.linspace(0.1, 9, 12) + 5
    mixed[:, 3] = 7  # a channel that says nothing
    entry = learn_entry(mixed)
    assert entry.matrix.shape == (12, 4)
    reduced = entry.reduce(mixed).astype(np.float32)
    np.testing.assert_allclose(reduced.mean(0), 0, atol=0.02)
    np.testing.assert_allclose(np.cov(reduced.T), np.eye(4), atol=0.1)
    assert (learn_entry(mixed).matrix == entry.matrix).all()
    with pytest.raises(FitError, match="look the same"):
        learn_entry(np.ones((50, 12)))
