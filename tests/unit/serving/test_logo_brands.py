"""The logos to learn from: which brands, which of their drawings, and which turns of them."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.unit.serving.logo_material import BODIES, fitting_names, iconify, svg

from imagewarden_serving.fitting.logos_brands import Logo, brand_of, find, identities
from imagewarden_serving.fitting.pictures import FitError

SQUARE = '<rect x="10" y="10" width="80" height="80" fill="#c02040"/>'


@pytest.mark.parametrize(
    ("slug", "brand"),
    [
        ("acme", "acme"),
        ("Acme-Icon", "acme"),
        ("acme-dark-icon", "acme"),
        ("acme-wordmark-light", "acme"),
        ("acme-icons", "acmeicons"),
        ("iconic", "iconic"),
        ("a_c.m e-x", "acmex"),
        ("-icon", ""),
    ],
)
def test_a_brand_is_its_name_without_what_says_which_drawing(slug: str, brand: str) -> None:
    assert brand_of(slug) == brand


def test_brands_of_one_hash_in_four_are_never_fitted_on(tmp_path: Path) -> None:
    names = [f"name{number}" for number in range(40)]
    for name in names:
        (tmp_path / f"{name}-icon.svg").write_text(svg(SQUARE))
    found = find([tmp_path], seed=1)
    measured = {name for name in names if hashlib.sha256(name.encode()).digest()[0] % 4 == 0}
    assert len(measured) > 3
    assert {logo.brand for logo in found.logos} == set(names) - measured
    assert (found.unreadable, found.unfit) == (0, 0)


def test_an_iconify_set_and_svg_files_give_the_same_drawings(tmp_path: Path) -> None:
    of_set = find([iconify(tmp_path / "set")], seed=1)
    (tmp_path / "files" / "below").mkdir(parents=True)
    for name, body in zip(fitting_names(len(BODIES)), BODIES, strict=True):
        (tmp_path / "files" / "below" / f"{name}.svg").write_text(svg(body))
    of_files = find([tmp_path / "files"], seed=1)
    assert {logo.brand: logo.png for logo in of_set.logos} == {logo.brand: logo.png for logo in of_files.logos}
    assert len(of_set.logos) == len(BODIES)
    for logo in of_set.logos:
        picture = logo.picture()
        assert picture.mode == "RGBA"
        assert 200 <= max(picture.size) <= 320
        assert not logo.plain


def test_an_icons_own_place_and_size_win_over_its_sets(tmp_path: Path) -> None:
    # The left half alone: its width is half of the set's.
    icon = {"body": '<rect width="50" height="100" fill="red"/><rect x="50" width="50" height="100" fill="blue"/>'}
    name = fitting_names(1)[0]
    (tmp_path / "icons.json").write_text(
        json.dumps({"width": 100, "height": 100, "icons": {name: {**icon, "left": 25, "width": 50}}})
    )
    [logo] = find([tmp_path], seed=1).logos
    picture = logo.picture()
    assert picture.size == (160, 320)
    assert picture.getpixel((20, 100)) == (255, 0, 0, 255)
    assert picture.getpixel((140, 100)) == (0, 0, 255, 255)


def test_of_a_brand_the_icon_is_taken_and_the_first_package_wins(tmp_path: Path) -> None:
    name = fitting_names(1)[0]
    for folder, slug, colour in (("a", name, "red"), ("a", f"{name}-icon", "lime"), ("b", f"{name}-icon", "blue")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / f"{slug}.svg").write_text(svg(SQUARE.replace("#c02040", colour)))
    [logo] = find([tmp_path / "a", tmp_path / "b"], seed=1).logos
    assert logo.picture().getpixel((50, 50)) == (0, 255, 0, 255)


def test_what_cannot_be_drawn_is_counted_and_the_brands_next_drawing_taken(tmp_path: Path) -> None:
    first, second, third, fourth = fitting_names(4)
    files = {
        f"{first}-icon": "<svg",
        first: svg(SQUARE),
        second: svg(""),
        third: svg('<rect y="48" width="100" height="4" fill="red"/>'),
        fourth: svg('<rect width="100" height="100" fill="red" opacity="0.03"/>'),
    }
    for name, text in files.items():
        (tmp_path / f"{name}.svg").write_text(text)
    found = find([tmp_path], seed=1)
    assert [logo.brand for logo in found.logos] == [first]
    assert found.unreadable == 3, "one is cut off, one draws nothing, and of one too little is seen"
    assert found.unfit == 1, "one is too long"


@pytest.mark.parametrize(
    ("body", "plain"),
    [
        ('<rect width="90" height="90"/>', True),
        ('<rect width="90" height="90" fill="currentColor" fill-rule="evenodd" stroke="none"/>', True),
        ('<rect width="90" height="90" style="fill: none; stroke:currentColor" stroke-width="9"/>', True),
        ('<rect width="90" height="90" fill="#000"/>', False),
        ('<rect width="90" height="90" style="fill: red"/>', False),
    ],
)
def test_a_logo_without_a_colour_is_given_one_by_the_seed(tmp_path: Path, body: str, plain: bool) -> None:
    (tmp_path / f"{fitting_names(1)[0]}.svg").write_text(svg(body))
    [logo], [again], [other] = (find([tmp_path], seed=seed).logos for seed in (1, 1, 2))
    assert logo.plain == plain
    assert logo.png == again.png
    assert (logo.png != other.png) == plain
    if plain:
        pixels = np.asarray(logo.picture())
        assert len(np.unique(pixels[pixels[..., 3] == 255][:, :3], axis=0)) == 1


def drawn(picture: Image.Image, *, plain: bool = False) -> Logo:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return Logo("made", buffer.getvalue(), plain)


def test_turns_that_change_nothing_are_no_identities() -> None:
    square = Image.new("RGBA", (100, 100), "red")
    halves = square.copy()
    halves.paste("blue", (0, 0, 100, 50))
    corner = square.copy()
    corner.paste("blue", (0, 0, 60, 40))
    found = identities([drawn(square), drawn(halves), drawn(corner), drawn(corner, plain=True)])
    counts = [sum(one.logo == number for one in found) for number in range(4)]
    # Halves, one above the other, are the same in a mirror.
    assert counts == [1, 3, 4, 3]
    pictures = [one.of(corner).tobytes() for one in found if one.logo == 2]
    assert pictures[0] == corner.tobytes()
    assert len(set(pictures)) == 4


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "has no logos to fit on"),
        ({"icons.json": "{"}, "no Iconify set"),
        ({"icons.json": "[]"}, "no Iconify set"),
        ({"icons.json": '{"icons": {"a": {}}}'}, "no Iconify set"),
        ({"icons.json": '{"icons": {"a": "text"}}'}, "no Iconify set"),
        ({"icons.json": '{"icons": {}}'}, "has no logos to fit on"),
    ],
)
def test_a_folder_that_is_no_package_is_refused(tmp_path: Path, files: dict[str, str], says: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(FitError, match=says):
        find([tmp_path], seed=1)


def test_a_missing_folder_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(FitError, match="gone is no directory"):
        find([tmp_path / "gone"], seed=1)
