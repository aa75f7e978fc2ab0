"""How far an exchange was pulled: written only once the service has acknowledged all before it.

    <state>/<name>/
    ├── checkpoint.json   how far, of what, with a SHA-256 of it; replaced whole
    ├── seen              while all is fetched: 16 bytes of each record's name, added and never changed
    ├── status.json       what became of the last run, for people
    └── lock              of the process that pulls it

A kill at any moment leaves the checkpoint of a delta that is in force. What the file `seen` has beyond what its
checkpoint says is of a delta that comes again.
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from imagewarden_sync import files
from imagewarden_sync.errors import StateError

_FORMAT = 1
NAME_BYTES = 16


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """How far.

    Attributes:
        scope: of what: the settings that decide what the exchange gives and where it goes.
        checkpoint: the fetcher's own, as JSON has it; None: nothing is behind us.
        whole: all of the exchange is being fetched, and what is not seen until its end is gone.
        seen: how many names of records the file `seen` has; 0 unless `whole`.
        unreadable: while `whole`, how many records there were whose very name could not be read.
    """

    scope: Mapping[str, Any]
    checkpoint: Mapping[str, Any] | None = None
    whole: bool = True
    seen: int = 0
    unreadable: int = 0


def name_of(external_id: str) -> bytes:
    """What stands for a record's name in `seen`."""
    return hashlib.sha256(external_id.encode("utf-8", "surrogatepass")).digest()[:NAME_BYTES]


class Store:
    """What is kept of one exchange between runs.

    Args:
        directory: of that exchange alone; it is made.
    """

    def __init__(self, directory: Path) -> None:
        files.make_directory(directory)
        self.directory = directory
        self._checkpoint = directory / "checkpoint.json"
        self._seen = directory / "seen"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from pulling the same exchange.

        Raises:
            StateError: one does.
        """
        descriptor = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StateError(
                    f"another `imagewarden sync` works with {self.directory}; let it end, or give another --state-dir",
                    passing=True,
                ) from None
            yield
        finally:
            os.close(descriptor)

    def load(self) -> Progress | None:
        """How far; None: it was never pulled.

        Raises:
            StateError: the file is damaged.
        """
        try:
            data = self._checkpoint.read_bytes()
        except FileNotFoundError:
            return None
        try:
            said = json.loads(data)
            version, progress, digest = said["format"], said["progress"], said["sha256"]
            found = Progress(**progress)
        except (ValueError, TypeError, KeyError) as error:
            raise self.damaged(str(error)) from error
        if version != _FORMAT:
            raise StateError(
                f"{self._checkpoint} has format {version!r}, and this version reads {_FORMAT}: use the version of "
                "imagewarden that wrote it, or move the file away, and all is fetched again"
            )
        if digest != _digest(progress):
            raise self.damaged("it is not what was written")
        return found

    def save(self, progress: Progress) -> None:
        """Remember how far. What was seen before it is on the disk already."""
        said = dataclasses.asdict(progress)
        data = {"format": _FORMAT, "progress": said, "sha256": _digest(said)}
        files.replace(self._checkpoint, json.dumps(data, indent=1).encode())

    def seen(self, progress: Progress) -> set[bytes]:
        """The names that were seen.

        Raises:
            StateError: fewer are there than the checkpoint says.
        """
        size = progress.seen * NAME_BYTES
        data = self._seen.read_bytes()[:size] if progress.seen else b""
        if len(data) != size:
            raise self._damaged(self._seen, f"it has {len(data)} bytes, and {size} were written")
        return {data[at : at + NAME_BYTES] for at in range(0, size, NAME_BYTES)}

    def see(self, progress: Progress, names: Iterable[str]) -> int:
        """Write down names of records as seen; how many there are then, for the next `save`."""
        data = b"".join(map(name_of, names))
        descriptor = os.open(self._seen, os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "r+b") as file:
            file.truncate(progress.seen * NAME_BYTES)
            file.seek(0, os.SEEK_END)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if not progress.seen:
            files.sync_directory(self.directory)
        return progress.seen + len(data) // NAME_BYTES

    def forget_seen(self) -> None:
        """All was fetched, and what is gone was taken out."""
        self._seen.unlink(missing_ok=True)

    def damaged(self, what: str) -> StateError:
        """What to raise where the checkpoint is none of this exchange's."""
        return self._damaged(self._checkpoint, what)

    def _damaged(self, path: Path, what: str) -> StateError:
        return StateError(
            f"{path} is damaged ({what}): move {self._checkpoint} away; then all is fetched again, what the bank has "
            "already is left as it is, and nothing is lost"
        )


def _digest(progress: Any) -> str:
    return hashlib.sha256(json.dumps(progress, sort_keys=True).encode()).hexdigest()
