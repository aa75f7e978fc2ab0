"""A byte that changed in any file of the catalogue: it is refused, or nothing that was acknowledged is different."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import sqlite3
import stat
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.damage import (
    CATALOG,
    Dump,
    Flip,
    changed_elsewhere,
    contents,
    copied,
    dump,
    fill,
    flips,
    hashes,
    refused,
    survives,
    without_sums,
)

from imagewarden_server.catalog import CatalogError, SqlCatalog, guard
from imagewarden_server.catalog.sums import Sums, load, lock_page, page_sums, save
from imagewarden_server.matching.policy import default_policy
from imagewarden_server.matching.types import BankKind

FLIPS = 300
"""Of each state."""


@dataclass(frozen=True)
class States:
    """The same catalogue after a kill and after an orderly stop.

    Attributes:
        expected: what it has.
    """

    killed: Path
    stopped: Path
    expected: Dump


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> States:
    folder = tmp_path_factory.mktemp("states")
    with pytest.MonkeyPatch.context() as patch:
        # So that the log begins anew many times without being large.
        patch.setattr(guard, "_MOST_FRAMES", 60)
        catalog = SqlCatalog.open(folder / "stopped" / CATALOG)
        fill(catalog)
    catalog.add_hashes("abuse", hashes(900, 50))
    catalog.add_hashes("abuse", hashes(950, 3))
    copied(folder / "stopped", folder / "killed")
    catalog.close()
    return States(folder / "killed", folder / "stopped", dump(folder / "stopped" / CATALOG))


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def sums_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-sums")


class TestFlips:
    @pytest.mark.parametrize("how", ["killed", "stopped"])
    def test_every_flipped_bit_is_refused_or_changes_nothing(self, states: States, tmp_path: Path, how: str) -> None:
        state: Path = getattr(states, how)
        seen: Counter[tuple[str, bool]] = Counter()
        for flip in flips(state, FLIPS, seed=5):
            seen[flip.name, survives(state, flip, tmp_path / "state", states.expected)] += 1
        names = {CATALOG, f"{CATALOG}-sums"} | ({f"{CATALOG}-wal"} if how == "killed" else set())
        assert {name for name, _ in seen} == names
        assert all(seen[name, True] for name in names)
        # After an orderly stop no byte of the catalogue is without its sum.
        assert how == "killed" or not seen[CATALOG, False]

    def test_a_flipped_bit_of_what_is_stored_is_named_by_its_page(self, states: States, tmp_path: Path) -> None:
        """SQLite's own look at the structure finds nothing here."""
        path = copied(states.stopped, tmp_path / "state")
        digest = hashes(123, 1)[0].hashes[0].value
        offset = path.read_bytes().index(digest) + 7
        Flip(CATALOG, offset, 3).do(path.parent)
        with contextlib.closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA quick_check").fetchall() == [("ok",)]
        page = offset // 4096 + 1
        where = rf"page {page} of \d+ \(bytes [\d,]+ to [\d,]+\) is not what was written"
        with pytest.raises(CatalogError, match=where) as caught:
            SqlCatalog.open(path)
        as_it_is = f"`imagewarden restore {path} --state-dir {path.parent}`"
        assert f"`imagewarden restore COPY --state-dir {path.parent}`" in str(caught.value)
        assert as_it_is in str(caught.value)

    def test_a_state_that_was_not_changed_is_what_was_written(self, states: States, tmp_path: Path) -> None:
        for how in ("killed", "stopped"):
            path = copied(getattr(states, how), tmp_path / how)
            for _ in range(2):
                SqlCatalog.open(path).close()
                assert dump(path) == states.expected


class TestLog:
    def test_a_log_that_is_gone_is_seen(self, states: States, tmp_path: Path) -> None:
        path = copied(states.killed, tmp_path / "state")
        log_of(path).unlink()
        with pytest.raises(CatalogError, match=r"sqlite3-wal is not there or cannot be read, which"):
            SqlCatalog.open(path)

    def test_a_log_that_is_cut_off_is_seen(self, states: States, tmp_path: Path) -> None:
        size = log_of(states.killed / CATALOG).stat().st_size
        written = load(sums_of(states.killed / CATALOG)).sums.position.frames
        for number, at in enumerate((0, 31, 32, 32 + 4_120 * (written - 1), 32 + 4_120 * written - 1)):
            assert at < size
            path = copied(states.killed, tmp_path / str(number))
            os.truncate(log_of(path), at)
            assert refused(path.parent, contents(path.parent))

    def test_the_message_says_how_much_of_a_damaged_log_can_be_read(self, states: States, tmp_path: Path) -> None:
        path = copied(states.killed, tmp_path / "state")
        written = load(sums_of(path)).sums.position.frames
        Flip(f"{CATALOG}-wal", 32 + 4_120 * (written - 1) + 100, 0).do(path.parent)
        with pytest.raises(CatalogError, match=rf"changes are lost.*can be read to frame [\d,]+, and {written:,} were"):
            SqlCatalog.open(path)

    def test_a_change_whose_sums_were_not_written_yet_is_there(self, tmp_path: Path) -> None:
        """Killed between the two, or the power failed: nobody synchronises the sums of each change."""
        path = tmp_path / "state" / CATALOG
        catalog = SqlCatalog.open(path)
        fill(catalog)
        before = sums_of(path).read_bytes()
        catalog.add_hashes("abuse", hashes(2_000, 30))
        late = copied(path.parent, tmp_path / "late")
        torn = copied(path.parent, tmp_path / "torn")
        catalog.close()
        sums_of(torn).write_bytes(sums_of(late).read_bytes()[: len(before) + 50])
        sums_of(late).write_bytes(before)
        for one in (late, torn):
            for _ in range(2):
                SqlCatalog.open(one).close()
                assert dump(one) == dump(path)

    def test_a_log_that_another_program_moved_after_a_kill_lost_nothing(self, states: States, tmp_path: Path) -> None:
        path = copied(states.killed, tmp_path / "state")
        changed_elsewhere(path, "SELECT count(*) FROM entries")
        assert not log_of(path).exists()
        SqlCatalog.open(path).close()
        assert dump(path) == states.expected

    def test_a_change_by_another_program_is_seen(self, states: States, tmp_path: Path) -> None:
        path = copied(states.stopped, tmp_path / "state")
        changed_elsewhere(path, "UPDATE banks SET action = 1 WHERE id = 'abuse'")
        assert refused(path.parent, contents(path.parent))


class TestSums:
    def test_they_are_their_owners_alone(self, states: States) -> None:
        assert stat.S_IMODE(sums_of(states.stopped / CATALOG).stat().st_mode) == 0o600

    def test_lost_ones_are_missed(self, states: States, tmp_path: Path) -> None:
        for how in ("killed", "stopped"):
            path = copied(getattr(states, how), tmp_path / how)
            sums_of(path).unlink()
            with pytest.raises(CatalogError, match=r"sqlite3-sums is missing"):
                SqlCatalog.open(path)
            assert not sums_of(path).exists()

    def test_a_catalogue_of_before_there_were_sums_gets_them(self, states: States, tmp_path: Path) -> None:
        path = copied(states.stopped, tmp_path / "state")
        without_sums(path)
        SqlCatalog.open(path).close()
        assert dump(path) == states.expected
        sums_of(path).unlink()
        with pytest.raises(CatalogError, match=r"sqlite3-sums is missing"):
            SqlCatalog.open(path)

    def test_before_there_are_sums_an_index_that_differs_from_its_table_is_seen(
        self, states: States, tmp_path: Path
    ) -> None:
        path = copied(states.stopped, tmp_path / "state")
        without_sums(path)
        digest = hashes(123, 1)[0].hashes[0].value
        Flip(CATALOG, path.read_bytes().index(digest) + 7, 3).do(path.parent)
        assert refused(path.parent, contents(path.parent))

    def test_they_are_written_anew_when_they_have_grown_long(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(guard, "_MOST_FRAMES", 20)
        monkeypatch.setattr(guard, "_MOST_BYTES", 2_000)
        path = tmp_path / "state" / CATALOG
        catalog = SqlCatalog.open(path)
        sizes = []
        catalog.create_bank("abuse", BankKind.BANNED, policy=default_policy(BankKind.BANNED))
        for number in range(60):
            catalog.add_hashes("abuse", hashes(number * 10, 10))
            sizes.append(sums_of(path).stat().st_size)
        assert sum(after < before for before, after in itertools.pairwise(sizes)) > 2
        killed = copied(path.parent, tmp_path / "killed")
        catalog.close()
        SqlCatalog.open(killed).close()
        assert dump(killed) == dump(path)

    def test_a_disk_that_is_full_for_them_harms_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "state" / CATALOG
        catalog = SqlCatalog.open(path)
        fill(catalog)
        write = os.pwrite

        def full(descriptor: int, data: bytes, offset: int) -> int:
            return write(descriptor, data[:10], offset)

        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", full)
            with pytest.raises(OSError, match="the disk is full"):
                catalog.add_hashes("abuse", hashes(3_000, 5))
            stopped_so = copied(path.parent, tmp_path / "stopped-so")
            other = SqlCatalog.open(stopped_so)
            with pytest.raises(OSError, match="the disk is full"):
                other.add_hashes("abuse", hashes(4_000, 5))
            with pytest.raises(OSError, match="the disk is full"):
                other.close()
        # The change is committed, as its caller was not told; and there is room again.
        catalog.add_hashes("abuse", hashes(3_000, 10))
        catalog.close()
        for one in (path, stopped_so):
            SqlCatalog.open(one).close()
        assert [len(dump(one)["entries"]) for one in (path, stopped_so)] == [495, 495]

    def test_the_page_of_sqlites_locks_has_none(self, tmp_path: Path) -> None:
        assert lock_page(4_096) == 262_145
        sums = Sums(4_096)
        sums.resize(3)
        sums.known[1:] = [True, False, True]
        save(tmp_path / "sums", sums)
        assert load(tmp_path / "sums").sums.known.tolist() == [False, True, False, True]


class TestSeveral:
    def test_who_comes_second_changes_it_too(self, tmp_path: Path) -> None:
        """As `imagewarden key` does beside a server."""
        path = tmp_path / "state" / CATALOG
        first = SqlCatalog.open(path)
        fill(first)
        for number in range(5):
            second = SqlCatalog.open(path)
            second.add_hashes("abuse", hashes(5_000 + 10 * number, 10))
            second.close()
            first.add_hashes("abuse", hashes(6_000 + 10 * number, 10))
        killed = copied(path.parent, tmp_path / "killed")
        first.close()
        SqlCatalog.open(killed).close()
        assert dump(killed) == dump(path)
        loaded = load(sums_of(path)).sums
        assert not loaded.wrong(page_sums(path, loaded.page_size))

    def test_what_a_killed_process_left_half_written_is_read_on_by_the_other(self, tmp_path: Path) -> None:
        path = tmp_path / "state" / CATALOG
        first = SqlCatalog.open(path)
        fill(first)
        with sums_of(path).open("ab") as file:
            file.write(b"half a record")
        first.add_hashes("abuse", hashes(5_000, 10))
        killed = copied(path.parent, tmp_path / "killed")
        first.close()
        SqlCatalog.open(killed).close()
        assert dump(killed) == dump(path)

    def test_a_second_one_does_not_close_the_log_of_the_first(self, tmp_path: Path) -> None:
        path = tmp_path / "state" / CATALOG
        first, second = SqlCatalog.open(path), SqlCatalog.open(path)
        first.create_bank("abuse", BankKind.BANNED, policy=default_policy(BankKind.BANNED))
        second.close()
        assert log_of(path).stat().st_size
        first.close()
        assert not log_of(path).exists()
        shutil.rmtree(path.parent)
