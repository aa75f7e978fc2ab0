"""Copies made while the server takes changes, put back after the catalogue is lost; and one server a state."""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.support.api import MATCH, PDQ, SHA256, Api
from tests.support.damage import Flip, contents
from tests.support.processes import launch_server, start_server

from imagewarden.v1 import bank_service_pb2 as banks_pb
from imagewarden_server.catalog import SqlCatalog
from imagewarden_server.matching.audit import AuditQuery


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "imagewarden", *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def ban(api: Api, data: bytes) -> None:
    api.add_hash("banks/abuse", SHA256, hashlib.sha256(data).hexdigest())


def test_a_copy_made_under_load_has_all_that_was_acknowledged_before_it_began(tmp_path: Path) -> None:
    state, copies = tmp_path / "state", tmp_path / "copies"
    nobody = f"unix:{tmp_path}/nobody.sock"
    server = launch_server(state, nobody, tmp_path)
    acknowledged: list[bytes] = []
    stop = threading.Event()
    with Api(server.address) as api, concurrent.futures.ThreadPoolExecutor(2) as callers:
        api.create_bank("abuse")

        def go_on(caller: int) -> None:
            number = 0
            while not stop.is_set():
                data = f"{caller}-{number}".encode()
                ban(api, data)
                acknowledged.append(data)
                number += 1

        futures = [callers.submit(go_on, caller) for caller in range(2)]
        while len(acknowledged) < 200:
            stop.wait(0.01)
        before = list(acknowledged)
        made = run("backup", str(copies), "--state-dir", str(state), "--json")
        assert made.returncode == 0, made.stderr
        during = len(acknowledged)
        stop.set()
        for future in futures:
            future.result()
    said = json.loads(made.stdout)
    assert during >= len(before)
    assert said["revision"] > len(before)
    (copy,) = copies.iterdir()
    assert said["path"] == str(copy)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    server.kill()
    # The disk loses the catalogue.
    damaged = bytearray((state / "catalog.sqlite3").read_bytes())
    damaged[4096 : 4096 * 5] = bytes(4096 * 4)
    (state / "catalog.sqlite3").write_bytes(damaged)
    with pytest.raises(RuntimeError, match=f"`imagewarden restore {copy} --state-dir {state}`"):
        launch_server(state, nobody, tmp_path)
    restored = run("restore", str(copies), "--state-dir", str(state), "--json")
    assert restored.returncode == 0, restored.stderr
    assert json.loads(restored.stdout)["verified"]
    aside = Path(json.loads(restored.stdout)["aside"])
    assert (aside / "catalog.sqlite3").stat().st_size >= len(damaged)
    with start_server(state, nobody, tmp_path) as server, Api(server.address) as api:
        assert all(api.check(data).verdict == MATCH for data in before)
        ban(api, b"and on")
        assert api.check(b"and on").verdict == MATCH
        assert not api.check(b"never banned").matches
    whole = run("--server", server.address, "audit", "verify")
    assert whole.returncode != 0, "it runs no more"


def test_a_snapshot_of_later_changes_is_not_believed_after_a_restore(tmp_path: Path) -> None:
    state, copies = tmp_path / "state", tmp_path / "copies"
    nobody = f"unix:{tmp_path}/nobody.sock"
    with start_server(state, nobody, tmp_path) as server, Api(server.address) as api:
        api.create_bank("abuse")
        ban(api, b"in the copy")
        assert run("backup", str(copies), "--state-dir", str(state)).returncode == 0
        ban(api, b"after it")
    assert run("restore", str(copies), "--state-dir", str(state)).returncode == 0
    for _ in range(2):
        with start_server(state, nobody, tmp_path) as server, Api(server.address) as api:
            assert api.check(b"in the copy").verdict == MATCH
            assert not api.check(b"after it").matches
            # The same number of changes as the lost snapshot had.
            ban(api, os.urandom(8))


def test_a_large_catalogue_is_copied_while_changes_come(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with start_server(state, f"unix:{tmp_path}/nobody.sock", tmp_path) as server, Api(server.address) as api:
        api.create_bank("abuse")
        many = [banks_pb.HashToAdd(type=PDQ, hex=os.urandom(32).hex()) for _ in range(10_000)]
        for begin in range(3):
            hashes = [*many[: 9_999 - begin], banks_pb.HashToAdd(type=PDQ, hex=os.urandom(32).hex())]
            api.banks.AddHashes(banks_pb.AddHashesRequest(bank="banks/abuse", hashes=hashes), timeout=60)
        for _ in range(4):
            more = [banks_pb.HashToAdd(type=PDQ, hex=os.urandom(32).hex()) for _ in range(10_000)]
            api.banks.AddHashes(banks_pb.AddHashesRequest(bank="banks/abuse", hashes=more), timeout=60)
        # What was written last may be in the log alone.
        assert sum((state / f"catalog.sqlite3{more}").stat().st_size for more in ("", "-wal")) > 10 * 2**20
        stop = threading.Event()

        def go_on() -> None:
            while not stop.is_set():
                ban(api, os.urandom(8))

        with concurrent.futures.ThreadPoolExecutor(1) as callers:
            changing = callers.submit(go_on)
            try:
                made = run("backup", str(tmp_path / "copies"), "--state-dir", str(state), "--json")
            finally:
                stop.set()
            changing.result()
        assert made.returncode == 0, made.stderr


def test_a_key_that_was_revoked_after_the_copy_is_not_good_again(tmp_path: Path) -> None:
    state, copies = str(tmp_path / "state"), str(tmp_path / "copies")
    made = run("key", "create", "x", "--role", "admin", "--state-dir", state, "--json")
    id_ = json.loads(made.stdout)["id"]
    assert run("backup", copies, "--state-dir", state).returncode == 0
    assert run("key", "revoke", id_, "--state-dir", state).returncode == 0
    restored = run("restore", copies, "--state-dir", state)
    assert restored.returncode == 0, restored.stderr
    assert json.loads(run("key", "list", "--json", "--state-dir", state).stdout)["state"] == "revoked"
    # Of a damaged one too, as far as it can be read.
    path = tmp_path / "state" / "catalog.sqlite3"
    Flip(path.name, path.read_bytes().index(b"audit events are never changed"), 0).do(path.parent)
    assert run("key", "list", "--state-dir", state).returncode == 2
    assert run("restore", copies, "--state-dir", state).returncode == 0
    assert json.loads(run("key", "list", "--json", "--state-dir", state).stdout)["state"] == "revoked"
    catalog = SqlCatalog.open(tmp_path / "state" / "catalog.sqlite3")
    found = [(one.actor, one.method) for one in catalog.audit.events(AuditQuery()).items]
    catalog.close()
    assert found[-2:] == [("command line", "RevokeKey"), ("command line", "Restore")]


def test_copies_of_another_catalogue_are_neither_deleted_nor_taken_for_the_newest(tmp_path: Path) -> None:
    copies = str(tmp_path / "copies")
    for name in ("one", "two"):
        with start_server(tmp_path / name, f"unix:{tmp_path}/nobody.sock", tmp_path):
            pass
        for _ in range(2):
            done = run("backup", copies, "--state-dir", str(tmp_path / name), "--keep", "1")
            assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "copies").iterdir())) == 2
    refused = run("restore", copies, "--state-dir", str(tmp_path / "one"))
    assert (refused.returncode, "copies of several catalogues" in refused.stderr) == (2, True)


def test_old_copies_are_deleted_where_so_many_are_kept(tmp_path: Path) -> None:
    state, copies = tmp_path / "state", tmp_path / "copies"
    with start_server(state, f"unix:{tmp_path}/nobody.sock", tmp_path):
        pass
    copies.mkdir()
    (copies / "notes.txt").write_text("not ours")
    names = []
    for _ in range(4):
        done = run("backup", str(copies), "--state-dir", str(state), "--keep", "2", "--json")
        names.append(Path(json.loads(done.stdout)["path"]).name)
    assert sorted(path.name for path in copies.iterdir()) == sorted([*names[-2:], "notes.txt"])


def test_a_copy_with_one_flipped_bit_is_not_restored_and_an_older_one_is(tmp_path: Path) -> None:
    state, copies = tmp_path / "state", tmp_path / "copies"
    with start_server(state, f"unix:{tmp_path}/nobody.sock", tmp_path) as server, Api(server.address) as api:
        api.create_bank("abuse")
        for number in range(2):
            ban(api, str(number).encode())
            assert run("backup", str(copies), "--state-dir", str(state)).returncode == 0
    older, newer = sorted(copies.iterdir())
    digest = hashlib.sha256(b"1").digest()
    Flip(newer.name, newer.read_bytes().index(digest) + 5, 2).do(copies)
    before = contents(state)
    refused = run("restore", str(copies), "--state-dir", str(state))
    assert refused.returncode == 2
    assert f"{newer} is damaged: by its name its SHA-256 begins with {newer.stem[-16:]}" in refused.stderr
    assert contents(state) == before
    assert run("restore", str(older), "--state-dir", str(state)).returncode == 0


def test_a_copy_without_a_digest_in_its_name_is_said_to_be_one_whose_structure_was_checked(tmp_path: Path) -> None:
    state, copies = tmp_path / "state", tmp_path / "copies"
    with start_server(state, f"unix:{tmp_path}/nobody.sock", tmp_path) as server, Api(server.address) as api:
        api.create_bank("abuse")
        ban(api, b"in the copy")
    assert run("backup", str(copies), "--state-dir", str(state)).returncode == 0
    (copy,) = copies.iterdir()
    renamed = copy.rename(tmp_path / "renamed.sqlite3")
    restored = run("restore", str(renamed), "--state-dir", str(state))
    assert restored.returncode == 0, restored.stderr
    assert "only its structure was checked" in restored.stderr
    with start_server(state, f"unix:{tmp_path}/nobody.sock", tmp_path) as server, Api(server.address) as api:
        assert api.check(b"in the copy").verdict == MATCH


def test_what_is_damaged_while_a_server_runs_is_not_copied(tmp_path: Path) -> None:
    state, copies = tmp_path / "state", tmp_path / "copies"
    with start_server(state, f"unix:{tmp_path}/nobody.sock", tmp_path) as server, Api(server.address) as api:
        api.create_bank("abuse")
        ban(api, b"kept")
    with start_server(state, f"unix:{tmp_path}/nobody.sock", tmp_path):
        catalogue = (state / "catalog.sqlite3").read_bytes()
        Flip("catalog.sqlite3", catalogue.index(hashlib.sha256(b"kept").digest()), 1).do(state)
        refused = run("backup", str(copies), "--state-dir", str(state))
    assert refused.returncode == 2
    assert "is damaged, and is not copied: page" in refused.stderr
    assert not list(copies.iterdir())


def test_without_a_copy_what_is_there_is_gone_on_with(tmp_path: Path) -> None:
    """The changes that are in the log alone too."""
    state, nobody = tmp_path / "state", f"unix:{tmp_path}/nobody.sock"
    server = launch_server(state, nobody, tmp_path)
    with Api(server.address) as api:
        api.create_bank("abuse")
        for number in range(3):
            ban(api, str(number).encode())
    server.kill()
    (state / "catalog.sqlite3-sums").unlink()
    with pytest.raises(RuntimeError, match=r"sqlite3-sums is missing") as caught:
        launch_server(state, nobody, tmp_path)
    path = state / "catalog.sqlite3"
    assert f"`imagewarden restore {path} --state-dir {state}`" in str(caught.value)
    restored = run("restore", str(path), "--state-dir", str(state), "--json")
    assert restored.returncode == 0, restored.stderr
    said = json.loads(restored.stdout)
    assert (said["revision"], said["verified"]) == (4, False)
    with start_server(state, nobody, tmp_path) as server, Api(server.address) as api:
        assert all(api.check(str(number).encode()).verdict == MATCH for number in range(3))


def test_what_is_no_copy_is_not_restored_and_changes_nothing(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with start_server(state, f"unix:{tmp_path}/nobody.sock", tmp_path) as server, Api(server.address) as api:
        api.create_bank("abuse")
        refused = run("restore", str(state / "catalog.sqlite3"), "--state-dir", str(state))
        assert refused.returncode == 2
        assert "another process uses" in refused.stderr
    before = (state / "catalog.sqlite3").read_bytes()
    (tmp_path / "empty").mkdir()
    (tmp_path / "junk").write_bytes(b"no database at all" * 1_000)
    (tmp_path / "cut").write_bytes(before[: len(before) // 2])
    for wrong in ("empty", "junk", "cut"):
        refused = run("restore", str(tmp_path / wrong), "--state-dir", str(state))
        assert refused.returncode == 2, wrong
        assert "Traceback" not in refused.stderr
    assert (state / "catalog.sqlite3").read_bytes() == before
    assert not list(state.glob("before-restore-*"))
    assert not list(state.glob(".*"))
    nothing = run("backup", str(tmp_path / "copies"), "--state-dir", str(tmp_path / "nowhere"))
    assert (nothing.returncode, "there is no catalogue" in nothing.stderr) == (2, True)


def test_a_state_is_of_one_server_at_a_time(tmp_path: Path) -> None:
    state, nobody = tmp_path / "state", f"unix:{tmp_path}/nobody.sock"
    first = launch_server(state, nobody, tmp_path)
    (tmp_path / "second").mkdir()
    with pytest.raises(RuntimeError, match="another process uses"):
        launch_server(state, nobody, tmp_path / "second")
    first.kill()
    launch_server(state, nobody, tmp_path).terminate()
