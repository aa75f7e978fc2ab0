"""Fuzzes every target for a bounded time: `python -m tests.fuzz [TARGET ...]`; see `make fuzz`.

Each target is a process of its own, so that what crashes one harms no other. What the fuzzer keeps of a run is where
the next one begins; an input that breaks a target is kept, and the command is told that repeats it.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.seeds import FOLDER

KEPT = Path("var/fuzz")
_MOST_MEMORY_MB = 2_048
_SLACK_SECONDS = 600
_MEMORY = Path("/dev/shm")  # noqa: S108 -- a folder of its own is made in it
_EXECUTIONS = re.compile(r"^stat::number_of_executed_units:\s*(\d+)", re.MULTILINE)
_PROGRESS = re.compile(r"^#(\d+)\t\S+\s+cov: (\d+) ft: \d+ corp: (\d+)", re.MULTILINE)
_WRITTEN = re.compile(r"Test unit written to (\S+)")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one target."""

    executions: int
    branches: int
    corpus: int
    seconds: float
    found: tuple[Path, ...]
    code: int
    said: str


def main(arguments: Sequence[str] | None = None) -> int:
    """0: nothing was found; 1: something was; 2: there is no fuzzer."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", help="names of targets; none: all of them")
    usual = int(os.environ.get("FUZZ_SECONDS") or 20)
    parser.add_argument("--seconds", type=int, default=usual, help="for each target: %(default)s")
    parser.add_argument("--repeat", metavar="TARGET", help="run the files that follow through a target, once")
    parser.add_argument("--one", metavar="TARGET", help=argparse.SUPPRESS)
    said = parser.parse_args(arguments)
    if unknown := [name for name in (() if said.repeat or said.one else said.targets) if not (FOLDER / name).is_dir()]:
        known = ", ".join(sorted(path.name for path in FOLDER.iterdir()))
        parser.error(f"no target {unknown[0]!r}; there are {known}")
    if said.repeat:
        return repeat(said.repeat, said.targets)
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed; `make fuzz` installs it where it has a wheel (Linux on x86-64, Python 3.11 to")
        print("3.13). Without it the seeds can still be run: pytest tests/fuzz")
        return 2
    if said.one:
        fuzz(said.one, said.targets)
        return 0
    return fuzz_all(said.targets, said.seconds)


def repeat(target: str, files: Sequence[str]) -> int:
    """Run inputs through a target; what it raises comes out."""
    from tests.fuzz.targets import TARGETS

    for file in files:
        begin = time.perf_counter()
        TARGETS[target].run(Path(file).read_bytes())
        print(f"{file}: nothing is wrong ({time.perf_counter() - begin:.3f} s)")
    return 0


def fuzz(target: str, arguments: Sequence[str]) -> None:
    """Fuzz one target in this process, which ends with it."""
    import atheris

    with atheris.instrument_imports(include=["imagewarden", "imagewarden_server", "PIL", "pillow_heif"]):
        from tests.fuzz import wounds
        from tests.fuzz.targets import TARGETS

    one = TARGETS[target]

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        chance = random.Random(seed)  # noqa: S311 -- the fuzzer's own
        flips = (functools.partial(_flip, atheris.Mutate, most), wounds.plain(chance))
        assert one.mutate is not None
        return one.mutate(data, chance, chance.choice(flips))[:most]

    options = {} if one.mutate is None else {"custom_mutator": mutate}
    with tempfile.NamedTemporaryFile("w", suffix=".dict") as words:
        for word in one.words:
            words.write('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n')
        words.flush()
        limits = [f"-max_len={one.most_bytes}", f"-timeout={one.seconds}", f"-rss_limit_mb={_MOST_MEMORY_MB}"]
        limits += [f"-dict={words.name}"] if one.words else []
        atheris.Setup([sys.argv[0], *limits, *arguments], one.run, **options)
        atheris.Fuzz()


def _flip(change: Callable[[bytes, int], bytes], most: int, data: bytes) -> bytes:
    return bytes(change(data, most))


def fuzz_all(names: Sequence[str], seconds: int) -> int:
    """Fuzz targets one after the other, each for so many seconds, and tell what came of it."""
    names = names or sorted(path.name for path in FOLDER.iterdir())
    print(f"{len(names)} targets, {seconds} s each; the seeds are in tests/fuzz/seeds, what is kept in {KEPT}")
    print(f"{'target':<20}{'executions':>12}{'a second':>10}{'branches':>10}{'corpus':>8}  outcome", flush=True)
    broken = []
    for name in names:
        outcome = fuzz_apart(name, seconds)
        told = "nothing found"
        if outcome.found or outcome.code:
            broken.append((name, outcome))
            told = f"FOUND {len(outcome.found)}"
        speed = outcome.executions / max(outcome.seconds, 1)
        print(
            f"{name:<20}{outcome.executions:>12,}{speed:>10,.0f}{outcome.branches:>10,}{outcome.corpus:>8,}  {told}",
            flush=True,
        )
    for name, outcome in broken:
        print(f"\n{name} ended with {outcome.code}:\n{outcome.said}")
        for file in outcome.found:
            print(f"repeat it: {sys.executable} -m tests.fuzz --repeat {name} {file}")
    print(f"\n{len(names)} targets, {len(broken)} broken")
    return 1 if broken else 0


def fuzz_apart(name: str, seconds: int) -> Outcome:
    """Fuzz one target in a process of its own."""
    corpus, found = KEPT / "corpus" / name, KEPT / "found" / name
    for folder in (corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tests.fuzz", "--one", name, "--", f"-max_total_time={seconds}"]
    command += ["-print_final_stats=1", f"-artifact_prefix={found}/", str(corpus), str(FOLDER / name)]
    begin = time.monotonic()
    # The fuzzer ends its process without a word to it, so what that leaves is removed here. In memory where there is
    # such a place: each change of a catalogue is synchronised with the disk.
    with tempfile.TemporaryDirectory(prefix="imagewarden-fuzz-", dir=_MEMORY if _MEMORY.is_dir() else None) as scratch:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": scratch},
            check=False,
            timeout=seconds + _SLACK_SECONDS,
        )
    took = time.monotonic() - begin
    text = done.stdout.decode("utf-8", "replace")
    progress = _PROGRESS.findall(text)
    executions = _EXECUTIONS.search(text)
    last = progress[-1] if progress else ("0", "0", "0")
    files = tuple(Path(one) for one in _WRITTEN.findall(text))
    return Outcome(
        int(executions[1]) if executions else int(last[0]),
        int(last[1]),
        int(last[2]),
        took,
        files,
        done.returncode,
        "" if done.returncode == 0 and not files else _told(text),
    )


def _told(text: str) -> str:
    """The end of what a run said, without the lines by which it said that it went on."""
    lines = [line for line in text.splitlines() if not line.startswith(("#", "INFO: Instrumenting"))]
    return "\n".join(lines[-40:])


if __name__ == "__main__":
    sys.exit(main())
