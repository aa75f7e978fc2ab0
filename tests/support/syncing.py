"""`imagewarden sync` as a process, over exchanges on loopback and a real server."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagewarden import Client, EntryRecord
from tests.support.exchanges import (
    ACCESS_TOKEN,
    FUNCTION_KEY,
    PASSWORD,
    SUBSCRIPTION_KEY,
    USER,
    Exchange,
    FbThreatExchange,
    Ncmec,
    StopNcii,
    Tat,
)

SECRETS = (PASSWORD, FUNCTION_KEY, SUBSCRIPTION_KEY, ACCESS_TOKEN.partition("|")[2], Tat.TOKEN)
KINDS = {Ncmec: "ncmec", StopNcii: "stopncii", Tat: "tat", FbThreatExchange: "fb_threatexchange"}
SETTINGS = {"ncmec": 'environment = "Industry"', "fb_threatexchange": "privacy_group = 550"}
CREDENTIALS = {
    "TX_NCMEC_CREDENTIALS": f"{USER}:{PASSWORD}",
    "TX_STOPNCII_KEYS": f"{FUNCTION_KEY},{SUBSCRIPTION_KEY}",
    "PYTX_TAT_CREDENTIALS": f"{USER}:{PASSWORD}",
    "TX_ACCESS_TOKEN": ACCESS_TOKEN,
}


def digits(word: object, length: int = 64) -> str:
    """Hexadecimal digits that look like any and are always the same."""
    return hashlib.sha256(repr(word).encode()).hexdigest()[:length]


@dataclass(frozen=True)
class Ran:
    """A run that ended: its exit code, what it answered by exchange, and its log."""

    code: int
    answers: dict[str, dict[str, Any]]
    log: list[dict[str, Any]]
    text: str

    def events(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.log if line["event"] == event]

    def counts(self, name: str) -> dict[str, int]:
        """What became of records, without what became of none."""
        return {key: count for key, count in self.answers[name]["counts"].items() if count}


@dataclass
class Syncing:
    """Runs of `imagewarden sync` over the same state.

    Attributes:
        server: the service's address.
        folder: of the state and of the file that names the exchanges.
    """

    server: str
    folder: Path

    @property
    def state(self) -> Path:
        return self.folder / "sync-state"

    def configure(self, exchanges: Mapping[str, Exchange], every: str = "1h") -> None:
        """Name the exchanges; each goes into the bank of its name."""
        tables = []
        for name, exchange in exchanges.items():
            kind = KINDS[type(exchange)]
            own = SETTINGS.get(kind, "")
            tables.append(
                f'[[exchanges]]\nname = "{name}"\nkind = "{kind}"\nbank = "{name}"\nurl = "{exchange.url}"\n{own}\n'
            )
        (self.folder / "sync.toml").write_text(f'every = "{every}"\n' + "\n".join(tables))

    def begin(self, *options: str, **environment: str) -> subprocess.Popen[str]:
        """Start a run over the exchanges that are configured."""
        return self._start("--config", str(self.folder / "sync.toml"), *options, environment=environment)

    def once(self, *options: str, **environment: str) -> Ran:
        """Pull each exchange that is configured once."""
        return _ended(self.begin("--once", "--json", *options, **environment))

    def of_options(self, *options: str) -> Ran:
        """Pull what options name, once."""
        return _ended(self._start("--once", "--json", *options))

    def status(self) -> tuple[int, dict[str, dict[str, Any]]]:
        """What `sync status` says by exchange, and its exit code."""
        found = _ended(self._start("status", "--json", "--state-dir", str(self.state), state=False))
        return found.code, found.answers

    def _start(
        self, *options: str, state: bool = True, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        options = (*options, "--state-dir", str(self.state)) if state else options
        return subprocess.Popen(
            [sys.executable, "-m", "imagewarden", "--server", self.server, "sync", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **CREDENTIALS, **(environment or {})},
        )


def _ended(process: subprocess.Popen[str]) -> Ran:
    try:
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    return ran(process.returncode, out, err)


def ran(code: int, out: str, err: str) -> Ran:
    """A run by what it printed, in which there is nothing that should not be."""
    assert "Traceback" not in err, err
    for secret in SECRETS:
        assert secret not in out + err
    answers = {one["name"]: one for one in map(json.loads, out.splitlines())}
    # What is wrong with the options is said in words, before there is a log.
    lines = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    return Ran(code, answers, lines, out + err)


def entries(client: Client, bank: str) -> dict[str, EntryRecord]:
    """A bank's entries by their external_id, of which none is there twice."""
    found = list(client.export_entries(bank))
    by_name = {record.external_id: record for record in found}
    assert len(by_name) == len(found)
    return by_name


def hashes(records: Mapping[str, EntryRecord]) -> dict[str, set[tuple[str, str]]]:
    """By external_id the types and the digits of hashes."""
    return {name: {(str(one.type), one.hex) for one in record.hashes} for name, record in records.items()}


def make_key(state: Path, role: str) -> str:
    """A key of a server's state, as the command line makes it."""
    command = [
        sys.executable,
        "-m",
        "imagewarden",
        "key",
        "create",
        "a test",
        "--role",
        role,
        "--state-dir",
        str(state),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip()
