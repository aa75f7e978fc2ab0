"""PreviewPolicy, with the real model: what is said before is what happens when it is in force."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.http import metrics, value
from tests.support.pictures import cropped, encoded, exported, inset, opened, pasted
from tests.support.processes import Host, Server, start_server

import imagewarden as iw
from imagewarden import cli

pytestmark = [pytest.mark.model, pytest.mark.timeout(300)]

PDQ, EMBEDDING, LOCAL, COMBINED = (
    iw.SignalType.PDQ,
    iw.SignalType.EMBEDDING,
    iw.SignalType.LOCAL,
    iw.SignalType.COMBINED,
)


@pytest.fixture(scope="module")
def shared(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    scratch = tmp_path_factory.mktemp("preview")
    with start_server(scratch / "state", host.address, scratch) as server:
        yield server


@pytest.fixture(scope="module")
def client(shared: Server) -> Iterator[iw.Client]:
    with iw.Client(shared.address, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def pictures(photographs: dict[str, bytes]) -> dict[str, bytes]:
    """Edits of a banned photograph, from near to far, and others."""
    home, boats = opened(photographs["dust-bowl-home"]), opened(photographs["nagasaki-boats"])
    edits = {
        "same": encoded(home, quality=70),
        "small": encoded(home.resize((home.width // 3, home.height // 3)), quality=60),
        "cropped": encoded(cropped(home, 0.9), quality=85),
        "cut": encoded(cropped(home, 0.5), quality=85),
        "inset": encoded(inset(home, boats, (0.3, 0.3, 0.9, 0.9)), quality=85),
    }
    return edits | {name: data for name, data in photographs.items() if name != "dust-bowl-home"}


@pytest.fixture(scope="module")
def checked(client: iw.Client, pictures: dict[str, bytes], photographs: dict[str, bytes]) -> iw.Client:
    """A bank with one photograph, and all the pictures checked against it."""
    client.create_bank("abuse", "banned")
    client.add_image("abuse", photographs["dust-bowl-home"])
    for data in pictures.values():
        client.check(data, exhaustive=True)
    return client


def matching(client: iw.Client, pictures: dict[str, bytes], signal: iw.SignalType) -> int:
    """How many pictures a signal of the bank recognises now, by what checks answer as evidence."""
    found = 0
    for data in pictures.values():
        for match in client.check(data, exhaustive=True).matches:
            found += any(one.signal == signal and one.reached for one in match.evidence)
    return found


@pytest.mark.parametrize(
    ("signal", "tried"), [(PDQ, 6.0), (PDQ, 100.0), (EMBEDDING, 0.9), (EMBEDDING, 0.3), (LOCAL, 150.0), (LOCAL, 20.0)]
)
def test_a_threshold_matches_as_many_as_it_said(
    checked: iw.Client, pictures: dict[str, bytes], signal: iw.SignalType, tried: float
) -> None:
    """By the signal, and in all: the threshold is put in force, and every picture is checked again."""
    thresholds = [iw.Threshold(signal, tried)]
    before = checked.get_bank("abuse")
    preview = checked.preview_policy("abuse", thresholds)
    assert checked.get_bank("abuse") == before, "nothing is changed"
    assert (preview.pictures, preview.compared) == (len(pictures), len(pictures))
    (said,) = preview.signals
    assert (said.signal, said.threshold) == (signal, tried)
    kept = {one.signal: one for one in before.policy.thresholds}
    assert said.threshold_in_force == kept[signal].value
    assert preview.matching_in_force == sum(
        checked.check(data, exhaustive=True).verdict is iw.Verdict.MATCH for data in pictures.values()
    )
    assert said.matching_in_force == matching(checked, pictures, signal)
    try:
        checked.update_bank("abuse", thresholds=tuple({**kept, signal: thresholds[0]}.values()))
        assert said.matching == matching(checked, pictures, signal)
        assert preview.matching == sum(
            checked.check(data, exhaustive=True).verdict is iw.Verdict.MATCH for data in pictures.values()
        )
    finally:
        checked.update_bank("abuse", thresholds=before.policy.thresholds)


def test_the_nearest_and_the_histogram(checked: iw.Client, pictures: dict[str, bytes]) -> None:
    preview = checked.preview_policy("abuse", [iw.Threshold(PDQ, 12)], max_nearest=3)
    (said,) = preview.signals
    assert len(said.nearest) == 3
    values = [one.value for one in said.nearest]
    assert values == sorted(values)
    digests = {checked.check(data).image.sha256: name for name, data in pictures.items()}
    assert digests[said.nearest[0].sha256] == "same"
    (entry,) = checked.list_entries("abuse")
    assert {one.entry for one in said.nearest} == {entry.name}
    assert sum(bar.pictures for bar in said.histogram) == said.compared == len(pictures)
    assert said.histogram[-1].pictures >= len(pictures) - 5, "what is unlike is far"
    assert [bar.end for bar in said.histogram[:-1]] == [bar.begin for bar in said.histogram[1:]]
    assert preview.oldest_time is not None
    assert preview.newest_time is not None
    assert preview.oldest_time <= said.nearest[0].time <= preview.newest_time


def test_an_entry_that_is_not_there_yet_can_be_tried(
    checked: iw.Client, pictures: dict[str, bytes], photographs: dict[str, bytes]
) -> None:
    """As a hash, as a picture, and once it is there; a bank that is empty says nothing of its own."""
    checked.create_bank("new", "banned")
    boats = photographs["nagasaki-boats"]
    pdq = checked.check(boats).image.pdq
    by_hash = checked.preview_policy("new", hash=iw.Hash(PDQ, pdq))
    by_image = checked.preview_policy("new", image=boats)
    assert (by_hash.matching, by_hash.matching_in_force) == (1, 1), "the very picture, at the bank's own threshold"
    assert {one.signal for one in by_hash.signals} == {PDQ}
    assert {PDQ, EMBEDDING} <= {one.signal for one in by_image.signals}
    assert by_image.matching == 1
    nearest = {one.signal: one.nearest[0] for one in by_image.signals}
    digest = checked.check(boats).image.sha256
    assert {one.sha256 for one in nearest.values()} == {digest}
    assert (nearest[PDQ].value, nearest[PDQ].entry) == (0, "")
    assert list(checked.list_entries("new")) == [], "nothing was added"
    same = checked.preview_policy("new", hash=f"sha256:{digest}")
    assert (same.matching, same.signals) == (1, ())
    entry = checked.add_image("new", boats).entry.name
    md5 = checked.preview_policy("new", hash=f"md5:{hashlib.md5(boats, usedforsecurity=False).hexdigest()}")
    assert (md5.matching, md5.without_digests) == (1, 0), "the bank abuse has MD5s, and so checks have computed them"
    again = checked.preview_policy("new", [iw.Threshold(PDQ, 0)], entry=entry)
    assert (again.signals[0].matching, again.signals[0].nearest[0].entry) == (1, entry)
    assert again.matching >= 1
    checked.delete_bank("new", force=True)
    del pictures


def test_what_cannot_be_tried_is_refused(checked: iw.Client) -> None:
    for field, arguments in (
        ("thresholds", {}),
        ("thresholds", {"thresholds": [iw.Threshold(iw.SignalType.SHA256, 0)]}),
        ("thresholds[0].threshold", {"thresholds": [iw.Threshold(PDQ, 300)]}),
        ("hash", {"hash": "md5:" + "00" * 15}),
        ("max_nearest", {"thresholds": [iw.Threshold(PDQ, 3)], "max_nearest": 101}),
        ("entry", {"entry": "other/0123"}),
    ):
        with pytest.raises(iw.InvalidRequest) as refused:
            checked.preview_policy("abuse", **arguments)
        assert refused.value.field == field
    with pytest.raises(iw.NotFound):
        checked.preview_policy("abuse", entry="abuse/0123")
    with pytest.raises(iw.NotFound):
        checked.preview_policy("nobody", [iw.Threshold(PDQ, 3)])
    with pytest.raises(iw.InvalidRequest):
        checked.preview_policy("abuse", image=b"no picture")


def test_a_brands_threshold_is_tried_on_what_checks_measured(
    checked: iw.Client, colour_logo: Callable[[str], bytes], photographs: dict[str, bytes]
) -> None:
    checked.create_bank("brands", "brand")
    svg = colour_logo("spotify-icon")
    checked.register_logo("brands", "Acme", [svg])
    scene = pasted(opened(photographs["french-alpine-landscape"]), exported(svg), 0.15, (0.6, 0.5))
    data = encoded(scene, quality=90)
    answer = checked.check(data, banks=["brands"], exhaustive=True)
    (match,) = answer.matches
    local = next(one.value for one in match.evidence if one.signal == LOCAL)
    for tried, count in ((local - 1, 1), (local + 1, 0)):
        preview = checked.preview_policy("brands", [iw.Threshold(LOCAL, tried)])
        (said,) = preview.signals
        assert said.matching == count
        assert said.nearest[0].sha256 == answer.image.sha256
        assert said.nearest[0].value == pytest.approx(local, rel=1e-5)
    checked.delete_bank("brands", force=True)


def test_by_the_command_line_and_in_the_metrics(
    shared: Server, checked: iw.Client, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def run(*arguments: str | Path) -> tuple[int, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.run(["--server", shared.address, *map(str, arguments)])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out + err

    code, said = run("bank", "preview", "abuse", "--threshold", "pdq=24")
    assert code == 0
    assert "would match" in said
    assert "nearest by pdq" in said
    assert "###" in said
    code, said = run("bank", "preview", "abuse", "--threshold", "pdq=24", "--json")
    assert '"signal": "pdq"' in said
    assert run("bank", "preview", "abuse")[0] == 2
    seen = metrics(shared)
    kept = value(seen, "imagewarden_preview_window_pictures")
    assert kept >= 10
    assert 1_000 < value(seen, "imagewarden_preview_window_bytes") / kept < 20_000, "some kilobytes a picture"
    del checked, tmp_path


def test_it_can_be_switched_off(host: Host, tmp_path: Path, photographs: dict[str, bytes]) -> None:
    off = {"IMAGEWARDEN_PREVIEW_WINDOW_BYTES": "0"}
    with start_server(tmp_path / "state", host.address, tmp_path, off) as server, iw.Client(server.address) as client:
        client.create_bank("abuse", "banned")
        client.check(photographs["nagasaki-boats"])
        preview = client.preview_policy("abuse", [iw.Threshold(PDQ, 31)])
        assert (preview.pictures, preview.compared, preview.oldest_time) == (0, 0, None)
        assert value(metrics(server), "imagewarden_preview_window_bytes") == 0
