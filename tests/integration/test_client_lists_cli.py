"""`imagewarden import` and `export` against a real server of this process: what is asked, sent and said."""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import code_pb2
from tests.support.fake_service import UNAVAILABLE, FakeService, fake_service, status
from tests.support.hash_lists import MAKERS, Made

from imagewarden import cli
from imagewarden.lists import Format
from imagewarden.v1 import bank_service_pb2 as pb
from imagewarden.v1 import types_pb2 as types

Run = Callable[..., tuple[int, str, str]]

PDQ = "f8" * 32
NOW = Timestamp(seconds=1_800_000_000)
ABUSE = types.Bank(
    name="banks/abuse",
    kind=types.BANK_KIND_BANNED,
    policy=types.Policy(action=types.ACTION_BLOCK),
    create_time=NOW,
    update_time=NOW,
)


class Taker:
    """A server that remembers what was sent: each record new, each tombstone of something that was there."""

    def __init__(self, *, stops_after: int = 0, refuses: int = 0) -> None:
        self.tried: list[pb.EntryRecord] = []
        self.taken: list[pb.EntryRecord] = []
        self._stops_after = stops_after
        self._refuses = refuses

    def __call__(self, requests: Any, context: grpc.ServicerContext) -> Iterator[pb.ImportEntriesResponse]:
        for count, request in enumerate(requests):
            if not request.validate_only and self._stops_after and count == self._stops_after:
                context.abort(grpc.StatusCode.UNAVAILABLE, "stopping")
            (self.tried if request.validate_only else self.taken).extend(request.records)
            answer = pb.ImportEntriesResponse(number=request.records[-1].number)
            for record in request.records:
                if record.number == self._refuses:
                    answer.refused.add(number=record.number, field="hashes", message="not of this bank")
                elif record.removed:
                    answer.removed += 1
                else:
                    answer.added += 1
            if not request.validate_only:
                answer.revision = f"r{count + 1}"
            yield answer


class Terminal(io.StringIO):
    """A person at a terminal, who types this."""

    def isatty(self) -> bool:
        return True


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


def saved(made: Made, folder: Path) -> Path:
    path = folder / made.name
    path.write_bytes(made.data)
    return path


@pytest.mark.parametrize("format_", MAKERS)
def test_a_list_of_each_format_is_tried_and_then_brought_in(
    service: FakeService, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format_: Format
) -> None:
    made = MAKERS[format_](later=True)
    path = saved(made, tmp_path)
    taker = Taker()
    service.answer("ImportEntries", taker)
    report = tmp_path / "refused.jsonl"
    code, out, err = run("import", path, "--bank", "abuse", "--dry-run", "--report", report)
    assert code == 2
    assert f"{path}: {format_} (" in out
    there = made.records - made.removed
    counts = [f"{there:,} new"] + [f"{made.removed} removed"] * bool(made.removed) + [f"{len(made.refused)} refused"]
    assert f"would be: {', '.join(counts)}" in out
    assert len(taker.tried) == made.records
    assert not taker.taken
    by_line = format_ not in {Format.NCMEC, Format.STOPNCII, Format.TAT}
    first = next(iter(made.refused))
    assert f"{'line' if by_line else 'record'} {first}" in err
    assert err.count("\n") <= 21
    assert ("more: --report FILE has them all" in err) == (len(made.refused) > 20)
    lines = [json.loads(line) for line in report.read_text().splitlines()]
    assert [line["number"] for line in lines] == list(made.refused)
    assert all(made.refused[line["number"]] in line["message"] for line in lines)
    assert stat.S_IMODE(report.stat().st_mode) == 0o600

    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    code, out, _ = run("import", path, "--bank", "abuse")
    assert code == 2
    assert "Bring them into abuse?" in out
    assert f"brought in: {', '.join(counts)}; revision r1" in out
    assert len(taker.taken) == made.records
    assert [record.number for record in taker.taken] == sorted({record.number for record in taker.taken})


def test_a_person_may_say_no(service: FakeService, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(MAKERS[Format.HASHES](later=False), tmp_path)
    taker = Taker()
    service.answer("ImportEntries", taker)
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    code, _, err = run("import", path, "--bank", "abuse")
    assert (code, "Aborted" in err) == (1, True)
    assert taker.tried
    assert not taker.taken


def test_nobody_is_asked_without_a_terminal_and_nothing_is_sent(service: FakeService, run: Run, tmp_path: Path) -> None:
    path = saved(MAKERS[Format.HASHES](later=False), tmp_path)
    for file in (path, "-"):
        code, _, err = run("import", file, "--bank", "abuse")
        assert code == 2
        assert "there is nobody to ask: give --dry-run" in err
    assert "contradict" in run("import", path, "--bank", "abuse", "--yes", "--dry-run")[2]
    assert "overwrite the list" in run("import", path, "--bank", "abuse", "--yes", "--report", path)[2]
    assert not service.metadata["ImportEntries"]


def test_a_list_without_anything_new_asks_nothing(
    service: FakeService, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(MAKERS[Format.HASHES](later=False), tmp_path)

    def has_all(requests: Any, _: Any) -> Iterator[pb.ImportEntriesResponse]:
        for request in requests:
            yield pb.ImportEntriesResponse(number=request.records[-1].number, unchanged=len(request.records))

    service.answer("ImportEntries", has_all)
    monkeypatch.setattr(sys, "stdin", Terminal(""))
    code, out, _ = run("import", path, "--bank", "abuse")
    assert code == 0
    assert out.endswith("would be: 1,200 unchanged\nthere is nothing to change\n")


def test_a_list_that_is_damaged_is_not_brought_in_by_half(service: FakeService, run: Run, tmp_path: Path) -> None:
    taker = Taker()
    service.answer("ImportEntries", taker)
    for format_ in (Format.NCMEC, Format.STOPNCII, Format.JSONL):
        made = MAKERS[format_](later=False)
        path = tmp_path / made.name
        path.write_bytes(made.data[:-50])
        for how in ("--yes", "--dry-run"):
            code, _, err = run("import", path, "--bank", "abuse", how)
            assert code == 2
            assert "cut off" in err
            assert "nothing was changed" in err
    assert not taker.taken


def test_an_import_that_is_stopped_says_how_it_goes_on_and_does(service: FakeService, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "a list.txt"
    path.write_text("".join(f"pdq {number:064x}\n" for number in range(7_000)))
    stops = Taker(stops_after=2)
    service.answer("ImportEntries", stops)
    label = ("--label", "a b", "--source", "case 7")
    code, out, err = run("import", path, "--bank", "abuse", "--yes", *label)
    assert (code, "brought in" in out) == (4, False)
    assert "stopped: all up to line 4000 is in force, as of revision r2: 4,000 new" in err
    command = f"imagewarden --server {service.address} import '{path}' --bank abuse --source 'case 7' --label 'a b'"
    assert f"go on with: {command} --start-at 4001\n" in err
    assert len(stops.taken) == 4_000
    goes_on = Taker()
    service.answer("ImportEntries", goes_on)
    code, out, _ = run("import", path, "--bank", "abuse", "--yes", *label, "--start-at", "4001")
    assert (code, out.splitlines()[-1]) == (0, "brought in: 3,000 new; revision r2")
    numbers = [record.number for record in stops.taken + goes_on.taken]
    assert numbers == list(range(1, 7_001))
    assert {tuple(record.labels) for record in goes_on.taken} == {("a b",)}
    assert {record.source for record in goes_on.taken} == {"case 7"}

    def refuses(_: Any, context: grpc.ServicerContext) -> Iterator[pb.ImportEntriesResponse]:
        if context.is_active():
            context.abort(grpc.StatusCode.NOT_FOUND, "no bank")
        yield pb.ImportEntriesResponse()

    service.answer("ImportEntries", refuses)
    code, _, err = run("import", path, "--bank", "abuse", "--yes", "--start-at", "3")
    assert code == 2
    assert "stopped: nothing is known to be in force" in err
    assert "--start-at 3\n" in err


def test_control_c_says_what_is_in_force(service: FakeService, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("".join(f"pdq {number:064x}\n" for number in range(7_000)))
    taker = Taker()

    def slow(requests: Any, context: grpc.ServicerContext) -> Iterator[pb.ImportEntriesResponse]:
        for place, answer in enumerate(taker(requests, context)):
            yield answer
            if place == 1:
                (tmp_path / "two answered").touch()
                while context.is_active():
                    time.sleep(0.01)

    service.answer("ImportEntries", slow)
    arguments = ["--server", service.address, "import", str(path), "--bank", "abuse", "--yes"]
    process = subprocess.Popen(
        [sys.executable, "-m", "imagewarden", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # What was started in the background of a shell ignores it, and so would all that it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 -- nothing that could deadlock
    )
    deadline = time.monotonic() + 30
    while not (tmp_path / "two answered").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode not in {0, 2, 4}
    assert "stopped: all up to line 4000 is in force, as of revision r2" in err
    assert "--start-at 4001" in err
    assert "Traceback" not in err


def test_standard_input_is_read_once(service: FakeService, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    taker = Taker()
    service.answer("ImportEntries", taker)
    packed = gzip.compress(f"pdq {PDQ}\nbroken\n".encode())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(packed)))
    code, out, err = run("import", "-", "--bank", "abuse", "--yes")
    assert (code, out) == (2, "brought in: 1 new, 1 refused; revision r1\n")
    assert "line 2: 'broken' is no hash" in err
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(packed[:-4])))
    code, _, err = run("import", "-", "--bank", "abuse", "--yes")
    assert code == 2
    assert "damaged or cut off" in err
    assert "send the list again with" in err


def test_a_pipe_is_read_once_too(
    service: FakeService, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taker = Taker()
    service.answer("ImportEntries", taker)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    for file in (pipe, "-"):
        code, _, err = run("import", file, "--bank", "abuse")
        assert (code, "can be read once only" in err) == (2, True)

    def write() -> None:
        pipe.write_text("".join(f"pdq {number:064x}\n" for number in range(5_000)))

    for how, taken in (("--dry-run", taker.tried), ("--yes", taker.taken)):
        writer = threading.Thread(target=write)
        writer.start()
        assert run("import", pipe, "--bank", "abuse", how)[0] == 0
        writer.join(10)
        assert len(taken) == 5_000


def test_json_is_an_object_for_each_refused_record_and_one_for_all(
    service: FakeService, run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "list.txt"
    path.write_text(f"pdq {PDQ}\nbroken\nmd5 {PDQ[:32]}\n")
    service.answer("ImportEntries", Taker(refuses=3))
    for how, dry_run in (("--dry-run", True), ("--yes", False)):
        code, out, err = run("import", path, "--bank", "abuse", how, "--json")
        assert (code, err) == (2, "")
        first, second, last = map(json.loads, out.splitlines())
        assert (first["number"], first["excerpt"]) == (2, "broken")
        assert second == {"number": 3, "line": 0, "field": "hashes", "message": "not of this bank", "excerpt": ""}
        assert last == {
            "list": str(path),
            "format": "hashes",
            "why": "its lines are hashes",
            "bank": "abuse",
            "dry_run": dry_run,
            "added": 1,
            "updated": 0,
            "unchanged": 0,
            "removed": 0,
            "absent": 0,
            "refused": 2,
            "number": 3,
            "revision": "" if dry_run else "r1",
        }


def test_what_cannot_be_read_is_one_line(service: FakeService, run: Run, tmp_path: Path) -> None:
    odd = tmp_path / "odd.txt"
    odd.write_text("first name,last name\n")
    bare = tmp_path / "bare.txt"
    bare.write_text(f"{PDQ}\n")
    for arguments, said in (
        ([odd], "'first name,last name'"),
        ([tmp_path / "missing"], "No such file"),
        ([tmp_path], "no folder with pictures"),
        ([bare, "--source", "x" * 300], "300 characters"),
    ):
        code, _, err = run("import", *arguments, "--bank", "abuse", "--dry-run")
        assert code == 2
        assert said in err
        assert len(err.splitlines()) == 1
    taker = Taker()
    service.answer("ImportEntries", taker)
    assert run("import", bare, "--bank", "abuse", "--dry-run")[0] == 2
    assert run("import", bare, "--bank", "abuse", "--dry-run", "--type", "pdq", "--format", "hashes")[0] == 0
    assert taker.tried[0].hashes[0].type == types.SIGNAL_TYPE_PDQ


def test_a_folder_of_pictures_goes_as_pictures(service: FakeService, run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "evidence"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.jpg", "b.png", "sub/c.webp", "notes.txt"):
        (folder / name).write_bytes(name.encode())

    def add(request: pb.AddImageRequest, _: Any) -> Any:
        if request.image == b"b.png":
            return status(code_pb2.ALREADY_EXISTS, "there", "ENTRY_EXISTS")
        if request.image == b"sub/c.webp":
            return status(code_pb2.INVALID_ARGUMENT, "no picture", "IMAGE_UNDECODABLE")
        return pb.AddImageResponse(entry=types.Entry(name="banks/abuse/entries/1"), revision="r5")

    service.answer("AddImage", add)
    given = ("--bank", "abuse", "--label", "x", "--source", "case 7")
    code, out, err = run("import", folder, *given, "--dry-run")
    assert code == 2
    assert f"{folder}: pictures (it is a folder with 3 of them)" in out
    assert "would be: 1 new, 1 unchanged, 1 refused" in out
    assert f"picture 3: {folder}/sub/c.webp: no picture" in err
    assert all(request.validate_only for request in service.calls["AddImage"])
    code, out, _ = run("import", folder, *given, "--yes", "--start-at", "2")
    assert out.splitlines()[-1] == "brought in: 1 unchanged, 1 refused; revision "
    sent = service.calls["AddImage"][-1]
    assert (sent.entry.external_id, list(sent.entry.labels), sent.entry.source) == (
        f"{folder}/sub/c.webp",
        ["x"],
        "case 7",
    )
    service.answer("AddImage", pb.AddImageResponse(revision="r6"), UNAVAILABLE)
    code, _, err = run("import", folder, *given, "--yes")
    assert code == 4
    assert "stopped: all up to picture 1 is in force, as of revision r6: 1 new" in err
    assert "--start-at 2\n" in err
    assert "is a folder" in run("import", folder, *given, "--yes", "--type", "pdq")[2]


def test_an_export_is_there_whole_or_not_at_all_and_for_its_owner_only(
    service: FakeService, run: Run, tmp_path: Path
) -> None:
    service.answer("GetBank", pb.GetBankResponse(bank=ABUSE))

    def give(_: Any, __: Any) -> Iterator[pb.ExportEntriesResponse]:
        for place in range(3):
            yield pb.ExportEntriesResponse(records=[pb.EntryRecord(id=str(place))], revision="r7", entry_count=3)

    service.answer("ExportEntries", give)
    out, packed = tmp_path / "abuse.jsonl", tmp_path / "abuse.jsonl.gz"
    code, _, err = run("export", out, "--bank", "abuse")
    assert (code, err) == (0, "3 entries of banks/abuse, revision r7\n")
    lines = out.read_text().splitlines()
    header = json.loads(lines[0])
    assert (header["imagewarden"], header["bank"], header["kind"], header["revision"]) == (
        1,
        "banks/abuse",
        "banned",
        "r7",
    )
    assert lines[1:] == ['{"id":"0"}', '{"id":"1"}', '{"id":"2"}', '{"count":3}']
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert run("export", packed, "--bank", "abuse")[0] == 0
    assert gzip.decompress(packed.read_bytes()).decode().splitlines()[1:] == lines[1:]
    code, printed, _ = run("export", "--bank", "abuse")
    assert printed.splitlines()[1:] == lines[1:]

    def breaks(_: Any, context: grpc.ServicerContext) -> Iterator[pb.ExportEntriesResponse]:
        yield pb.ExportEntriesResponse(records=[pb.EntryRecord(id="0")], entry_count=3)
        context.abort(grpc.StatusCode.UNAVAILABLE, "stopping")

    before = out.read_bytes()
    service.answer("ExportEntries", breaks)
    assert run("export", out, "--bank", "abuse")[0] == 4
    assert out.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["abuse.jsonl", "abuse.jsonl.gz"]

    service.answer("ExportEntries", lambda *_: iter([pb.ExportEntriesResponse(revision="r1")]))
    assert run("export", out, "--bank", "abuse")[0] == 0
    assert out.read_text().splitlines()[1:] == ['{"count":0}']
    assert json.loads(out.read_text().splitlines()[0])["revision"] == "r1"


def test_banks_and_formats_are_completed() -> None:
    environment = {**os.environ, "_IMAGEWARDEN_COMPLETE": "complete_bash", "COMP_CWORD": "4"}
    environment |= {
        "COMP_WORDS": "imagewarden import x --format n",
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
    }
    found = subprocess.run(
        [sys.executable, "-c", "from imagewarden.cli import run; run()"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert found.stdout.split() == ["ncmec"]
