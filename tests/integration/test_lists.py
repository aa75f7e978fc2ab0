"""Lists in and out of a real server by the command line: twice, exported, into another bank, signal for signal."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.support.api import BRAND, CONTENT, EMBEDDING, LOCAL, MATCH, NO_MATCH, Api, evidence_of
from tests.support.hash_lists import CHANGED, COUNT, GONE, MAKERS, Made
from tests.support.pictures import cropped, encoded, exported, opened, pasted
from tests.support.processes import Host, Server, start_server

from imagewarden.lists import Format
from imagewarden.v1 import bank_service_pb2 as pb
from imagewarden.v1 import types_pb2 as types

NONE = {"added": 0, "updated": 0, "unchanged": 0, "removed": 0, "absent": 0, "refused": 0}


def run(server: Server, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "imagewarden", "--server", server.address, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def bring(server: Server, path: Path, bank: str, *options: str, refused: bool = False) -> dict[str, Any]:
    """Import a list; the counts that differ from none, and the revision."""
    done = run(server, "import", path, "--bank", bank, "--json", *(options or ("--yes",)))
    assert done.returncode == (2 if refused else 0), done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    return {name: said[name] for name in NONE if said[name]}


def take_out(server: Server, bank: str, out: Path) -> list[dict[str, Any]]:
    """Export a bank; its entries."""
    done = run(server, "export", out, "--bank", bank)
    assert done.returncode == 0, done.stderr
    header, *entries, end = map(json.loads, out.read_text().splitlines())
    assert header["bank"] == f"banks/{bank}"
    assert end == {"count": len(entries)}
    return entries


def without_header(path: Path) -> list[str]:
    return path.read_text().splitlines()[1:]


@pytest.fixture
def server(server_without_model: Server) -> Server:
    with Api(server_without_model.address) as api:
        for bank in api.banks.ListBanks(pb.ListBanksRequest()).banks:
            api.banks.DeleteBank(pb.DeleteBankRequest(name=bank.name, force=True))
        api.create_bank("abuse")
        api.create_bank("copy")
    return server_without_model


def saved(made: Made, folder: Path) -> Path:
    folder.mkdir()
    path = folder / made.name
    path.write_bytes(made.data)
    return path


@pytest.mark.parametrize("format_", MAKERS)
def test_a_list_comes_in_twice_goes_out_and_comes_into_another_bank(
    server: Server, tmp_path: Path, format_: Format
) -> None:
    first, later = MAKERS[format_](later=False), MAKERS[format_](later=True)
    at_first, then = saved(first, tmp_path / "first"), saved(later, tmp_path / "later")
    assert bring(server, at_first, "abuse", "--dry-run") == {"added": COUNT}
    assert bring(server, at_first, "abuse") == {"added": COUNT}
    assert bring(server, at_first, "abuse") == {"unchanged": COUNT}

    gone, refused = later.removed, {"refused": len(later.refused)}
    changed = 0 if format_ is Format.HASHES else len(CHANGED)
    expected = {"updated": changed, "unchanged": COUNT - gone - changed, "removed": gone, **refused}
    expected = {name: count for name, count in expected.items() if count}
    assert bring(server, then, "abuse", "--dry-run", refused=True) == expected
    assert bring(server, then, "abuse", refused=True) == expected
    again = {"unchanged": COUNT - gone, **({"absent": gone} if gone else {}), **refused}
    assert bring(server, then, "abuse", refused=True) == again

    out = tmp_path / "abuse.jsonl"
    entries = take_out(server, "abuse", out)
    assert len(entries) == COUNT - gone
    assert {f"{one['type']}:{one['hex']}" for entry in entries for one in entry["hashes"]} == later.hashes
    assert sum("B2" in entry.get("labels", ()) for entry in entries) == changed
    if gone:
        assert gone == len(GONE)
    if format_ is Format.JSONL:
        kept = [int(entry["external_id"].removeprefix("case-")) for entry in entries]
        assert [entry["note"] for entry in entries] == [f"of {place}" for place in kept]
        held = [place for place, entry in zip(kept, entries, strict=True) if "quarantine" in entry]
        assert held == [place for place in kept if place % 7 == 0]

    # A name of an entry is one of its bank: the copy may have the same ones.
    assert bring(server, out, "copy", "--dry-run") == {"added": COUNT - gone}
    assert bring(server, out, "copy") == {"added": COUNT - gone}
    assert bring(server, out, "copy") == {"unchanged": COUNT - gone}
    copied = tmp_path / "copy.jsonl"
    take_out(server, "copy", copied)
    assert without_header(copied) == without_header(out)


def test_tombstones_take_away_what_the_same_source_brought_and_nothing_else(server: Server, tmp_path: Path) -> None:
    header = "signal_type,signal_str,collab,category,tags\n"
    digits = "f8" * 32
    ours = tmp_path / "ours.txt"
    ours.write_text(f"pdq {digits}\n")
    theirs = tmp_path / "theirs.csv"
    theirs.write_text(f"{header}pdq,{digits},A,POSITIVE_CLASS,\npdq,{digits},B,POSITIVE_CLASS,\n")
    assert bring(server, ours, "abuse") == {"added": 1}
    assert bring(server, theirs, "abuse") == {"added": 2}
    theirs.write_text(f"{header}pdq,{digits},A,NEGATIVE_CLASS,\n")
    assert bring(server, theirs, "abuse") == {"removed": 1}
    left = take_out(server, "abuse", tmp_path / "out.jsonl")
    assert [entry.get("source", "") for entry in left] == ["", "B"]


def test_an_import_in_parts_is_the_same_as_one_whole(server: Server, tmp_path: Path) -> None:
    made = MAKERS[Format.NCMEC](later=False)
    path = saved(made, tmp_path / "list")
    assert bring(server, path, "abuse", "--yes", "--start-at", "701") == {"added": COUNT - 700}
    assert bring(server, path, "abuse") == {"added": 700, "unchanged": COUNT - 700}
    assert bring(server, path, "copy") == {"added": COUNT}
    by_name: Callable[[dict[str, Any]], str] = lambda entry: entry["external_id"]  # noqa: E731 -- a key
    both = [sorted(take_out(server, bank, tmp_path / bank), key=by_name) for bank in ("abuse", "copy")]
    for entries in both:
        for entry in entries:
            del entry["id"], entry["create_time"]
    assert both[0] == both[1]


def test_the_service_is_asked_by_name_and_its_refusals_are_told(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text(f"md5 {'ab' * 16}\npdq {'f8' * 32}\n")
    with Api(server.address) as api:
        api.create_bank("fine", types.BANK_KIND_ALLOWED)
    done = run(server, "import", path, "--bank", "fine", "--yes")
    assert done.returncode == 2
    assert "brought in: 1 new, 1 refused; revision " in done.stdout
    assert "line 1: hashes: " in done.stderr
    done = run(server, "import", path, "--bank", "nowhere", "--yes")
    assert done.returncode == 2
    assert "BANK_NOT_FOUND" in done.stderr


PICTURES = ("coffee.png", "chelsea.png", "rocket.jpg")


@pytest.fixture(scope="module")
def scikit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of photographs that come with scikit-image."""
    import skimage

    folder = tmp_path_factory.mktemp("evidence")
    for name in PICTURES:
        (folder / name).write_bytes((Path(skimage.__file__).parent / "data" / name).read_bytes())
    return folder


@pytest.fixture(scope="module")
def both(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    """Two servers with the same model that know nothing of each other."""
    one, other = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("other")
    with (
        start_server(one / "state", host.address, one) as first,
        start_server(other / "state", host.address, other) as second,
    ):
        yield first, second


def matches(server: Server, image: bytes, bank: str) -> list[types.Match]:
    """What a bank says of a picture, without what tells one server's banks from another's."""
    with Api(server.address) as api:
        answer = api.check(image, banks=[f"banks/{bank}"], exhaustive=True)
    assert answer.verdict == (MATCH if answer.matches else NO_MATCH)
    return list(answer.matches)


@pytest.mark.model
def test_pictures_go_to_another_server_with_all_that_they_are_recognised_by(
    both: tuple[Server, Server], scikit: Path, tmp_path: Path
) -> None:
    first, second = both
    for server in both:
        with Api(server.address) as api:
            bank = types.Bank(name="banks/photos", kind=types.BANK_KIND_BANNED, keep_images=True)
            api.banks.CreateBank(pb.CreateBankRequest(bank=bank), timeout=30)
    assert bring(first, scikit, "photos", "--dry-run") == {"added": len(PICTURES)}
    assert bring(first, scikit, "photos", "--yes", "--label", "case 7") == {"added": len(PICTURES)}
    assert bring(first, scikit, "photos", "--yes") == {"unchanged": len(PICTURES)}
    out = tmp_path / "photos.jsonl.gz"
    assert run(first, "export", out, "--bank", "photos").returncode == 0
    assert bring(second, out, "photos") == {"added": len(PICTURES)}
    assert bring(second, out, "photos") == {"unchanged": len(PICTURES)}
    plain, copied = tmp_path / "photos.jsonl", tmp_path / "copied.jsonl"
    entries = take_out(first, "photos", plain)
    assert take_out(second, "photos", copied) == entries
    assert without_header(copied) == without_header(plain)
    for entry in entries:
        assert {one["type"] for one in entry["hashes"]} >= {"sha256", "pdq"}
        assert {one["type"] for one in entry["vectors"]} == {"embedding", "semantic"}
        assert entry["features"]
        assert entry["image"]
        assert entry["labels"] == ["case 7"]

    crop = encoded(cropped(Image.open(scikit / "coffee.png").convert("RGB"), 0.7), quality=90)
    here, there = matches(first, crop, "photos"), matches(second, crop, "photos")
    assert here == there
    (match,) = there
    assert match.external_id.endswith("coffee.png")
    assert match.signal in CONTENT
    said = evidence_of(match)
    assert said[EMBEDDING].reached
    assert said[LOCAL].reached


@pytest.mark.model
def test_logos_go_to_another_server_with_all_that_they_are_recognised_by(
    both: tuple[Server, Server],
    colour_logo: Callable[[str], bytes],
    photographs: dict[str, bytes],
    tmp_path: Path,
) -> None:
    first, second = both
    for server in both:
        with Api(server.address) as api:
            api.create_bank("brands", BRAND)
    with Api(first.address) as api:
        for slug in ("firefox", "spotify-icon"):
            api.register_logo("banks/brands", slug, colour_logo(slug))
    out, copied = tmp_path / "brands.jsonl", tmp_path / "copied.jsonl"
    entries = take_out(first, "brands", out)
    assert bring(second, out, "brands") == {"added": 2}
    assert bring(second, out, "brands") == {"unchanged": 2}
    assert take_out(second, "brands", copied) == entries
    assert without_header(copied) == without_header(out)
    assert [entry["brand"] for entry in entries] == ["firefox", "spotify-icon"]
    assert all(entry["thumbnail"] and entry["features"] and entry["vectors"] for entry in entries)

    scene = opened(photographs["french-alpine-landscape"]).resize((800, 600))
    marked = encoded(pasted(scene, exported(colour_logo("spotify-icon")), 0.15, (0.6, 0.5)), quality=90)
    here, there = matches(first, marked, "brands"), matches(second, marked, "brands")
    assert here == there
    assert (there[0].brand, there[0].signal in CONTENT) == ("spotify-icon", True)
    assert not matches(second, encoded(scene, quality=90), "brands")


@pytest.mark.model
def test_what_a_list_removes_is_found_no_more(both: tuple[Server, Server], scikit: Path, tmp_path: Path) -> None:
    _, second = both
    with Api(second.address) as api:
        api.create_bank("passing")
    assert bring(second, scikit, "passing") == {"added": len(PICTURES)}
    crop = encoded(cropped(Image.open(scikit / "chelsea.png").convert("RGB"), 0.4), quality=90)
    assert matches(second, crop, "passing")
    entries = take_out(second, "passing", tmp_path / "out.jsonl")
    gone = tmp_path / "gone.jsonl"
    lines = [{"imagewarden": 1}, *({"id": entry["id"], "removed": True} for entry in entries), {"count": len(entries)}]
    gone.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert bring(second, gone, "passing") == {"removed": len(PICTURES)}
    assert not matches(second, crop, "passing")
