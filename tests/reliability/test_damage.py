"""One bit changed in any file of a state: the server rebuilds its index, or refuses and says how to go on."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import random
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.api import EMBEDDING, MATCH, PDQ, SEMANTIC, SHA256, Api
from tests.support.damage import CATALOG, Dump, Flip, contents, copied, dump, fill, flips, hashes, survives
from tests.support.processes import launch_server, start_server
from tests.support.records import features, vectors
from tests.support.waiting import eventually

from imagewarden.v1 import bank_service_pb2 as banks_pb
from imagewarden_server.catalog import SqlCatalog
from imagewarden_server.index.entry_vectors import GRAPH_FROM
from imagewarden_server.index.vectors import read_arrays
from imagewarden_server.matching.types import VectorSpace

COPIED, LATER = 300, 100
"""So many files are banned before the copy is made, and after it."""
PICTURES = 20
"""So many entries have vectors and local features."""
VIEWS = 1_000
"""About as many as an entry may have: those of a few entries are enough for a graph."""


def banned(number: int) -> bytes:
    return f"banned {number}".encode()


def ban(api: Api, numbers: range) -> None:
    chance = random.Random(numbers[0])  # noqa: S311 -- the same hashes
    added = [banks_pb.HashToAdd(type=SHA256, hex=hashlib.sha256(banned(number)).hexdigest()) for number in numbers]
    added += [banks_pb.HashToAdd(type=PDQ, hex=chance.randbytes(32).hex()) for _ in numbers]
    for one in range(0, len(added), 20):
        request = banks_pb.AddHashesRequest(bank="banks/abuse", hashes=added[one : one + 20])
        api.banks.AddHashes(request, timeout=30)


def bring_pictures(api: Api, numbers: range, views: int = 1) -> None:
    """Import what pictures are recognised by, as an export of another server has it."""
    chance = np.random.default_rng(numbers[0])
    records = [
        banks_pb.EntryRecord(
            number=number,
            id=f"picture-{number}",
            vectors=[vectors(EMBEDDING, 12, 512, chance), vectors(SEMANTIC, views, 8, chance)],
            features=[features(60, chance)],
        )
        for number in numbers
    ]
    requests = [banks_pb.ImportEntriesRequest(bank="banks/abuse", records=records)]
    (answer,) = api.banks.ImportEntries(iter(requests), timeout=60)
    assert (answer.added, len(answer.refused)) == (len(numbers), 0)


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
        bring_pictures(api, range(1, PICTURES + 1))
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


def snapshot_with_a_graph(state: Path, nobody: str, scratch: Path) -> Path:
    """The one snapshot that a server leaves: a graph is made after one is saved, and so stands in the next."""
    index = state / "index"
    enough = GRAPH_FROM[VectorSpace.SEMANTIC] // VIEWS + 1
    with (
        start_server(state, nobody, scratch, {"IMAGEWARDEN_SNAPSHOT_SECONDS": "1"}) as server,
        Api(server.address) as api,
    ):
        before = newest(index)
        bring_pictures(api, range(PICTURES + 1, PICTURES + 1 + enough), VIEWS)
        assert eventually(partial(replaced, before))
        before = newest(index)
        ban(api, range(COPIED + LATER, COPIED + LATER + 1))
        assert eventually(partial(replaced, before))
    for snapshot in index.glob("snapshot-*"):
        if snapshot != newest(index):
            shutil.rmtree(snapshot)
    return newest(index)


def newest(index: Path) -> Path:
    return max(one for one in index.glob("snapshot-*") if ".tmp-" not in one.name)


def replaced(snapshot: Path) -> bool:
    return newest(snapshot.parent) != snapshot


def described(snapshot: Path) -> list[dict[str, Any]]:
    """What each file of a snapshot has, and how much, as its manifest says; without what the very bytes are."""
    files: list[dict[str, Any]] = json.loads((snapshot / "manifest.json").read_text())["files"]
    return [{key: value for key, value in one.items() if key not in {"bytes", "sha256"}} for one in files]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_servers_rebuild_an_index_with_one_flipped_bit(state: Path, tmp_path: Path, tally: Counter[str]) -> None:
    nobody = f"unix:{tmp_path}/nobody.sock"
    chance = random.Random(43)  # noqa: S311 -- the same bits
    snapshot = snapshot_with_a_graph(state, nobody, tmp_path)
    files = sorted(file.relative_to(state) for file in snapshot.iterdir())
    parts = {file.stem.partition("-")[2]: file for file in snapshot.glob("*.npz")}
    assert set(parts) == {"sha256", "pdq", "copy", "semantic", "local"}
    assert "graph" in read_arrays(parts["semantic"])
    assert len(files) == len(parts) + 2, "and the manifest with its sum"
    tally["flipped bits in indexes passed over"] += 0
    chosen = [
        Flip(str(file), chance.randrange((state / file).stat().st_size), chance.randrange(8)) for file in 2 * files
    ]
    scratches = [tmp_path / f"flip-{number}" for number in range(len(chosen))]
    with ThreadPoolExecutor(2) as pool:
        for _ in pool.map(partial(rebuilt, snapshot), chosen, scratches):
            tally["servers started over flipped bits"] += 1
            tally["flipped bits in indexes passed over"] += 1
    # One that ends well saves what it made; to wait for that each time would take longer than all else.
    with start_server(scratches[0] / "state", nobody, tmp_path):
        pass
    assert described(newest(scratches[0] / "state" / "index")) == described(snapshot), "it has it all"


def rebuilt(snapshot: Path, flip: Flip, scratch: Path) -> None:
    """Start a server over a copy of a state with one bit of its snapshot changed: it finds all, by a new index."""
    scratch.mkdir()
    here = copied(snapshot.parents[1], scratch / "state").parent
    flip.do(here)
    server = launch_server(here, f"unix:{scratch}/nobody.sock", scratch)
    with Api(server.address) as api:
        assert all(found(api, range(COPIED + LATER)))
    server.kill()
    log = server.log.read_text()
    assert '"how": "rebuilt"' in log
    assert snapshot.name in log


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
