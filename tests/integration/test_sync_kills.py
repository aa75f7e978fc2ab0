"""`imagewarden sync` is killed in the middle, again and again: in the end everything is there, once."""

from __future__ import annotations

import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from tests.support.exchanges import Exchange, FbThreatExchange, Ncmec, StopNcii, Tat, served
from tests.support.processes import Server
from tests.support.sync_world import settled
from tests.support.syncing import Syncing, digits, entries, hashes, ran

from imagewarden import BankKind, Client

THEN = int(time.time()) - 30 * 86_400
RECORDS = 400
KILLS = 8
# Of the banks' names: a bank of each exchange, beside those of other tests.
BANKS = ("kill-ncmec", "kill-stopncii", "kill-tat", "kill-fb")


@pytest.fixture
def client(server_without_model: Server) -> Iterator[Client]:
    with Client(server_without_model.address) as found:
        for bank in BANKS:
            found.create_bank(bank, BankKind.BANNED)
        yield found
        for bank in BANKS:
            found.delete_bank(bank, force=True)


def lines_until(process: subprocess.Popen[str], event: str) -> bool:
    """Read the log until something happens in it; whether it does before the process ends."""
    assert process.stderr is not None
    return any(f'"event": "{event}"' in line for line in process.stderr)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_kills_lose_nothing_and_double_nothing(client: Client, server_without_model: Server, tmp_path: Path) -> None:
    chance = random.Random(5)  # noqa: S311 -- not for secrets
    ncmec, stopncii, tat, fb = Ncmec(20), StopNcii(20), Tat(20), FbThreatExchange(20)
    every: tuple[Exchange, ...] = (ncmec, stopncii, tat, fb)
    exchanges = dict(zip(BANKS, every, strict=True))
    expected: dict[str, dict[str, set[tuple[str, str]]]] = {bank: {} for bank in BANKS}

    def change(number: int, word: str, when: int) -> None:
        one = digits((number, word))
        ncmec.change(str(number), when, prints={"pdq": one})
        expected["kill-ncmec"][f"42-{number}"] = {("pdq", one)}
        tat.change(number, when, hash_digest=one)
        expected["kill-tat"][str(number)] = {("pdq", one)}
        stopncii.change(one, when)
        expected["kill-stopncii"][one] = {("pdq", one)}
        fb.change(one, when)
        expected["kill-fb"][f"HASH_PDQ:{one}"] = {("pdq", one)}

    for number in range(RECORDS):
        change(number, "first", THEN + number // 200)
    with ExitStack() as stack:
        for exchange in exchanges.values():
            stack.enter_context(served(exchange))
            exchange.delay = 0.02
        sync = Syncing(server_without_model.address, tmp_path)
        sync.configure(exchanges)
        in_the_middle = when = 0
        for kill in range(KILLS):
            process = sync.begin("--once")
            begun = lines_until(process, "delta")
            time.sleep(chance.uniform(0.0, 0.6))
            in_the_middle += begun and process.poll() is None
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=30)
            if kill == KILLS // 2:
                # Meanwhile the exchanges change: what was fetched already, too.
                when = int(time.time())
                for number in range(0, RECORDS, 40):
                    old = digits((number, "first"))
                    stopncii.change(old, when, "Withdrawn")
                    fb.change(old, when, should_delete=True)
                    del expected["kill-stopncii"][old], expected["kill-fb"][f"HASH_PDQ:{old}"]
                    change(number, "second", when)
        assert in_the_middle >= KILLS // 2
        settled(when)
        last = sync.once()
        assert last.code == 0, last.text
    for bank, wanted in expected.items():
        assert hashes(entries(client, bank)) == wanted, bank


@pytest.mark.slow
def test_a_kill_repeats_one_delta_at_most(client: Client, server_without_model: Server, tmp_path: Path) -> None:
    """Of an exchange with a checkpoint a page: what was acknowledged and remembered is not asked for again."""
    with served(Tat(10)) as tat:
        for number in range(200):
            tat.change(number, THEN + number, hash_digest=digits(number))
        tat.delay = 0.05
        sync = Syncing(server_without_model.address, tmp_path)
        sync.configure({"kill-tat": tat})
        process = sync.begin("--once")
        assert lines_until(process, "delta")
        time.sleep(0.4)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
        there = len(entries(client, "kill-tat"))
        assert 0 < there < 200
        tat.delay = 0.0
        last = sync.once()
    counts = last.counts("kill-tat")
    assert counts["added"] == 200 - there
    assert counts.get("unchanged", 0) <= 10
    assert len(entries(client, "kill-tat")) == 200


@pytest.mark.slow
def test_on_a_schedule_until_a_signal(client: Client, server_without_model: Server, tmp_path: Path) -> None:
    with served(Tat()) as tat, served(StopNcii()) as stopncii:
        sync = Syncing(server_without_model.address, tmp_path)
        sync.configure({"kill-tat": tat, "kill-stopncii": stopncii}, every="1s")
        stopncii.fail(401, 1_000)
        process = sync.begin()

        def there(bank: str, name: str) -> bool:
            return name in entries(client, bank)

        lines: list[str] = []
        reader = threading.Thread(target=lambda: lines.extend(process.stderr or ()))
        reader.start()
        for number in range(3):
            tat.change(number, THEN + number, hash_digest=digits(number))
            wait_for(partial(there, "kill-tat", str(number)))
        stopncii.change(digits("late"), THEN)
        stopncii.heal()
        wait_for(partial(there, "kill-stopncii", digits("late")), seconds=60)
        assert sync.status()[1]["kill-tat"]["state"] == "ok"
        # Another process leaves those exchanges alone.
        other = sync.once("--only", "kill-tat", "--every", "1s")
        assert other.code in {0, 4}
        assert "another" not in sync.status()[1]["kill-tat"]["error"]
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
        assert time.monotonic() - began < 10
        reader.join()
        process.communicate()
    found = ran(0, "", "".join(lines))
    assert {line["exchange"] for line in found.events("failed")} >= {"kill-stopncii"}
    assert found.events("done")


def wait_for(true: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)
