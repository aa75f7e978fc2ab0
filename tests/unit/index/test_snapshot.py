import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.unit.index.rows import (
    EXTRACTOR,
    MODEL,
    LoggedCatalog,
    hash_row,
    local_features,
    local_row,
    pdq,
    unit_vectors,
    vector_row,
    without_features,
    without_vector,
)

from imagewarden_server.index import IndexSet, load_snapshot, open_index, save_snapshot
from imagewarden_server.index.parts import Part
from imagewarden_server.index.vocabulary import load_vocabulary
from imagewarden_server.matching.ports import Change, Hit
from imagewarden_server.matching.types import HashSignal, SignalType, VectorSpace

CATALOG = "c0ffee"
FIXTURES = Path(__file__).parents[2] / "fixtures"
VECTORS = unit_vectors(12, dimensions=8)


def sample() -> IndexSet:
    """Of every kind of signal and space a few; the frozen snapshot has the same."""
    index = IndexSet()
    rows = [vector_row(key, VECTORS[key], scale=(0.25, 0.5)) for key in range(5)]
    features = [local_row(key, seed=key) for key in range(3)]
    index.apply(
        [
            Change(
                1,
                added_hashes=[
                    hash_row(1, bytes([1]) * 32, SignalType.SHA256),
                    hash_row(2, bytes([2]) * 20, SignalType.SHA1),
                    hash_row(3, bytes([3]) * 16, SignalType.MD5),
                    hash_row(4, bytes([3]) * 16, SignalType.MD5),
                    *[hash_row(10 + key, bytes([key]) * 32) for key in range(3)],
                ],
                added_vectors=rows,
                added_locals=features,
            ),
            Change(2, removed_vectors=[without_vector(rows[1])], removed_locals=[without_features(features[0])]),
            Change(
                3,
                added_hashes=[hash_row(20, bytes([9]) * 32, bank=2)],
                added_vectors=[
                    vector_row(20, VECTORS[10], bank=2, space=VectorSpace.LOGO),
                    vector_row(21, VECTORS[11], bank=2, space=VectorSpace.SEMANTIC),
                ],
                added_locals=[local_row(5, seed=5, bank=2)],
            ),
        ]
    )
    return index


def assert_is_sample(index: IndexSet) -> None:
    assert index.revision == 3
    digests = [HashSignal(SignalType.SHA256, bytes([1]) * 32), HashSignal(SignalType.SHA1, bytes([2]) * 20)]
    assert index.find_digests([1], digests) == [Hit(1, 0, 0.0), Hit(2, 1, 0.0)]
    assert [hit.key for hit in index.find_digests([1], [HashSignal(SignalType.MD5, bytes([3]) * 16)])] == [3, 4]
    for key in range(3):
        assert index.find_pdq([1], [bytes([key]) * 32], 0) == [Hit(10 + key, 0, 0.0)]
    assert index.find_pdq([1, 2], [bytes([9]) * 32], 0) == [Hit(20, 0, 0.0)]
    found = index.find_vectors([1], VectorSpace.COPY, MODEL, VECTORS[:5], 1)
    assert [hit.key for hit in found if hit.value > 0.99] == [0, 2, 3, 4]
    assert index.vector_models([1], VectorSpace.COPY) == {(MODEL, 8): 4}
    for key, space in ((20, VectorSpace.LOGO), (21, VectorSpace.SEMANTIC)):
        (hit,) = index.find_vectors([1, 2], space, MODEL, VECTORS[key - 10 : key - 9], 5)
        assert hit.key == key
        assert hit.value == pytest.approx(1.0, abs=1e-6)
    best = index.find_entries([1], VectorSpace.COPY, MODEL, VECTORS[[0, 4]], 2)
    assert {(hit.entry, hit.key, hit.query) for hit in best} == {(0, 0, 0), (2, 4, 1)}
    assert [hit.value for hit in best] == pytest.approx([1.5, 1.5], abs=1e-5)
    assert index.hash_distances([5, 10], [1, 2], [bytes([1]) * 32]) == [Hit(5, 0, 0.0), Hit(10, 0, 32.0)]
    assert index.local_count([1, 2]) == {EXTRACTOR: 3}
    for key, bank in ((1, 1), (2, 1), (5, 2)):
        voted = index.find_local([bank], EXTRACTOR, local_features(key), 5)[0]
        assert (voted.entry, voted.key) == (key // 2, key)
    (stored,) = index.local_features([0], [1], EXTRACTOR)
    assert stored.key == 1
    np.testing.assert_array_equal(stored.features.descriptors, local_features(1).descriptors)


def snapshots(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.is_dir())


class TestSave:
    def test_what_is_saved_is_loaded(self, tmp_path: Path) -> None:
        path = save_snapshot(sample(), tmp_path / "index", CATALOG)
        assert path == tmp_path / "index" / "snapshot-00000000000000000003"
        index, problems = load_snapshot(tmp_path / "index", CATALOG, 3)
        assert problems == []
        assert index is not None
        assert_is_sample(index)

    def test_it_is_readable_for_its_owner_alone(self, tmp_path: Path) -> None:
        path = save_snapshot(sample(), tmp_path / "index", CATALOG)
        assert (tmp_path / "index").stat().st_mode & 0o077 == 0
        assert path.stat().st_mode & 0o077 == 0

    def test_an_empty_index_is_saved_and_loaded(self, tmp_path: Path) -> None:
        save_snapshot(IndexSet(), tmp_path, CATALOG)
        index, problems = load_snapshot(tmp_path, CATALOG, 0)
        assert (problems, index and index.revision) == ([], 0)

    def test_the_newest_two_are_kept(self, tmp_path: Path) -> None:
        index = IndexSet()
        for revision in (1, 2, 3, 10):
            index.apply([Change(one) for one in range(index.revision + 1, revision + 1)])
            save_snapshot(index, tmp_path, CATALOG)
        assert snapshots(tmp_path) == ["snapshot-00000000000000000003", "snapshot-00000000000000000010"]

    def test_those_of_a_later_time_go_when_the_catalogue_was_set_back(self, tmp_path: Path) -> None:
        for revision in (100, 101, 2, 3):
            save_snapshot(IndexSet(revision), tmp_path, CATALOG if revision < 10 else "f00")
        assert snapshots(tmp_path) == ["snapshot-00000000000000000002", "snapshot-00000000000000000003"]

    def test_strays_of_a_killed_saver_go(self, tmp_path: Path) -> None:
        (tmp_path / "snapshot-00000000000000000009.tmp-abc").mkdir()
        (tmp_path / "snapshot-00000000000000000009.tmp-abc" / "manifest.json").write_text("{")
        assert load_snapshot(tmp_path, CATALOG, 9) == (None, [])
        save_snapshot(sample(), tmp_path, CATALOG)
        assert snapshots(tmp_path) == ["snapshot-00000000000000000003"]

    def test_the_same_revision_is_not_written_again_unless_it_is_damaged(self, tmp_path: Path) -> None:
        path = save_snapshot(sample(), tmp_path, CATALOG)
        before = path.stat().st_ino
        assert save_snapshot(sample(), tmp_path, CATALOG).stat().st_ino == before
        (path / "manifest.json").write_text("{}")
        save_snapshot(sample(), tmp_path, CATALOG)
        index, problems = load_snapshot(tmp_path, CATALOG, 3)
        assert problems == []
        assert index is not None

    def test_a_full_disk_leaves_what_is_there(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        index = sample()
        save_snapshot(index, tmp_path, CATALOG)
        index.apply([Change(4)])

        def full(_: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            save_snapshot(index, tmp_path, CATALOG)
        assert snapshots(tmp_path) == ["snapshot-00000000000000000003"]
        loaded, problems = load_snapshot(tmp_path, CATALOG, 4)
        assert problems == []
        assert loaded is not None
        assert_is_sample(loaded)

    def test_a_directory_that_cannot_be_made_is_an_oserror(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(OSError, match="file"):
            save_snapshot(sample(), tmp_path / "file" / "index", CATALOG)


class Busy(IndexSet):
    """Changes come while it is copied: one before each part that is."""

    def __init__(self, catalog: LoggedCatalog) -> None:
        super().__init__()
        self._catalog = catalog

    def parts(self) -> Iterator[Part]:
        for part in super().parts():
            self.apply(self._catalog.changes(self.revision, limit=1))
            yield part


class TestBesideChanges:
    def test_a_snapshot_that_was_written_beside_changes_leads_to_the_catalogues_state(self, tmp_path: Path) -> None:
        vectors = unit_vectors(40)
        catalog = LoggedCatalog()
        hashes = [hash_row(key, pdq(key), bank=1 + key % 3) for key in range(40)]
        rows = [vector_row(key, vectors[key], bank=1 + key % 3, entry=key) for key in range(40)]
        features = [local_row(key, seed=key, bank=1 + key % 3) for key in range(8)]
        catalog.commit(Change(1, added_hashes=hashes[:20], added_vectors=rows[:20], added_locals=features[:5]))
        index = Busy(catalog)
        index.apply(catalog.log)
        catalog.commit(Change(2, removed_hashes=hashes[:4], removed_vectors=[without_vector(row) for row in rows[:4]]))
        catalog.commit(Change(3, added_hashes=hashes[20:], added_vectors=rows[20:], added_locals=features[5:]))
        catalog.commit(Change(4, removed_bank=3))
        catalog.commit(Change(5, added_hashes=hashes[:2], added_vectors=rows[:2], removed_locals=features[:1]))
        path = save_snapshot(index, tmp_path, catalog.id)
        manifest = json.loads((path / "manifest.json").read_text())
        assert manifest["revision"] == 1
        assert manifest["last_revision"] == 5
        opened, how, problems = open_index(tmp_path, catalog)
        assert (how, problems) == ("snapshot", [])
        oracle = catalog.rows()
        assert opened.revision == 5
        for row in hashes:
            assert opened.find_pdq([1, 2, 3], [row.value], 0) == oracle.find_pdq([1, 2, 3], [row.value], 0)
        for bank in (1, 2, 3):
            found = opened.find_vectors([bank], VectorSpace.COPY, MODEL, vectors[:1], 99)
            expected = oracle.find_vectors([bank], VectorSpace.COPY, MODEL, vectors[:1], 99)
            assert {hit.key for hit in found} == {hit.key for hit in expected}
            assert opened.local_count([bank]) == oracle.local_count([bank])
        # Its last change is ahead of a catalogue that was set back to its first.
        assert load_snapshot(tmp_path, catalog.id, 4)[0] is None

    def test_what_is_gone_before_it_is_copied_is_no_part(self) -> None:
        index = sample()
        parts = index.parts()
        first = next(parts)
        index.apply([Change(index.revision + 1, removed_bank=first.bank)])
        assert all(part.bank != first.bank for part in parts)


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :]


class TestDamage:
    @pytest.fixture
    def saved(self, tmp_path: Path) -> Path:
        return save_snapshot(sample(), tmp_path, CATALOG)

    def refused(self, path: Path) -> str:
        index, problems = load_snapshot(path.parent, CATALOG, 3)
        assert index is None
        (problem,) = problems
        assert problem.startswith(path.name)
        return problem

    def test_a_flipped_bit_anywhere_is_refused(self, saved: Path) -> None:
        generator = np.random.default_rng(11)
        files = sorted(saved.iterdir())
        assert {path.name for path in files} >= {"manifest.json", "manifest.json.sha256"}
        assert len(files) == 12
        for file in files:
            content = file.read_bytes()
            places = set(range(0, len(content), max(1, len(content) // 40))) | {len(content) - 1}
            places |= set(generator.integers(0, len(content), 20).tolist())
            for place in places:
                file.write_bytes(flipped(content, place))
                assert file.name in self.refused(saved)
            file.write_bytes(content)
        assert load_snapshot(saved.parent, CATALOG, 3)[0] is not None

    @pytest.mark.parametrize("cut", [lambda _: b"", lambda c: c[:1], lambda c: c[: len(c) // 2], lambda c: c[:-1]])
    def test_a_truncated_file_is_refused(self, saved: Path, cut: Callable[[bytes], bytes]) -> None:
        for file in sorted(saved.iterdir()):
            content = file.read_bytes()
            file.write_bytes(cut(content))
            assert file.name in self.refused(saved)
            file.write_bytes(content)

    def test_a_longer_file_is_refused(self, saved: Path) -> None:
        for file in sorted(saved.iterdir()):
            content = file.read_bytes()
            file.write_bytes(content + b"\0")
            assert file.name in self.refused(saved)
            file.write_bytes(content)

    def test_a_missing_file_is_refused(self, saved: Path) -> None:
        for file in sorted(saved.iterdir()):
            content = file.read_bytes()
            file.unlink()
            assert file.name in self.refused(saved)
            file.write_bytes(content)

    def test_the_older_one_is_taken_where_the_newer_is_damaged(self, tmp_path: Path) -> None:
        index = sample()
        save_snapshot(index, tmp_path, CATALOG)
        index.apply([Change(4, removed_bank=1)])
        newer = save_snapshot(index, tmp_path, CATALOG)
        (newer / "manifest.json").write_text("")
        loaded, problems = load_snapshot(tmp_path, CATALOG, 4)
        assert loaded is not None
        assert_is_sample(loaded)
        assert len(problems) == 1

    def test_another_catalogues_is_refused(self, saved: Path) -> None:
        assert load_snapshot(saved.parent, "f00", 3)[0] is None
        assert load_snapshot(saved.parent, "f00", 3)[1] == [f"{saved.name}: is of catalogue c0ffee, not f00"]

    def test_one_ahead_of_the_catalogue_is_refused(self, saved: Path) -> None:
        index, problems = load_snapshot(saved.parent, CATALOG, 2)
        assert index is None
        assert "set back" in problems[0]

    def test_no_directory_is_no_snapshot(self, tmp_path: Path) -> None:
        assert load_snapshot(tmp_path / "none", CATALOG, 3) == (None, [])


class TestFrozen:
    def test_a_snapshot_of_format_2_still_loads(self, tmp_path: Path) -> None:
        """Written by the first version that had local features; a new format gets a fixture of its own beside it."""
        shutil.copytree(FIXTURES / "index-snapshot-v2", tmp_path / "index")
        index, problems = load_snapshot(tmp_path / "index", CATALOG, 3)
        assert problems == []
        assert index is not None
        assert_is_sample(index)

    def test_one_of_another_vocabulary_is_written_again_so_that_words_are_found_once(self, tmp_path: Path) -> None:
        shutil.copytree(FIXTURES / "index-snapshot-v2", tmp_path / "index")
        index, _ = load_snapshot(tmp_path / "index", CATALOG, 3)
        assert index is not None
        fingerprint = load_vocabulary().fingerprint
        for _ in range(2):
            path = save_snapshot(index, tmp_path / "index", CATALOG)
            assert path.name == "snapshot-00000000000000000003"
            assert json.loads((path / "manifest.json").read_text())["vocabulary"] == fingerprint
            for local in path.glob("*-local.npz"):
                with np.load(local) as arrays:
                    assert arrays["vocabulary"].tobytes().hex() == fingerprint

    def test_a_snapshot_of_format_1_is_passed_over(self, tmp_path: Path) -> None:
        """It does not know the entries: the index is rebuilt from the catalogue."""
        shutil.copytree(FIXTURES / "index-snapshot-v1", tmp_path / "index")
        index, problems = load_snapshot(tmp_path / "index", CATALOG, 3)
        assert index is None
        assert problems == ["snapshot-00000000000000000003: has format 1, and 2 is read"]
        path = save_snapshot(sample(), tmp_path / "index", CATALOG)
        assert json.loads((path / "manifest.json").read_text())["format"] == 2

    def test_a_graph_is_saved_and_loaded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("imagewarden_server.index.bank.GRAPH_FROM", dict.fromkeys(VectorSpace, 2))
        index = sample()
        assert index.compact() == 1
        path = save_snapshot(index, tmp_path, CATALOG)
        with np.load(path / "000004-copy.npz") as arrays:
            assert {"graph", "removed", "vectors", "keys", "entries", "live"} <= set(arrays)
        monkeypatch.undo()
        loaded, problems = load_snapshot(tmp_path, CATALOG, 3)
        assert problems == []
        assert loaded is not None
        assert_is_sample(loaded)
        assert loaded._banks[1].vectors[VectorSpace.COPY, MODEL, 8].has_graph
