"""`imagewarden sync` as a process, between exchanges that speak their own wire format and a real server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.processes import Server
from tests.support.sync_world import THEN, World, everything_is_there, fill, settled, start_world
from tests.support.syncing import digits, entries

from imagewarden import Hash, SignalType


@pytest.fixture
def world(server_without_model: Server, tmp_path: Path) -> Iterator[World]:
    with start_world(server_without_model, tmp_path) as found:
        yield found


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
    told = {(line["exchange"], line.get("record")): line["reason"] for line in first.events("refused")}
    assert "<md5>: it has 3 characters" in told["ncmec", "42-short"]
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


def test_east_of_greenwich_ncmec_is_not_asked_for_the_future(world: World) -> None:
    """The package writes a zone's time as if it were UTC."""
    fill(world, 5)
    assert world.sync.once("--only", "ncmec", TZ="Asia/Tokyo").code == 0
    latest = max(asked.query["to"] for asked in world.ncmec.asked)
    assert latest <= time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    assert len(world.bank("ncmec")) == 5
