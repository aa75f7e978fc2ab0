"""Votes of local features of real photographs, through changes and a round trip."""

from __future__ import annotations

import functools
import io
from pathlib import Path

import numpy as np
import pytest
import skimage
from numpy.typing import NDArray
from PIL import Image, ImageOps

from imagewarden_server.index import local, postings
from imagewarden_server.index.errors import DuplicateKey, WrongShape
from imagewarden_server.index.local import LocalIndex
from imagewarden_server.index.vocabulary import VOCABULARY, Points, Vocabulary, load_vocabulary
from imagewarden_server.media.local import extract, mirrored
from imagewarden_server.media.types import LocalFeatures

SOURCES = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "motorcycle_left.png", "hubble_deep_field.jpg")


@functools.cache
def tiles() -> list[Image.Image]:
    """Pictures of their own: four quarters of each of six photographs."""
    made = []
    for name in SOURCES:
        with Image.open(Path(skimage.__file__).parent / "data" / name) as opened:
            image = opened.convert("RGB").resize((600, 400))
        made += [image.crop((x, y, x + 300, y + 200)) for y in (0, 200) for x in (0, 300)]
    return made


def features(image: Image.Image) -> LocalFeatures:
    return extract(np.asarray(image))


@functools.cache
def stored() -> list[LocalFeatures]:
    return [features(tile) for tile in tiles()]


@functools.cache
def voters() -> list[int]:
    """The tiles that have something to say: the night sky has not."""
    return [number for number, one in enumerate(stored()) if len(one.points) > 60]


def filled() -> LocalIndex:
    index = LocalIndex()
    index.add([10 + n for n in range(len(stored()))], [1000 + n // 2 for n in range(len(stored()))], stored())
    return index


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


class TestVote:
    def test_each_picture_is_found_by_itself_and_mirrored(self) -> None:
        index = filled()
        for number in voters():
            key, votes, flipped = index.vote(stored()[number], 5)[0]
            assert (key, flipped) == (10 + number, False)
            assert votes > 0
            key, _, flipped = index.vote(mirrored(stored()[number]), 5)[0]
            assert (key, flipped) == (10 + number, True)

    @pytest.mark.parametrize("edit", ["jpeg", "crop", "inset", "mirror", "turn"])
    def test_edited_pictures_are_among_the_first_three(self, edit: str) -> None:
        index = filled()
        missed = []
        for number in voters():
            image = tiles()[number]
            match edit:
                case "jpeg":
                    image = jpeg(image, 20)
                case "crop":
                    image = image.crop((60, 40, 250, 170))
                case "inset":
                    host = tiles()[(number + 11) % len(tiles())].resize((450, 300))
                    host.paste(image, (100, 60))
                    image = host
                case "mirror":
                    image = ImageOps.mirror(image)
                case _:
                    image = image.transpose(Image.Transpose.ROTATE_90)
            if 10 + number not in [key for key, _, _ in index.vote(features(image), 3)]:
                missed.append(number)
        assert len(missed) <= len(voters()) // 12, missed

    def test_answers_come_most_votes_first_and_no_more_than_asked(self) -> None:
        answers = filled().vote(stored()[0], 4)
        votes = [count for _, count, _ in answers]
        assert len(answers) == 4
        assert votes == sorted(votes, reverse=True)

    def test_nothing_votes_for_nothing(self) -> None:
        empty = LocalFeatures(np.empty((0, 4), np.float32), np.empty((0, 128), np.uint8), 1.5)
        assert filled().vote(empty, 5) == []
        assert LocalIndex().vote(stored()[0], 5) == []
        index = LocalIndex()
        index.add([1], [1], [empty])
        assert index.vote(stored()[0], 5) == []
        assert index.get(1) is empty


class TestParted:
    """Words whose postings are parted by the first bits of their signatures."""

    @staticmethod
    def parted(monkeypatch: pytest.MonkeyPatch, doubt: float) -> LocalIndex:
        """An index of a large segment that is parted, and a small one that is not."""
        monkeypatch.setattr(postings, "_DOUBT", doubt)
        monkeypatch.setattr(postings, "_GROUP", 0.05)
        monkeypatch.setattr(local, "_SMALL", 1)
        index = LocalIndex()
        last = len(stored()) - 1
        index.add([10 + n for n in range(last)], [1000 + n // 2 for n in range(last)], stored()[:-1])
        monkeypatch.setattr(postings, "_GROUP", 10**6)
        index.add([10 + last], [1000 + last // 2], stored()[-1:])
        assert [segment.bits > 0 for segment in index._segments] == [True, False]
        return index

    def test_where_every_group_is_asked_answers_are_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        index, whole = self.parted(monkeypatch, 1e9), filled()
        for number in voters():
            # Of two keypoints of one set that are as near, another one may vote: so the first alone is the same.
            (ours, votes, flip), (theirs, expected, flipped) = (
                each.vote(stored()[number], 1)[0] for each in (index, whole)
            )
            assert (ours, flip) == (theirs, flipped)
            assert votes == pytest.approx(expected)

    def test_where_few_are_asked_copies_are_found_by_fewer_pairs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        index, whole = self.parted(monkeypatch, 3.5), filled()
        for number in voters():
            copy = features(jpeg(tiles()[number], 40))
            assert index.vote(copy, 5)[0][0] == 10 + number
            asked = [
                sum(int((lists.ends - lists.begins).sum()) for lists in (one.lists(side) for one in each._segments))
                for each in (index, whole)
                for side in [each.question(copy).plain.queries]
            ]
            assert asked[0] < 0.7 * asked[1]

    def test_where_lists_are_long_the_strongest_keypoints_vote(self, monkeypatch: pytest.MonkeyPatch) -> None:
        index = self.parted(monkeypatch, 1e9)
        one = stored()[voters()[0]]
        strongest = LocalFeatures(one.points[:40], one.descriptors[:40], one.aspect)
        expected = index.vote(strongest, 5)
        assert index.vote(one, 5) != expected
        monkeypatch.setattr(local, "_MOST_PAIRS", 1)
        monkeypatch.setattr(local, "_LEAST_VOTERS", 40)
        assert index.vote(one, 5) == expected

    def test_groups_are_of_the_bits_whose_margins_are_said(self) -> None:
        vocabulary = load_vocabulary()
        rows = vocabulary.project(stored()[0].descriptors)
        words = vocabulary.nearest(rows, 2)
        count = postings.PARTING_BITS
        margins = vocabulary.margins(rows, words, count)
        before = postings._groups(vocabulary.sign(rows, words).ravel(), count).reshape(words.shape)
        for place in range(count):
            for which in range(words.shape[1]):
                above = rows[:, place] > vocabulary.medians[words[:, which], place]
                moved = rows.copy()
                moved[:, place] += np.where(above, -1, 1) * (margins[:, which, place] + 0.01)
                after = postings._groups(vocabulary.sign(moved, words[:, which]), count)
                assert (before[:, which] ^ after == 1 << (count - 1 - place)).all()


class TestChanges:
    def test_one_by_one_is_as_all_at_once(self) -> None:
        one_by_one, at_once = LocalIndex(), filled()
        for number, one in enumerate(stored()):
            one_by_one.add([10 + number], [1000 + number // 2], [one])
        for number in voters():
            ours, theirs = one_by_one.vote(stored()[number], 5), at_once.vote(stored()[number], 5)
            assert [(key, flip) for key, _, flip in ours] == [(key, flip) for key, _, flip in theirs]
            assert [votes for _, votes, _ in ours] == pytest.approx([votes for _, votes, _ in theirs])

    def test_many_small_additions_make_few_segments(self) -> None:
        index = LocalIndex()
        for number in range(700):
            one = stored()[number % len(stored())]
            index.add([number], [number], [LocalFeatures(one.points[:4], one.descriptors[:4], one.aspect)])
        assert len(index) == 700
        assert len(index._segments) < 8

    def test_many_segments_become_one_beside_changes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(local, "_SMALL", 1)
        monkeypatch.setattr(local, "_AT_ONCE", 2)
        index = LocalIndex()
        for number, one in enumerate(stored()[:-2]):
            index.add([10 + number], [1000 + number // 2], [one])
        wanted = [index.wants_merging]
        make = index.merging()
        gone, last = 10 + voters()[0], len(stored()) - 2
        index.remove([gone])
        index.add([10 + last, 11 + last], [1, 2], stored()[-2:])
        assert make()()
        wanted.append(index.wants_merging)
        assert wanted == [True, False]
        expected = filled()
        expected.remove([gone])
        for number in voters():
            ours, theirs = index.vote(stored()[number], 5), expected.vote(stored()[number], 5)
            assert [(key, flip) for key, _, flip in ours] == [(key, flip) for key, _, flip in theirs]
            assert [votes for _, votes, _ in ours] == pytest.approx([votes for _, votes, _ in theirs])

    def test_a_segment_of_sets_that_have_other_places_now_is_not_taken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(local, "_AT_ONCE", 1)
        index = LocalIndex()
        for number in voters():
            index.add([number], [number], [stored()[number]])
        make = index.merging()
        index.remove(voters()[:-3])
        assert not make()()
        for number in voters()[-3:]:
            assert index.vote(stored()[number], 1)[0][0] == number

    def test_what_was_removed_gets_no_votes(self) -> None:
        index = filled()
        gone = 10 + voters()[0]
        index.remove([gone, 999_999])
        assert gone not in index
        assert len(index) == len(stored()) - 1
        assert gone not in [key for key, _, _ in index.vote(stored()[voters()[0]], 50)]
        with pytest.raises(KeyError):
            index.get(gone)
        with pytest.raises(KeyError):
            index.entry_of(gone)

    def test_the_rest_is_found_after_most_are_removed(self) -> None:
        index = filled()
        before = index.nbytes
        kept = voters()[-3:]
        index.remove([10 + number for number in range(len(stored())) if number not in kept])
        assert len(index) == 3
        assert index.nbytes < before / 4
        for number in kept:
            assert index.vote(stored()[number], 1)[0][0] == 10 + number
        index.add([10 + voters()[0]], [7], [stored()[voters()[0]]])
        assert index.vote(stored()[voters()[0]], 1)[0][0] == 10 + voters()[0]

    def test_entries_know_their_sets(self) -> None:
        index = filled()
        assert index.keys_of_entry(1000) == [10, 11]
        assert index.entry_of(11) == 1000
        assert index.keys_of_entry(5) == []
        index.remove([10])
        assert index.keys_of_entry(1000) == [11]
        index.add([10], [1000], stored()[:1])
        assert index.keys_of_entry(1000) == [10, 11], "in the order of a start, which reads them by key"
        index.remove([10, 11])
        assert index.keys_of_entry(1000) == []
        assert 10 not in index
        assert 12 in index

    @pytest.mark.parametrize("keys", [[500, 10], [500, 500]])
    def test_a_key_twice_is_refused(self, keys: list[int]) -> None:
        index = filled()
        with pytest.raises(DuplicateKey, match=r"key (10|500) "):
            index.add(keys, [1, 1], stored()[:2])
        assert 500 not in index

    def test_what_are_no_local_features_is_refused(self) -> None:
        index = LocalIndex()
        good = stored()[0]
        bad: list[tuple[NDArray[np.generic], NDArray[np.generic]]] = [
            (good.points[:-1], good.descriptors),
            (good.points[:, :3], good.descriptors),
            (good.points, good.descriptors[:, :64]),
            (good.points, good.descriptors.astype(np.float32)),
        ]
        for points, descriptors in bad:
            with pytest.raises(WrongShape, match="of key 2 are"):
                index.add([1, 2], [1, 2], [good, LocalFeatures(points, descriptors, 1.0)])  # type: ignore[arg-type]
        assert len(index) == 0


class TestRoundTrip:
    def test_arrays_give_the_same_index(self, tmp_path: Path) -> None:
        index = filled()
        index.remove([12, 30])
        np.savez(tmp_path / "local.npz", allow_pickle=False, **index.arrays())
        with np.load(tmp_path / "local.npz", allow_pickle=False) as arrays:
            again = LocalIndex.of(arrays)
        assert len(again) == len(index)
        for number in voters():
            assert again.vote(stored()[number], 9) == index.vote(stored()[number], 9)
        for name, array in index.arrays().items():
            assert np.array_equal(array, again.arrays()[name])
            assert array.dtype == again.arrays()[name].dtype
        assert np.array_equal(again.get(11).descriptors, stored()[1].descriptors)
        assert np.array_equal(again.get(11).points, stored()[1].points)
        assert again.get(11).aspect == stored()[1].aspect
        assert again.entry_of(11) == 1000

    def test_an_empty_index_too(self) -> None:
        again = LocalIndex.of(LocalIndex().arrays())
        assert len(again) == 0
        assert again.vote(stored()[0], 3) == []

    def test_a_copy_stays_what_it_was_while_the_index_changes(self) -> None:
        index = filled()
        before, make = index.arrays(), index.copying()
        index.add([500], [500], [stored()[0]])
        index.remove([10 + number for number in range(len(stored()) // 2 + 2)])  # so many that places change
        after = make()
        assert before.keys() == after.keys()
        for name, array in before.items():
            np.testing.assert_array_equal(after[name], array)

    def test_words_of_another_vocabulary_are_found_anew(self) -> None:
        index = filled()
        arrays = index.arrays()
        arrays["vocabulary"] = np.zeros(32, np.uint8)
        arrays["words"] = np.zeros_like(arrays["words"])
        again = LocalIndex.of(arrays)
        number = voters()[0]
        assert again.vote(stored()[number], 5) == index.vote(stored()[number], 5)

    def test_arrays_that_do_not_fit_are_refused(self) -> None:
        arrays = filled().arrays()
        arrays["words"] = arrays["words"][:-1]
        with pytest.raises(WrongShape, match="keypoints"):
            LocalIndex.of(arrays)


class TestVocabulary:
    def test_the_file_is_small_and_sound(self) -> None:
        vocabulary = load_vocabulary()
        assert VOCABULARY.stat().st_size <= 2**22
        assert vocabulary.medians.shape == (vocabulary.words, 64)
        assert np.allclose(vocabulary.projection.T @ vocabulary.projection, np.eye(64), atol=2e-3)
        assert (vocabulary.idf > 0).all()

    def test_every_word_is_near_something(self) -> None:
        vocabulary = load_vocabulary()
        named = np.concatenate([cell.words for cell in vocabulary.cells])
        assert np.unique(named).tolist() == list(range(vocabulary.words))

    def test_the_nearest_words_are_the_nearest_but_for_a_few_at_the_borders_of_cells(self) -> None:
        vocabulary: Vocabulary = load_vocabulary()
        rows = np.concatenate([vocabulary.project(one.descriptors) for one in stored()])
        with np.load(VOCABULARY, allow_pickle=False) as file:
            centroids = file["centroids"].astype(np.float32)
        nearest = Points(centroids).nearest(rows, 3)
        found = vocabulary.nearest(rows, 3)
        assert (found[:, 0] == nearest[:, 0]).mean() > 0.97
        assert np.mean([len(np.intersect1d(*pair)) for pair in zip(found, nearest, strict=True)]) > 0.96 * 3

    def test_the_nearest_points_are_the_nearest(self) -> None:
        chance = np.random.default_rng(2)
        points = chance.normal(size=(70, 5)).astype(np.float32)
        rows = chance.normal(size=(600, 5)).astype(np.float32)
        distances = ((rows[:, None].astype(np.float64) - points[None]) ** 2).sum(2)
        assert np.array_equal(Points(points).nearest(rows, 3), np.argsort(distances, axis=1)[:, :3])

    def test_like_descriptors_have_like_signatures(self) -> None:
        vocabulary = load_vocabulary()
        descriptors = stored()[0].descriptors
        noise = np.random.default_rng(1).integers(-3, 4, descriptors.shape)
        near = np.clip(descriptors.astype(np.int64) + noise, 0, 255).astype(np.uint8)
        rows, others = vocabulary.project(descriptors), vocabulary.project(near)
        words = vocabulary.nearest(rows)[:, 0]
        mine = vocabulary.sign(rows, words)
        assert np.median(np.bitwise_count(mine ^ vocabulary.sign(others, words))) < 10
        assert np.median(np.bitwise_count(mine ^ np.roll(mine, 1))) > 22

    def test_other_descriptors_are_refused(self) -> None:
        with pytest.raises(WrongShape, match="float32"):
            load_vocabulary().project(np.zeros((3, 128), np.float32))


class TestKept:
    def test_sets_that_nothing_votes_for_are_given_back_as_they_came(self) -> None:
        index = LocalIndex(votes=False)
        voted = filled()
        index.add([10 + n for n in range(len(stored()))], [1000 + n // 2 for n in range(len(stored()))], stored())
        assert index.vote(stored()[voters()[0]], 5) == []
        assert index.nbytes < voted.nbytes - sum(len(one.points) for one in stored()) * 16
        again = LocalIndex.of(index.arrays(), votes=False)
        for number, one in enumerate(stored()):
            for held in (index, again):
                np.testing.assert_array_equal(held.get(10 + number).descriptors, one.descriptors)
                assert held.entry_of(10 + number) == 1000 + number // 2
        index.remove(range(10, 30))
        assert len(index) == len(stored()) - 20
        assert index.vote(stored()[voters()[0]], 5) == []
