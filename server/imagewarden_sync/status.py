"""What became of the last run of each exchange: a small file each, for people and for what watches over them."""

from __future__ import annotations

import dataclasses
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from imagewarden_sync import files

_FILE = "status.json"


@dataclasses.dataclass(slots=True)
class Counts:
    """What became of records.

    Attributes:
        fetched: how many the exchange gave.
        added: entries that are new.
        updated: entries that were there, and are as the exchange says now.
        unchanged: entries that were so already.
        removed: entries that the exchange took back, or no longer has.
        absent: taken back, and not in the bank.
        skipped: of films, texts and addresses, or of providers that were not asked for.
        refused: that the bank does not take, or that are broken.
    """

    fetched: int = 0
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0
    absent: int = 0
    skipped: int = 0
    refused: int = 0

    @property
    def changed(self) -> bool:
        """Whether anything of the bank is other than before."""
        return bool(self.added or self.updated or self.removed)


@dataclasses.dataclass(slots=True)
class Status:
    """What is known of an exchange.

    Attributes:
        name: its name.
        kind: its kind.
        bank: what it brings goes there.
        every: seconds between runs.
        state: `ok`, `failing`, or `running` the first time.
        last_start: seconds since 1970; 0: never.
        last_success: when a run ended with nothing left to fetch, as above.
        up_to: the exchange's changes until then are in force, as above; 0: it does not say.
        failures: runs that failed since the last one that did not.
        error: what the last one failed at; empty: it did not.
        counts: of the last run.
    """

    name: str
    kind: str
    bank: str
    every: float
    state: str = "running"
    last_start: float = 0.0
    last_success: float = 0.0
    up_to: float = 0.0
    failures: int = 0
    error: str = ""
    counts: Counts = dataclasses.field(default_factory=Counts)

    @property
    def lag(self) -> float | None:
        """Seconds since all was in force; None: it never was."""
        return max(0.0, time.time() - self.last_success) if self.last_success else None

    def said(self) -> dict[str, Any]:
        """For JSON, with times as ISO 8601."""
        found = dataclasses.asdict(self)
        for key in ("last_start", "last_success", "up_to"):
            found[key] = moment(found[key])
        found["lag_seconds"] = None if self.lag is None else round(self.lag, 1)
        return found


def moment(seconds: float) -> str:
    """A time as ISO 8601; empty: never."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds") if seconds else ""


def write(directory: Path, status: Status) -> None:
    """Replace an exchange's file."""
    files.replace(directory / _FILE, json.dumps(dataclasses.asdict(status), indent=1).encode())


def read(directory: Path) -> Status | None:
    """An exchange's file; None: there is none, or it is no such file, which a run mends."""
    try:
        said = json.loads((directory / _FILE).read_bytes())
        return Status(**said | {"counts": Counts(**said["counts"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def read_all(state: Path) -> list[Status]:
    """Those of all exchanges, by their names."""
    if not state.is_dir():
        return []
    found = (read(one) for one in sorted(state.iterdir()) if one.is_dir())
    return [one for one in found if one is not None]
