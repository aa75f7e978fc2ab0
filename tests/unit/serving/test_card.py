"""The model card: the windows of the regions, and the fingerprint that says which vectors compare."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagewarden_serving import card as cards


def test_the_default_windows_over_mixed3_are_39_with_the_whole_map_first() -> None:
    made = cards.windows(17)
    assert made.sizes == (17, 12, 9, 6)
    assert [sum(size == one for _, _, size in made.places) for one in made.sizes] == [1, 4, 9, 25]
    assert len(made.places) == 39
    assert made.places[0] == (0, 0, 17)
    assert made.boxes[0] == [0.0, 0.0, 1.0, 1.0]
    # Row by row: the second window of the second row of 12 x 12 is the last of its size.
    assert made.places[1:5] == ((0, 0, 12), (0, 5, 12), (5, 0, 12), (5, 5, 12))
    assert made.boxes[2] == [round(5 / 17, 6), 0.0, 1.0, round(12 / 17, 6)]


@given(st.integers(4, 40), st.lists(st.integers(1, cards.GRID), max_size=5))
def test_windows_lie_in_the_map_cover_its_edges_and_leave_no_gap(cells: int, sizes: list[int]) -> None:
    made = cards.windows(cells, sizes)
    assert made.places[0] == (0, 0, cells)
    assert len(set(made.places)) == len(made.places) == len(made.boxes)
    for size in made.sizes:
        tops = sorted({top for top, _, one in made.places if one == size})
        lefts = sorted({left for _, left, one in made.places if one == size})
        assert tops == lefts
        assert (tops[0], tops[-1]) == (0, cells - size)
        assert all(after - before <= size for before, after in pairwise(tops))


@pytest.mark.parametrize("sizes", [(0,), (-3,), (18,), (12, 99)])
def test_window_sizes_outside_the_grid_are_refused(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="between 1 and 17"):
        cards.windows(17, sizes)


@pytest.fixture
def card() -> dict[str, Any]:
    return {
        "schema_version": 1,
        "name": "inception",
        "version": 1,
        "architecture": "inception_v3",
        "weights": {"source": "nsfwjs", "licence": "MIT", "tensors_sha256": "ab" * 32},
        "input": {"shape": [299, 299, 3], "normalisation": "zero_to_one"},
        "embedding": {"layer": "mixed3", "dimension": 768, "projection_sha256": None},
        "regions": {"boxes": [[0.0, 0.0, 1.0, 1.0]]},
        "logos": {"head_sha256": None, "boxes": [[0.0, 0.0, 1.0, 1.0]], "dimension": 768, "background": [0, 0]},
        "semantic": {"layer": "mixed10"},
        "nsfw": None,
        "created": "2026-11-24T10:00:00+00:00",
        "tools": {"tensorflow": "2.21.0"},
    }


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"version": 7},
        {"created": "2027-01-01T00:00:00+00:00"},
        {"tools": {}},
        {"weights": {"source": "file", "package": "mine.keras", "tensors_sha256": "ab" * 32}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_decides_no_vector_is_not_in_the_fingerprint(card: dict[str, Any], change: dict[str, Any]) -> None:
    assert cards.fingerprint(card | change) == cards.fingerprint(card)


@pytest.mark.parametrize(
    "change",
    [
        {"architecture": "resnet50"},
        {"weights": {"source": "nsfwjs", "licence": "MIT", "tensors_sha256": "cd" * 32}},
        {"input": {"shape": [299, 299, 3], "normalisation": "caffe"}},
        {"embedding": {"layer": "mixed3", "dimension": 768, "projection_sha256": "ef" * 32}},
        {"regions": {"boxes": []}},
        {"regions": {"boxes": [[0.0, 0.0, 0.5, 1.0]]}},
        {"logos": {"head_sha256": "12" * 32, "boxes": [], "dimension": 768, "background": [0, 0]}},
        {"semantic": {"layer": "mixed9"}},
    ],
)
def test_what_decides_vectors_is_in_the_fingerprint(card: dict[str, Any], change: dict[str, Any]) -> None:
    assert cards.fingerprint(card | change) != cards.fingerprint(card)


def test_a_fingerprint_depends_on_no_order_and_stays_what_it_was(card: dict[str, Any]) -> None:
    backwards = json.loads(cards.to_json(dict(reversed(card.items()))))
    assert cards.fingerprint(backwards) == cards.fingerprint(card)
    # Frozen: stored vectors are bound to fingerprints, so the way they are made must not change.
    assert cards.fingerprint(card) == "7c6086b448470cca26a3c7d094440270d559acb93eeabf386a33a5fe6e310ec6"
