"""Which files are taken for a catalogue: new ones appear whole, old ones are migrated, emptied ones are refused."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import stat
import threading
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine
from tests.support.damage import contents, without_sums

from imagewarden_server.catalog import CatalogError, SqlCatalog
from imagewarden_server.catalog.errors import DamagedFeatures
from imagewarden_server.catalog.tables import metadata
from imagewarden_server.matching.policy import default_policy
from imagewarden_server.matching.types import BankKind, HashSignal, NewEntry, SignalType, Threshold, VectorSpace

ID = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "catalog.sqlite3"


def filled(path: Path, count: int = 3) -> SqlCatalog:
    catalog = SqlCatalog.open(path)
    catalog.create_bank("abuse", BankKind.BANNED, policy=default_policy(BankKind.BANNED))
    hashes = [HashSignal(SignalType.SHA256, number.to_bytes(32, "big")) for number in range(count)]
    catalog.add_hashes("abuse", [NewEntry(hashes=(one,)) for one in hashes])
    return catalog


def copied_as_after_a_kill(catalog: SqlCatalog, path: Path, to: Path) -> Path:
    """The files as they are while the catalogue is open: its last changes stand in the -wal."""
    to.mkdir()
    for file in path.parent.iterdir():
        shutil.copy(file, to / file.name)
    catalog.close()
    return to / path.name


def files(path: Path) -> list[str]:
    return sorted(file.name for file in path.parent.iterdir())


class TestNew:
    def test_it_appears_whole_and_alone(self, path: Path) -> None:
        SqlCatalog.open(path).close()
        assert files(path) == [path.name, f"{path.name}-lock", f"{path.name}-sums"]
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with sqlite3.connect(path) as connection:
            assert connection.execute("SELECT count(*) FROM catalog_meta WHERE name = 'id'").fetchone() == (1,)

    def test_what_a_killed_start_left_is_no_catalogue(self, path: Path) -> None:
        path.parent.mkdir()
        for suffix in ("", "-wal", "-shm"):
            (path.parent / f"{path.name}.new-77{suffix}").write_bytes(b"half")
        SqlCatalog.open(path).close()
        assert files(path) == [path.name, f"{path.name}-lock", f"{path.name}-sums"]

    def test_several_at_once_are_one(self, path: Path) -> None:
        opened: list[SqlCatalog] = []
        threads = [threading.Thread(target=lambda: opened.append(SqlCatalog.open(path))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({catalog.id for catalog in opened}) == 1
        assert len(opened) == 4
        for catalog in opened:
            catalog.close()


class TestLost:
    def refused(self, path: Path, says: str) -> None:
        before = contents(path.parent)
        with pytest.raises(CatalogError, match=says) as caught:
            SqlCatalog.open(path)
        assert str(path) in str(caught.value)
        assert contents(path.parent) == before

    def test_an_emptied_file_is_refused(self, path: Path) -> None:
        filled(path).close()
        os.truncate(path, 0)
        self.refused(path, r"empty \(0 bytes\).*restore")

    def test_an_emptied_file_is_refused_with_its_wal_too(self, path: Path, tmp_path: Path) -> None:
        copy = copied_as_after_a_kill(filled(path), path, tmp_path / "copy")
        assert copy.with_name(f"{copy.name}-wal").stat().st_size
        os.truncate(copy, 0)
        self.refused(copy, r"empty \(0 bytes\)")

    @pytest.mark.parametrize("left", [["-wal"], ["-wal", "-shm"], ["-shm"], ["-sums"]])
    def test_what_belongs_to_a_file_that_is_gone_is_refused(self, path: Path, tmp_path: Path, left: list[str]) -> None:
        copy = copied_as_after_a_kill(filled(path), path, tmp_path / "copy")
        for file in copy.parent.iterdir():
            if not any(file.name == copy.name + suffix for suffix in left):
                file.unlink()
        self.refused(copy, "without the catalogue it belongs to.*move the -(wal|shm|sums) away")
        assert not copy.exists()

    def test_all_together_are_what_was_committed(self, path: Path, tmp_path: Path) -> None:
        copy = copied_as_after_a_kill(filled(path), path, tmp_path / "copy")
        catalog = SqlCatalog.open(copy)
        assert catalog.revision() == 2
        catalog.close()

    def test_a_database_without_a_schema_is_refused(self, path: Path) -> None:
        path.parent.mkdir()
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("CREATE TABLE other (x)")
        self.refused(path, "has no schema")

    def test_a_newer_schema_is_refused(self, path: Path) -> None:
        SqlCatalog.open(path).close()
        without_sums(path, "UPDATE alembic_version SET version_num = '9999'")
        self.refused(path, "newer one; upgrade")

    @pytest.mark.parametrize("damage", ["junk", "header", "pages"])
    def test_a_damaged_file_is_refused_by_name(self, path: Path, damage: str) -> None:
        filled(path, 500).close()
        raw = bytearray(path.read_bytes())
        if damage == "junk":
            raw = bytearray(os.urandom(len(raw)))
        elif damage == "header":
            raw[:16] = bytes(16)
        else:
            raw[8_192:20_480] = bytes(12_288)
        path.write_bytes(raw)
        self.refused(path, "restore")


def empty_schema(path: Path, revision: str) -> None:
    """A catalogue of an older version, without anything in it."""
    path.parent.mkdir()
    config = Config()
    config.set_main_option("script_location", "imagewarden_server.catalog:migrations")
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


def first_schema(path: Path) -> None:
    """A catalogue as the first version left it: an entry that is live, one that was disabled, and the change of it."""
    empty_schema(path, "0001")
    detail = {
        "hashes_out": [[2, 1, "pdq", "22" * 32]],
        "vectors_out": [[2, 1, "copy", "model"]],
    }
    with sqlite3.connect(path) as database:
        database.execute("UPDATE catalog_meta SET value = ?", (ID,))
        database.execute("INSERT INTO banks VALUES (1, 'abuse', 'banned', '', 4, '{}', 1, '{}', 0, 2, 5, 5)")
        for key, state in ((1, "active"), (2, "disabled")):
            entry = (key, f"e{key}", 1, "", "[]", "{}", "", "", state, None, None, None, 5, 5)
            database.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", entry)
            database.execute("INSERT INTO hashes VALUES (?, ?, 1, 'pdq', ?, 90)", (key, key, bytes([0x11 * key]) * 32))
            vector = bytes.fromhex("0000803f" + "00000000" * 3)
            database.execute(
                "INSERT INTO vectors VALUES (?, ?, 1, 'embedding', 'copy', 'model', ?)", (key, key, vector)
            )
        for revision, kind, what in ((1, "create_bank", {}), (2, "add", {"in": [1, 2]}), (3, "update_entry", detail)):
            database.execute("INSERT INTO changes VALUES (?, ?, 5, ?)", (revision, kind, json.dumps(what)))


class TestMigrated:
    def test_a_catalogue_of_the_first_schema_keeps_all_it_had(self, path: Path) -> None:
        first_schema(path)
        catalog = SqlCatalog.open(path)
        assert (catalog.id, catalog.revision()) == (ID, 3)
        ((vector,),) = catalog.live_vectors()
        assert (vector.key, vector.entry, vector.mean, vector.deviation) == (1, 1, 0.0, 1.0)
        assert vector.vector.tolist() == [1.0, 0.0, 0.0, 0.0]
        ((row,),) = catalog.live_hashes()
        assert (row.key, row.entry) == (1, 1)
        assert not list(catalog.live_locals())
        (_, _, disabled) = catalog.changes(0)
        assert [(row.key, row.value) for row in disabled.removed_hashes] == [(2, b"\x22" * 32)]
        assert [(row.key, row.space, row.model) for row in disabled.removed_vectors] == [(2, VectorSpace.COPY, "model")]
        assert disabled.removed_locals == []
        with sqlite3.connect(path) as database:
            indexes = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'index'")}
        assert {"entries_by_key", "local_features_by_entry"} <= indexes
        catalog.close()

    def test_a_brand_bank_of_the_first_schema_begins_again_with_the_default_for_logos(self, path: Path) -> None:
        first_schema(path)
        thresholds = json.dumps({"embedding": [0.65, False], "pdq": [20, False]})
        with sqlite3.connect(path) as database:
            database.execute("UPDATE banks SET kind = 'brand', thresholds = ?", (thresholds,))
        catalog = SqlCatalog.open(path)
        policy = catalog.get_bank("abuse").policy
        assert policy.thresholds[SignalType.PDQ] == Threshold(20)
        default = default_policy(BankKind.BRAND)
        assert policy.thresholds[SignalType.EMBEDDING] == default.thresholds[SignalType.EMBEDDING]
        assert policy.thresholds[SignalType.COMBINED] == default.thresholds[SignalType.COMBINED]
        catalog.close()

    def test_a_bank_of_pictures_of_the_first_schema_begins_again_with_the_default_too(self, path: Path) -> None:
        """What was a cosine similarity is now how much more alike a picture is than ordinary ones are."""
        first_schema(path)
        with sqlite3.connect(path) as database:
            database.execute("UPDATE banks SET thresholds = ?", (json.dumps({"embedding": [0.7, False]}),))
        catalog = SqlCatalog.open(path)
        default = default_policy(BankKind.BANNED).thresholds[SignalType.EMBEDDING]
        assert catalog.get_bank("abuse").policy.thresholds[SignalType.EMBEDDING] == default
        catalog.close()

    def test_what_was_forgiven_is_no_more_than_the_pictures_that_were_reported(self, path: Path) -> None:
        """It was counted in reports: of the first entry three people's of one picture, of the second three pictures."""
        empty_schema(path, "0005")
        with sqlite3.connect(path) as database:
            database.execute("UPDATE catalog_meta SET value = ?", (ID,))
            database.execute(
                "INSERT INTO banks (key, id, kind, display_name, action, thresholds, enabled, labels, keep_images, "
                "create_time, update_time) VALUES (1, 'abuse', 'banned', '', 4, '{}', 1, '{}', 0, 5, 5)"
            )
            for key, forgiven in ((1, 3), (2, 2), (3, 0)):
                database.execute(
                    "INSERT INTO entries (key, id, bank_key, external_id, labels, metadata, source, brand, state, "
                    "create_time, update_time, forgiven) VALUES (?, ?, 1, '', '[]', '{}', '', '', 'active', 5, 5, ?)",
                    (key, f"e{key}", forgiven),
                )
                for number, who in enumerate(("anna", "ben", "cleo")):
                    picture = bytes([0 if key == 1 else number]) * 32
                    database.execute(
                        "INSERT INTO match_reports (entry_key, bank_key, sha256, reporter, opinion, note, time) "
                        "VALUES (?, 1, ?, ?, 'false_positive', '', 5)",
                        (key, picture, who),
                    )
        catalog = SqlCatalog.open(path)
        found = {entry.id: entry for entry in catalog.list_entries("abuse").items}
        assert {name: entry.forgiven for name, entry in found.items()} == {"e1": 1, "e2": 2, "e3": 0}
        assert {name: entry.feedback.false_positives for name, entry in found.items()} == {"e1": 1, "e2": 3, "e3": 3}
        catalog.close()

    @pytest.mark.parametrize("old", [True, False])
    def test_the_schema_is_what_the_tables_say(self, path: Path, *, old: bool) -> None:
        if old:
            first_schema(path)
        SqlCatalog.open(path).close()
        engine = create_engine(f"sqlite:///{path}")
        with engine.connect() as connection:
            assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        engine.dispose()

    def test_a_damaged_row_of_local_features_is_named(self, path: Path) -> None:
        filled(path).close()
        without_sums(path, "INSERT INTO local_features VALUES (7, 2, 1, 'sift-1', 1, x'1234')")
        catalog = SqlCatalog.open(path)
        with pytest.raises(DamagedFeatures, match=r"row 7 of local_features.*entry of key 2"):
            list(catalog.live_locals())
        catalog.close()
