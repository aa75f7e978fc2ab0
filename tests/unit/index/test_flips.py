"""PDQ hashes by parity: a picture's turns are bounded together, and nothing within reach is lost by it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skimage
from numpy.typing import NDArray
from PIL import Image

from imagewarden_server.index.flat import FlatHammingIndex, as_words
from imagewarden_server.index.flips import Group, as_written, bound, by_parity, grouped
from imagewarden_server.media.pdq import pdq

DISTANCE = 31


@pytest.fixture
def chance() -> np.random.Generator:
    return np.random.default_rng(31)


def turns() -> list[bytes]:
    with Image.open(Path(skimage.__file__).parent / "data" / "coffee.png") as opened:
        return list(pdq(np.asarray(opened.convert("RGB")))[1])


def changed(value: bytes, bits: int, chance: np.random.Generator) -> bytes:
    rows = np.unpackbits(np.frombuffer(value, np.uint8))
    rows[chance.choice(256, bits, replace=False)] ^= 1
    return np.packbits(rows).tobytes()


def test_hashes_by_parity_are_the_hashes(chance: np.random.Generator) -> None:
    hashes = chance.integers(0, 256, (50, 32), np.uint8)
    words = by_parity(hashes)
    np.testing.assert_array_equal(as_written(words), hashes)
    apart = np.unpackbits(hashes[0] ^ hashes[1:], axis=1).sum(1)
    np.testing.assert_array_equal(np.bitwise_count(words[:, :1] ^ words[:, 1:]).sum(0), apart)


def test_the_words_are_of_the_parities_of_frequencies() -> None:
    for place in range(256):
        bits = np.zeros(256, np.uint8)
        bits[255 - place] = 1  # the highest bit is written first
        row, column = divmod(place, 16)
        words = by_parity(np.packbits(bits)[None])[:, 0]
        # Bit 16 i + j is of the frequencies i + 1 and j + 1.
        assert np.flatnonzero(words).tolist() == [2 * ((row + 1) % 2) + (column + 1) % 2]


def test_the_eight_turns_of_a_photograph_are_two_groups_of_mirror_images() -> None:
    groups = grouped(as_words(turns()))
    assert [len(group.queries) for group in groups] == [4, 4]
    assert sorted(place for group in groups for place in group.queries) == list(range(8))
    assert all(group.mirrored for group in groups)


def test_unlike_hashes_are_groups_of_their_own(chance: np.random.Generator) -> None:
    groups = grouped(as_words([chance.bytes(32) for _ in range(9)]))
    assert [group.queries for group in groups] == [[place] for place in range(9)]
    assert not any(group.mirrored or group.slack for group in groups)


def test_no_query_is_nearer_than_its_groups_bound(chance: np.random.Generator) -> None:
    queries = [*turns(), *(changed(one, 12, chance) for one in turns())]
    hashes = np.frombuffer(b"".join(changed(one, 40, chance) for one in queries), np.uint8).reshape(-1, 32)
    hashes = np.concatenate([hashes, chance.integers(0, 256, (500, 32), np.uint8)])
    asked, words = as_words(queries), by_parity(hashes)
    for group in grouped(asked):
        least = bounds(group, words).astype(int) - group.slack
        for query in group.queries:
            assert (np.bitwise_count(words ^ asked[:, query, None]).sum(0) >= least).all()


def test_what_differs_in_the_bounding_words_alone_is_found(chance: np.random.Generator) -> None:
    """There the bound is the whole distance, and each bit of slack counts."""
    queries = turns()
    assert max(group.slack for group in grouped(as_words(queries))) >= 3
    # 31 bits of the two words that bound, of many copies of each turn.
    words = np.repeat(as_words(queries), 40, axis=1)
    for column in words.T:
        for bit in chance.choice(128, DISTANCE, replace=False).tolist():
            column[bit // 64] ^= np.uint64(1 << (bit % 64))
    values = [row.tobytes() for row in as_written(words)]
    index = FlatHammingIndex()
    index.add(range(len(values)), range(len(values)), values)
    for place, (keys, distances) in enumerate(index.search(queries, DISTANCE)):
        assert set(range(40 * place, 40 * place + 40)) <= set(keys.tolist())
        assert distances.max() <= DISTANCE


def bounds(group: Group, words: NDArray[np.uint64]) -> NDArray[np.uint8]:
    size = words.shape[1]
    return bound(group, words[:2], (np.empty(size, np.uint64), np.empty(size, np.uint8), np.empty(size, np.uint8)))


def test_a_search_by_turns_finds_what_plain_comparison_finds(chance: np.random.Generator) -> None:
    queries = turns()
    near = [changed(one, bits, chance) for one in queries for bits in (0, 1, 15, 30, 31, 32, 33, 45)]
    values = [*near, *(chance.bytes(32) for _ in range(2_000))]
    index = FlatHammingIndex()
    index.add(range(len(values)), range(len(values)), values)
    hashes = np.frombuffer(b"".join(values), np.uint8).reshape(-1, 32)
    for query, (keys, distances) in zip(queries, index.search(queries, DISTANCE), strict=True):
        apart = np.unpackbits(hashes ^ np.frombuffer(query, np.uint8), axis=1).sum(1)
        expected = np.flatnonzero(apart <= DISTANCE)
        assert sorted(keys.tolist()) == expected.tolist()
        assert distances.tolist() == sorted(apart[expected].tolist())
        assert len(expected) >= 5
