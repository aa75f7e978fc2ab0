"""`imagewarden sync` over time: what is gone goes, damage and other settings are noticed, keys, and what it tells."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.exchanges import Tat, served
from tests.support.processes import Server, start_server
from tests.support.sync_world import THEN, World, everything_is_there, fill, start_world
from tests.support.syncing import Syncing, digits, make_key

from imagewarden import BankKind, Client
from imagewarden_sync.progress import Store


@pytest.fixture
def world(server_without_model: Server, tmp_path: Path) -> Iterator[World]:
    with start_world(server_without_model, tmp_path) as found:
        yield found


def make_stale(world: World, name: str) -> None:
    """As if the exchange had not been asked for 200 days."""
    store = Store(world.sync.state / name)
    progress = store.load()
    assert progress is not None
    assert progress.checkpoint is not None
    long_ago = dict(progress.checkpoint) | {"last_fetch_time": int(time.time()) - 200 * 86_400}
    store.save(dataclasses.replace(progress, checkpoint=long_ago))


@pytest.mark.parametrize("name", ["stopncii", "fb"])
def test_after_a_long_time_all_is_fetched_and_what_is_gone_goes(world: World, name: str) -> None:
    expected = fill(world, 100)
    assert world.sync.once("--only", name).code == 0
    # The exchange forgets records, and the tombstones of them.
    records: dict[str, Any] = world.stopncii.records if name == "stopncii" else world.fb.updates
    for number in range(40):
        del records[digits((number, name))]
        del expected[name][digits((number, name)) if name == "stopncii" else f"HASH_PDQ:{digits((number, name))}"]
    make_stale(world, name)
    again = world.sync.once("--only", name)
    assert again.code == 0, again.text
    assert again.counts(name)["removed"] == 40
    everything_is_there(world, {name: expected[name]})
    assert not (world.sync.state / name / "seen").exists()


def test_more_than_half_goes_by_force_alone(world: World) -> None:
    expected = fill(world, 100)
    assert world.sync.once("--only", "tat").code == 0
    for number in range(60):
        del world.tat.entries[number]
    refused = world.sync.once("--only", "tat", "--full")
    assert refused.code == 2
    assert "no longer has 60 of the 100 entries" in refused.answers["tat"]["error"]
    everything_is_there(world, {"tat": expected["tat"]})
    # It is not forgotten, and what is new comes nevertheless.
    new = digits("new")
    world.tat.change(500, time.time(), hash_digest=new)
    assert world.sync.once("--only", "tat").code == 2
    expected["tat"]["500"] = {("pdq", new)}
    everything_is_there(world, {"tat": expected["tat"]})
    forced = world.sync.once("--only", "tat", "--force")
    assert forced.code == 0, forced.text
    assert forced.counts("tat")["removed"] == 60
    everything_is_there(world, {"tat": {key: one for key, one in expected["tat"].items() if int(key) >= 60}})
    assert world.sync.once("--only", "tat").counts("tat") == {}


def test_nothing_goes_where_a_record_could_not_be_read(world: World) -> None:
    expected = fill(world, 20)
    assert world.sync.once("--only", "stopncii").code == 0
    del world.stopncii.records[digits((0, "stopncii"))]
    world.stopncii.change(digits((1, "stopncii")), THEN + 1, caseNumbers={"1": "Frobnicated"})
    again = world.sync.once("--only", "stopncii", "--full")
    assert again.code == 0, again.text
    assert "1 records could not be read" in again.events("kept")[0]["why"]
    everything_is_there(world, {"stopncii": expected["stopncii"]})


def test_a_damaged_checkpoint_is_refused(world: World) -> None:
    expected = fill(world, 5)
    assert world.sync.once("--only", "tat").code == 0
    file = world.sync.state / "tat" / "checkpoint.json"
    text = file.read_text()
    file.write_text(text.replace(str(THEN), str(THEN + 99)))
    assert file.read_text() != text
    refused = world.sync.once("--only", "tat")
    assert refused.code == 2
    assert f"move {file} away" in refused.answers["tat"]["error"]
    file.rename(file.with_suffix(".away"))
    again = world.sync.once("--only", "tat")
    assert again.code == 0, again.text
    assert again.counts("tat") == {"fetched": 6, "unchanged": 5, "skipped": 1}
    everything_is_there(world, {"tat": expected["tat"]})


def test_another_bank_or_kind_of_bank(world: World) -> None:
    fill(world, 5)
    world.client.create_bank("brands", BankKind.BRAND)
    file = world.sync.folder / "sync.toml"
    good = file.read_text()
    file.write_text(good.replace('bank = "tat"', 'bank = "brands"'))
    refused = world.sync.once("--only", "tat")
    assert refused.code == 2
    assert "is of kind brand" in refused.answers["tat"]["error"]
    file.write_text(good.replace('bank = "tat"', 'bank = "nowhere"'))
    missing = world.sync.once("--only", "tat")
    assert missing.code == 2
    assert "make the bank first" in missing.answers["tat"]["error"]
    file.write_text(good)
    assert world.sync.once("--only", "tat").counts("tat")["added"] == 5
    # Into another bank all goes anew.
    file.write_text(good.replace('bank = "tat"', 'bank = "fb"'))
    assert world.sync.once("--only", "tat").counts("tat")["added"] == 5
    world.client.delete_bank("brands")


def test_only_some_providers(world: World) -> None:
    world.ncmec.change("ours", THEN, member=42, prints={"pdq": digits("ours")})
    world.ncmec.change("theirs", THEN, member=43, prints={"pdq": digits("theirs")})
    file = world.sync.folder / "sync.toml"
    good = file.read_text()
    assert world.sync.once("--only", "ncmec").code == 0
    assert set(world.bank("ncmec")) == {"42-ours", "43-theirs"}
    # Other settings: all is fetched anew, and what is not asked for any more goes.
    file.write_text(good.replace('environment = "Industry"', 'environment = "Industry"\nonly_esp_ids = [42]'))
    fewer = world.sync.once("--only", "ncmec")
    assert fewer.counts("ncmec") == {"fetched": 2, "unchanged": 1, "skipped": 1, "removed": 1}
    assert set(world.bank("ncmec")) == {"42-ours"}


def test_a_server_that_asks_for_keys(tmp_path: Path) -> None:
    """The key is one of the options before `sync`, as of each command; no exchange is pulled without one."""
    state = tmp_path / "state"
    admin, moderator, checker = (make_key(state, role) for role in ("admin", "moderator", "checker"))
    keys = {"IMAGEWARDEN_REQUIRE_KEYS": "true"}
    with start_server(state, f"unix:{tmp_path}/nobody.sock", tmp_path, keys) as server, served(Tat()) as tat:
        with Client(server.address, key=admin) as client:
            client.create_bank("tat", BankKind.BANNED)
        tat.change(1, THEN, hash_digest=digits(1))
        sync = Syncing(server.address, tmp_path)
        sync.configure({"tat": tat})
        nobody = sync.once()
        assert nobody.code == 2
        assert "show a good key" in nobody.answers["tat"]["error"]
        wrong = sync.once(IMAGEWARDEN_KEY=checker)
        assert wrong.code == 2
        assert "show a key of a moderator" in wrong.answers["tat"]["error"]
        assert not tat.asked
        file = tmp_path / "key"
        file.write_text(moderator)
        good = sync.once(IMAGEWARDEN_KEY_FILE=str(file))
        assert good.code == 0, good.text
        assert good.counts("tat")["added"] == 1
        for key in (moderator, checker):
            assert key not in good.text + wrong.text


def test_wrong_use(world: World) -> None:
    for options in ((), ("--config", "x.toml", "--kind", "tat"), ("--kind", "tat"), ("--kind", "tat", "--set", "x")):
        ran = world.sync.of_options(*options)
        assert ran.code == 2, options
    file = world.sync.folder / "sync.toml"
    file.write_text(file.read_text().replace('bank = "tat"', 'bank = "tat"\npassword = "hunter2"'))
    process = world.sync.begin("--once")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "never here" in err
    assert "hunter2" not in err


def test_status(world: World) -> None:
    fill(world, 5)
    code, _ = world.sync.status()
    assert code == 1
    world.ncmec.fail(401, 1_000)
    world.sync.once()
    code, found = world.sync.status()
    assert code == 1
    assert {name: one["state"] for name, one in found.items()} == {
        "ncmec": "failing",
        "stopncii": "ok",
        "tat": "ok",
        "fb": "ok",
    }
    assert found["tat"]["lag_seconds"] < 60
    assert found["tat"]["up_to"].startswith(time.strftime("%Y-%m-%d", time.gmtime(THEN)))
    assert found["ncmec"]["failures"] == 1
    world.ncmec.heal()
    world.sync.once()
    code, found = world.sync.status()
    assert code == 0
    assert json.dumps(found).count("failing") == 0
