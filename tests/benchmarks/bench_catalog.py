"""Measures the catalogue: `python tests/benchmarks/bench_catalog.py [CHECKOUT ...]`; some minutes. Not a test.

Makes one of a million random PDQ hashes and says how long it takes to open, to add one hash and to add ten thousand, by
turns of several checkouts of this repository: of each that is named, and of this one, all over copies of the same
files. The first checkout makes them, so name the oldest first. Figures are of this machine and its disk.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from imagewarden_server.catalog import SqlCatalog
from imagewarden_server.matching.policy import default_policy
from imagewarden_server.matching.types import BankKind, HashSignal, NewEntry, SignalType

HERE = Path(__file__).resolve().parents[2]
HASHES, BATCH = 1_000_000, 10_000
SINGLE, MANY = 200, 4
TURNS = 5


def say(line: str) -> None:
    """Print a line."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def new(count: int) -> list[NewEntry]:
    """Entries of a random hash each."""
    return [NewEntry(hashes=(HashSignal(SignalType.PDQ, os.urandom(32)),)) for _ in range(count)]


def make(path: Path) -> None:
    """The catalogue that is measured."""
    catalog = SqlCatalog.open(path)
    catalog.create_bank("abuse", BankKind.BANNED, policy=default_policy(BankKind.BANNED))
    for _ in range(HASHES // BATCH):
        catalog.add_hashes("abuse", new(BATCH))
    catalog.close()


def once(path: Path) -> None:
    """Seconds to open, to add one (the middle of many), to add ten thousand, and to close."""
    begin = time.perf_counter()
    catalog = SqlCatalog.open(path)
    took = [time.perf_counter() - begin]
    for count, times in ((1, SINGLE), (BATCH, MANY)):
        seconds = []
        for _ in range(times):
            entries = new(count)
            begin = time.perf_counter()
            catalog.add_hashes("abuse", entries)
            seconds.append(time.perf_counter() - begin)
        took.append(statistics.median(seconds))
    begin = time.perf_counter()
    catalog.close()
    say(" ".join(f"{one:.5f}" for one in (*took, time.perf_counter() - begin)))


def run(checkout: Path, *arguments: str) -> str:
    """This file in a process of its own, over the code of a checkout."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(str(checkout / one) for one in ("server", "client"))}
    command = [sys.executable, __file__, *arguments]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout


def main() -> None:
    """The table."""
    checkouts = [*(Path(one).resolve() for one in sys.argv[1:]), HERE]
    names = ("open", "add one", "add ten thousand", "close")
    with tempfile.TemporaryDirectory(dir=HERE.parent) as scratch:
        made = Path(scratch) / "made" / "catalog.sqlite3"
        run(checkouts[0], "make", str(made))
        said: dict[Path, list[list[float]]] = {}
        for checkout in checkouts:
            shutil.copytree(made.parent, Path(scratch) / str(checkouts.index(checkout)))
            run(checkout, "once", str(Path(scratch) / str(checkouts.index(checkout)) / made.name))
        for _ in range(TURNS):
            for checkout in checkouts:
                path = Path(scratch) / str(checkouts.index(checkout)) / made.name
                said.setdefault(checkout, []).append([float(one) for one in run(checkout, "once", str(path)).split()])
        say(f"{made.stat().st_size:,} bytes, {os.cpu_count()} cores, medians of {TURNS} turns (least to most), ms")
        for checkout, rows in said.items():
            for name, values in zip(names, zip(*rows, strict=True), strict=True):
                low, middle, high = (1_000 * one(values) for one in (min, statistics.median, max))
                say(f"{checkout.name:>12} {name:>18} {middle:9.2f} ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    if sys.argv[1:2] == ["make"]:
        make(Path(sys.argv[2]))
    elif sys.argv[1:2] == ["once"]:
        once(Path(sys.argv[2]))
    else:
        main()
