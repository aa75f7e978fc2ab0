"""Servers killed with SIGKILL at any moment, while they start and while they take changes.

Nothing acknowledged is lost, and what was not acknowledged is there whole or not at all.
"""

from __future__ import annotations

import concurrent.futures
import random
import time
from collections import Counter
from pathlib import Path

import pytest
from tests.support.api import EMBEDDING, PDQ, Api
from tests.support.changer import (
    BANK,
    CHANGES,
    DIMENSIONS,
    NONE,
    Changer,
    Counts,
    Expected,
    digest,
    policy_bank,
    set_state,
)
from tests.support.processes import READY_SECONDS, begin_server, launch_server
from tests.support.records import MODEL

from imagewarden.v1 import bank_service_pb2 as banks_pb
from imagewarden.v1 import types_pb2 as types

CALLERS = 3
LANES = 2
"""So many servers, each over a state of its own, are killed side by side: most of the time they only start."""


def policy_number(api: Api, caller: int) -> int | None:
    """Which change a caller's bank is as; None: as no change makes it."""
    bank = api.banks.GetBank(banks_pb.GetBankRequest(name=f"banks/policies-{caller}")).bank
    number = int(bank.display_name.removeprefix("change "))
    (pdq,) = (one.threshold for one in bank.policy.thresholds if one.signal == PDQ)
    whole = (pdq, bank.policy.enabled_ratio) == (number % 32, number % 101 / 100)
    return number if whole else None


def entries(api: Api) -> dict[str, types.Entry]:
    """What the bank has, by hash."""
    there: dict[str, types.Entry] = {}
    token = ""
    while True:
        page = api.banks.ListEntries(banks_pb.ListEntriesRequest(bank=BANK, page_size=1_000, page_token=token))
        there |= {signal.hex: entry for entry in page.entries for signal in entry.signals if signal.hex}
        token = page.next_page_token
        if not token:
            return there


def as_acknowledged(found: types.Entry | None, name: str | None, views: int) -> bool:
    if found is None or name is None:
        return found is None and name is None
    return found.name == name and found.state == types.ENTRY_STATE_ACTIVE and has_vectors(found, views)


def has_vectors(entry: types.Entry, views: int) -> bool:
    """Whether an entry has the vectors of its record, and no others."""
    said = [(one.model_version, one.views, one.dimensions) for one in entry.signals if one.type == EMBEDDING]
    return said == ([(MODEL, views, DIMENSIONS)] if views else [])


def reported(entry: types.Entry) -> Counts:
    said = entry.feedback
    return said.confirmed, said.false_positives, said.disputed


def look(api: Api, expected: Expected, tally: Counter[str], chance: random.Random) -> None:
    """Hold what the catalogue has, and what checks see, against what was acknowledged; what was open is known now."""
    there = entries(api)
    unsure = {content for group in expected.open for content in group}
    for content, name in expected.names.items():
        if content not in unsure:
            views = expected.views.get(content, 0)
            tally["changes lost"] += not as_acknowledged(there.get(digest(content)), name, views)
    look_at_reports(there, expected, tally)
    look_at_policies(api, expected, tally)
    for group in expected.open:
        present = [digest(content) in there for content in group]
        tally["changes half-there"] += any(present) != all(present)
        for content in group:
            found = there.get(digest(content))
            expected.names[content] = None if found is None else found.name
            tally["changes half-there"] += found is not None and not has_vectors(found, expected.views.get(content, 0))
            if found is not None and found.state != types.ENTRY_STATE_ACTIVE:
                set_state(api, found.name, types.ENTRY_STATE_ACTIVE)
    expected.open.clear()
    tally["changes that nobody made"] += len(set(there) - {digest(content) for content in expected.names})
    for content in [*chance.sample(sorted(expected.names), min(len(expected.names), 20)), *unsure]:
        name = expected.names[content]
        assert [one.entry for one in api.check(content).matches] == ([] if name is None else [name])
    assert api.banks.GetBank(banks_pb.GetBankRequest(name=BANK)).bank.entry_count == len(there)


def look_at_reports(there: dict[str, types.Entry], expected: Expected, tally: Counter[str]) -> None:
    """Hold how many reports each entry has against those that were acknowledged, and against one that was open."""
    for content in {*expected.reports, *expected.reporting}:
        if (found := there.get(digest(content))) is not None:
            counts = reported(found)
            before = expected.reports.get(content, NONE)
            tally["changes lost"] += counts not in {before, expected.reporting.get(content, before)}
            expected.reports[content] = counts
    expected.reporting.clear()


def look_at_policies(api: Api, expected: Expected, tally: Counter[str]) -> None:
    """Hold each caller's bank against the change that was acknowledged last, and against one that was open."""
    for caller in range(CALLERS):
        before = expected.policies.get(caller, 0)
        number = policy_number(api, caller)
        tally["changes half-there"] += number is None
        tally["changes lost"] += number not in {None, before, expected.setting.get(caller, before)}
        expected.policies[caller] = before if number is None else number
    expected.setting.clear()


def kill_while_it_starts(state: Path, nobody: str, scratch: Path, seconds: float) -> None:
    process = begin_server(state, nobody, scratch)
    time.sleep(seconds)
    process.kill()
    process.wait(timeout=READY_SECONDS)


@pytest.mark.slow
@pytest.mark.timeout(1_500)
def test_servers_killed_at_random_moments_lose_nothing(kills: int, tmp_path: Path, tally: Counter[str]) -> None:
    for what in ("kills survived", *CHANGES, "changes lost", "changes half-there", "changes that nobody made"):
        tally[what] += 0
    shares = [len(range(lane, kills, LANES)) for lane in range(LANES)]
    with concurrent.futures.ThreadPoolExecutor(LANES) as pool:
        lanes = [pool.submit(killed_again_and_again, share, tmp_path, lane) for lane, share in enumerate(shares)]
        for one in lanes:
            tally.update(one.result())
    assert tally["changes acknowledged"] > kills
    assert all(tally[what] for what in CHANGES)
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
                # Reports are counted here, and quarantine nothing.
                api.create_bank("abuse", policy=types.Policy(quarantine_false_positives=0))
                for caller in range(CALLERS):
                    api.banks.CreateBank(banks_pb.CreateBankRequest(bank=policy_bank(caller, 0)), timeout=30)
            look(api, expected, tally, chance)
            changers = [
                Changer(api, expected, random.Random(chance.random()), tally, number, caller)  # noqa: S311 -- the same
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
