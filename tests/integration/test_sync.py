"""`imagewarden sync` as a process, between exchanges that speak their own wire format and a real server."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.support.exchanges import Exchange, FbThreatExchange, Ncmec, StopNcii, Tat, served
from tests.support.processes import Server, start_server
from tests.support.syncing import Syncing, digits, entries, hashes, make_key

from imagewarden import BankKind, Client, Hash, SignalType
from imagewarden_sync.progress import Store

THEN = int(time.time()) - 30 * 86_400
HOUR = 3_600


@dataclasses.dataclass
class World:
    """All exchanges, each with a bank of its own, and what runs between."""

    ncmec: Ncmec
    stopncii: StopNcii
    tat: Tat
    fb: FbThreatExchange
    sync: Syncing
    client: Client

    @property
    def exchanges(self) -> dict[str, Exchange]:
        return {"ncmec": self.ncmec, "stopncii": self.stopncii, "tat": self.tat, "fb": self.fb}

    def bank(self, name: str) -> dict[str, set[tuple[str, str]]]:
        return hashes(entries(self.client, name))


@pytest.fixture
def world(server_without_model: Server, tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        ncmec, stopncii, tat, fb = Ncmec(), StopNcii(), Tat(), FbThreatExchange()
        for exchange in (ncmec, stopncii, tat, fb):
            stack.enter_context(served(exchange))
        client = stack.enter_context(Client(server_without_model.address))
        found = World(ncmec, stopncii, tat, fb, Syncing(server_without_model.address, tmp_path), client)
        found.sync.configure(**found.exchanges)
        for name in found.exchanges:
            client.create_bank(name, BankKind.BANNED)
        yield found
        for name in found.exchanges:
            client.delete_bank(name, force=True)


def fill(world: World, count: int) -> dict[str, dict[str, set[tuple[str, str]]]]:
    """Give each exchange as many hashes of pictures, and some of what is none; what each bank must have then."""
    expected: dict[str, dict[str, set[tuple[str, str]]]] = {name: {} for name in world.exchanges}
    for number in range(count):
        prints = {"md5": digits((number, "md5"), 32), "sha1": digits((number, "sha1"), 40), "pdna": "AAAA"}
        if number % 2:
            prints["pdq"] = digits((number, "pdq"))
        # Half of them of the same second: so many that one second has several pages.
        when = THEN + (0 if number % 2 else number * 60)
        world.ncmec.change(f"n{number}", when, prints=prints)
        compared = {(kind, text) for kind, text in prints.items() if kind != "pdna"}
        expected["ncmec"][f"42-n{number}"] = compared
        one = digits((number, "stopncii"))
        world.stopncii.change(one, THEN + number)
        expected["stopncii"][one] = {("pdq", one)}
        kind, length = (("PDQ", 64), ("MD5", 32), ("SHA256", 64))[number % 3]
        one = digits((number, "tat"), length)
        world.tat.change(number, THEN + number // 7 + 0.25, algorithm=kind, hash_digest=one, file_type="png")
        expected["tat"][str(number)] = {(kind.lower(), one)}
        one = digits((number, "fb"))
        world.fb.change(one, THEN + number // 60)
        expected["fb"][f"HASH_PDQ:{one}"] = {("pdq", one)}
    # What is of no picture.
    world.ncmec.change("film", THEN, kind="video", prints={"md5": digits("film", 32)})
    world.stopncii.change(digits("film", 32), THEN, signalType="VideoMD5")
    world.stopncii.change("https://page.example/", THEN, signalType="URL", caseNumbers=[])
    world.tat.change(90_000, THEN, algorithm="MD5", hash_digest=digits("film", 32), file_type="mp4")
    world.fb.change("0badc0de0badc0de.example", THEN, type_="DOMAIN")
    return expected


def settled(when: int) -> None:
    """Wait until NCMEC's fetcher, which leaves the last five seconds out, asks for that time."""
    time.sleep(max(0.0, when + 7 - time.time()))


def everything_is_there(world: World, expected: dict[str, dict[str, set[tuple[str, str]]]]) -> None:
    for name, wanted in expected.items():
        assert world.bank(name) == wanted, name


def test_all_that_an_exchange_has_comes_and_then_what_changes(world: World) -> None:
    expected = fill(world, 130)
    first = world.sync.once()
    assert first.code == 0, first.text
    everything_is_there(world, expected)
    assert first.counts("ncmec") == {"fetched": 131, "added": 130, "skipped": 1}
    assert first.counts("stopncii") == {"fetched": 132, "added": 130, "skipped": 2}
    assert first.counts("tat") == {"fetched": 131, "added": 130, "skipped": 1}
    assert first.counts("fb") == {"fetched": 131, "added": 130, "skipped": 1}
    for name, entry in (("ncmec", "42-n1"), ("tat", "1"), ("stopncii", digits((1, "stopncii")))):
        assert entries(world.client, name)[entry].source == name
    assert entries(world.client, "ncmec")["42-n1"].labels == ("A1",)
    asked = {name: len(exchange.asked) for name, exchange in world.exchanges.items()}

    again = world.sync.once()
    assert again.code == 0, again.text
    everything_is_there(world, expected)
    for name in world.exchanges:
        counts = again.counts(name)
        assert not counts.keys() & {"added", "updated", "removed", "absent", "refused"}, name
        # It went on where it was: no second fetch of all.
        assert len(world.exchanges[name].asked) - asked[name] <= 4, name

    now = int(time.time())
    new, other = digits("new"), digits("other")
    world.ncmec.change("n0", now, prints={"pdq": new})
    world.ncmec.change("n1", now, deleted=True)
    world.ncmec.change("fresh", now, prints={"pdq": other})
    world.stopncii.change(digits((0, "stopncii")), now, "Withdrawn")
    world.stopncii.change(digits((1, "stopncii")), now, "Deleted")
    feedback = {"source": "Acme", "feedbackValue": "Blocked", "tags": ["Nude", "Objectionable"]}
    world.stopncii.change(digits((2, "stopncii")), now, CSPFeedbacks=[feedback])
    world.stopncii.change(new, now, "Received")
    world.tat.change(0, now + 0.5, deleted=True)
    world.tat.change(500, now + 0.5, hash_digest=new)
    world.fb.change(digits((0, "fb")), now, should_delete=True)
    world.fb.change(digits((1, "fb")), now, status="NON_MALICIOUS")
    world.fb.change(new, now)
    expected["ncmec"] |= {"42-n0": {("pdq", new)}, "42-fresh": {("pdq", other)}}
    expected["stopncii"][new] = {("pdq", new)}
    expected["tat"]["500"] = {("pdq", new)}
    expected["fb"][f"HASH_PDQ:{new}"] = {("pdq", new)}
    del expected["ncmec"]["42-n1"], expected["tat"]["0"]
    for number in (0, 1):
        del expected["stopncii"][digits((number, "stopncii"))]
        del expected["fb"][f"HASH_PDQ:{digits((number, 'fb'))}"]
    settled(now)

    changed = world.sync.once()
    assert changed.code == 0, changed.text
    everything_is_there(world, expected)
    assert changed.counts("ncmec") == {"fetched": 3, "added": 1, "updated": 1, "removed": 1}
    counts = changed.counts("stopncii")
    assert (counts["added"], counts["updated"], counts["removed"]) == (1, 1, 2)
    assert entries(world.client, "stopncii")[digits((2, "stopncii"))].labels == ("Nude", "Objectionable")
    for name in ("tat", "fb"):
        assert changed.counts(name)["added"] == 1
    assert (changed.counts("tat")["removed"], changed.counts("fb")["removed"]) == (1, 2)


def test_what_a_team_added_itself_stays(world: World) -> None:
    """Of another source, or by the same hash: a tombstone takes away what the exchange brought."""
    one = digits("shared")
    world.client.add_hashes("tat", [Hash(SignalType.PDQ, one)])
    world.tat.change(7, THEN, hash_digest=one)
    assert world.sync.once("--only", "tat").counts("tat")["added"] == 1
    world.tat.change(7, THEN + 1, hash_digest=one, deleted=True)
    assert world.sync.once("--only", "tat").counts("tat") == {"fetched": 1, "removed": 1}
    kept = list(world.client.export_entries("tat"))
    assert [(record.source, record.hashes[0].hex) for record in kept] == [("", one)]


def test_broken_records_are_told_and_hold_up_no_others(world: World) -> None:
    good = digits("good")
    world.ncmec.change("short", THEN, prints={"md5": "abc"})
    world.ncmec.change("only-pdna", THEN, prints={"pdna": "AAAA"})
    world.ncmec.change("good", THEN, prints={"pdq": good})
    world.stopncii.change("not hexadecimal", THEN)
    world.stopncii.change(digits("odd"), THEN, caseNumbers={"1": "Frobnicated"})  # the package cannot read it at all
    world.stopncii.change(good, THEN)
    world.tat.change(1, THEN, hash_digest="zz" * 32)
    world.tat.change(2, THEN, hash_digest=good)
    world.fb.change("abcd", THEN)
    world.fb.change(good, THEN)
    first = world.sync.once()
    assert first.code == 0, first.text
    everything_is_there(
        world,
        {
            "ncmec": {"42-good": {("pdq", good)}},
            "stopncii": {good: {("pdq", good)}},
            "tat": {"2": {("pdq", good)}},
            "fb": {f"HASH_PDQ:{good}": {("pdq", good)}},
        },
    )
    told = {(line["exchange"], line.get("record")): line.get("reason") for line in first.events("refused")}
    assert told["ncmec", "42-short"] == "<md5>: it has 3 characters, and a md5 hash has 32 hexadecimal digits"
    assert "pdna cannot be compared" in told["ncmec", "42-only-pdna"]
    assert ("stopncii", "not hexadecimal") in told
    assert "not all of it is hexadecimal digits" in told["tat", "1"]
    assert ("fb", "HASH_PDQ:abcd") in told
    assert [line["records"] for line in first.events("unreadable")] == [1]
    assert [first.counts(name)["refused"] for name in world.exchanges] == [2, 2, 1, 1]
    # Of the record that the package cannot read, nothing stands in the log.
    assert digits("odd") not in first.text
    assert "Frobnicated" not in first.text


def test_an_exchange_that_fails_stops_no_other(world: World) -> None:
    expected = fill(world, 5)
    world.ncmec.fail(401, 1_000)
    world.stopncii.fail(503, 1_000)
    world.tat.fail(500, 1)  # of the POST, which the package does not ask again
    first = world.sync.once(TX_ACCESS_TOKEN="1234567890|wrong-wrong-wrong-wrong")  # noqa: S106 -- of the local server
    assert first.code == 2
    reasons = {name: one["error"] for name, one in first.answers.items()}
    assert "HTTP 401: it does not take the credentials" in reasons["ncmec"]
    assert "cannot answer now, and said so several times" in reasons["stopncii"]
    assert "HTTP 500: it cannot answer now" in reasons["tat"]
    assert "HTTP 400" in reasons["fb"]
    assert "wrong-wrong" not in first.text
    for name in world.exchanges:
        assert world.bank(name) == {}
        world.exchanges[name].heal()
    world.stopncii.fail(503, 2)  # heals within a fetch: the package asks again
    second = world.sync.once()
    assert second.code == 0, second.text
    everything_is_there(world, expected)


def test_only_what_passes_is_exit_code_4(world: World) -> None:
    world.tat.fail(503, 1)
    assert world.sync.once("--only", "tat").code == 4
    assert world.sync.once("--only", "tat").code == 0


def test_a_dry_run_changes_nothing(world: World) -> None:
    expected = fill(world, 60)
    dry = world.sync.once("--dry-run")
    assert dry.code == 0, dry.text
    assert dry.counts("tat") == {"fetched": 61, "added": 60, "skipped": 1}
    assert all(world.bank(name) == {} for name in expected)
    assert not list(world.sync.state.rglob("*.json"))
    assert world.sync.once().code == 0
    everything_is_there(world, expected)


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


def test_a_file_on_this_machine(world: World, tmp_path: Path) -> None:
    file = tmp_path / "hashes.txt"
    lines = [f"pdq {digits(number)}" for number in range(10)] + [f"md5 {digits('md5', 32)}", "video_md5 abc"]
    file.write_text("\n".join(lines))
    options = ("--kind", "local_file", "--name", "ours", "--bank", "tat", "--set", f"filename={file}")
    first = world.sync.of_options(*options)
    assert first.code == 0, first.text
    assert first.counts("ours") == {"fetched": 12, "added": 11, "refused": 1}
    file.write_text("\n".join(lines[3:]))
    second = world.sync.of_options(*options)
    assert second.counts("ours")["removed"] == 3
    assert len(world.bank("tat")) == 8
    file.unlink()
    third = world.sync.of_options(*options)
    assert third.code == 4
    assert "is not there" in third.answers["ours"]["error"]
    assert len(world.bank("tat")) == 8


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


def test_east_of_greenwich_ncmec_is_not_asked_for_the_future(world: World) -> None:
    """The package writes a zone's time as if it were UTC."""
    fill(world, 5)
    assert world.sync.once("--only", "ncmec", TZ="Asia/Tokyo").code == 0
    latest = max(asked.query["to"] for asked in world.ncmec.asked)
    assert latest <= time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    assert len(world.bank("ncmec")) == 5


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
        sync.configure(tat=tat)
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
