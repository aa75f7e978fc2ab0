"""Panels and the map: colours say who is right, sizes stay small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.unit.eval.caltech101_folder import make_folder

from imagewarden_eval import caltech101_pictures as pictures
from imagewarden_eval.caltech101_data import Dataset, load
from imagewarden_eval.caltech101_vectors import VectorsError, handcrafted_vectors, pixels
from imagewarden_eval.progress import Progress

GREEN, RED, GREY = (26, 150, 65), (215, 25, 28), (64, 64, 64)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return load(make_folder(tmp_path_factory.mktemp("caltech101"), each=4))


def frames(panel: Image.Image, row: int, count: int, margin: int = 0) -> list[tuple[int, ...]]:
    """The colours of a row's frames."""
    tile, label, gap, frame = 96, 16, 6, 4
    width, top = tile + 2 * frame + gap, gap + row * (tile + 2 * frame + label + gap)
    places = [margin + gap + column * width + (2 * gap if column else 0) for column in range(count)]
    return [tuple(np.asarray(panel)[top + 1, place + 1].tolist()) for place in places]


def test_frames_are_green_where_the_neighbour_is_of_the_category_and_red_elsewhere(data: Dataset) -> None:
    assert data.categories[0] == "astronaut"
    panel = pictures.panel(data, [pictures.Row(0, [1, 4, 2]), pictures.Row(4, [1, 5, 6])])
    assert frames(panel, 0, 4) == [GREY, GREEN, RED, GREEN]
    assert frames(panel, 1, 4) == [GREY, RED, GREEN, GREEN]


def test_titles_stand_before_the_rows(data: Dataset) -> None:
    plain = pictures.panel(data, [pictures.Row(0, [1])])
    titled = pictures.panel(data, [pictures.Row(0, [1], "semantic")])
    assert titled.width == plain.width + 110
    assert frames(titled, 0, 2, margin=110) == [GREY, GREEN]
    assert np.asarray(titled)[:, :110].min() < 128


def test_a_panel_is_written_small(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (800, 900, 3), np.uint8)
    pictures.save_jpeg(Image.fromarray(noise), tmp_path / "new" / "panel.jpg")
    size = (tmp_path / "new" / "panel.jpg").stat().st_size
    assert size > 0
    photograph = Image.fromarray(noise).resize((90, 80)).resize((900, 800))
    pictures.save_jpeg(photograph, tmp_path / "panel.jpg")
    assert (tmp_path / "panel.jpg").stat().st_size <= pictures.MOST_BYTES


def test_the_map_is_a_picture_of_the_asked_categories(data: Dataset, tmp_path: Path) -> None:
    features = handcrafted_vectors(data, None, Progress(quiet=True))
    path = tmp_path / "map.png"
    pictures.tsne({"colour": features["colour"], "hog": features["hog"]}, data, ["coffee", "rocket"], path)
    with Image.open(path) as made:
        assert made.format == "PNG"
        assert made.width > made.height
        assert np.asarray(made.convert("L")).min() < 200
    assert path.stat().st_size <= pictures.MOST_BYTES


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    with pytest.raises(VectorsError, match=r"broken\.jpg cannot be read as a picture"):
        pixels(tmp_path / "broken.jpg")


def test_features_are_kept_and_read_again_for_the_same_pictures(data: Dataset, tmp_path: Path) -> None:
    quiet = Progress(quiet=True)
    made = handcrafted_vectors(data, tmp_path, quiet)
    (kept,) = tmp_path.glob("*.npz")
    assert made["hog"].shape == (16, 1764)
    with np.load(kept) as arrays:
        np.savez(kept, **{name: arrays[name] * 2 for name in arrays.files})
    again = handcrafted_vectors(data, tmp_path, quiet)
    assert np.array_equal(again["hog"], made["hog"] * 2)
    kept.write_bytes(b"cut short")
    assert np.array_equal(handcrafted_vectors(data, tmp_path, quiet)["hog"], made["hog"])
    handcrafted_vectors(data.only(range(8)), tmp_path, quiet)
    assert len(list(tmp_path.glob("*.npz"))) == 2
