"""A server finds out by itself what its catalogue has and its index has not."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from tests.support.api import MATCH, Api
from tests.support.processes import launch_server

from imagewarden_server.catalog import SqlCatalog
from imagewarden_server.matching.types import HashSignal, NewEntry, SignalType

SECONDS = 10.0


def test_what_was_committed_and_not_followed_is_in_force_soon(tmp_path: Path) -> None:
    file = b"no picture at all"
    server = launch_server(tmp_path / "state", f"unix:{tmp_path}/nobody.sock", tmp_path)
    with Api(server.address) as api:
        api.create_bank("a")
        catalog = SqlCatalog.open(server.state / "catalog.sqlite3")
        digest = HashSignal(SignalType.SHA256, hashlib.sha256(file).digest())
        catalog.add_hashes("a", [NewEntry(hashes=(digest,))])
        catalog.close()
        until = time.monotonic() + SECONDS
        while api.check(file).verdict != MATCH:
            assert time.monotonic() < until
            time.sleep(0.1)
    assert server.terminate() == 0
