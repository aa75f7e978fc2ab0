"""Which stored pictures do a query's keypoints vote for? An inverted file over a visual vocabulary.

Each descriptor is a word and a signature of 64 bits (see `vocabulary`). A query's keypoint votes for a picture where it
has a descriptor of one of the same few words whose signature differs in few bits: the nearer, and the rarer the word,
the more. Of a word with many descriptors only those are looked at that may be like it (see `postings`). A keypoint
votes once for a picture, so that no repeated pattern wins by repetition, and only votes count together that agree on
how far the picture is turned and scaled (weak geometric consistency: Jegou, Douze, Schmid, ECCV 2008). The query's
mirror image votes too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagewarden_server.index.errors import DuplicateKey, WrongShape
from imagewarden_server.index.postings import PARTING_BITS, Lists, Postings, Queries
from imagewarden_server.index.vocabulary import Vocabulary, load_vocabulary
from imagewarden_server.index.votes import agreeing, best_of_each_vote, poses_of
from imagewarden_server.media.local import DESCRIPTOR_SIZE, mirrored
from imagewarden_server.media.types import LocalFeatures

Arrays = Mapping[str, NDArray[Any]]

ASSIGNED = 3
"""In how many of its nearest words a query's descriptor is looked for."""

RADIUS = 18
"""At most this many of 64 bits differ between signatures that are alike: see docs/local-features.md."""

_SIGMA = 16.0

_SMALL = 64
"""Segments of fewer sets than this are made anew with each addition."""

_AT_ONCE = 2_048
"""No addition makes a segment of more sets than this out of others: checks wait meanwhile. See `LocalIndex.merging`."""

_WORDS_AT_ONCE = 16
"""Of so many sets words are looked for at once: of one alone each takes twice as long."""

_MOST_SEGMENTS = 4
"""More segments than this are wanted in one, beside all else."""

_MOST_PAIRS = 8_000_000
"""So many postings are compared for a side of a query: some 50 ms. Up to some 500,000 pictures that is all of them."""

_LEAST_VOTERS = 300
"""So many keypoints vote in any case: of 112 strongly edited pictures each was still found, with 250 one was not."""

_WEIGHT = np.exp(-((np.arange(65) / _SIGMA) ** 2)).astype(np.float32)


@dataclass(slots=True)
class _Set:
    """One set of features, with the words and signatures of its descriptors."""

    key: int
    entry: int
    features: LocalFeatures
    words: NDArray[np.uint16]
    signatures: NDArray[np.uint64]

    def copy(self) -> _Set:
        """The same in arrays of its own."""
        held = self.features
        features = LocalFeatures(held.points.copy(), held.descriptors.copy(), held.aspect)
        return _Set(self.key, self.entry, features, self.words.copy(), self.signatures.copy())


@dataclass(frozen=True, slots=True, eq=False)
class _Side:
    """A query's keypoints as the index compares them: each ASSIGNED times in a row, and their poses float32 [n, 2]."""

    queries: Queries
    poses: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A query's keypoints and those of its mirror image, for all indexes of one vocabulary."""

    plain: _Side
    mirrored: _Side


class LocalIndex:
    """Local features by key; votes may run beside each other, changes alone: the holder locks."""

    def __init__(self, vocabulary: Vocabulary | None = None, *, votes: bool = True) -> None:
        """With `votes` unset sets are kept and given back, and nothing votes for them."""
        self._vocabulary = vocabulary or load_vocabulary()
        self._voted_for = votes
        self._sets: list[_Set | None] = []
        self._place: dict[int, int] = {}
        self._of_entry: dict[int, list[int]] = {}
        self._segments: list[Postings] = []
        self._live = np.zeros(0, np.bool_)
        self._renumbered = 0

    def __len__(self) -> int:
        """How many sets it holds."""
        return len(self._place)

    def __contains__(self, key: int) -> bool:
        """Whether it holds a key."""
        return key in self._place

    @property
    def nbytes(self) -> int:
        """How many bytes of memory it takes, without the vocabulary."""
        held = (one for one in self._sets if one is not None)
        sets = sum(
            one.features.points.nbytes + one.features.descriptors.nbytes + one.words.nbytes + one.signatures.nbytes
            for one in held
        )
        return sets + sum(one.nbytes for one in self._segments) + self._live.nbytes

    def get(self, key: int) -> LocalFeatures:
        """The features of a key; KeyError where it is not there."""
        return self._at(key).features

    def entry_of(self, key: int) -> int:
        """The entry that a key's features are of; KeyError where it is not there."""
        return self._at(key).entry

    def keys_of_entry(self, entry: int) -> list[int]:
        """The keys of an entry's sets, the least first, however they came; none for an entry that is not there."""
        return sorted(self._of_entry.get(entry, ()))

    def add(self, keys: Sequence[int], entries: Sequence[int], features: Sequence[LocalFeatures]) -> None:
        """Add sets of features, each with the entry it is of.

        Raises:
            DuplicateKey: a key is there already, or given twice; nothing was added.
            WrongShape: features are not points float32 [n, 4] and descriptors uint8 [n, 128]; nothing was added.
        """
        again = sorted(key for key, times in Counter(keys).items() if times > 1 or key in self._place)
        if again:
            raise DuplicateKey(f"local features of key {again[0]} are there already, or twice among the new ones")
        for key, one in zip(keys, features, strict=True):
            _check(key, one)
        described = zip(keys, entries, features, self._words(features), strict=True)
        self._append([_Set(key, entry, one, *words) for key, entry, one, words in described])

    def remove(self, keys: Sequence[int]) -> None:
        """Remove keys; those that are not there are no error."""
        for key in keys:
            place = self._place.pop(key, None)
            if place is None:
                continue
            entry = self._at_place(place).entry
            self._of_entry[entry].remove(key)
            if not self._of_entry[entry]:
                del self._of_entry[entry]
            self._sets[place] = None
            self._live[place] = False
        if 2 * len(self._place) < len(self._sets):
            # Copies: those of a snapshot are parts of one array, which would stay as long as any of them.
            kept = [one.copy() for one in self._sets if one is not None]
            self._sets, self._segments, self._live = [], [], np.zeros(0, np.bool_)
            self._place, self._of_entry = {}, {}
            self._renumbered += 1
            self._append(kept)

    def question(self, features: LocalFeatures) -> Question:
        """What `answer` is asked: the same for every index of one vocabulary."""
        seen = features, mirrored(features)
        # Both at once: the more descriptors, the less time each takes.
        projected = self._vocabulary.project(np.concatenate([side.descriptors for side in seen]))
        words = self._vocabulary.nearest(projected, ASSIGNED)
        signatures = self._vocabulary.sign(projected, words)
        margins = self._vocabulary.margins(projected, words, PARTING_BITS)
        count = len(features.points)
        plain, in_mirror = (
            _Side(
                Queries(words[part].ravel(), signatures[part].ravel(), margins[part].reshape(-1, PARTING_BITS)),
                poses_of(side.points),
            )
            for side, part in zip(seen, (slice(count), slice(count, None)), strict=True)
        )
        return Question(plain, in_mirror)

    def vote(self, features: LocalFeatures, k: int) -> list[tuple[int, float, bool]]:
        """The k sets with the most votes: key, votes, and whether the mirrored query found it; most votes first."""
        return self.answer(self.question(features), k)

    def answer(self, question: Question, k: int) -> list[tuple[int, float, bool]]:
        """As `vote`."""
        if not self._place or not self._segments or not len(question.plain.poses):
            return []
        sides = [self._votes(side, k) for side in (question.plain, question.mirrored)]
        places, votes = (np.concatenate(part) for part in zip(*sides, strict=True))
        in_mirror = np.repeat([False, True], [len(found) for found, _ in sides])
        # Where both sides have as many, it is not the mirror image.
        order = np.lexsort((in_mirror, places, -votes))
        _, first = np.unique(places[order], return_index=True)
        return [
            (self._at_place(int(places[row])).key, float(votes[row]), bool(in_mirror[row]))
            for row in order[np.sort(first)][:k].tolist()
        ]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All there is, for `of`."""
        return self.copying()()

    def copying(self) -> Callable[[], dict[str, NDArray[Any]]]:
        """What makes `arrays` of all that is here now, and may run without the lock: sets are never changed."""
        held = [one for one in self._sets if one is not None]
        return lambda: self._arrays_of(held)

    def _arrays_of(self, held: Sequence[_Set]) -> dict[str, NDArray[Any]]:
        return {
            "keys": np.array([one.key for one in held], np.int64),
            "entries": np.array([one.entry for one in held], np.int64),
            "aspects": np.array([one.features.aspect for one in held], np.float64),
            "counts": np.array([len(one.words) for one in held], np.int64),
            "points": _joined([one.features.points for one in held], np.empty((0, 4), np.float32)),
            "descriptors": _joined(
                [one.features.descriptors for one in held], np.empty((0, DESCRIPTOR_SIZE), np.uint8)
            ),
            "words": _joined([one.words for one in held], np.empty(0, np.uint16)),
            "signatures": _joined([one.signatures for one in held], np.empty(0, np.uint64)),
            "vocabulary": np.frombuffer(bytes.fromhex(self._vocabulary.fingerprint), np.uint8),
        }

    @classmethod
    def of(cls, arrays: Arrays, vocabulary: Vocabulary | None = None, *, votes: bool = True) -> LocalIndex:
        """An index of what `arrays` gave; words of another vocabulary are found anew.

        Raises:
            WrongShape: the arrays do not fit each other.
        """
        made = cls(vocabulary, votes=votes)
        counts = arrays["counts"]
        total = int(counts.sum())
        rows = {name: len(arrays[name]) for name in ("points", "descriptors", "words", "signatures")}
        if set(rows.values()) != {total} or not len(counts) == len(arrays["keys"]) == len(arrays["entries"]):
            raise WrongShape(f"the saved local features are of {total} keypoints, and the arrays have {rows} rows")
        ends = np.cumsum(counts)
        parts = [slice(int(end - count), int(end)) for end, count in zip(ends, counts, strict=True)]
        features = [
            LocalFeatures(arrays["points"][part], arrays["descriptors"][part], float(aspect))
            for part, aspect in zip(parts, arrays["aspects"], strict=True)
        ]
        keys, entries = arrays["keys"].tolist(), arrays["entries"].tolist()
        if arrays["vocabulary"].tobytes().hex() != made._vocabulary.fingerprint:
            made.add(keys, entries, features)
            return made
        for key, one in zip(keys, features, strict=True):
            _check(key, one)
        made._append(
            [
                _Set(key, entry, one, arrays["words"][part], arrays["signatures"][part])
                for key, entry, one, part in zip(keys, entries, features, parts, strict=True)
            ]
        )
        return made

    def _at(self, key: int) -> _Set:
        return self._at_place(self._place[key])

    def _at_place(self, place: int) -> _Set:
        found = self._sets[place]
        if found is None:
            raise KeyError(place)
        return found

    def _append(self, sets: Sequence[_Set]) -> None:
        if not sets:
            return
        first = len(self._sets)
        self._sets.extend(sets)
        self._live = np.concatenate([self._live, np.ones(len(sets), np.bool_)])
        for place, one in enumerate(sets, first):
            self._place[one.key] = place
            self._of_entry.setdefault(one.entry, []).append(one.key)
        if not self._voted_for:
            return
        # A segment swallows those before it that are not much larger than itself: there are few, and each posting is
        # sorted anew only as often as their number's logarithm says.
        while self._segments:
            before = self._segments[-1]
            if before.last - before.first > max(_SMALL, 2 * (len(self._sets) - first)):
                break
            if len(self._sets) - before.first > _AT_ONCE:
                break
            first = self._segments.pop().first
        self._segments.append(self._segment(self._sets[first:], first))

    @property
    def wants_merging(self) -> bool:
        """Whether there are many segments: see `merging`."""
        return len(self._segments) > _MOST_SEGMENTS

    def merging(self) -> Callable[[], Callable[[], bool]]:
        """What makes one segment of all that are here, and may run without the lock; what takes it, with the lock.

        The latter answers whether the segment was taken: not where sets have other places by then.
        """
        sets, renumbered = list(self._sets), self._renumbered

        def make() -> Callable[[], bool]:
            made = self._segment(sets, 0)
            return lambda: self._take(made, renumbered)

        return make

    def _take(self, segment: Postings, renumbered: int) -> bool:
        later = [one for one in self._segments if one.last > segment.last]
        if self._renumbered != renumbered or any(one.first < segment.last for one in later):
            return False
        self._segments = [segment, *later]
        return True

    def _segment(self, sets: Sequence[_Set | None], first: int) -> Postings:
        held = [(place, one) for place, one in enumerate(sets, first) if one is not None]
        words = _joined([one.words for _, one in held], np.empty(0, np.uint16))
        places = np.repeat(
            np.array([place for place, _ in held], np.int32), np.array([len(one.words) for _, one in held], np.int64)
        )
        points = _joined([one.features.points for _, one in held], np.empty((0, 4), np.float32))
        signatures = _joined([one.signatures for _, one in held], np.empty(0, np.uint64))
        return Postings.of(
            first, first + len(sets), words, places, signatures, poses_of(points), self._vocabulary.words
        )

    def _words(self, features: Sequence[LocalFeatures]) -> list[tuple[NDArray[np.uint16], NDArray[np.uint64]]]:
        """The word and the signature of each descriptor of each set; zeros where nothing votes for them."""
        if not self._voted_for:
            return [(np.zeros(count, np.uint16), np.zeros(count, np.uint64)) for count in map(_size, features)]
        found = []
        for begin in range(0, len(features), _WORDS_AT_ONCE):
            few = features[begin : begin + _WORDS_AT_ONCE]
            projected = self._vocabulary.project(np.concatenate([one.descriptors for one in few]))
            words = self._vocabulary.nearest(projected)[:, 0]
            signatures = self._vocabulary.sign(projected, words)
            ends = np.cumsum([_size(one) for one in few])[:-1]
            parts = zip(np.split(words.astype(np.uint16), ends), np.split(signatures, ends), strict=True)
            # Copies: a part would keep all of its batch as long as any of it is there.
            found += [(one.copy(), two.copy()) for one, two in parts]
        return found

    def _votes(self, side: _Side, k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The k places with the most votes, and how many, most first."""
        asked_of = [segment.lists(side.queries) for segment in self._segments]
        queries = ASSIGNED * _voters(asked_of, len(side.poses))
        found: list[tuple[NDArray[Any], ...]] = []
        for segment, lists in zip(self._segments, asked_of, strict=True):
            asked, rows, bits = segment.near(lists.before(queries), side.queries.signatures, RADIUS)
            weight = _WEIGHT[bits] * self._vocabulary.idf[side.queries.words[asked]] ** 2
            found.append((asked // ASSIGNED, segment.places[rows], weight, segment.poses[rows]))
        voter, place, weight, pose = (np.concatenate(part) for part in zip(*found, strict=True))
        alive = self._live[place]
        voter, place, weight, pose = voter[alive], place[alive], weight[alive], pose[alive]
        chosen = best_of_each_vote(voter * np.int64(len(self._sets)) + place, weight)
        voter, place, weight, pose = voter[chosen], place[chosen], weight[chosen], pose[chosen]
        return agreeing(place, weight, side.poses[voter] - pose, k)


def _voters(asked_of: Sequence[Lists], keypoints: int) -> int:
    """How many of a query's keypoints vote, the strongest first: all, unless the lists are long."""
    pairs = np.zeros(keypoints, np.float64)
    for lists in asked_of:
        pairs += np.bincount(lists.asked // ASSIGNED, lists.ends - lists.begins, keypoints)
    return max(_LEAST_VOTERS, int(np.searchsorted(np.cumsum(pairs), _MOST_PAIRS)))


def _size(features: LocalFeatures) -> int:
    return len(features.descriptors)


def _joined(parts: Sequence[NDArray[Any]], none: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate(parts) if parts else none


def _check(key: int, features: LocalFeatures) -> None:
    points, descriptors = features.points, features.descriptors
    if (
        points.dtype != np.float32
        or descriptors.dtype != np.uint8
        or points.shape != (len(descriptors), 4)
        or descriptors.shape[1:] != (DESCRIPTOR_SIZE,)
    ):
        raise WrongShape(
            f"local features are points float32 [n, 4] and descriptors uint8 [n, {DESCRIPTOR_SIZE}], and those of key "
            f"{key} are {points.dtype} {points.shape} and {descriptors.dtype} {descriptors.shape}"
        )
