"""How far an exchange was pulled: what a kill leaves, and what a flipped byte does."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
from pathlib import Path

import pytest

from imagewarden_sync import files, status
from imagewarden_sync.errors import StateError
from imagewarden_sync.progress import Progress, Store, name_of
from imagewarden_sync.status import Counts, Status

SCOPE = {"kind": "tat", "bank": "terror"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "state" / "tat")


def test_what_is_saved_is_loaded(store: Store) -> None:
    assert store.load() is None
    progress = Progress(SCOPE, {"checkpoint": "17.5,3"}, whole=False)
    store.save(progress)
    assert store.load() == progress


def test_nobody_else_reads_it(store: Store) -> None:
    previous = os.umask(0)
    try:
        progress = Progress(SCOPE)
        store.save(dataclasses.replace(progress, seen=store.see(progress, ["a"])))
        with store.lock():
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in store.directory.iterdir()}
    finally:
        os.umask(previous)
    assert modes == {"checkpoint.json": 0o600, "seen": 0o600, "lock": 0o600}
    assert stat.S_IMODE(store.directory.stat().st_mode) == 0o700


def test_a_scratch_file_of_a_killed_run_is_in_nobodys_way(store: Store) -> None:
    (store.directory / "checkpoint.json.new").write_text("half of")
    store.save(Progress(SCOPE))
    assert store.load() == Progress(SCOPE)
    assert not (store.directory / "checkpoint.json.new").exists()


def test_a_link_in_the_place_of_the_scratch_file_is_not_followed(store: Store, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (store.directory / "checkpoint.json.new").symlink_to(victim)
    store.save(Progress(SCOPE))
    assert victim.read_text() == "precious"


def test_every_flipped_byte_is_noticed(store: Store) -> None:
    store.save(Progress(SCOPE, {"checkpoint": "17.5,3"}, seen=0))
    file = store.directory / "checkpoint.json"
    good = file.read_bytes()
    noticed = 0
    for place in range(len(good)):
        file.write_bytes(good[:place] + bytes([good[place] ^ 0x01]) + good[place + 1 :])
        try:
            found = store.load()
        except StateError:
            noticed += 1
        else:
            # Blanks between the words mean nothing.
            assert found == Progress(SCOPE, {"checkpoint": "17.5,3"}), place
    assert noticed > 0.8 * len(good)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"format": 1, "progress": {"x": 1}, "sha256": ""}'])
def test_what_is_no_checkpoint_says_what_to_do(store: Store, text: str) -> None:
    (store.directory / "checkpoint.json").write_text(text)
    with pytest.raises(StateError, match=r"move .*checkpoint.json away; then all is fetched again"):
        store.load()


def test_a_checkpoint_of_another_version(store: Store) -> None:
    store.save(Progress(SCOPE))
    file = store.directory / "checkpoint.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 2}))
    with pytest.raises(StateError, match="has format 2, and this version reads 1"):
        store.load()


def test_names_that_were_seen(store: Store) -> None:
    progress = Progress(SCOPE)
    progress = dataclasses.replace(progress, seen=store.see(progress, ["a", "b"]))
    progress = dataclasses.replace(progress, seen=store.see(progress, ["c"]))
    assert progress.seen == 3
    assert store.seen(progress) == {name_of(one) for one in "abc"}


def test_names_of_a_delta_that_was_not_acknowledged_are_not_seen(store: Store) -> None:
    """A kill after the names and before the checkpoint, half a name included; then another delta comes."""
    progress = Progress(SCOPE)
    progress = dataclasses.replace(progress, seen=store.see(progress, ["a", "b"]))
    store.see(progress, ["lost", "gone"])
    with (store.directory / "seen").open("ab") as file:
        file.write(b"half")
    assert store.seen(progress) == {name_of("a"), name_of("b")}
    after = dataclasses.replace(progress, seen=store.see(progress, ["c"]))
    assert store.seen(after) == {name_of(one) for one in "abc"}


def test_seen_names_that_are_missing_are_noticed(store: Store) -> None:
    progress = Progress(SCOPE)
    progress = dataclasses.replace(progress, seen=store.see(progress, ["a", "b"]))
    with (store.directory / "seen").open("r+b") as file:
        file.truncate(20)
    with pytest.raises(StateError, match="seen is damaged"):
        store.seen(progress)


def test_two_processes_do_not_pull_the_same(store: Store) -> None:
    with store.lock():
        with pytest.raises(StateError, match="another `imagewarden sync`") as raised, Store(store.directory).lock():
            pass
        assert raised.value.passing
    with store.lock():
        pass


def test_status_is_what_was_written(tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert status.read_all(state) == []
    for name in ("b", "a"):
        files.make_directory(state / name)
        known = Status(name, "tat", "terror", 60.0, "ok", last_success=1.0, counts=Counts(fetched=3))
        status.write(state / name, known)
    files.make_directory(state / "c")
    (state / "c" / "status.json").write_text('{"name": "c"}')  # no such file: as if it were not there
    assert [one.name for one in status.read_all(state)] == ["a", "b"]
    found = status.read(state / "a")
    assert found is not None
    assert found.counts.fetched == 3
    assert found.said()["last_success"] == "1970-01-01T00:00:01+00:00"
