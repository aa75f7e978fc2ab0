"""Brands of logo files, and scenes with a logo in them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import skimage
from PIL import Image

from imagewarden_eval.datasets import Photograph
from imagewarden_eval.errors import EvaluationError
from imagewarden_eval.logo_files import LogoFile, brand_of, collected, is_measured, read_logos
from imagewarden_eval.logo_scenes import SCENE_SIDE, Scene, draw, make, plan

DATA = Path(skimage.__file__).parent / "data"
MAGENTA = (
    b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 200 100">'
    b'<rect x="20" y="10" width="160" height="80" fill="#ff00ff"/></svg>'
)


def test_brands_are_slugs_without_their_variants() -> None:
    words = ("Acme", "acme-icon", "acme-dark-icon", "ac.me_wordmark", "acme-light")
    assert {brand_of(slug) for slug in words[:3]} == {"acme"}
    assert brand_of("acme-light") == "acme"
    assert brand_of("visual-studio-code") == "visualstudiocode"
    assert brand_of("-icon") == "icon"


def test_one_file_a_brand_is_read_the_icon_first(tmp_path: Path) -> None:
    icons = {
        "brandx": {"body": "<path/>", "width": 900, "height": 100},  # too long
        "acme": {"body": "<path/>"},
        "acme-icon": {"body": "<g/>", "width": 50, "height": 40},
        "other": {"body": "<path/>"},
        "wide": {"body": "<path/>", "width": 600, "height": 100},
    }
    (tmp_path / "icons.json").write_text(json.dumps({"width": 256, "height": 128, "icons": icons}))
    found = {one.slug: one for measured in (True, False) for one in read_logos(tmp_path, measured=measured)}
    assert set(found) == {"acme-icon", "other"}
    assert b'viewBox="0 0 50 40"' in found["acme-icon"].svg
    assert b'viewBox="0 0 256 128"' in found["other"].svg
    for one in read_logos(tmp_path):
        assert is_measured(one.brand)


def test_a_folder_of_drawings_may_have_a_second_hand(tmp_path: Path) -> None:
    brands = [name for name in ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta") if is_measured(name)]
    assert brands  # the words are chosen so
    for folder in ("colour", "mono"):
        (tmp_path / folder).mkdir()
        for name in brands:
            (tmp_path / folder / f"{name}.svg").write_bytes(MAGENTA)
    found = read_logos(tmp_path / "colour", tmp_path / "mono")
    assert [one.brand for one in found] == sorted(brands)
    assert all(one.redrawn == MAGENTA for one in found)
    (tmp_path / "empty").mkdir()
    with pytest.raises(EvaluationError, match="neither"):
        read_logos(tmp_path / "empty")


def test_logos_of_several_folders_are_one_a_brand_the_first_folders_first(tmp_path: Path) -> None:
    names = [name for name in map("brand{}".format, range(80)) if is_measured(name)]
    has = {"colour": names[:6], "mono": names[3:12], "seen": [f"{names[0]}-icon", names[8]]}
    for folder, slugs in has.items():
        (tmp_path / folder).mkdir()
        for slug in slugs:
            (tmp_path / folder / f"{slug}.svg").write_bytes(MAGENTA + folder.encode())
    folders, left_out = [tmp_path / "colour", tmp_path / "mono"], [tmp_path / "seen"]
    found = collected(folders, left_out)
    assert {one.brand for one in found} == {*names[:12]} - {names[0], names[8]}
    assert [one.svg.endswith(b"colour") for one in found] == [True] * 5 + [False] * 5
    assert collected(folders, left_out, 7) == found[:7]
    with pytest.raises(EvaluationError, match=r"no brand of .*mono is left to measure on"):
        collected([tmp_path / "mono"], [tmp_path / "mono"])


def test_a_drawing_is_cut_to_what_is_drawn() -> None:
    image = draw(MAGENTA)
    assert max(image.size) == 768
    assert image.width / image.height == pytest.approx(2, rel=0.01)
    with pytest.raises(EvaluationError, match="draws nothing"):
        draw(b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 10"></svg>')


@pytest.mark.parametrize("width", [0.15, 0.4, 0.6])
def test_a_scene_has_the_logo_where_its_box_says(width: float) -> None:
    photograph = Photograph("coffee.png", DATA / "coffee.png")
    logo = LogoFile("acme", "acme", MAGENTA)
    seen = set()
    for number in range(12):
        drawn = make(Scene(photograph, logo, width, number), seed=1)
        assert drawn == make(Scene(photograph, logo, width, number), seed=1)
        assert drawn.box is not None
        image = Image.open(io.BytesIO(drawn.data)).convert("RGB")
        assert max(image.size) == SCENE_SIDE
        seen.add(drawn.variant)
        left, top, right, bottom = drawn.box
        assert 0 <= left < right <= 1
        assert 0 <= top < bottom <= 1
        # Turned by 15 degrees at most, and a little from the side: near its width.
        assert width * 0.75 <= right - left <= width * 1.2
        if drawn.variant == "colour":
            pixels = np.asarray(image, np.int16)
            magenta = (np.minimum(pixels[..., 0], pixels[..., 2]) > 140) & (pixels[..., 1] < 110)
            rows, columns = np.nonzero(magenta)
            inside = (
                (columns >= left * image.width - 3)
                & (columns <= right * image.width + 3)
                & (rows >= top * image.height - 3)
                & (rows <= bottom * image.height + 3)
            )
            assert inside.mean() > 0.98
            area = (right - left) * (bottom - top) * image.width * image.height
            assert magenta.sum() > 0.4 * area
    assert len(seen) > 1


def test_scenes_are_planned_for_every_width_and_without() -> None:
    photographs = [Photograph(f"{number}", DATA / "coffee.png") for number in range(10)]
    logos = [LogoFile(name, name, MAGENTA) for name in ("a", "b", "c")]
    scenes = plan(logos, photographs, 8, seed=1)
    assert len(scenes) == 3 * 5 + 8
    assert [one.width for one in scenes[:5]] == [0.1, 0.15, 0.25, 0.4, 0.6]
    without = [one.photograph.name for one in scenes if one.logo is None]
    assert len(set(without)) == 8  # no photograph twice
    drawn = make(scenes[-1], 1)
    assert drawn.box is None
    assert Image.open(io.BytesIO(drawn.data)).size[0] == SCENE_SIDE
