"""What people steer, over gRPC: a part of the pictures, reports, quarantine."""

from __future__ import annotations

import asyncio
import hashlib
import json
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.api import ALLOWED, MATCH, NO_MATCH, SHA256, Api
from tests.support.errors import fails
from tests.support.http import metrics, value
from tests.support.pictures import encoded, opened
from tests.support.processes import Server

import imagewarden as iw
from imagewarden import cli
from imagewarden.v1 import bank_service_pb2 as banks_pb
from imagewarden.v1 import moderation_service_pb2 as pb
from imagewarden.v1 import types_pb2 as types
from imagewarden_server.app import App
from imagewarden_server.matching import flood
from imagewarden_server.matching.rollout import takes
from imagewarden_server.settings import load_settings

Run = Callable[..., tuple[int, str]]
NAMES = iter(range(1_000))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def banned(client: iw.Client, data: bytes, false_positives: int | None = None) -> tuple[str, str]:
    """A bank of its own with one banned file: the bank's name and the entry's."""
    bank = f"steered-{next(NAMES)}"
    client.create_bank(bank, "banned", policy=iw.Policy(quarantine_false_positives=false_positives))
    added = client.add_hashes(bank, [iw.Hash(iw.SignalType.SHA256, sha256(data))])
    return bank, added.results[0].entry


@pytest.fixture
def run(server_without_model: Server, capsys: pytest.CaptureFixture[str]) -> Run:
    """A command line of this process against a real server: its exit code and what it printed."""

    def command(*arguments: str | Path) -> tuple[int, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.run(["--server", server_without_model.address, *map(str, arguments)])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return int(ended.value.code or 0), out + err

    return command


def set_ratio(api: Api, bank: str, ratio: float) -> types.Bank:
    request = banks_pb.UpdateBankRequest(bank=types.Bank(name=bank, policy=types.Policy(enabled_ratio=ratio)))
    request.update_mask.paths.append("policy.enabled_ratio")
    return api.banks.UpdateBank(request, timeout=30).bank


# -------------------------------------------------------------------------------------------- a part of the pictures


@pytest.mark.model
def test_a_ratio_holds_for_likenesses_and_for_pictures_that_were_seen_before(
    server: Server, photographs: dict[str, bytes]
) -> None:
    """Twelve copies in files of their own: the ones that are in the part match, and no other, each time they come."""
    picture = opened(photographs["dust-bowl-home"])
    copies = [encoded(picture.resize((640, 480)), quality=quality) for quality in range(60, 84, 2)]
    with Api(server.address) as api:
        bank = api.create_bank("abuse", policy=types.Policy(enabled_ratio=0.5))
        api.add_image(bank, photographs["dust-bowl-home"])
        for ratio in (0.5, 0.9, 0.0, 1.0):
            assert set_ratio(api, bank, ratio).policy.enabled_ratio == ratio
            part = [takes(bank, ratio, hashlib.sha256(copy).digest()) for copy in copies]
            for _ in range(2):
                assert [api.check(copy).verdict == MATCH for copy in copies] == part
            assert {api.check(copy).verdict for copy in copies} <= {MATCH, NO_MATCH}, "left out is not undecided"


def test_a_ratio_is_said_by_both_clients_and_refused_where_it_is_none(server_without_model: Server) -> None:
    with iw.Client(server_without_model.address) as client, Api(server_without_model.address) as api:
        made = client.create_bank("ratios", "banned", policy=iw.Policy(enabled_ratio=0.125)).bank
        assert made.policy.enabled_ratio == 0.125
        changed = client.update_bank("ratios", action="review").bank
        assert (changed.policy.action, changed.policy.enabled_ratio) == ("review", 0.125), "what is not named stays"
        changed = client.update_bank("ratios", enabled_ratio=0.0).bank
        assert (changed.policy.action, changed.policy.enabled_ratio) == ("review", 0.0)
        for wrong in (-0.1, 1.5, float("nan"), float("inf")):
            with fails() as failure:
                set_ratio(api, "banks/ratios", wrong)
            assert failure.metadata == {"field": "bank.policy.enabled_ratio"}
        assert client.get_bank("ratios").policy.enabled_ratio == 0.0
        whole = banks_pb.UpdateBankRequest(bank=types.Bank(name="banks/ratios"))
        whole.update_mask.paths.append("policy")
        assert api.banks.UpdateBank(whole).bank.policy.enabled_ratio == 1.0, "a policy that does not say: all pictures"
        client.delete_bank("ratios")


def test_an_allowed_bank_that_leaves_a_picture_out_does_not_clear_it(server_without_model: Server) -> None:
    data = b"a file that is banned and allowed"
    digest = hashlib.sha256(data).hexdigest()
    with Api(server_without_model.address) as api:
        banned, allowed = api.create_bank("out-banned"), api.create_bank("out-allowed", ALLOWED)
        for bank in (banned, allowed):
            api.add_hash(bank, SHA256, digest)
        both = [banned, allowed]
        assert api.check(data, banks=both).verdict == NO_MATCH
        set_ratio(api, allowed, 0.0)
        answer = api.check(data, banks=both)
        assert (answer.verdict, answer.action) == (MATCH, types.ACTION_BLOCK)
        assert [one.bank for one in answer.matches] == [banned]
        for bank in both:
            api.banks.DeleteBank(banks_pb.DeleteBankRequest(name=bank, force=True))


def test_a_ratio_by_the_command_line(run: Run) -> None:
    bank = f"steered-{next(NAMES)}"
    assert run("bank", "create", bank, "--kind", "banned", "--enabled-ratio", "0.05")[0] == 0
    assert "for 5 % of pictures" in run("bank", "show", bank)[1]
    assert "for 5 % of pictures" in run("bank", "list")[1]
    assert "for 25 % of pictures" in run("bank", "update", bank, "--enabled-ratio", "0.25")[1]
    assert run("bank", "update", bank, "--enabled-ratio", "2")[0] == 2
    shown = json.loads(run("bank", "show", bank, "--json")[1])
    assert shown["policy"]["enabled_ratio"] == 0.25


# ------------------------------------------------------------------------------------------------- reports of matches


def test_a_report_is_counted_and_told(server_without_model: Server) -> None:
    data = b"a file that is reported"
    with iw.Client(server_without_model.address) as client:
        bank, entry = banned(client, data)
        found = client.check(data, banks=[bank])
        before = metrics(server_without_model)
        change = client.report_match(entry, found.image.sha256, "false_positive", "a drawing of the same flag")
        assert change.entry.feedback == iw.Feedback(0, 1, 0)
        assert change.revision == found.revision, "no change that checks see"
        shown = client.get_entry(entry)
        assert shown.feedback == iw.Feedback(0, 1, 0)
        (report,) = shown.reports
        assert (report.sha256, report.opinion, report.reporter) == (sha256(data), "false_positive", "local")
        assert report.note == "a drawing of the same flag"
        client.report_match(entry, found.image.sha256.upper(), iw.Opinion.CONFIRMED)
        assert client.get_bank(bank).feedback == iw.Feedback(1, 0, 0), "a later one takes the place of the earlier"
        assert next(iter(client.list_entries(bank))).feedback == iw.Feedback(1, 0, 0)
        events = list(client.list_audit_events(bank=bank, method="ReportMatch"))
        assert [json.loads(one.after)["opinion"] for one in events] == ["false_positive", "confirmed"]
        after = metrics(server_without_model)
        for opinion in ("false_positive", "confirmed"):
            name = "imagewarden_match_reports_total"
            assert value(after, name, bank=bank, opinion=opinion) == 1
            assert value(before, name, bank=bank, opinion=opinion) == 0


async def test_a_repeat_counts_once_and_another_content_is_refused(server_without_model: Server) -> None:
    data = b"a file that is reported twice"
    with iw.Client(server_without_model.address) as client:
        _, entry = banned(client, data)
    once = str(uuid.uuid4())
    async with iw.AsyncClient(server_without_model.address) as client:
        for _ in range(3):
            change = await client.report_match(entry, sha256(data), "disputed", request_id=once)
            assert change.entry.feedback == iw.Feedback(0, 0, 1)
        with pytest.raises(iw.FailedPrecondition) as refused:
            await client.report_match(entry, sha256(data), "confirmed", request_id=once)
        assert refused.value.reason == "REQUEST_ID_REUSED"
        assert (await client.get_entry(entry)).feedback == iw.Feedback(0, 0, 1)


def test_a_report_that_says_nothing_right_changes_nothing(server_without_model: Server) -> None:
    data = b"a file that is reported wrongly"
    with iw.Client(server_without_model.address) as client:
        bank, entry = banned(client, data)
        for field, arguments in (
            ("sha256", (entry, "12ab", "confirmed")),
            ("sha256", (entry, "zz" * 32, "confirmed")),
            ("note", (entry, sha256(data), "confirmed", "x" * 1_001)),
        ):
            with pytest.raises(iw.InvalidRequest) as refused:
                client.report_match(*arguments)
            assert refused.value.field == field
        with pytest.raises(iw.NotFound) as missing:
            client.report_match(f"{bank}/nobody", sha256(data), "confirmed")
        assert missing.value.reason == "ENTRY_NOT_FOUND"
        assert client.report_match(entry, sha256(data), "confirmed", "x" * 1_000).entry.feedback.confirmed == 1
    with Api(server_without_model.address) as api, fails() as failure:
        api.moderation.ReportMatch(pb.ReportMatchRequest(entry=entry, sha256=sha256(data)))
    assert failure.metadata == {"field": "opinion"}


def test_reports_by_the_command_line(server_without_model: Server, run: Run, tmp_path: Path) -> None:
    data = b"a file that is reported by hand"
    (tmp_path / "upload.jpg").write_bytes(data)
    with iw.Client(server_without_model.address) as client:
        bank, entry = banned(client, data)
    code, said = run("report", entry, "--opinion", "false-positive", "--image", tmp_path / "upload.jpg", "--note", "no")
    assert (code, said) == (0, f"{entry}: 0 confirmed, 1 false positives, 0 disputed\n")
    assert run("report", entry, "--opinion", "disputed", "--sha256", "00" * 32)[0] == 0
    shown = run("entry", "show", entry)[1]
    assert "0 confirmed, 1 false positives, 1 disputed" in shown
    assert f"false_positive by local, {sha256(data)[:12]}: no" in shown
    assert "0 confirmed, 1 false positives, 1 disputed" in run("bank", "show", bank)[1]
    assert run("report", entry, "--opinion", "confirmed")[0] == 2, "which picture?"
    assert run("report", entry, "--opinion", "wonderful", "--sha256", "00" * 32)[0] == 2


# ------------------------------------------------------------------------------------------------------- quarantine


def test_false_positives_quarantine_an_entry_and_people_release_it(server_without_model: Server, run: Run) -> None:
    data = b"a file that is banned by mistake"
    with iw.Client(server_without_model.address) as client:
        bank, entry = banned(client, data, 2)
        assert client.check(data, banks=[bank]).action is iw.Action.BLOCK
        client.report_match(entry, "00" * 32, "false_positive")
        held = client.report_match(entry, "01" * 32, "false_positive").entry.quarantine
        assert held is not None
        assert held.reason is iw.QuarantineReason.FALSE_POSITIVES
        found = client.check(data, banks=[bank])
        assert (found.verdict, found.action) == (iw.Verdict.MATCH, iw.Action.REVIEW)
        assert (found.matches[0].action, found.matches[0].quarantined) == ("review", "false_positives")
        assert [one.name for one in client.list_entries(bank, quarantined=True)] == [entry]
        (event,) = client.list_audit_events(bank=bank, method="QuarantineEntry")
        assert event.actor == "server"
        seen = metrics(server_without_model)
        assert value(seen, "imagewarden_quarantines_total", bank=bank, reason="false_positives") == 1
        assert value(seen, "imagewarden_entries_quarantined", bank=bank) == 1
        assert value(seen, "imagewarden_quarantined_matches_total", bank=bank) == 1
        assert "active, quarantined" in run("entry", "list", "--bank", bank, "--quarantined")[1]
        assert "false_positives, since" in run("entry", "show", entry)[1]
        assert "is active; revision" in run("entry", "update", entry, "--release")[1]
        found = client.check(data, banks=[bank])
        assert (found.action, found.matches[0].quarantined) == (iw.Action.BLOCK, None)
        client.report_match(entry, "02" * 32, "false_positive")
        assert client.check(data, banks=[bank]).action is iw.Action.BLOCK, "what was reported before is forgiven"
        assert value(metrics(server_without_model), "imagewarden_entries_quarantined", bank=bank) == 0


def test_a_person_puts_an_entry_under_quarantine(server_without_model: Server, run: Run, tmp_path: Path) -> None:
    data = b"a file that somebody appeals"
    with iw.Client(server_without_model.address) as client:
        bank, entry = banned(client, data)
        assert "is active and quarantined" in run("entry", "update", entry, "--quarantine", "under appeal")[1]
        held = client.get_entry(entry).quarantine
        assert held is not None
        assert (held.reason, held.message) == ("by_hand", "under appeal")
        assert client.check(data, banks=[bank]).matches[0].quarantined is iw.QuarantineReason.BY_HAND
        (tmp_path / "upload.jpg").write_bytes(data)
        assert "(quarantined)" in run("check", "--bank", bank, tmp_path / "upload.jpg")[1]
        assert run("entry", "update", entry, "--quarantine", "x", "--release")[0] == 2
        with pytest.raises(iw.InvalidRequest) as refused:
            client.update_entry(entry, quarantine="x" * 1_001)
        assert refused.value.field == "entry.quarantine.message"
        assert client.update_entry(entry, release=True).entry.quarantine is None
        assert client.check(data, banks=[bank]).action is iw.Action.BLOCK


def test_the_numbers_of_quarantine_are_a_banks_policy(server_without_model: Server, run: Run) -> None:
    bank = f"steered-{next(NAMES)}"
    run("bank", "create", bank, "--kind", "banned", "--quarantine-false-positives", "5")
    assert "at 5 more false positives, at 100 pictures in ten minutes" in run("bank", "show", bank)[1]
    assert "at 5 more false positives" in run("bank", "update", bank, "--quarantine-flood", "0")[1]
    with iw.Client(server_without_model.address) as client, Api(server_without_model.address) as api:
        policy = client.update_bank(bank, quarantine_false_positives=0).bank.policy
        assert (policy.quarantine_false_positives, policy.quarantine_flood) == (0, 0)
        for name, wrong in (("quarantine_false_positives", 1_001), ("quarantine_flood", -1)):
            request = banks_pb.UpdateBankRequest(bank=types.Bank(name=f"banks/{bank}"))
            setattr(request.bank.policy, name, wrong)
            request.update_mask.paths.append(f"policy.{name}")
            with fails() as failure:
                api.banks.UpdateBank(request)
            assert failure.metadata == {"field": f"bank.policy.{name}"}
        request.update_mask.paths[:] = ["display_name"]
        assert api.banks.UpdateBank(request).bank.policy.quarantine_flood == 0, (
            "what the mask does not name is not read"
        )


async def test_a_flooded_entry_is_quarantined_within_a_second(
    tmp_path: Path, photographs: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole server in this process, so that its slots of five minutes may be of one second."""
    monkeypatch.setattr(flood, "SLOT_SECONDS", 1.0)
    settings = load_settings(
        listen="127.0.0.1:0",
        metrics_listen="127.0.0.1:0",
        state_dir=tmp_path / "state",
        model_address=f"unix:{tmp_path}/nobody.sock",
    )
    picture = opened(photographs["dust-bowl-home"]).resize((320, 240))
    copies = [encoded(picture, quality=quality) for quality in range(50, 90, 2)]
    async with App(settings) as app, iw.AsyncClient(app.addresses.grpc) as client:
        await client.create_bank("junk", "banned", policy=iw.Policy(quarantine_flood=15))
        await client.create_bank("other", "banned", policy=iw.Policy(quarantine_flood=15))
        pdq = (await client.check(copies[0])).image.pdq
        entry = (await client.add_hashes("junk", [iw.Hash(iw.SignalType.PDQ, pdq)])).results[0].entry
        await client.create_bank("incident", "banned", policy=iw.Policy(quarantine_flood=15))
        sure = (await client.add_hashes("incident", [iw.Hash(iw.SignalType.PDQ, pdq)])).results[0].entry
        await client.report_match(sure, sha256(copies[0]), "confirmed")
        one = iw.Hash(iw.SignalType.SHA256, sha256(copies[0]))
        exact = (await client.add_hashes("other", [one])).results[0].entry
        await asyncio.sleep(5)
        results = await asyncio.gather(*(client.check(copy, exhaustive=True) for copy in copies))
        assert all(result.action is iw.Action.BLOCK for result in results), "those that tell are answered as ever"
        for _ in range(50):
            if (held := (await client.get_entry(entry)).quarantine) is not None:
                break
            await asyncio.sleep(0.1)
        assert held is not None
        assert held.reason is iw.QuarantineReason.FLOOD
        result = await client.check(copies[1], banks=["junk"])
        assert (result.action, result.matches[0].quarantined) == (iw.Action.REVIEW, "flood")
        assert (await client.get_entry(exact)).quarantine is None, "an exact digest matches one file"
        (event,) = [one async for one in client.list_audit_events(bank="junk", method="QuarantineEntry")]
        assert (event.actor, event.resource) == ("server", entry)
        assert "different pictures in ten minutes" in event.after
        assert (await client.get_entry(sure)).quarantine is None, "a person has confirmed it"
        assert (await client.check(copies[2], banks=["incident"])).action is iw.Action.BLOCK
        seen = app.metrics.registry.get_sample_value("imagewarden_confirmed_floods_total", {"bank": "incident"})
        assert seen == 1


# ------------------------------------------------------------------------------------------------- what they carry


def test_notes_are_kept_and_listed_by(server_without_model: Server, run: Run) -> None:
    bank = f"steered-{next(NAMES)}"
    run("bank", "create", bank, "--kind", "banned")
    assert run("hash", "add", "--bank", bank, f"sha256:{'0a' * 32}", "--note", "of the first raid")[0] == 0
    with iw.Client(server_without_model.address) as client:
        second = iw.Hash(iw.SignalType.MD5, "0b" * 16, labels=("raid",), note="Of the SECOND raid")
        name = client.add_hashes(bank, [second]).results[0].entry
        assert client.get_entry(name).note == "Of the SECOND raid"
        assert [one.name for one in client.list_entries(bank, note="second")] == [name]
        assert len(list(client.list_entries(bank, note="raid"))) == 2
        assert [one.name for one in client.list_entries(bank, note="raid", label="raid", state="active")] == [name]
        assert client.update_entry(name, note="settled").entry.note == "settled"
        with pytest.raises(iw.InvalidRequest) as refused:
            client.update_entry(name, note="x" * 1_001)
        assert refused.value.field == "entry.note"
        assert client.update_entry(name, state="disabled").entry.note == "settled", "what is not named stays"
    assert "settled" in run("entry", "show", name)[1]
    assert "is disabled" in run("entry", "update", name, "--note", "again")[1]
    listed = run("entry", "list", "--bank", bank, "--note", "AGAIN", "--state", "disabled", "--json")[1]
    assert [json.loads(line)["name"] for line in listed.splitlines()] == [name]
