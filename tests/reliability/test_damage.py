"""One bit changed in any file of a state: the server rebuilds its index, or refuses and says how to go on."""

from __future__ import annotations

import hashlib
import multiprocessing
import random
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from tests.support.api import MATCH, PDQ, SHA256, Api
from tests.support.damage import CATALOG, Dump, Flip, contents, copied, dump, fill, flips, hashes, survives
from tests.support.processes import launch_server, start_server

from imagewarden.v1 import bank_service_pb2 as banks_pb
from imagewarden_server.catalog import SqlCatalog

COPIED, LATER = 300, 100
"""So many files are banned before the copy is made, and after it."""


def banned(number: int) -> bytes:
    return f"banned {number}".encode()


def ban(api: Api, numbers: range) -> None:
    chance = random.Random(numbers[0])  # noqa: S311 -- the same hashes
    added = [banks_pb.HashToAdd(type=SHA256, hex=hashlib.sha256(banned(number)).hexdigest()) for number in numbers]
    added += [banks_pb.HashToAdd(type=PDQ, hex=chance.randbytes(32).hex()) for _ in numbers]
    for one in range(0, len(added), 20):
        request = banks_pb.AddHashesRequest(bank="banks/abuse", hashes=added[one : one + 20])
        api.banks.AddHashes(request, timeout=30)


def found(api: Api, numbers: range) -> list[bool]:
    return [api.check(banned(number)).verdict == MATCH for number in numbers]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "imagewarden", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """What a killed server left: the last changes stand in the log alone; a copy has those before it."""
    nobody = f"unix:{tmp_path}/nobody.sock"
    with start_server(tmp_path / "made", nobody, tmp_path) as server, Api(server.address) as api:
        api.create_bank("abuse")
        ban(api, range(COPIED))
    server = launch_server(tmp_path / "made", nobody, tmp_path, {"IMAGEWARDEN_SNAPSHOT_SECONDS": "1"})
    with Api(server.address) as api:
        made = run("backup", str(tmp_path / "copies"), "--state-dir", str(tmp_path / "made"))
        assert made.returncode == 0, made.stderr
        ban(api, range(COPIED, COPIED + LATER))
        assert all(found(api, range(COPIED + LATER)))
    server.kill()
    return tmp_path / "made"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_servers_refuse_a_catalogue_with_one_flipped_bit_or_lose_nothing(
    state: Path, damages: int, tmp_path: Path, tally: Counter[str]
) -> None:
    nobody = f"unix:{tmp_path}/nobody.sock"
    tally["flipped bits in catalogues refused"] += 0
    tally["crashes over flipped bits"] += 0
    tally["changes lost to flipped bits"] += 0
    again, before_this = 0, tally["flipped bits in catalogues refused"]
    for number, flip in enumerate(flips(state, damages, seed=41)):
        here = copied(state, tmp_path / f"state-{number}").parent
        flip.do(here)
        before = contents(here)
        try:
            server = launch_server(here, nobody, tmp_path)
        except RuntimeError as refusal:
            said = str(refusal)
            tally["crashes over flipped bits"] += "Traceback" in said or "ended with 1:" not in said
            assert contents(here) == before
            (command, *_) = re.findall(r"`(imagewarden restore .+?)`", said)
            tally["flipped bits in catalogues refused"] += 1
            if again < 3:
                again += 1
                gone_on_by(command, here, nobody, tmp_path)
                tally["catalogues restored by the command that was said"] += 1
        else:
            with Api(server.address) as api:
                tally["changes lost to flipped bits"] += found(api, range(COPIED + LATER)).count(False)
            server.terminate()
        tally["servers started over flipped bits"] += 1
        (tmp_path / "server.log").unlink()
        shutil.rmtree(here)
    # Many bits stand for nothing: of pages that the log has anew, of records that others replace; none in the log does.
    refused = tally["flipped bits in catalogues refused"] - before_this
    assert refused >= max(1, damages // 8)
    assert tally["catalogues restored by the command that was said"] == min(3, refused)
    assert tally["crashes over flipped bits"] == 0
    assert tally["changes lost to flipped bits"] == 0


def gone_on_by(command: str, state: Path, nobody: str, scratch: Path) -> None:
    """Run a command as it was said; what the copy has is there, and new changes are taken."""
    program, *arguments = shlex.split(command)
    assert program == "imagewarden"
    restored = run(*arguments)
    assert restored.returncode == 0, restored.stderr
    with start_server(state, nobody, scratch) as server, Api(server.address) as api:
        assert all(found(api, range(COPIED)))
        assert not any(found(api, range(COPIED, COPIED + LATER)))
        ban(api, range(COPIED, COPIED + 1))
        assert all(found(api, range(COPIED, COPIED + 1)))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_servers_rebuild_an_index_with_one_flipped_bit(state: Path, tmp_path: Path, tally: Counter[str]) -> None:
    nobody = f"unix:{tmp_path}/nobody.sock"
    chance = random.Random(43)  # noqa: S311 -- the same bits
    with start_server(state, nobody, tmp_path):
        pass
    newest = max((state / "index").glob("snapshot-*"))
    files = sorted(file.relative_to(state) for file in newest.iterdir())
    for snapshot in (state / "index").glob("snapshot-*"):
        if snapshot != newest:
            shutil.rmtree(snapshot)
    assert len(files) == 4
    tally["flipped bits in indexes passed over"] += 0
    for number, file in enumerate([*files, *files]):
        here = copied(state, tmp_path / f"state-{number}").parent
        size = (here / file).stat().st_size
        Flip(str(file), chance.randrange(size), chance.randrange(8)).do(here)
        (tmp_path / "server.log").unlink()
        with start_server(here, nobody, tmp_path) as server, Api(server.address) as api:
            assert all(found(api, range(COPIED + LATER)))
        log = server.log.read_text()
        assert '"how": "rebuilt"' in log
        assert newest.name in log
        tally["servers started over flipped bits"] += 1
        tally["flipped bits in indexes passed over"] += 1


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_flipped_bit_of_a_catalogue_makes_a_silent_difference(
    damages: int, tmp_path: Path, tally: Counter[str]
) -> None:
    """As the contract tests do it, without servers and so of many more bits."""
    catalog = SqlCatalog.open(tmp_path / "made" / CATALOG)
    fill(catalog)
    catalog.add_hashes("abuse", hashes(900, 50))
    copied(tmp_path / "made", tmp_path / "killed")
    catalog.close()
    expected = dump(tmp_path / "made" / CATALOG)
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        states = (tmp_path / "killed", tmp_path / "made")
        for counts in pool.map(flipped, states, (50 * damages,) * 2, (expected,) * 2):
            tally.update(counts)


def flipped(state: Path, count: int, expected: Dump) -> Counter[str]:
    """Change one bit of a state after the other, each of a copy."""
    counts = Counter[str]()
    for flip in flips(state, count, seed=47):
        refused = survives(state, flip, state.with_name(f"flipped-{state.name}"), expected)
        counts["flipped bits in catalogues refused"] += refused
        counts["flipped bits in catalogues without a meaning"] += not refused
    return counts
