"""Postings against plain comparison: in one piece and in many, words that nothing has."""

from __future__ import annotations

import numpy as np
import pytest

from imagewarden_server.index import postings
from imagewarden_server.index.postings import Postings

WORDS, RADIUS = 16, 20


@pytest.fixture
def chance() -> np.random.Generator:
    return np.random.default_rng(5)


@pytest.mark.parametrize("pairs", [1, 500, 10**9], ids=["one by one", "in pieces", "all at once"])
def test_near_postings_are_those_that_plain_comparison_finds(
    chance: np.random.Generator, monkeypatch: pytest.MonkeyPatch, pairs: int
) -> None:
    monkeypatch.setattr(postings, "_PAIRS", pairs)
    words = chance.integers(0, WORDS - 2, 3_000).astype(np.uint16)  # two words that nothing has
    signatures = chance.integers(0, 2**64, len(words), np.uint64)
    places = chance.integers(7, 99, len(words)).astype(np.int32)
    poses = chance.normal(size=(len(words), 2)).astype(np.float32)
    made = Postings.of(7, 99, words, places, signatures, poses, WORDS)
    like = chance.integers(0, len(words), 200)
    asked_words = np.concatenate([words[like[:150]].astype(np.int64), chance.integers(0, WORDS, 50)])
    asked_words[[0, -1]] = WORDS - 1  # which nothing has
    asked = signatures[like] ^ np.uint64(0b1011)
    queries, rows, bits = made.near(asked_words, asked, RADIUS)
    found = {
        (query, place, sign, difference)
        for query, place, sign, difference in zip(
            queries.tolist(), made.places[rows].tolist(), made.signatures[rows].tolist(), bits.tolist(), strict=True
        )
    }
    expected = {
        (query, place, sign, (sign ^ mine).bit_count())
        for query, (word, mine) in enumerate(zip(asked_words.tolist(), asked.tolist(), strict=True))
        for held, place, sign in zip(words.tolist(), places.tolist(), signatures.tolist(), strict=True)
        if held == word and (sign ^ mine).bit_count() <= RADIUS
    }
    assert found == expected
    assert len(rows) == len(expected) > 100
    assert queries.tolist() == sorted(queries.tolist())
    assert (made.poses[rows[0]] == poses[signatures == made.signatures[rows[0]]][0]).all()


@pytest.mark.parametrize("pairs", [1, 10**9])
def test_nothing_is_near_nothing(monkeypatch: pytest.MonkeyPatch, pairs: int) -> None:
    monkeypatch.setattr(postings, "_PAIRS", pairs)
    none = np.empty(0, np.uint64)
    empty = Postings.of(0, 0, np.empty(0, np.uint16), np.empty(0, np.int32), none, np.empty((0, 2), np.float32), WORDS)
    for words, signatures in ((np.array([1, 3]), np.array([5, 6], np.uint64)), (np.empty(0, np.int64), none)):
        queries, rows, bits = empty.near(words, signatures, RADIUS)
        assert len(queries) == len(rows) == len(bits) == 0
