"""The command line against a real server of this process: what it prints, what it sends, how it ends."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import code_pb2
from PIL import Image
from tests.support.fake_service import FakeService, fake_service, status

from imagewarden import cli
from imagewarden.cli import pictures as adding
from imagewarden.v1 import bank_service_pb2 as banks_pb
from imagewarden.v1 import moderation_service_pb2 as pb
from imagewarden.v1 import types_pb2 as types

Run = Callable[..., tuple[int, str, str]]

SHA256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
NOW = Timestamp(seconds=1_800_000_000)
ABUSE = types.Bank(
    name="banks/abuse",
    kind=types.BANK_KIND_BANNED,
    policy=types.Policy(
        action=types.ACTION_BLOCK,
        thresholds=[
            types.SignalThreshold(signal=types.SIGNAL_TYPE_PDQ, threshold=31),
            types.SignalThreshold(signal=types.SIGNAL_TYPE_EMBEDDING, threshold=0.8),
        ],
    ),
    enabled=True,
    entry_count=2,
    create_time=NOW,
    update_time=NOW,
)
ENTRY = types.Entry(name="banks/abuse/entries/1", external_id="case-1", state=types.ENTRY_STATE_ACTIVE)


@pytest.fixture
def service() -> Iterator[FakeService]:
    with fake_service() as running:
        yield running


@pytest.fixture
def run(service: FakeService, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command line in this process; its exit code, standard output and standard error."""

    def command(*arguments: str | Path, server: str = service.address) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.run(["--server", server, *map(str, arguments)])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return int(ended.value.code or 0), out, err

    return command


def answers(request: pb.CheckImageRequest, _: Any) -> Any:
    """A verdict by the picture's bytes."""
    if request.image == b"blocked":
        match = types.Match(
            entry="banks/abuse/entries/1",
            bank="banks/abuse",
            bank_kind=types.BANK_KIND_BANNED,
            signal=types.SIGNAL_TYPE_PDQ,
            score=0.95,
            distance=12,
            threshold=31,
            action=types.ACTION_BLOCK,
            external_id="case-1",
        )
        return pb.CheckImageResponse(verdict=types.VERDICT_MATCH, action=types.ACTION_BLOCK, matches=[match])
    if request.image == b"inside":
        inside = types.Match(
            bank="banks/abuse", bank_kind=types.BANK_KIND_BANNED, signal=types.SIGNAL_TYPE_LOCAL, score=40, threshold=12
        )
        inside.action = types.ACTION_REVIEW
        inside.evidence.add(signal=types.SIGNAL_TYPE_LOCAL, value=40, reached=True)
        return pb.CheckImageResponse(verdict=types.VERDICT_MATCH, action=types.ACTION_REVIEW, matches=[inside])
    if request.image == b"odd":
        reason = types.UndecidedReason(code=types.UNDECIDED_CODE_UNDECODABLE, message="no picture")
        return pb.CheckImageResponse(
            verdict=types.VERDICT_UNDECIDED, action=types.ACTION_REVIEW, undecided_reasons=[reason]
        )
    if request.image == b"":
        return status(code_pb2.INVALID_ARGUMENT, "image: is empty", "INVALID_FIELD", field="image")
    return pb.CheckImageResponse(verdict=types.VERDICT_NO_MATCH, action=types.ACTION_ALLOW)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures by what comes of them."""
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "blocked.jpg").write_bytes(b"blocked")
    (tmp_path / "deep" / "odd.PNG").write_bytes(b"odd")
    (tmp_path / "deep" / "er" / "fine.webp").write_bytes(b"fine")
    (tmp_path / "deep" / "empty.gif").write_bytes(b"")
    (tmp_path / "notes.txt").write_bytes(b"blocked")
    return tmp_path


@pytest.mark.parametrize(
    ("names", "code"),
    [
        (["deep/er/fine.webp"], 0),
        (["deep/er/fine.webp", "blocked.jpg"], 1),
        (["deep/er/fine.webp", "deep/empty.gif", "deep/odd.PNG"], 2),
        (["deep/er/fine.webp", "deep/odd.PNG"], 3),
        (["blocked.jpg", "deep/empty.gif", "deep/odd.PNG"], 1),
    ],
)
def test_the_exit_code_is_the_most_urgent(
    service: FakeService, run: Run, folder: Path, names: list[str], code: int
) -> None:
    service.answer("CheckImage", answers)
    assert run("check", *(folder / name for name in names))[0] == code


def test_a_folder_means_all_pictures_below_it_and_a_pattern_what_it_finds(
    service: FakeService, run: Run, folder: Path
) -> None:
    service.answer("CheckImage", answers)
    code, out, err = run("check", folder)
    assert code == 1
    assert {name for name in ("blocked.jpg", "odd.PNG", "fine.webp", "empty.gif", "notes.txt") if name in out} == {
        "blocked.jpg",
        "odd.PNG",
        "fine.webp",
        "empty.gif",
    }
    assert "12 bits" in out
    assert "31 bits" in out
    assert "case-1" in out
    assert "undecodable: no picture" in err
    assert "empty.gif: image: is empty" in err
    service.calls.clear()
    assert run("check", f"{folder}/**/*.webp", folder / "deep" / "er")[0] == 0
    assert len(service.calls["CheckImage"]) == 1


def test_json_is_one_object_a_picture_in_order(service: FakeService, run: Run, folder: Path) -> None:
    service.answer("CheckImage", answers)
    code, out, err = run(
        "check",
        folder,
        "--json",
        "--bank",
        "abuse",
        "--exhaustive",
        "--on-undecided",
        "block",
        "--at-least-revision",
        "r",
    )
    lines = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (1, "")
    assert [Path(line["file"]).name for line in lines] == ["blocked.jpg", "empty.gif", "fine.webp", "odd.PNG"]
    assert lines[0]["matches"][0] | {"signal": "pdq", "threshold": 31, "region": None} == lines[0]["matches"][0]
    assert (lines[1]["kind"], lines[1]["reason"]) == ("InvalidRequest", "INVALID_FIELD")
    assert (lines[2]["verdict"], lines[2]["action"]) == ("no_match", "allow")
    asked = service.calls["CheckImage"][0]
    assert (list(asked.banks), asked.exhaustive, asked.on_undecided, asked.at_least_revision) == (
        ["banks/abuse"],
        True,
        types.ACTION_BLOCK,
        "r",
    )


def test_local_features_are_counted_in_inliers(service: FakeService, run: Run, folder: Path) -> None:
    service.answer("CheckImage", answers)
    (folder / "inside.jpg").write_bytes(b"inside")
    code, out, _ = run("check", folder / "inside.jpg", "--thorough")
    assert code == 3
    assert "40 inliers" in out
    assert "12 inliers" in out
    assert service.calls["CheckImage"][0].thorough
    shown = json.loads(run("check", folder / "inside.jpg", "--json")[1])
    assert not service.calls["CheckImage"][1].thorough
    assert shown["matches"][0]["evidence"] == [{"signal": "local", "value": 40.0, "reached": True}]


def test_an_unreachable_service_is_exit_code_4_and_soon(run: Run, folder: Path) -> None:
    for number in range(200):
        (folder / f"{number}.jpg").write_bytes(b"x")
    code, _, err = run("--timeout", "1", "bank", "list", server="127.0.0.1:1")
    assert code == 4
    assert err.startswith("imagewarden: no answer from 127.0.0.1:1")
    code, out, _ = run("--timeout", "1", "check", folder, "--json", server="127.0.0.1:1")
    assert code == 4
    assert {json.loads(line)["kind"] for line in out.splitlines()} == {"ConnectionFailed"}
    code, out, err = run("--timeout", "1", "check", folder, server="127.0.0.1:1")
    assert (code, out) == (4, "")
    assert "204 of 204 pictures were not checked" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check", "nowhere.jpg"], "nowhere.jpg: no such file"),
        (["check"], "Missing argument"),
        (["frobnicate"], "No such command"),
        (["hash", "add", "--bank", "abuse"], "no hashes were given"),
        (["entry", "delete"], "name entries"),
        (["entry", "delete", "--bank", "abuse"], "name entries"),
        (["entry", "delete", "abuse/1", "--source", "x"], "name entries"),
        (["entry", "update"], "name an entry"),
        (["entry", "update", "abuse/1", "--bank", "abuse", "--source", "x", "--enable"], "name an entry"),
        (["entry", "update", "--bank", "abuse", "--disable"], "--bank takes --source"),
        (["entry", "update", "--bank", "abuse", "--source", "x"], "--bank takes --source"),
        (["entry", "update", "--bank", "abuse", "--source", "x", "--disable", "--note", "y"], "--bank takes --source"),
        (["entry", "update", "abuse/1", "--disable", "--dry-run"], "are for --bank"),
        (["entry", "show", "nonsense"], "name an entry"),
        (["bank", "create", "x", "--kind", "unknown"], "unknown"),
    ],
)
def test_wrong_use_is_exit_code_2_and_says_what_is_wrong(run: Run, arguments: list[str], said: str) -> None:
    code, _, err = run(*arguments)
    assert code == 2
    assert said in re.sub(r"[│\n ]+", " ", err)


def test_what_the_server_refuses_is_one_line_with_its_reason(service: FakeService, run: Run) -> None:
    service.answer("GetBank", status(code_pb2.NOT_FOUND, "there is no bank banks/x", "BANK_NOT_FOUND"))
    assert run("bank", "show", "x") == (2, "", "imagewarden: there is no bank banks/x [BANK_NOT_FOUND]\n")


def test_banks_are_made_listed_changed_and_deleted(
    service: FakeService, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.answer("CreateBank", banks_pb.CreateBankResponse(bank=ABUSE, revision="r1"))
    code, out, _ = run(
        "bank",
        "create",
        "abuse",
        "--kind",
        "banned",
        "--threshold",
        "pdq=20",
        "--threshold",
        "md5=off",
        "--label",
        "a=b",
    )
    assert code == 0
    assert "banks/abuse" in out
    made = service.calls["CreateBank"][0].bank
    assert dict(made.labels) == {"a": "b"}
    assert [(one.signal, one.threshold, one.disabled) for one in made.policy.thresholds] == [
        (types.SIGNAL_TYPE_PDQ, 20, False),
        (types.SIGNAL_TYPE_MD5, 0, True),
    ]
    service.answer("ListBanks", banks_pb.ListBanksResponse(banks=[ABUSE]))
    assert "abuse" in run("bank", "list")[1]
    assert json.loads(run("--json", "bank", "list")[1])["policy"]["action"] == "block"
    service.answer("GetBank", banks_pb.GetBankResponse(bank=ABUSE))
    service.answer("UpdateBank", banks_pb.UpdateBankResponse(bank=ABUSE, revision="r2"))
    assert run("bank", "update", "abuse", "--threshold", "pdq=24", "--disable")[0] == 0
    changed = service.calls["UpdateBank"][0]
    assert sorted(changed.update_mask.paths) == ["enabled", "policy.thresholds"]
    assert {one.signal: one.threshold for one in changed.bank.policy.thresholds} == {
        types.SIGNAL_TYPE_PDQ: 24,
        types.SIGNAL_TYPE_EMBEDDING: 0.8,
    }
    service.answer("DeleteBank", banks_pb.DeleteBankResponse(revision="r3", deleted_entries=2))
    assert "would delete banks/abuse with 2 entries" in run("bank", "delete", "abuse", "--force", "--dry-run")[1]
    for said in ("n\n", ""):
        monkeypatch.setattr("sys.stdin", io.StringIO(said))
        assert run("bank", "delete", "abuse", "--force")[0] == 1
    assert not service.calls["DeleteBank"]
    assert "deleted banks/abuse with 2 entries" in run("bank", "delete", "abuse", "--force", "--yes")[1]


def added(request: banks_pb.AddHashesRequest, _: Any) -> banks_pb.AddHashesResponse:
    """All new."""
    return banks_pb.AddHashesResponse(
        results=[banks_pb.AddedHash(entry="banks/abuse/entries/1") for _ in request.hashes],
        added=len(request.hashes),
        revision="r9",
    )


def test_a_file_of_hashes_is_sent_in_calls_of_ten_thousand(service: FakeService, run: Run, tmp_path: Path) -> None:
    service.answer("AddHashes", added)
    file = tmp_path / "hashes.txt"
    lines = ["# a list", "", *(f"{number:064x}" for number in range(20_001)), f"md5 {1:032x}"]
    file.write_text("\n".join(lines))
    code, out, _ = run(
        "hash",
        "add",
        f"sha1:{1:040x}",
        "--bank",
        "abuse",
        "--file",
        file,
        "--type",
        "pdq",
        "--label",
        "l",
        "--source",
        "s",
    )
    assert (code, out) == (0, "added 20003, had 0 already; revision r9\n")
    calls = service.calls["AddHashes"]
    assert [len(call.hashes) for call in calls] == [10_000, 10_000, 3]
    assert (calls[0].hashes[0].type, calls[0].hashes[1].type) == (types.SIGNAL_TYPE_SHA1, types.SIGNAL_TYPE_PDQ)
    assert (list(calls[2].hashes[2].labels), calls[2].hashes[2].source) == (["l"], "s")


def test_one_bad_line_sends_nothing_and_is_named(service: FakeService, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "hashes.txt"
    file.write_text(f"sha256:{SHA256}\n\n{SHA256}\nphotodna:12\n")
    code, _, err = run("hash", "add", "--bank", "abuse", "--file", file)
    assert code == 2
    assert "2 hashes cannot be read, and nothing was sent" in err
    assert "line 3: 64 digits are sha256 or pdq" in err
    assert "line 4: 'photodna' is no hash type" in err
    assert not service.calls["AddHashes"]


def test_a_list_that_fails_midway_says_what_is_in_force(service: FakeService, run: Run, tmp_path: Path) -> None:
    full = status(code_pb2.INTERNAL, "the disk is full", "INTERNAL")
    service.answer("AddHashes", added, full)
    file = tmp_path / "hashes.txt"
    file.write_text("\n".join(f"md5:{number:032x}" for number in range(10_001)))
    code, _, err = run("hash", "add", "--bank", "abuse", "--file", file)
    assert code == 4
    assert "the first 10000 hashes are in force, as of revision r9" in err


def test_hashes_are_tried_without_a_change(service: FakeService, run: Run) -> None:
    service.answer("AddHashes", banks_pb.AddHashesResponse())
    assert run("hash", "add", f"sha256:{SHA256}", "--bank", "abuse", "--dry-run")[0] == 0
    assert service.calls["AddHashes"][0].validate_only


def test_pictures_are_added_and_those_that_are_there_are_skipped(service: FakeService, run: Run, folder: Path) -> None:
    def add(request: banks_pb.AddImageRequest, _: Any) -> Any:
        if request.image == b"blocked":
            return status(code_pb2.ALREADY_EXISTS, "there", "ENTRY_EXISTS")
        if not request.image:
            return status(code_pb2.INVALID_ARGUMENT, "is empty", "INVALID_FIELD", field="image")
        return banks_pb.AddImageResponse(entry=ENTRY, revision="r1", warnings=["too plain for PDQ"])

    service.answer("AddImage", add)
    code, out, err = run("entry", "add", folder, "--bank", "abuse", "--label", "l")
    assert code == 2
    assert "added 2, had 1 already, refused 1" in out
    assert "is empty" in err
    assert "too plain for PDQ" in err
    assert {next(iter(call.entry.labels)) for call in service.calls["AddImage"]} == {"l"}
    assert run("entry", "add", folder, "--bank", "abuse", "--external-id", "one")[0] == 2


def test_adding_stops_where_the_service_goes_away(service: FakeService, run: Run, folder: Path) -> None:
    service.answer(
        "AddImage", status(code_pb2.UNAVAILABLE, "the model is away", "EMBEDDING_UNAVAILABLE", retry_after=90)
    )
    code, _, err = run("entry", "add", folder, "--bank", "abuse")
    assert code == 4
    assert "added 0 before it" in err
    assert len(service.calls["AddImage"]) == 1


BUSY = status(code_pb2.RESOURCE_EXHAUSTED, "12 pictures are looked at", "OVERLOADED", retry_after=0.01)


def test_pictures_that_a_busy_service_refuses_are_added_when_it_has_a_turn(
    service: FakeService, run: Run, folder: Path
) -> None:
    """However often it says to come back: nothing is lost, and each is the same call again."""
    added = banks_pb.AddImageResponse(entry=ENTRY, revision="r1")
    service.answer("AddImage", *[BUSY] * 9, added)
    code, out, _ = run("entry", "add", folder, "--bank", "abuse")
    assert code == 0
    assert "added 4, had 0 already, refused 0" in out
    calls = service.calls["AddImage"]
    assert len(calls) == 13
    assert len({call.request_id for call in calls[:10]}) == 1
    assert len({call.request_id for call in calls}) == 4
    service.answer("AddImage", *[BUSY] * 9, added)
    code, out, _ = run("import", folder, "--bank", "abuse", "--yes")
    assert (code, "brought in: 4 new" in out) == (0, True)


def test_adding_stops_where_a_service_stays_busy(
    service: FakeService, run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adding, "_PATIENCE_SECONDS", 0.0)
    service.answer("AddImage", BUSY)
    code, _, err = run("entry", "add", folder, "--bank", "abuse")
    assert code == 4
    assert "added 0 before it" in err
    code, _, err = run("import", folder, "--bank", "abuse", "--yes")
    assert code == 4
    assert "go on with: " in err


def test_a_logo_is_registered_from_its_files(service: FakeService, run: Run, tmp_path: Path) -> None:
    service.answer("RegisterLogo", banks_pb.RegisterLogoResponse(entry=ENTRY, revision="r4"))
    logo = tmp_path / "logo.svg"
    logo.write_bytes(b"<svg/>")
    code, out, _ = run("logo", "register", logo, "--bank", "brands", "--brand", "Acme")
    assert (code, out) == (0, "registered banks/abuse/entries/1; revision r4\n")
    assert list(service.calls["RegisterLogo"][0].images) == [b"<svg/>"]


def test_entries_are_shown_changed_and_deleted_by_name_or_by_what_fits(service: FakeService, run: Run) -> None:
    service.answer("GetEntry", banks_pb.GetEntryResponse(entry=ENTRY))
    assert "case-1" in run("entry", "show", "abuse/1")[1]
    service.answer("UpdateEntry", banks_pb.UpdateEntryResponse(entry=ENTRY, revision="r5"))
    assert run("entry", "update", "abuse/1", "--disable", "--never-expires")[0] == 0
    assert sorted(service.calls["UpdateEntry"][0].update_mask.paths) == ["expire_time", "state"]
    other = types.Entry(name="banks/abuse/entries/2", state=types.ENTRY_STATE_ACTIVE)
    service.answer("ListEntries", banks_pb.ListEntriesResponse(entries=[ENTRY, other]))
    assert json.loads(run("entry", "list", "--bank", "abuse", "--limit", "1", "--json")[1])["external_id"] == "case-1"
    service.answer("DeleteEntry", banks_pb.DeleteEntryResponse(revision="r6"))
    assert run("entry", "delete", "--bank", "abuse", "--label", "old", "--dry-run")[1].count("would delete") == 2
    assert not service.calls["DeleteEntry"]
    assert run("entry", "delete", "--bank", "abuse", "--label", "old", "--yes")[1].count("deleted") == 2
    assert service.calls["ListEntries"][-1].label == "old"
    assert [call.name for call in service.calls["DeleteEntry"]] == ["banks/abuse/entries/1", "banks/abuse/entries/2"]
    assert run("entry", "delete", "--bank", "abuse", "--source", "South", "--yes")[1].count("deleted") == 2
    assert service.calls["ListEntries"][-1].source == "South"
    assert run("entry", "list", "--bank", "abuse", "--source", "North")[0] == 0
    assert service.calls["ListEntries"][-1].source == "North"


def test_all_entries_of_a_source_are_switched_off_and_on(service: FakeService, run: Run) -> None:
    off, expired = (
        types.Entry(name=f"banks/abuse/entries/{number}", state=state)
        for number, state in ((2, types.ENTRY_STATE_DISABLED), (3, types.ENTRY_STATE_EXPIRED))
    )

    def listed(request: banks_pb.ListEntriesRequest, _: Any) -> Any:
        asked = [one for one in (ENTRY, off, expired) if request.state in {types.ENTRY_STATE_UNSPECIFIED, one.state}]
        return banks_pb.ListEntriesResponse(entries=asked if request.source == "South" else [])

    def update(request: banks_pb.UpdateEntryRequest, _: Any) -> Any:
        assert list(request.update_mask.paths) == ["state"]
        return banks_pb.UpdateEntryResponse(entry=request.entry, revision="r5")

    service.answer("ListEntries", listed)
    service.answer("UpdateEntry", update)
    switch = ("entry", "update", "--bank", "abuse", "--source", "South")
    assert run(*switch, "--disable", "--dry-run")[1].splitlines() == [
        "would disable banks/abuse/entries/1 case-1",
        "would disable banks/abuse/entries/3",
    ]
    assert run(*switch, "--disable")[0] != 0, "nobody said yes"
    assert not service.calls["UpdateEntry"]
    assert run(*switch, "--disable", "--yes")[1].splitlines() == [
        "banks/abuse/entries/1 is disabled; revision r5",
        "banks/abuse/entries/3 is disabled; revision r5",
    ]
    assert run(*switch, "--enable", "--yes")[1] == "banks/abuse/entries/2 is active; revision r5\n"
    (said,) = run(*switch, "--enable", "--yes", "--json")[1].splitlines()
    assert json.loads(said)["entry"]["state"] == "active"
    assert "no entry of this source" in run("entry", "update", "--bank", "abuse", "--source", "x", "--disable")[1]


def png(colour: tuple[int, ...], mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (300, 200), colour).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_search_draws_the_query_and_its_neighbours(service: FakeService, run: Run, tmp_path: Path) -> None:
    gallery = tmp_path / "gallery"
    (gallery / "sub").mkdir(parents=True)
    (gallery / "sub" / "green.png").write_bytes(png((0, 200, 0)))
    (tmp_path / "secret.png").write_bytes(png((9, 9, 9)))
    (gallery / "broken.png").write_bytes(png((1, 2, 3))[:60])
    query = tmp_path / "query.png"
    query.write_bytes(png((200, 0, 0)))
    names = ["sub/green.png", "../secret.png", "broken.png", "", f"{tmp_path}/secret.png", "nul\0byte"]
    service.answer(
        "SearchSimilarImages",
        pb.SearchSimilarImagesResponse(
            results=[
                pb.SimilarImage(
                    rank=rank,
                    entry=types.Entry(name=f"banks/abuse/entries/{rank}", external_id=name),
                    bank="banks/abuse",
                    distance=rank / 10,
                )
                for rank, name in enumerate(names, 1)
            ]
        ),
    )

    def entry(request: banks_pb.GetEntryRequest, _: Any) -> banks_pb.GetEntryResponse:
        logo = png((0, 0, 200, 255), "RGBA") if request.name.endswith("/4") else b""
        return banks_pb.GetEntryResponse(entry=types.Entry(name=request.name, thumbnail=logo))

    service.answer("GetEntry", entry)
    panel = tmp_path / "panel.png"
    arguments = ("search", query, "-k", "6", "--metric", "euclidean", "--panel", panel, "--gallery", gallery)
    code, out, _ = run(*arguments)
    assert code == 0
    assert "euclidean distance" in out
    asked = service.calls["SearchSimilarImages"][0]
    assert (asked.k, asked.metric) == (6, pb.DISTANCE_METRIC_EUCLIDEAN)
    grey = (221, 221, 221)
    with Image.open(panel) as sheet:
        centres = [(8 + place % 4 * 232 + 112, 8 + place // 4 * 268 + 60) for place in range(7)]
        colours = [sheet.convert("RGB").getpixel(centre) for centre in centres]
    assert colours == [(200, 0, 0), (0, 200, 0), grey, grey, (0, 0, 200), grey, grey]
    assert len(run("--json", *arguments)[1].splitlines()) == 6


def test_bank_names_complete_from_the_service_and_fail_silently(
    service: FakeService, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = types.Bank(name="banks/brands", kind=types.BANK_KIND_BRAND, policy=types.Policy(action=types.ACTION_REVIEW))
    service.answer("ListBanks", banks_pb.ListBanksResponse(banks=[ABUSE, other]))

    def complete(words: str, server: str) -> str:
        monkeypatch.setenv("IMAGEWARDEN_SERVER", server)
        monkeypatch.setenv("_IMAGEWARDEN_COMPLETE", "complete_zsh")
        monkeypatch.setenv("_TYPER_COMPLETE_ARGS", words)
        capsys.readouterr()
        with pytest.raises(SystemExit):
            cli.run([])
        return capsys.readouterr().out

    found = complete("imagewarden bank show a", service.address)
    assert "abuse" in found
    assert "brands" not in found
    assert "brands" in complete("imagewarden check x.jpg --bank b", service.address)
    assert "abuse" not in complete("imagewarden bank show a", "127.0.0.1:1")


def test_other_layers_are_named_in_help_without_being_loaded(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert "serve" in out
    assert "model" in out

    class Missing:
        name = "serve"

        def load(self) -> None:
            raise ModuleNotFoundError("No module named 'sqlalchemy'", name="sqlalchemy")

    class Broken(Missing):
        def load(self) -> None:
            raise ModuleNotFoundError("a bug", name="imagewarden_server.lost")

    monkeypatch.setattr(cli, "entry_points", lambda **_: [Missing()])
    assert run("serve", "--listen", "x") == (
        2,
        "",
        "imagewarden: serve needs sqlalchemy: pip install 'imagewarden[server]'\n",
    )
    monkeypatch.setattr(cli, "entry_points", lambda **_: [])
    assert run("model", "export")[2] == "imagewarden: model is not installed: pip install 'imagewarden[serving]'\n"
    monkeypatch.setattr(cli, "entry_points", lambda **_: [Broken()])
    with pytest.raises(ModuleNotFoundError, match="a bug"):
        cli.run(["serve"])
