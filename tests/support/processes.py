"""The model host and the server as real processes, on ports that the system picks, ended by their own id."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

READY_SECONDS = 120.0

_started: list[subprocess.Popen[bytes]] = []


def end_what_is_left() -> None:
    """End every process that was started here and still runs: a test that failed half-way left it."""
    for process in _started:
        if process.poll() is None:
            process.kill()
            process.wait(timeout=30)
    _started.clear()


def end_with_the_rest(process: subprocess.Popen[bytes]) -> None:
    """Have a process ended too, whoever started it."""
    _started.append(process)


@dataclass
class Process:
    """A process that said that it is ready."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def kill(self) -> None:
        """SIGKILL: what a power cut or the kernel's memory killer does."""
        self.process.kill()
        self.process.wait(timeout=30)

    def terminate(self, seconds: float = 60) -> int:
        """SIGTERM; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=seconds)


@dataclass
class Host(Process):
    """The model host."""

    address: str


class MortalHost:
    """A model host that a test kills, and starts again where it was."""

    def __init__(self, model_base: Path, scratch: Path) -> None:
        self._model_base, self._scratch = model_base, scratch
        self._host = launch_host(model_base, scratch)
        self.address = self._host.address

    def kill(self) -> None:
        """SIGKILL."""
        self._host.kill()

    def start_again(self) -> None:
        """Another process at the same address."""
        self._host = launch_host(self._model_base, self._scratch, int(self.address.rpartition(":")[2]))

    def terminate(self) -> None:
        """SIGTERM, where it runs."""
        self._host.terminate()


@dataclass
class Server(Process):
    """The moderation server."""

    address: str
    http: str
    state: Path
    model_address: str


def _begin(arguments: list[str], ready: Path, log: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    ready.unlink(missing_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "imagewarden", *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
        )
    _started.append(process)
    return process


def _launch(arguments: list[str], ready: Path, log: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    process = _begin(arguments, ready, log, environment)
    deadline = time.monotonic() + READY_SECONDS
    while not ready.exists():
        if process.poll() is not None:
            raise RuntimeError(f"{arguments[0]} ended with {process.returncode}:\n{log.read_text()[-4000:]}")
        if time.monotonic() > deadline:
            process.kill()
            raise RuntimeError(f"{arguments[0]} was not ready in time:\n{log.read_text()[-4000:]}")
        time.sleep(0.02)
    return process


def launch_host(model_base: Path, scratch: Path, port: int = 0, *options: str) -> Host:
    """Start a model host."""
    ready, log = scratch / "host.json", scratch / "host.log"
    arguments = ["model", "serve", "--model-name", "inception", "--model-base-path", str(model_base)]
    arguments += ["--port", str(port), "--ready-file", str(ready), *options]
    process = _launch(arguments, ready, log, {"TF_CPP_MIN_LOG_LEVEL": "2"})
    return Host(process, log, f"127.0.0.1:{json.loads(ready.read_text())['grpc_port']}")


def _serve(state: Path, model_address: str, ready: Path) -> list[str]:
    arguments = ["serve", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--state-dir", str(state)]
    return [*arguments, "--model-address", model_address, "--ready-file", str(ready)]


def begin_server(state: Path, model_address: str, scratch: Path) -> subprocess.Popen[bytes]:
    """Start a server, and do not wait until it is ready."""
    ready = scratch / "server.json"
    return _begin(_serve(state, model_address, ready), ready, scratch / "server.log", {})


def launch_server(state: Path, model_address: str, scratch: Path, environment: dict[str, str] | None = None) -> Server:
    """Start a server."""
    ready, log = scratch / "server.json", scratch / "server.log"
    arguments = _serve(state, model_address, ready)
    process = _launch(arguments, ready, log, environment or {})
    addresses = json.loads(ready.read_text())
    return Server(process, log, addresses["grpc"], addresses["http"], state, model_address)


@contextmanager
def start_host(model_base: Path, scratch: Path, *options: str) -> Iterator[Host]:
    """A model host that is stopped at the end."""
    running = launch_host(model_base, scratch, 0, *options)
    try:
        yield running
    finally:
        running.terminate()


@contextmanager
def start_mortal_host(model_base: Path, scratch: Path) -> Iterator[MortalHost]:
    """A model host that may be killed and started again, and that is stopped at the end."""
    running = MortalHost(model_base, scratch)
    try:
        yield running
    finally:
        running.terminate()


@contextmanager
def start_server(
    state: Path, model_address: str, scratch: Path, environment: dict[str, str] | None = None
) -> Iterator[Server]:
    """A server that is stopped at the end."""
    running = launch_server(state, model_address, scratch, environment)
    try:
        yield running
    finally:
        running.terminate()
