"""Files that are replaced whole or not at all, and that nobody else reads."""

from __future__ import annotations

import os
from pathlib import Path


def make_directory(path: Path) -> None:
    """A directory of the user's own; those above it as they are."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def replace(path: Path, data: bytes) -> None:
    """Put a file in the place of another: after a power cut there is the old one or the new one, whole."""
    scratch = path.with_name(path.name + ".new")
    scratch.unlink(missing_ok=True)  # of a process that was killed: its mode may be any
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    scratch.rename(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Have a directory's names survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
