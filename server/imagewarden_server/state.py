"""The folder of a server's state: of one server at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOCK = "lock"


class StateInUse(Exception):
    """Another process uses the state."""


@contextmanager
def alone(state: Path) -> Iterator[None]:
    """Keep others out of a state; the kernel gives the lock back whatever ends this process.

    Raises:
        StateInUse: somebody else has it.
        OSError: the folder cannot be written.
    """
    descriptor = os.open(state / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StateInUse(f"another process uses {state}: stop that server first, or name another state") from error
        yield
    finally:
        os.close(descriptor)
