"""What the processes use, sampled once a second: memory, handles, threads; and what the server's metrics say."""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from pathlib import Path

from tests.soak.tally import Tally
from tests.support.http import metrics
from tests.support.processes import Host, Server

_OWN = ("RssAnon", "RssShmem", "VmSwap")
_SCRAPED = (
    "imagewarden_calls_in_flight",
    "imagewarden_index_age_seconds",
    "imagewarden_embedding_cache_bytes",
    "imagewarden_preview_window_bytes",
)


class Watch:
    """Samples two processes and what the server started, until it is stopped.

    Attributes:
        series: by name, pairs of the seconds since the beginning and a value. Memory is in MiB.
    """

    def __init__(self, server: Server, host: Host, tally: Tally) -> None:
        self.series: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._server, self._host, self._tally = server, host, tally
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(1.0):
            with self._tally.timed("scrape"):
                self._sample()

    def _sample(self) -> None:
        now = time.monotonic() - self._tally.begun
        decoders = [pid for pid in children(self._server.pid) if "_child.py" in command_of(pid)]
        values = {
            "server memory": memory(self._server.pid),
            "decoders memory": sum(memory(pid) for pid in decoders),
            "host memory": memory(self._host.pid),
            "server handles": handles(self._server.pid),
            "host handles": handles(self._host.pid),
            "decoders handles": sum(handles(pid) for pid in decoders),
            "server threads": threads(self._server.pid),
            "host threads": threads(self._host.pid),
            "decoders": sum("decoding" in command_of(pid) for pid in decoders),
        }
        said = metrics(self._server)
        values |= {name: value for (name, _), value in said.items() if name in _SCRAPED}
        values["entries"] = sum(value for (name, _), value in said.items() if name == "imagewarden_entries")
        ended = "imagewarden_decoder_processes_ended_total"
        values["decoders ended"] = sum(value for (name, _), value in said.items() if name == ended)
        for name, value in values.items():
            self.series[name].append((now, value))


def memory(pid: int) -> float:
    """What a process has in memory of its own, in MiB; 0 where it has ended.

    Without the pages of files, which come and go as the machine has room for them; with what is swapped out.
    """
    said = dict(line.split(":", 1) for line in _read(pid, "status").splitlines())
    return sum(int(said[name].split()[0]) for name in _OWN if name in said) / 1_024


def handles(pid: int) -> int:
    """How many files, sockets and the like a process has open."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 -- names alone are counted
    except FileNotFoundError:
        return 0


def threads(pid: int) -> int:
    """How many threads a process has."""
    try:
        return len(os.listdir(f"/proc/{pid}/task"))  # noqa: PTH208 -- the same
    except FileNotFoundError:
        return 0


def children(pid: int) -> list[int]:
    """The processes that a process started, whichever of its threads did."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in _text(task).split()]


def command_of(pid: int) -> str:
    """A process's command line."""
    return _read(pid, "cmdline").replace("\0", " ")


def _read(pid: int, name: str) -> str:
    return _text(Path(f"/proc/{pid}/{name}"))


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
