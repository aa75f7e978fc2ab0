from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.unit.index.rows import DIMENSIONS, MODEL, LoggedCatalog, hash_row, pdq, unit_vectors, vector_row

from imagewarden_server.index import IndexSet, NotUnitVector, open_index, save_snapshot
from imagewarden_server.matching.ports import Change, StoredHash
from imagewarden_server.matching.types import SignalType, VectorSpace


@pytest.fixture
def catalog() -> LoggedCatalog:
    vectors = unit_vectors(6)
    made = LoggedCatalog()
    for key in range(6):
        made.commit(
            Change(key + 1, added_hashes=[hash_row(key, pdq(key))], added_vectors=[vector_row(key, vectors[key])])
        )
    return made


def save(directory: Path, catalog: LoggedCatalog, revision: int, name: str | None = None) -> Path:
    index = IndexSet()
    index.apply(catalog.log[:revision])
    return save_snapshot(index, directory, name or catalog.id)


def assert_has_all(index: IndexSet, catalog: LoggedCatalog) -> None:
    assert index.revision == catalog.revision()
    rows = catalog.rows()
    for row in rows.hashes.values():
        assert [hit.key for hit in index.find_pdq([1], [row.value], 0)] == [row.key]
    for vector in rows.vectors.values():
        (hit,) = index.find_vectors([1], VectorSpace.COPY, MODEL, vector.vector[None], 1)
        assert hit.key == vector.key
    assert index.hash_count([1], SignalType.PDQ) == len(rows.hashes)
    assert index.vector_models([1], VectorSpace.COPY) == {(MODEL, DIMENSIONS): len(rows.vectors)}


@pytest.mark.parametrize("revision", [0, 3, 6])
def test_a_snapshot_and_the_changes_since(tmp_path: Path, catalog: LoggedCatalog, revision: int) -> None:
    save(tmp_path, catalog, revision)
    index, how, problems = open_index(tmp_path, catalog)
    assert (how, problems) == ("snapshot", [])
    assert_has_all(index, catalog)


def test_without_a_snapshot_it_is_rebuilt(tmp_path: Path, catalog: LoggedCatalog) -> None:
    index, how, problems = open_index(tmp_path / "none", catalog)
    assert (how, problems) == ("rebuilt", [])
    assert_has_all(index, catalog)


def test_a_foreign_snapshot_is_passed_over(tmp_path: Path, catalog: LoggedCatalog) -> None:
    save(tmp_path, catalog, 4, name="f00")
    index, how, problems = open_index(tmp_path, catalog)
    assert how == "rebuilt"
    assert "of catalogue f00" in problems[0]
    assert_has_all(index, catalog)


def test_a_snapshot_ahead_of_the_catalogue_is_passed_over(tmp_path: Path, catalog: LoggedCatalog) -> None:
    save(tmp_path, catalog, 6)
    del catalog.log[4:]
    index, how, problems = open_index(tmp_path, catalog)
    assert how == "rebuilt"
    assert "set back" in problems[0]
    assert_has_all(index, catalog)
    # The next snapshot is not pruned in favour of the one that is ahead.
    save_snapshot(index, tmp_path, catalog.id)
    assert open_index(tmp_path, catalog)[1] == "snapshot"


def test_a_snapshot_older_than_the_changes_that_are_kept_is_passed_over(tmp_path: Path, catalog: LoggedCatalog) -> None:
    save(tmp_path, catalog, 2)
    catalog.kept_from = 5
    index, how, problems = open_index(tmp_path, catalog)
    assert how == "rebuilt"
    assert "change 5 came, and 3 was expected" in problems[0]
    assert_has_all(index, catalog)


def test_damage_falls_back_to_the_older_snapshot(tmp_path: Path, catalog: LoggedCatalog) -> None:
    save(tmp_path, catalog, 2)
    newer = save(tmp_path, catalog, 5)
    graph = next(newer.glob("*-copy.npz"))
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 0xFF
    graph.write_bytes(content)
    index, how, problems = open_index(tmp_path, catalog)
    assert how == "snapshot"
    assert len(problems) == 1
    assert_has_all(index, catalog)


class Moving(LoggedCatalog):
    """Changes are committed while the rows are read."""

    def live_hashes(self) -> Iterator[list[StoredHash]]:
        batches = list(super().live_hashes())
        vectors = unit_vectors(8)
        self.commit(Change(7, added_hashes=[hash_row(7, pdq(7))], added_vectors=[vector_row(7, vectors[7])]))
        removed = [row for batch in batches for row in batch if row.key == 2]
        self.commit(Change(8, removed_hashes=removed, removed_vectors=[vector_row(2, vectors[2])]))
        return iter(batches)


def test_changes_while_the_rows_are_read_are_in_force_too(tmp_path: Path, catalog: LoggedCatalog) -> None:
    moving = Moving(log=catalog.log)
    index, how, _ = open_index(tmp_path, moving)
    assert how == "rebuilt"
    assert index.revision == 8
    assert_has_all(index, moving)


def test_more_changes_than_a_batch_has_are_all_applied(tmp_path: Path) -> None:
    catalog = LoggedCatalog()
    for key in range(600):
        catalog.commit(Change(key + 1, added_hashes=[hash_row(key, pdq(key))]))
    save(tmp_path, catalog, 1)
    index, how, _ = open_index(tmp_path, catalog)
    assert how == "snapshot"
    assert index.revision == 600
    assert index.hash_count([1], SignalType.PDQ) == 600


def test_a_catalogue_that_has_poison_is_not_opened(tmp_path: Path) -> None:
    catalog = LoggedCatalog()
    catalog.commit(Change(1, added_vectors=[vector_row(1, np.full(24, np.nan, np.float32))]))
    with pytest.raises(NotUnitVector):
        open_index(tmp_path, catalog)
