"""The second look at logos: shape and network together know a logo in any ink, and no photograph."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import cast

import numpy as np
import pytest
from PIL import Image
from tests.support.pictures import exported, in_grey, pasted, turned
from tests.unit.matching.things import bank

from imagewarden_server import media
from imagewarden_server.index import IndexSet
from imagewarden_server.matching import second_look, shapes, verifier
from imagewarden_server.matching.directory import Scope
from imagewarden_server.matching.evidence import Found
from imagewarden_server.matching.lookup import Lookup
from imagewarden_server.matching.ports import Catalog, StoredLocal
from imagewarden_server.matching.second_look import Shelf, fit, stronger
from imagewarden_server.matching.types import BankKind, Box, LocalSignal

SLUGS = ("firefox", "slack-icon", "android-icon", "npm-icon")
PLACE = (0.55, 0.5)
SHARE = 0.25
WINDOW = Box(0.4, 0.32, 0.72, 0.74)
BANK = 7


@pytest.fixture(scope="module")
def rows(colour_logo: Callable[[str], bytes]) -> list[StoredLocal]:
    found = []
    for entry, slug in enumerate(SLUGS, 1):
        drawn = media.render_logo(colour_logo(slug), media.Limits())[0]
        signals = [*shapes.describe(drawn), LocalSignal(media.DRAWINGS, media.drawing(drawn))]
        found += [
            StoredLocal(10 * entry + place, BANK, entry, one.extractor, one.features)
            for place, one in enumerate(signals)
        ]
    return found


@pytest.fixture(scope="module")
def drawn(colour_logo: Callable[[str], bytes]) -> Callable[[str], Image.Image]:
    return lambda slug: exported(colour_logo(slug))


@pytest.mark.parametrize("ink", [lambda logo: logo, in_grey, turned])
@pytest.mark.parametrize("slug", SLUGS)
def test_a_check_looks_again_where_the_embedding_sees_a_logo(
    rows: list[StoredLocal],
    scene: Image.Image,
    drawn: Callable[[str], Image.Image],
    slug: str,
    ink: Callable[[Image.Image], Image.Image],
) -> None:
    index = IndexSet()
    index.load_rows([], [], [rows])
    lookup = Lookup(cast("Catalog", None), index)
    scope = Scope((replace(bank(BankKind.BRAND), key=BANK),))
    places = dict.fromkeys([1, 2, 3, 4, 99], Found(5.0, 0.0, 0, WINDOW))
    pictures = {0: np.asarray(pasted(scene, ink(drawn(slug)), SHARE, PLACE))}
    found = {one.entry: one.found for one in lookup.look_again(scope, pictures, places)}
    assert set(found) == {1, 2, 3, 4}
    right = 1 + SLUGS.index(slug)
    assert max(found, key=lambda key: found[key].value) == right
    assert all(one.region is not None for one in found.values())
    without = {one.entry: one.found for one in lookup.look_again(scope, {0: np.asarray(scene)}, places)}
    assert found[right].value > without[right].value + 0.5
    assert max(one.value for one in without.values()) < 1.2


def test_the_network_tells_the_piece_with_the_logo(
    colour_logo: Callable[[str], bytes], scene: Image.Image, drawn: Callable[[str], Image.Image]
) -> None:
    logos = [
        verifier.prepare(media.undrawn(media.drawing(media.render_logo(colour_logo(slug), media.Limits())[0])))
        for slug in SLUGS
    ]
    long = SHARE * scene.width
    for place, slug in enumerate(SLUGS):
        logo = drawn(slug)
        picture = np.asarray(pasted(scene, logo, SHARE, PLACE))
        pose = media.Pose(PLACE[0] * 512, PLACE[1] * 340, long * max(1, logo.height / logo.width), 0.0)
        piece = media.Pieces(picture).cut(pose)
        logits = verifier.likely([piece] * len(SLUGS), logos)
        assert int(np.argmax(logits)) == place
        assert logits[place] > 0
        assert logits[place] > verifier.likely([media.Pieces(np.asarray(scene)).cut(pose)], [logos[place]])[0] + 2


def test_what_the_network_sees_is_bounded_and_of_one_shape() -> None:
    chance = np.random.default_rng(5)
    for piece in (chance.integers(0, 256, (48, 48, 3), np.uint8), np.zeros((48, 48, 3), np.uint8)):
        for drawing in (chance.integers(0, 256, (48, 48, 4), np.uint8), np.zeros((48, 48, 4), np.uint8)):
            seen = verifier.channels(piece, verifier.prepare(drawing))
            assert seen.shape == (verifier.CHANNELS, 48, 48)
            assert seen.dtype == np.float32
            assert np.isfinite(seen).all()
            assert np.abs(seen).max() <= 4


def test_threads_share_the_network() -> None:
    chance = np.random.default_rng(6)
    pieces = [chance.integers(0, 256, (48, 48, 3), np.uint8) for _ in range(6)]
    logos = [verifier.prepare(chance.integers(0, 256, (48, 48, 4), np.uint8)) for _ in range(6)]
    expected = verifier.likely(pieces, logos)
    answers: list[list[float]] = []
    threads = [threading.Thread(target=lambda: answers.append(verifier.likely(pieces, logos))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 4
    for answer in answers:
        assert answer == pytest.approx(expected, abs=1e-4)
    assert verifier.likely([], []) == []


def test_the_shelf_keeps_what_was_used_last(rows: list[StoredLocal]) -> None:
    shelf = Shelf(most=len(rows) - 1)
    first = shelf.stored(rows[:1])[1].templates[0]
    assert shelf.stored(rows[:1])[1].templates[0] is first
    everything = shelf.stored(rows)
    assert {entry: len(one.drawings) for entry, one in everything.items()} == {1: 1, 2: 1, 3: 1, 4: 1}
    assert everything[4] is not shelf.stored(rows[-1:])[4]
    assert shelf.stored(rows[-1:])[4].drawings[0] is everything[4].drawings[-1]
    assert shelf.stored(rows[:1])[1].templates[0] is not first, "the oldest went"


@pytest.mark.parametrize(
    ("shape", "logit", "least", "most"),
    [(0, -1, 0, 0), (-30, -1, 0, 0), (0, -6, 0, 0), (5, None, 1, 1.2), (5, -6, 0.3, 0.5), (8, 5, 2.3, 3)],
)
def test_shape_and_network_say_it_together(shape: float, logit: float | None, least: float, most: float) -> None:
    assert least <= fit(shape, logit) <= most


@pytest.mark.parametrize(("inliers", "fitting", "value"), [(0, 0, 0), (10, 0, 10), (10, math.log(2), 21)])
def test_a_logo_that_fits_makes_inliers_count_for_more(inliers: float, fitting: float, value: float) -> None:
    assert stronger(inliers, fitting) == pytest.approx(value)


def test_a_logo_without_a_drawing_is_found_by_its_shape_alone(
    rows: list[StoredLocal], scene: Image.Image, drawn: Callable[[str], Image.Image]
) -> None:
    stored = Shelf().stored(row for row in rows if row.extractor == media.SHAPES)
    picture = np.asarray(pasted(scene, drawn("npm-icon"), SHARE, PLACE))
    seen = second_look.look(picture, stored, dict.fromkeys(stored, WINDOW))
    assert max(seen, key=lambda key: seen[key].fit) == 1 + SLUGS.index("npm-icon")
