"""The folder layout of Caltech101, what is refused of others, and the divisions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from imagewarden_eval.caltech101_data import BACKGROUND, Dataset, LayoutError, few, halves, load, splits
from imagewarden_eval.datasets import is_fitting
from imagewarden_eval.errors import EvaluationError


def make(root: Path, **sizes: int) -> Path:
    for name, count in sizes.items():
        (root / name).mkdir(parents=True)
        for number in range(1, count + 1):
            (root / name / f"image_{number:04}.jpg").touch()
    return root


def made(root: Path, fitted: Sequence[int] = (), **sizes: int) -> Dataset:
    """A set of which just these pictures, by their places, are for fitting."""
    data = load(make(root, **sizes))
    return dataclasses.replace(data, fitted=np.isin(np.arange(len(data)), list(fitted)))


def test_a_part_of_the_set_is_read_in_order(tmp_path: Path) -> None:
    data = load(make(tmp_path, yin_yang=2, Faces=3))
    assert data.categories == ("Faces", "yin_yang")
    assert data.paths == (
        "Faces/image_0001.jpg",
        "Faces/image_0002.jpg",
        "Faces/image_0003.jpg",
        "yin_yang/image_0001.jpg",
        "yin_yang/image_0002.jpg",
    )
    assert data.labels.tolist() == [0, 0, 0, 1, 1]
    assert data.left_out == ()


def test_the_background_and_tiny_categories_are_left_out_and_named(tmp_path: Path) -> None:
    data = load(make(tmp_path, ant=2, bass=2, crab=1, **{BACKGROUND: 4}))
    assert data.categories == ("ant", "bass")
    assert data.left_out == (
        "BACKGROUND_Google (4 pictures): it is clutter, no category of things",
        "crab: 1 pictures, and a category needs two",
    )


def test_faces_and_faces_easy_are_two_categories_as_in_the_original(tmp_path: Path) -> None:
    assert load(make(tmp_path, Faces=2, Faces_easy=2)).categories == ("Faces", "Faces_easy")


def test_stray_files_and_hidden_ones_are_none_of_its_pictures(tmp_path: Path) -> None:
    make(tmp_path, ant=2, bass=2)
    (tmp_path / "ant" / "tmp").touch()
    (tmp_path / "ant" / ".hidden.jpg").touch()
    (tmp_path / ".cache").mkdir()
    (tmp_path / "README.txt").touch()
    assert len(load(tmp_path)) == 4


def test_what_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="nowhere is no folder; the layout of Caltech101 is DIR/CATEGORY/image_NNNN"):
        load(tmp_path / "nowhere")


def test_a_category_instead_of_the_whole(tmp_path: Path) -> None:
    make(tmp_path, ant=2, bass=2)
    with pytest.raises(LayoutError, match=r"image_0001\.jpg is a picture outside of a category.*name the folder above"):
        load(tmp_path / "ant")


def test_the_folder_above_the_whole(tmp_path: Path) -> None:
    make(tmp_path / "caltech-101" / "101_ObjectCategories", ant=2, bass=2)
    with pytest.raises(LayoutError, match=r"is a folder inside of '101_ObjectCategories'.*perhaps DIR is to be"):
        load(tmp_path / "caltech-101")


@pytest.mark.parametrize("name", ["photo.jpg", "image_1.jpg", "image_0003.png"])
def test_pictures_of_other_names(tmp_path: Path, name: str) -> None:
    make(tmp_path, ant=2, bass=2)
    (tmp_path / "bass" / name).touch()
    with pytest.raises(LayoutError, match=rf"{name} is not named as a picture of Caltech101 is"):
        load(tmp_path)


def test_too_little_is_said_with_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=r"has 1 categories of at least two pictures.*left out: bass: 1 pictures"):
        load(make(tmp_path, ant=2, bass=1))
    assert issubclass(LayoutError, EvaluationError)


def test_halves_are_of_each_category_and_share_nothing(tmp_path: Path) -> None:
    data = made(tmp_path, ant=4, bass=7)
    split = halves(data)
    assert np.bincount(data.labels[split.training]).tolist() == [2, 3]
    assert np.bincount(data.labels[split.test]).tolist() == [2, 4]
    assert sorted([*split.training, *split.test]) == list(range(11))
    assert np.array_equal(halves(data).training, split.training)
    assert not np.array_equal(halves(data, 1).training, split.training)


def test_training_takes_so_many_of_each_and_leaves_small_categories_out(tmp_path: Path) -> None:
    data = made(tmp_path, ant=6, bass=3, crab=4)
    found, small = splits(data, 3, 5)
    assert small == ("bass",)
    assert len(found) == 5
    for split in found:
        assert np.bincount(data.labels[split.training], minlength=3).tolist() == [3, 0, 3]
        assert np.bincount(data.labels[split.test], minlength=3).tolist() == [3, 0, 1]
        assert not set(split.training) & set(split.test)
    assert len({tuple(split.training) for split in found}) > 1


def test_no_division_where_no_two_categories_are_large_enough(tmp_path: Path) -> None:
    data = made(tmp_path, ant=30, bass=30)
    assert splits(data, 30, 3) == ([], ("ant", "bass"))


def test_pictures_for_fitting_are_those_of_the_shared_rule(tmp_path: Path) -> None:
    data = load(make(tmp_path, ant=40, bass=40), 3)
    assert data.fitted.tolist() == [is_fitting(path, 3) for path in data.paths]
    assert 10 < data.fitted.sum() < 45
    assert np.array_equal(data.only([0, 50, 79]).fitted, data.fitted[[0, 50, 79]])


def test_pictures_for_fitting_are_searched_and_trained_on_and_never_tested(tmp_path: Path) -> None:
    data = made(tmp_path, [1, 5, 6, 7, 8], ant=4, bass=6)
    split = halves(data)
    # Of bass four are for fitting, and half of six are searched: one is in neither part.
    assert np.bincount(data.labels[split.training]).tolist() == [2, 3]
    assert 1 in split.training
    assert not data.fitted[split.test].any()
    assert np.bincount(data.labels[split.test]).tolist() == [2, 2]
    found, small = splits(data, 3, 4)
    assert small == ()
    for one in found:
        assert np.bincount(data.labels[one.training]).tolist() == [3, 3]
        assert 1 in one.training
        assert not data.fitted[one.test].any()
        assert not set(one.training) & set(one.test)


def test_a_category_that_would_leave_nothing_to_test_is_left_out(tmp_path: Path) -> None:
    data = made(tmp_path, [4, 5, 6, 7], ant=4, bass=4, crab=4)
    found, small = splits(data, 3, 1)
    assert small == ("bass",)
    assert len(found) == 1


def test_a_part_keeps_its_labels_right(tmp_path: Path) -> None:
    data = load(make(tmp_path, ant=2, bass=2, crab=2))
    part = data.only([5, 0])
    assert isinstance(part, Dataset)
    assert part.paths == ("ant/image_0001.jpg", "crab/image_0002.jpg")
    assert part.categories == ("ant", "crab")
    assert part.labels.tolist() == [0, 1]


def test_many_names_are_said_in_short() -> None:
    assert few(["a", "b"]) == "a, b"
    assert few(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
