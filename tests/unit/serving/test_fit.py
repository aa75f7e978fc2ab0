"""What a fit learns: samples of real photographs, the whitening, the file, and what it refuses."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import skimage
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from imagewarden_eval.datasets import Photograph, part
from imagewarden_serving import card as cards
from imagewarden_serving.cli import app
from imagewarden_serving.fitting import FitError, Recipe, Share, fit, pictures, samples, whitening
from imagewarden_serving.fitting.edits import WHOLE, Edited
from imagewarden_serving.fitting.features import nearest, pooled
from imagewarden_serving.projection import load_projection

DATA = Path(skimage.__file__).parent / "data"
PHOTOGRAPHS = [DATA / name for name in ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")]


def coarse_maps(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A stand-in for a network: what colours and what edges a cell has, at 17 x 17 cells."""
    values = images[:, :289, :289].astype(np.float32) / 255
    down = np.abs(np.diff(values, axis=1, append=values[:, -1:]))
    across = np.abs(np.diff(values, axis=2, append=values[:, :, -1:]))
    channels = np.concatenate([values, 1 - values, down, across], axis=-1)
    return np.asarray(channels.reshape(len(images), 17, 17, 17, 17, 12).mean(axis=(2, 4)), np.float32)


@pytest.fixture(scope="module")
def collected() -> samples.Samples:
    return samples.collect(PHOTOGRAPHS, coarse_maps, edits_each=16, seed=4)


def test_samples_are_unit_vectors_with_the_number_of_their_picture(collected: samples.Samples) -> None:
    assert collected.features.dtype == np.float16
    np.testing.assert_allclose(np.linalg.norm(collected.features.astype(np.float32), axis=1), 1, atol=2e-3)
    _, counts = np.unique(collected.pictures, return_counts=True)
    assert len(counts) == len(PHOTOGRAPHS)
    assert (counts >= 10).all(), "most edits show the picture well enough to learn from"
    assert collected.background.shape == (len(PHOTOGRAPHS), 5, 12)
    firsts = collected.features[np.unique(collected.pictures, return_index=True)[1]]
    np.testing.assert_array_equal(collected.background[:, 0], firsts)


def test_the_same_seed_collects_the_same_and_another_does_not(collected: samples.Samples) -> None:
    again = samples.collect(PHOTOGRAPHS, coarse_maps, edits_each=16, seed=4)
    other = samples.collect(PHOTOGRAPHS, coarse_maps, edits_each=16, seed=5)
    assert again.features.tobytes() == collected.features.tobytes()
    assert other.features.tobytes() != collected.features.tobytes()


def test_what_is_seen_small_is_learned_from_its_window_alone() -> None:
    picture = Image.new("RGB", (100, 100))
    whole = (0, 0, 17, 17)
    assert samples.places(Edited(picture, WHOLE), 17) == [whole]
    small = samples.places(Edited(picture, (4 / 17, 4 / 17, 13 / 17, 13 / 17)), 17)
    assert small == [(4, 4, 9, 9)]
    large = samples.places(Edited(picture, (0.0, 0.25, 1.0, 1.0)), 17)
    assert len(large) == 2
    assert large[1] == whole
    assert samples.places(Edited(picture, (0.0, 0.0, 0.1, 0.1)), 17) == []


def test_the_nearest_window_overlaps_most() -> None:
    window, overlap = nearest((0.0, 0.0, 12 / 17, 12 / 17), samples.windows(17), 17)
    assert window == (0, 0, 12, 12)
    assert overlap == pytest.approx(1.0)


def test_features_are_pooled_as_the_exported_graph_pools_them() -> None:
    from imagewarden_serving import graph  # TensorFlow: for this test alone

    maps = np.random.default_rng(5).normal(0, 2, (1, 17, 17, 8)).astype(np.float32)
    places = cards.windows(17)
    _, regions = graph.describe_copy(maps, places, None)
    windows = [(top, left, size, size) for top, left, size in places.places]
    np.testing.assert_allclose(pooled(maps[0], windows), np.asarray(regions)[0], atol=1e-5)


def test_a_whitening_brings_copies_together_and_other_pictures_apart(collected: samples.Samples) -> None:
    numbers = collected.pictures
    learned = whitening.learn(collected.features, numbers, dimensions=6)
    same = (numbers[:, None] == numbers[None, :]) & ~np.eye(len(numbers), dtype=bool)

    def margin(rows: NDArray[np.float32]) -> float:
        cosines = rows @ rows.T
        other = cosines[numbers[:, None] != numbers[None, :]]
        return float((np.median(cosines[same]) - np.median(other)) / cosines.std())

    plain = collected.features.astype(np.float32)
    assert margin(learned.project(collected.features)) > margin(plain - plain.mean(axis=0)) + 0.2


def test_what_only_edits_change_counts_little() -> None:
    numbers = np.repeat(np.arange(40, dtype=np.int32), 5)
    chance = np.random.default_rng(2)
    rows = chance.normal(0, 0.05, (200, 4))
    rows[:, 0] += chance.normal(0, 1, 40)[numbers]
    rows[:, 1] += chance.normal(0, 5, 200)
    learned = whitening.learn(rows, numbers, dimensions=1, ridge=1e-4)
    weights = np.abs(learned.matrix[:, 0])
    assert weights[0] > 10 * weights[1], "the first column tells pictures apart, the second tells edits apart"


def test_a_saved_projection_is_what_an_export_reads(collected: samples.Samples, tmp_path: Path) -> None:
    learned = whitening.learn(collected.features, collected.pictures, dimensions=5)
    background = learned.project(collected.background)
    whitening.save(learned, background, {"seed": 4}, tmp_path / "made.npz")
    read = load_projection(tmp_path / "made.npz", 12)
    assert read.dimension == 5
    np.testing.assert_allclose(read.mean, learned.mean)
    np.testing.assert_allclose(read.matrix, learned.matrix, rtol=1e-3, atol=1e-3)
    with np.load(tmp_path / "made.npz", allow_pickle=False) as arrays:
        assert json.loads(str(arrays["record"])) == {"seed": 4}
        assert arrays["background"].shape == (len(PHOTOGRAPHS), 5, 5)
        np.testing.assert_allclose(arrays["background"], background, atol=1e-3)


@pytest.mark.parametrize("dimensions", [0, 13])
def test_more_dimensions_than_channels_are_refused(collected: samples.Samples, dimensions: int) -> None:
    with pytest.raises(FitError, match=f"{dimensions} dimensions cannot be had from 12 channels"):
        whitening.learn(collected.features, collected.pictures, dimensions=dimensions)


def test_pictures_without_a_second_row_are_refused() -> None:
    with pytest.raises(FitError, match="ask for more edits"):
        whitening.learn(np.eye(4), np.arange(4, dtype=np.int32), dimensions=2)


def test_each_picture_is_of_one_part_whatever_the_directory(tmp_path: Path) -> None:
    names = [f"kind{number % 3}/image_{number}.jpg" for number in range(120)]
    for home in ("here", "there"):
        for name in names:
            path = tmp_path / home / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
    parts = [pictures.find([tmp_path / "here"], Share(part, 4)) for part in range(4)]
    assert sorted(path for part in parts for path in part) == sorted(tmp_path / "here" / name for name in names)
    assert all(len(part) > 15 for part in parts)
    there = pictures.find([tmp_path / "there"], Share(1, 4))
    assert [path.relative_to(tmp_path / "there") for path in there] == [
        path.relative_to(tmp_path / "here") for path in parts[1]
    ]


def test_a_model_brings_along_the_pictures_that_no_score_is_fitted_on(tmp_path: Path) -> None:
    paths = [tmp_path / f"cat/{number:03}.jpg" for number in range(80)]
    brought = pictures.brought(paths, [tmp_path / "other", tmp_path])
    assert 20 < len(brought) < 60
    named = [Photograph(path.relative_to(tmp_path).as_posix(), path) for path in paths]
    spared = part(named, fitting=True, share=1)
    assert sorted([*spared, *(named[place] for place in brought)], key=lambda one: one.name) == named


def test_what_cannot_be_fitted_on_is_said_before_the_network_is_loaded(tmp_path: Path) -> None:
    out = tmp_path / "made.npz"
    with pytest.raises(FitError, match="gone is no directory"):
        fit([tmp_path / "gone"], out, Recipe())
    with pytest.raises(FitError, match="has 0 pictures"):
        fit([tmp_path], out, Recipe())
    (tmp_path / "one.png").write_bytes(b"")
    with pytest.raises(FitError, match="1 pictures are too few to fit on; at least 50"):
        fit([tmp_path], out, Recipe())
    with pytest.raises(FitError, match="31 edits each cannot be made; choose 1 to 30"):
        fit([tmp_path], out, Recipe(edits_each=31))
    with pytest.raises(FitError, match="nowhere is no directory"):
        fit([tmp_path], tmp_path / "nowhere" / "made.npz", Recipe())
    assert not out.exists()


def test_an_unreadable_picture_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(PHOTOGRAPHS[3].read_bytes()[:2000])
    with pytest.raises(FitError, match=r"broken\.jpg cannot be read"):
        samples.collect([broken], coarse_maps, edits_each=1, seed=1)


def test_versions_begin_with_the_picture_and_the_picture_small() -> None:
    picture = pictures.read(PHOTOGRAPHS[2])
    chance = random.Random(1)  # noqa: S311 -- no secret
    first, half, *rest = samples.versions(picture, [], 3, chance)
    assert first.picture is picture
    assert len(rest) == 3
    assert half.picture.getpixel((2, 2)) == (128, 128, 128)
    assert samples.places(half, 17) == [(4, 4, 9, 9)]


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    run = CliRunner().invoke(app, ["fit", "--images", str(tmp_path), "--out", str(tmp_path / "made.npz")])
    assert run.exit_code == 1
    assert "has 0 pictures, and none of them is for fitting" in run.stderr
    run = CliRunner().invoke(
        app, ["fit", "--images", str(tmp_path), "--out", str(tmp_path / "made.npz"), "--parts", "2", "--part", "2"]
    )
    assert run.exit_code == 2
    assert "--part 2 is none of --parts 2" in run.stderr
