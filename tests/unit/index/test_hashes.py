"""The flat scan and the tables of digests, beneath what the contract says of them."""

from typing import Any

import numpy as np
import pytest
from tests.unit.index.rows import pdq

from imagewarden_server.index import WrongShape
from imagewarden_server.index.digests import DigestTable, arrays
from imagewarden_server.index.flat import MOST_HITS, FlatHammingIndex


def found(index: FlatHammingIndex, query: bytes, distance: int) -> dict[int, int]:
    keys, distances = index.search([query], distance)[0]
    return dict(zip(keys.tolist(), distances.tolist(), strict=True))


def near(generator: np.random.Generator, flips: int) -> bytes:
    """A hash of which so many bits, anywhere, are not those of another."""
    bits = np.unpackbits(np.frombuffer(pdq(1), np.uint8))
    bits[generator.choice(256, flips, replace=False)] ^= 1
    return np.packbits(bits).tobytes()


def differing(one: bytes, other: bytes) -> int:
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).bit_count()


class TestFlat:
    def test_distances_are_right_across_blocks(self) -> None:
        generator = np.random.default_rng(3)
        hashes = [generator.bytes(32) for _ in range(70_000)]
        index = FlatHammingIndex()
        index.add(list(range(70_000)), [0] * 70_000, hashes)
        wanted = {key: differing(value, hashes[5]) for key, value in enumerate(hashes)}
        expected = {key: bits for key, bits in wanted.items() if bits <= 100}
        assert len(expected) > 5
        assert max(expected) > 65_536
        assert found(index, hashes[5], 100) == expected

    def test_only_the_nearest_of_a_flood_are_given(self) -> None:
        index = FlatHammingIndex()
        many = MOST_HITS + 500
        index.add(list(range(many)), list(range(many)), [pdq(1, flipped=1)] * many)
        index.add([9_999], [9_999], [pdq(1)])
        keys, distances = index.search([pdq(1)], 31)[0]
        assert len(keys) == MOST_HITS
        assert keys[0] == 9_999
        assert distances[:2].tolist() == [0, 1]

    def test_a_copy_stays_what_it_was_while_the_index_changes(self) -> None:
        index = FlatHammingIndex()
        index.add(list(range(20)), list(range(20)), [pdq(key) for key in range(20)])
        index.remove([3])
        before = {name: array.copy() for name, array in index.arrays().items()}
        make = index.copying()
        index.add([3], [3], [pdq(99)])  # in the place that it had
        index.add([20, 21], [20, 21], [pdq(20), pdq(21)])
        index.remove(list(range(8)))  # so many that the others move together
        after = make()
        assert before.keys() == after.keys()
        for name, array in before.items():
            np.testing.assert_array_equal(after[name], array)

    def test_what_is_removed_is_no_longer_found(self) -> None:
        index = FlatHammingIndex()
        index.add(list(range(20)), list(range(100, 120)), [pdq(key) for key in range(20)])
        index.remove([0, 7, 18, 19, 500])
        assert len(index) == 16
        for key in range(20):
            assert (key in index) == (key not in {0, 7, 18, 19})
            assert found(index, pdq(key), 0) == ({key: 0} if key in index else {})
            entries, _, distances = index.distances([100 + key], [pdq(key)])
            assert (entries.tolist(), distances.tolist()) == (([100 + key], [0]) if key in index else ([], []))

    def test_memory_comes_back(self) -> None:
        index = FlatHammingIndex()
        index.add(list(range(10_000)), [0] * 10_000, [pdq(1)] * 10_000)
        assert index.nbytes <= 10_000 * 48 * 1.5
        index.remove(list(range(9_990)))
        assert index.nbytes < 2_400
        assert found(index, pdq(1), 0) == dict.fromkeys(range(9_990, 10_000), 0)
        index.remove(list(range(10_000)))
        assert found(index, pdq(1), 0) == {}

    def test_keys_that_are_there_are_left_as_they_are(self) -> None:
        index = FlatHammingIndex()
        index.add([5, 9], [1, 1], [pdq(5), pdq(9)])
        index.add([9, 7, 7, 12], [1, 2, 2, 3], [pdq(1), pdq(7), pdq(7), pdq(12)])
        assert len(index) == 4
        assert found(index, pdq(9), 0) == {9: 0}
        assert found(index, pdq(7), 0) == {7: 0}
        assert found(index, pdq(1), 0) == {}

    @pytest.mark.parametrize("growing", [True, False])
    def test_it_answers_as_a_dictionary_would(self, *, growing: bool) -> None:
        generator = np.random.default_rng(5)
        # Few bits differ, so that many are near; and an entry has several hashes, as the frames of an animation.
        values = [near(generator, int(flips)) for flips in generator.integers(0, 60, 400)]
        owner = [key // 3 if growing else int(generator.integers(100)) for key in range(400)]
        index, held = FlatHammingIndex(), set[int]()
        for step in range(120):
            keys = generator.integers(0, 40 + 3 * step, generator.integers(1, 30)).tolist()
            if generator.random() < 0.55:
                index.add(keys, [owner[key] for key in keys], [values[key] for key in keys])
                held |= set(keys)
            else:
                index.remove(keys)
                held -= set(keys)
            query, far = near(generator, int(generator.integers(20))), int(generator.integers(60))
            bits = {key: differing(values[key], query) for key in held}
            assert len(index) == len(held)
            assert found(index, query, far) == {key: one for key, one in bits.items() if one <= far}
            asked = generator.integers(0, 130, 9).tolist()
            nearest: dict[int, int] = {}
            for key, one in bits.items():
                if owner[key] in asked:
                    nearest[owner[key]] = min(one, nearest.get(owner[key], 256))
            entries, _, distances = index.distances(asked, [query])
            assert dict(zip(entries.tolist(), distances.tolist(), strict=True)) == nearest
            if step % 20 == 0:
                index = FlatHammingIndex.of(index.arrays())
                assert len(index) == len(held)
        assert all((key in index) == (key in held) for key in range(400))

    @pytest.mark.parametrize("length", [0, 31, 33, 64])
    def test_a_hash_of_another_length_is_refused(self, length: int) -> None:
        index = FlatHammingIndex()
        index.add([1], [1], [pdq(1)])
        with pytest.raises(WrongShape, match=str(length)):
            index.add([2, 3], [2, 3], [pdq(2), bytes(length)])
        with pytest.raises(WrongShape, match=str(length)):
            index.search([bytes(length)], 31)
        assert len(index) == 1

    def test_arrays_that_are_no_hashes_are_refused(self) -> None:
        arrays_of: list[Any] = [np.zeros((2, 31), np.uint8), np.zeros((3, 32), np.uint8), np.zeros((2, 32), np.int64)]
        for values in arrays_of:
            with pytest.raises(WrongShape):
                FlatHammingIndex.of({"keys": np.arange(2), "entries": np.arange(2), "values": values})
        with pytest.raises(WrongShape, match="3 entries"):
            FlatHammingIndex.of({"keys": np.arange(2), "entries": np.arange(3), "values": np.zeros((2, 32), np.uint8)})

    def test_the_nearest_of_an_entrys_hashes_and_of_the_queries_counts(self) -> None:
        index = FlatHammingIndex()
        index.add([1, 2, 3], [7, 7, 8], [pdq(1, flipped=5), pdq(1, flipped=2), pdq(2)])
        entries, queries, distances = index.distances([8, 7, 7, 9], [pdq(2, flipped=3), pdq(1), pdq(1)])
        assert (entries.tolist(), queries.tolist(), distances.tolist()) == ([7, 8], [1, 0], [2, 3])
        with pytest.raises(WrongShape, match="31"):
            index.distances([7], [bytes(31)])


class TestDigestTable:
    def test_a_digest_may_have_several_keys(self) -> None:
        table = DigestTable()
        for key in (3, 1, 3, 2):
            table.add(key, b"x" * 16)
        assert sorted(table.find(b"x" * 16)) == [1, 2, 3]
        assert len(table) == 3
        table.remove(1, b"x" * 16)
        table.remove(1, b"x" * 16)
        table.remove(3, b"y" * 16)
        table.remove(3, b"x" * 16)
        assert tuple(table.find(b"x" * 16)) == (2,)
        table.remove(2, b"x" * 16)
        assert tuple(table.find(b"x" * 16)) == ()
        assert len(table) == 0

    def test_key_zero_is_a_key(self) -> None:
        table = DigestTable()
        table.add(0, b"x" * 16)
        assert tuple(table.find(b"x" * 16)) == (0,)
        table.remove(0, b"x" * 16)
        assert len(table) == 0

    def test_its_arrays_have_all_keys(self) -> None:
        table = DigestTable()
        for key, value in ((1, b"a" * 16), (2, b"a" * 16), (3, b"b" * 16)):
            table.add(key, value)
        keys, values = arrays(table.pairs(), 16)
        assert sorted(zip(keys.tolist(), [row.tobytes() for row in values], strict=True)) == [
            (1, b"a" * 16),
            (2, b"a" * 16),
            (3, b"b" * 16),
        ]
        assert table.nbytes > 2 * 16
