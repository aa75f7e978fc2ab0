"""The split, the list of same pictures, and the plan of queries."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import pytest

from imagewarden_eval import copies
from imagewarden_eval.attacks import ATTACKS
from imagewarden_eval.datasets import (
    DatasetError,
    Photograph,
    find_photographs,
    groups,
    is_fitting,
    part,
    read_same_pictures,
    split,
)


def pictures(count: int) -> list[Photograph]:
    return [Photograph(f"c/{number:03}.jpg", Path(f"/nowhere/{number}")) for number in range(count)]


def test_the_split_is_by_the_digest_of_the_name() -> None:
    names = [f"cat/image_{number:04}.jpg" for number in range(600)]
    assert all(is_fitting(name) == (hashlib.sha256(name.encode()).digest()[0] % 6 == 0) for name in names)
    assert 60 < sum(map(is_fitting, names)) < 140
    found = pictures(100)
    fitting, measured = part(found, fitting=True), part(found, fitting=False)
    assert [one for one in found if not is_fitting(one.name)] == measured
    # Not those that a model fitted on them brings along: `imagewarden model fit` takes an even second byte.
    spared = [one for one in found if hashlib.sha256(one.name.encode()).digest()[1] % 2 == 1]
    assert fitting == [one for one in spared if is_fitting(one.name)]
    assert part(found, fitting=True, share=1) == spared


def test_pictures_are_found_by_their_names_below_the_folder(tmp_path: Path) -> None:
    for name in ("a/1.jpg", "a/2.PNG", "b/3.jpeg", "b/notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    assert [one.name for one in find_photographs([tmp_path])] == ["a/1.jpg", "a/2.PNG", "b/3.jpeg"]
    assert [one.name for one in find_photographs([tmp_path], ["a/*"])] == ["b/3.jpeg"]
    with pytest.raises(DatasetError, match="one name"):
        find_photographs([tmp_path, tmp_path])
    with pytest.raises(DatasetError, match="no folder"):
        find_photographs([tmp_path / "none"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="no pictures"):
        find_photographs([tmp_path / "empty"])


def test_same_pictures_are_joined_over_others(tmp_path: Path) -> None:
    file = tmp_path / "same.txt"
    file.write_text("# said\na\tb\n\nb\tc\nd\te\n")
    pairs = read_same_pictures(file)
    assert pairs == [("a", "b"), ("b", "c"), ("d", "e")]
    assert groups(pairs) == {"a": "a", "b": "a", "c": "a", "d": "d", "e": "d"}
    file.write_text("a b\n")
    with pytest.raises(DatasetError, match="line 1"):
        read_same_pictures(file)


def test_the_list_of_the_package_can_be_read() -> None:
    pairs = read_same_pictures(None)
    assert len(pairs) > 50
    assert all(one != other and one.endswith(".jpg") and other.endswith(".jpg") for one, other in pairs)


def test_a_picture_that_shows_a_reference_is_no_query_without_a_copy() -> None:
    found = pictures(40)
    same = [(found[number].name, found[number + 1].name) for number in range(0, 40, 4)]
    parts = split(found, 20, same, seed=3)
    stands_for = groups(same)
    registered = {stands_for.get(one.name, one.name) for one in parts.references}
    assert len(registered) == len(parts.references) == 20  # no two references show the same
    assert registered.isdisjoint(stands_for.get(one.name, one.name) for one in parts.others)
    assert split(found, 20, same, seed=3) == parts
    assert split(found, 20, same, seed=4) != parts
    with pytest.raises(DatasetError, match="too few"):
        split(found, 40)


def test_all_edits_come_equally_often() -> None:
    parts = split(pictures(200), len(ATTACKS) * 2)
    queries = copies.plan(parts, 5)
    counts = Counter(one.attack.name for one in queries if one.truth is not None)
    assert set(counts.values()) == {10}
    assert sum(one.truth is None for one in queries) == len(ATTACKS) * 10
    by_reference = Counter(one.truth for one in queries if one.truth is not None)
    assert set(by_reference.values()) == {5}
    others = {one.picture.name for one in queries if one.truth is None}
    assert others.isdisjoint(by_reference)
    pairs = [(one.picture.name, one.attack.name) for one in queries]
    assert len(set(pairs)) == len(pairs)  # no query twice
    assert len(copies.plan(parts, 0, 7)) == len(parts.references) * len(ATTACKS) + 7
