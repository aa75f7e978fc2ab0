"""Callers that are killed in the middle of their streams: the server goes on, and takes nothing by half."""

from __future__ import annotations

import random
import select
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from tests.support.processes import start_server

from imagewarden import BankKind, Client

RECORDS = 20

# Four threads bring lists in, and four check, until the process is killed.
CALLER = f"""
import itertools, os, sys, threading
from imagewarden import Client, EntryRecord, RecordHash, SignalType

client = Client(sys.argv[1])

def bring(thread):
    for turn in itertools.count():
        hashes = [RecordHash(SignalType.PDQ, os.urandom(32)) for _ in range({RECORDS})]
        name = f"{{os.getpid()}}-{{thread}}-{{turn}}"
        records = [EntryRecord((one,), f"{{name}}-{{number}}", "s") for number, one in enumerate(hashes)]
        for _ in client.import_entries("b", enumerate(records, 1)):
            pass
        print("go", flush=True)

def check():
    for _ in client.check_stream((str(number), b"no picture") for number in itertools.count()):
        pass

for thread in range(4):
    threading.Thread(target=bring, args=(thread,), daemon=True).start()
    threading.Thread(target=check, daemon=True).start()
threading.Event().wait()
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_server_outlives_callers_that_are_killed(kills: int, tmp_path: Path, tally: Counter[str]) -> None:
    chance = random.Random(77)  # noqa: S311 -- the same seed kills at the same moments
    tally["callers killed"] += 0
    variables = {"PYTHONFAULTHANDLER": "1", "IMAGEWARDEN_DRAIN_SECONDS": "1"}
    with (
        start_server(tmp_path / "state", f"unix:{tmp_path}/nobody.sock", tmp_path, variables) as server,
        Client(server.address) as client,
    ):
        client.create_bank("b", BankKind.BANNED)
        for _ in range(max(10, kills // 4)):
            command = [sys.executable, "-c", CALLER, server.address]
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as caller:
                assert caller.stdout is not None
                assert select.select([caller.stdout], [], [], 60)[0], "the caller brought nothing in"
                time.sleep(chance.uniform(0, 0.05))
                caller.kill()
            assert server.process.poll() is None, f"the server ended:\n{server.log.read_text()[-3_000:]}"
            tally["callers killed"] += 1
        time.sleep(2)  # what was sent before the last kill is dealt with
        entries = client.get_bank("b").entry_count
        # Each message is a change of its own.
        assert entries > 0
        assert entries % RECORDS == 0
        assert sum(1 for _ in client.list_entries("b", page_size=1_000)) == entries
