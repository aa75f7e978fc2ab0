"""Postings against plain comparison: in one piece and in many, parted and not, words that nothing has."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from imagewarden_server.index import postings
from imagewarden_server.index.postings import PARTING_BITS, Postings, Queries

WORDS, RADIUS = 16, 20

Words = NDArray[np.uint16]
Signatures = NDArray[np.uint64]


@pytest.fixture
def chance() -> np.random.Generator:
    return np.random.default_rng(5)


def made_of(words: Words, signatures: Signatures, chance: np.random.Generator) -> Postings:
    places = chance.integers(7, 99, len(words)).astype(np.int32)
    poses = chance.normal(size=(len(words), 2)).astype(np.float32)
    return Postings.of(7, 99, words, places, signatures, poses, WORDS)


def asked(words: NDArray[np.int64], signatures: Signatures) -> Queries:
    """Queries of no margin at all, so that their like may be in every group."""
    return Queries(words, signatures, np.zeros((len(words), PARTING_BITS), np.float32))


def first_bits(signature: int, bits: int) -> str:
    """The first bits of a signature as `Vocabulary.sign` packs them: byte after byte, the highest bit first."""
    return "".join(f"{byte:08b}" for byte in signature.to_bytes(8, "little"))[:bits]


@pytest.mark.parametrize("pairs", [1, 500, 10**9], ids=["one by one", "in pieces", "all at once"])
@pytest.mark.parametrize(("group", "bits"), [(10**6, 0), (60, 0), (20, 3), (1, PARTING_BITS)])
def test_near_postings_are_those_that_plain_comparison_finds(
    chance: np.random.Generator, monkeypatch: pytest.MonkeyPatch, pairs: int, group: int, bits: int
) -> None:
    monkeypatch.setattr(postings, "_PAIRS", pairs)
    monkeypatch.setattr(postings, "_GROUP", group)
    words = chance.integers(0, WORDS - 2, 3_000).astype(np.uint16)  # two words that nothing has
    signatures = chance.integers(0, 2**64, len(words), np.uint64)
    made = made_of(words, signatures, chance)
    assert made.bits == bits
    like = chance.integers(0, len(words), 200)
    asked_words = np.concatenate([words[like[:150]].astype(np.int64), chance.integers(0, WORDS, 50)])
    asked_words[[0, -1]] = WORDS - 1  # which nothing has
    mine = signatures[like] ^ np.uint64(0b1011)
    lists = made.lists(asked(asked_words, mine))
    queries, rows, differing = made.near(lists, mine, RADIUS)
    found = {
        (query, sign, difference)
        for query, sign, difference in zip(
            queries.tolist(), made.signatures[rows].tolist(), differing.tolist(), strict=True
        )
    }
    expected = {
        (query, sign, (sign ^ one).bit_count())
        for query, (word, one) in enumerate(zip(asked_words.tolist(), mine.tolist(), strict=True))
        for held, sign in zip(words.tolist(), signatures.tolist(), strict=True)
        if held == word and (sign ^ one).bit_count() <= RADIUS
    }
    assert found == expected
    assert len(rows) == len(expected) > 100
    assert queries.tolist() == sorted(queries.tolist())
    assert len(made.near(lists.before(100), mine, RADIUS)[0]) == np.count_nonzero(queries < 100)


def test_places_and_poses_go_with_their_signatures(
    chance: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postings, "_GROUP", 1)
    words = chance.integers(0, WORDS, 500).astype(np.uint16)
    signatures = chance.integers(0, 2**64, len(words), np.uint64)
    places = np.arange(len(words), dtype=np.int32)
    poses = np.stack([places, -places], axis=1).astype(np.float32)
    made = Postings.of(0, len(words), words, places, signatures, poses, WORDS)
    assert made.bits > 0
    assert sorted(made.places.tolist()) == places.tolist()
    assert (made.signatures == signatures[made.places]).all()
    assert (made.poses == poses[made.places]).all()
    assert (np.diff(words[made.places].astype(int)) >= 0).all()


def test_only_groups_are_asked_whose_bits_may_have_turned(
    chance: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postings, "_GROUP", 60)
    monkeypatch.setattr(postings, "_DOUBT", 2.0)  # for each of three bits: 6 in all
    words = np.zeros(8_000, np.uint16)
    signatures = chance.integers(0, 2**64, len(words), np.uint64)
    made = made_of(words, signatures, chance)
    assert made.bits == 3
    mine = signatures[:1]
    own = int(first_bits(int(mine[0]), 3), 2)
    for margins, turned in (
        ([100, 100, 100], {0b000}),
        ([100, 100, 5.9], {0b000, 0b001}),
        ([6.1, 100, 5.9], {0b000, 0b001}),
        ([5, 100, 0], {0b000, 0b001, 0b100, 0b101}),
        ([4, 4, 4], {0b000, 0b001, 0b010, 0b100}),
        ([2, 2, 2], set(range(8))),
    ):
        queries = asked(np.zeros(1, np.int64), mine)
        queries.margins[0, :3] = margins
        _, rows, _ = made.near(made.lists(queries), mine, 64)
        seen = [int(first_bits(sign, 3), 2) for sign in made.signatures[rows].tolist()]
        assert set(seen) == {own ^ bits for bits in turned}
        assert len(seen) == sum(int(first_bits(sign, 3), 2) ^ own in turned for sign in signatures.tolist())


@pytest.mark.parametrize("pairs", [1, 10**9])
def test_nothing_is_near_nothing(chance: np.random.Generator, monkeypatch: pytest.MonkeyPatch, pairs: int) -> None:
    monkeypatch.setattr(postings, "_PAIRS", pairs)
    none = np.empty(0, np.uint64)
    empty = made_of(np.empty(0, np.uint16), none, chance)
    for words, signatures in ((np.array([1, 3]), np.array([5, 6], np.uint64)), (np.empty(0, np.int64), none)):
        queries, rows, bits = empty.near(empty.lists(asked(words, signatures)), signatures, RADIUS)
        assert len(queries) == len(rows) == len(bits) == 0
