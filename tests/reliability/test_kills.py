"""Servers killed with SIGKILL at any moment, while they start and while they take changes.

Nothing acknowledged is lost, and what was not acknowledged is there whole or not at all.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from tests.support.api import SHA256, Api
from tests.support.processes import READY_SECONDS, begin_server, launch_server

from imagewarden.v1 import bank_service_pb2 as banks_pb
from imagewarden.v1 import types_pb2 as types

BATCH = 20
CALLERS = 3
LANES = 2
"""So many servers, each over a state of its own, are killed side by side: most of the time they only start."""
BANK = "banks/abuse"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class Expected:
    """What the catalogue must have.

    Attributes:
        names: the entry of each acknowledged content; None: it was deleted, and that was acknowledged.
        open: contents whose last change got no answer, in groups of which all or none are there.
    """

    names: dict[bytes, str | None] = field(default_factory=dict)
    open: list[list[bytes]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Changer:
    """One caller that makes changes until its server is gone."""

    def __init__(self, api: Api, expected: Expected, chance: random.Random, tally: Counter[str], turn: str) -> None:
        self._api, self._expected, self._chance, self._tally, self._turn = api, expected, chance, tally, turn
        self._number = 0

    def run(self) -> None:
        steps = {self._add: 4, self._delete: 2, self._toggle: 1, self._import: 2, self._check: 3}
        with contextlib.suppress(grpc.RpcError):
            while True:
                self._chance.choices(tuple(steps), tuple(steps.values()))[0]()

    def _new(self, count: int) -> list[bytes]:
        self._number += count
        return [f"{self._turn}-{self._number - one}".encode() for one in range(count)]

    def _add(self) -> None:
        contents = self._new(self._chance.choice((1, BATCH)))
        hashes = [banks_pb.HashToAdd(type=SHA256, hex=digest(one)) for one in contents]
        with self._open(contents):
            answer = self._api.banks.AddHashes(banks_pb.AddHashesRequest(bank=BANK, hashes=hashes), timeout=30)
            with self._expected.lock:
                self._expected.names |= {
                    content: one.entry for content, one in zip(contents, answer.results, strict=True)
                }

    def _delete(self) -> None:
        if (chosen := self._mine()) is not None:
            content, name = chosen
            with self._open([content]):
                self._api.banks.DeleteEntry(banks_pb.DeleteEntryRequest(name=name), timeout=30)
                with self._expected.lock:
                    self._expected.names[content] = None

    def _toggle(self) -> None:
        """Disabled and enabled again: two changes that must leave it as it was."""
        if (chosen := self._mine()) is not None:
            content, name = chosen
            with self._open([content]):
                for state in (types.ENTRY_STATE_DISABLED, types.ENTRY_STATE_ACTIVE):
                    set_state(self._api, name, state)
                    with self._expected.lock:
                        self._tally["changes acknowledged"] += state == types.ENTRY_STATE_DISABLED

    def _import(self) -> None:
        """A list of some messages, the last one of tombstones: each message is a change of its own."""
        groups = [self._new(self._chance.choice((1, BATCH))) for _ in range(self._chance.randint(1, 3))]
        gone = sorted({chosen[0] for chosen in (self._mine() for _ in range(3)) if chosen is not None})
        messages = [[(content, False) for content in group] for group in groups]
        if gone:
            groups.append(gone)
            messages.append([(content, True) for content in gone])
        numbers = itertools.count(1)
        requests = [
            banks_pb.ImportEntriesRequest(bank=BANK, records=[self._record(next(numbers), *one) for one in message])
            for message in messages
        ]
        with self._expected.lock:
            self._expected.open += groups
        answers = self._api.banks.ImportEntries(iter(requests), timeout=30)
        for group, message, _ in zip(groups, messages, answers, strict=True):
            with self._expected.lock:
                self._expected.names |= {
                    content: None if removed else self._name(content) for content, removed in message
                }
                self._expected.open.remove(group)
                self._tally["changes acknowledged"] += 1
                self._tally["of them messages of lists"] += 1

    def _record(self, number: int, content: bytes, removed: bool) -> banks_pb.EntryRecord:
        with self._expected.lock:
            name = self._expected.names.get(content) or self._name(content)
        value = banks_pb.RecordHash(type=SHA256, value=bytes.fromhex(digest(content)))
        return banks_pb.EntryRecord(number=number, id=name.rpartition("/")[2], hashes=[value], removed=removed)

    @staticmethod
    def _name(content: bytes) -> str:
        """What an imported entry is called: its record says so."""
        return f"{BANK}/entries/{digest(content)[:20]}"

    def _check(self) -> None:
        if (chosen := self._mine()) is not None:
            assert self._api.check(chosen[0]).matches[0].entry == chosen[1]
            with self._expected.lock:
                self._tally["checks answered beside"] += 1

    def _mine(self) -> tuple[bytes, str] | None:
        """An entry of this caller's own, which no other one changes."""
        with self._expected.lock:
            own = [
                (content, name)
                for content, name in self._expected.names.items()
                if name is not None and content.startswith(self._turn.encode() + b"-")
            ]
        return self._chance.choice(own) if own else None

    @contextlib.contextmanager
    def _open(self, contents: list[bytes]) -> Iterator[None]:
        with self._expected.lock:
            self._expected.open.append(contents)
        yield
        with self._expected.lock:
            self._expected.open.remove(contents)
            self._tally["changes acknowledged"] += 1


def entries(api: Api) -> dict[str, types.Entry]:
    """What the bank has, by hash."""
    there: dict[str, types.Entry] = {}
    token = ""
    while True:
        page = api.banks.ListEntries(banks_pb.ListEntriesRequest(bank=BANK, page_size=1_000, page_token=token))
        there |= {signal.hex: entry for entry in page.entries for signal in entry.signals}
        token = page.next_page_token
        if not token:
            return there


def set_state(api: Api, name: str, state: types.EntryState.ValueType) -> None:
    request = banks_pb.UpdateEntryRequest(entry=types.Entry(name=name, state=state))
    request.update_mask.paths.append("state")
    api.banks.UpdateEntry(request, timeout=30)


def as_acknowledged(found: types.Entry | None, name: str | None) -> bool:
    if found is None or name is None:
        return found is None and name is None
    return found.name == name and found.state == types.ENTRY_STATE_ACTIVE


def look(api: Api, expected: Expected, tally: Counter[str], chance: random.Random) -> None:
    """Hold what the catalogue has, and what checks see, against what was acknowledged; what was open is known now."""
    there = entries(api)
    unsure = {content for group in expected.open for content in group}
    for content, name in expected.names.items():
        if content not in unsure:
            tally["changes lost"] += not as_acknowledged(there.get(digest(content)), name)
    for group in expected.open:
        present = [digest(content) in there for content in group]
        tally["changes half-there"] += any(present) != all(present)
        for content in group:
            found = there.get(digest(content))
            expected.names[content] = None if found is None else found.name
            if found is not None and found.state != types.ENTRY_STATE_ACTIVE:
                set_state(api, found.name, types.ENTRY_STATE_ACTIVE)
    expected.open.clear()
    tally["changes that nobody made"] += len(set(there) - {digest(content) for content in expected.names})
    for content in [*chance.sample(sorted(expected.names), min(len(expected.names), 20)), *unsure]:
        name = expected.names[content]
        assert [one.entry for one in api.check(content).matches] == ([] if name is None else [name])
    assert api.banks.GetBank(banks_pb.GetBankRequest(name=BANK)).bank.entry_count == len(there)


def kill_while_it_starts(state: Path, nobody: str, scratch: Path, seconds: float) -> None:
    process = begin_server(state, nobody, scratch)
    time.sleep(seconds)
    process.kill()
    process.wait(timeout=READY_SECONDS)


@pytest.mark.slow
@pytest.mark.timeout(1_500)
def test_servers_killed_at_random_moments_lose_nothing(kills: int, tmp_path: Path, tally: Counter[str]) -> None:
    for what in ("kills survived", "changes acknowledged", "changes lost", "changes half-there"):
        tally[what] += 0
    shares = [len(range(lane, kills, LANES)) for lane in range(LANES)]
    with concurrent.futures.ThreadPoolExecutor(LANES) as pool:
        lanes = [pool.submit(killed_again_and_again, share, tmp_path, lane) for lane, share in enumerate(shares)]
        for one in lanes:
            tally.update(one.result())
    assert tally["changes acknowledged"] > kills
    assert tally["changes lost"] == 0
    assert tally["changes half-there"] == 0
    assert tally["changes that nobody made"] == 0


def killed_again_and_again(kills: int, folder: Path, lane: int) -> Counter[str]:
    """Kill servers over one state, one after the other, and hold what is there against what was acknowledged."""
    chance = random.Random(20_261 + lane)  # noqa: S311 -- the same seed kills at the same moments
    expected, tally = Expected(), Counter[str]()
    scratch = folder / f"lane-{lane}"
    scratch.mkdir()
    nobody = f"unix:{scratch}/nobody.sock"
    state = scratch / "state"
    for number in range(kills):
        if number % 8 == 7:
            kill_while_it_starts(state, nobody, scratch, chance.uniform(0.05, 1.5))
            tally["kills survived"] += 1
            continue
        server = launch_server(state, nobody, scratch, {"IMAGEWARDEN_SNAPSHOT_SECONDS": "1"})
        with Api(server.address) as api, concurrent.futures.ThreadPoolExecutor(CALLERS) as callers:
            if not number:
                api.create_bank("abuse")
            look(api, expected, tally, chance)
            changers = [
                Changer(api, expected, random.Random(chance.random()), tally, f"{number}.{caller}")  # noqa: S311 -- the same
                for caller in range(CALLERS)
            ]
            futures = [callers.submit(one.run) for one in changers]
            time.sleep(chance.uniform(0.0, 0.7))
            server.kill()
            for future in futures:
                future.result()
        tally["kills survived"] += 1
    server = launch_server(state, nobody, scratch)
    try:
        with Api(server.address) as api:
            look(api, expected, tally, chance)
            for content, name in expected.names.items():
                assert [one.entry for one in api.check(content).matches] == ([] if name is None else [name])
    finally:
        server.terminate()
    return tally
