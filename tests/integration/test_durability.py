"""Nothing acknowledged is lost: servers killed with SIGKILL and started again, snapshots damaged, indexes rebuilt."""

from __future__ import annotations

import concurrent.futures
import hashlib
from pathlib import Path

import pytest
from tests.support.api import COMBINED, EMBEDDING, LOCAL, MATCH, SHA256, Api, evidence_of, without
from tests.support.pictures import cropped, encoded, opened, tiles
from tests.support.processes import Host, launch_server

from imagewarden.v1 import bank_service_pb2 as banks_pb

ENTRIES = 2_000
PICTURES = 300
"""So many of the entries are pictures, each with twelve passes of the model; the others are digests of pictures."""
CALLERS = 4


def said_of(api: Api, picture: bytes, entry: str) -> dict[int, float]:
    """What each signal that looks at the picture says of an entry."""
    whole = api.check(picture, exhaustive=True, max_matches=100)
    (match,) = [one for one in whole.matches if one.entry == entry and one.evidence]
    return {signal: one.value for signal, one in evidence_of(match).items()}


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_two_thousand_entries_are_found_again_after_kill_9(
    host: Host, photographs: dict[str, bytes], more_photographs: list[bytes], tmp_path: Path
) -> None:
    pictures = tiles([*photographs.values(), *more_photographs], ENTRIES, 299, seed=7)
    server = launch_server(tmp_path / "state", host.address, tmp_path)
    entries: dict[int, str] = {}
    with Api(server.address) as api, concurrent.futures.ThreadPoolExecutor(CALLERS) as callers:
        bank = api.create_bank("abuse")

        def ban(number: int) -> tuple[str, str]:
            if number < PICTURES:
                image = api.add_image(bank, pictures[number])
                return image.entry.name, image.revision
            digest = api.add_hash(bank, SHA256, hashlib.sha256(pictures[number]).hexdigest())
            return digest.results[0].entry, digest.revision

        for number, (name, revision) in enumerate(callers.map(ban, range(ENTRIES))):
            entries[number], last = name, revision
        before = {number: said_of(api, pictures[number], entries[number]) for number in range(0, PICTURES, 10)}
    server.kill()
    server = launch_server(tmp_path / "state", host.address, tmp_path)
    try:
        with Api(server.address) as api, concurrent.futures.ThreadPoolExecutor(CALLERS) as callers:
            assert api.banks.GetBank(banks_pb.GetBankRequest(name=bank)).bank.entry_count == ENTRIES
            answers = callers.map(lambda data: api.check(data, at_least_revision=last), pictures)
            for number, checked in enumerate(answers):
                assert checked.verdict == MATCH
                assert checked.matches[0].entry == entries[number]
                assert checked.matches[0].signal == SHA256
            # The vectors and the local features came back too, from the stored rows, without the model's help.
            for number, said in before.items():
                assert said_of(api, pictures[number], entries[number]) == pytest.approx(said, abs=2e-3)
                described = api.banks.GetEntry(banks_pb.GetEntryRequest(name=entries[number])).entry.signals
                keypoints = sum(signal.keypoints for signal in described)
                # Of the geometric check's own making: it counts places, of which a plain tile has few.
                assert keypoints < 100 or said[LOCAL] >= 20
    finally:
        server.terminate()
    assert "rebuilt" in server.log.read_text()


@pytest.mark.model
def test_local_features_are_the_same_after_kill_9_a_rebuild_and_a_snapshot(
    host: Host, photographs: dict[str, bytes], tmp_path: Path
) -> None:
    names = sorted(photographs)
    crops = {name: encoded(cropped(opened(photographs[name]), 0.5), quality=90) for name in names}
    nobody = f"unix:{tmp_path}/nobody.sock"

    def found(api: Api) -> dict[str, tuple[str, float, list[float]]]:
        matches = {name: api.check(crops[name]).matches for name in names}
        assert all(len(one) == 1 and one[0].signal == LOCAL for one in matches.values())
        return {name: (one.entry, one.score, list(one.transform.coefficients)) for name, (one,) in matches.items()}

    server = launch_server(tmp_path / "state", host.address, tmp_path)
    with Api(server.address) as api:
        bank = api.create_bank("abuse", policy=without(EMBEDDING, COMBINED))
        entries = {name: api.add_image(bank, photographs[name]).entry.name for name in names}
        before = found(api)
    assert {name: one[0] for name, one in before.items()} == entries
    server.kill()
    # Without the model: what is found then is what was stored.
    for how in ("rebuilt", "snapshot"):
        server.log.unlink()
        server = launch_server(tmp_path / "state", nobody, tmp_path)
        with Api(server.address) as api:
            assert found(api) == before
        assert server.terminate() == 0
        assert f'"how": "{how}"' in server.log.read_text()


def test_changes_survive_kills_at_any_moment(tmp_path: Path) -> None:
    acknowledged: dict[bytes, str] = {}
    unanswered: set[bytes] = set()
    nobody = f"unix:{tmp_path}/nobody.sock"
    for turn in range(4):
        server = launch_server(tmp_path / "state", nobody, tmp_path)
        with Api(server.address) as api:
            if not turn:
                api.create_bank("abuse")
            with concurrent.futures.ThreadPoolExecutor(CALLERS) as callers:
                contents = [f"{turn}-{number}".encode() for number in range(400)]
                futures = {
                    callers.submit(api.add_hash, "banks/abuse", SHA256, hashlib.sha256(data).hexdigest()): data
                    for data in contents
                }
                for count, future in enumerate(concurrent.futures.as_completed(futures)):
                    data = futures[future]
                    if future.exception() is None:
                        acknowledged[data] = future.result().results[0].entry
                    else:
                        unanswered.add(data)
                    if count == 50 * (turn + 1):
                        server.kill()
    server = launch_server(tmp_path / "state", nobody, tmp_path)
    try:
        with Api(server.address) as api:
            assert len(acknowledged) > 400
            for data, entry in acknowledged.items():
                assert api.check(data).matches[0].entry == entry
            count = api.banks.GetBank(banks_pb.GetBankRequest(name="banks/abuse")).bank.entry_count
            whole = sum(api.check(data).verdict == MATCH for data in unanswered)
            assert count == len(acknowledged) + whole, "what was not acknowledged is there whole, or not at all"
    finally:
        server.terminate()


def test_an_orderly_stop_leaves_a_snapshot_and_a_damaged_one_is_not_believed(tmp_path: Path) -> None:
    nobody = f"unix:{tmp_path}/nobody.sock"
    server = launch_server(tmp_path / "state", nobody, tmp_path)
    with Api(server.address) as api:
        api.create_bank("abuse")
        api.add_hash("banks/abuse", SHA256, hashlib.sha256(b"kept").hexdigest())
    assert server.terminate() == 0
    (snapshot,) = (tmp_path / "state" / "index").glob("snapshot-*")
    for expected in ('"how": "snapshot"', '"how": "rebuilt"'):
        server.log.unlink()
        server = launch_server(tmp_path / "state", nobody, tmp_path)
        with Api(server.address) as api:
            assert api.check(b"kept").verdict == MATCH
        server.kill()
        assert expected in server.log.read_text()
        for file in snapshot.glob("*.npz"):
            damaged = bytearray(file.read_bytes())
            damaged[len(damaged) // 2] ^= 1
            file.write_bytes(damaged)
    assert "is damaged" in server.log.read_text()


def test_a_damaged_catalogue_refuses_to_start_and_says_why(tmp_path: Path) -> None:
    nobody = f"unix:{tmp_path}/nobody.sock"
    server = launch_server(tmp_path / "state", nobody, tmp_path)
    with Api(server.address) as api:
        api.create_bank("abuse")
        for number in range(30):
            api.add_hash("banks/abuse", SHA256, hashlib.sha256(str(number).encode()).hexdigest())
    assert server.terminate() == 0
    catalogue = tmp_path / "state" / "catalog.sqlite3"
    raw = bytearray(catalogue.read_bytes())
    raw[4096 : 4096 * 4] = bytes(4096 * 3)
    catalogue.write_bytes(raw)
    with pytest.raises(RuntimeError, match=r"catalog\.sqlite3") as caught:
        launch_server(tmp_path / "state", nobody, tmp_path)
    assert "Traceback" not in str(caught.value)
