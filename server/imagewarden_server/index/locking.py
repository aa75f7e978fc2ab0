"""A readers-writer lock: searches beside each other, a change alone.

usearch's get, contains, save and load do not take its own mutex, so beside an add they could read freed memory.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from imagewarden_server.matching.ports import WouldWait


class ReadersWriterLock:
    """Writers first: a stream of checks cannot hold a ban back.

    Not re-entrant: a reader that asks again while a writer waits would wait for ever.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._readers = 0
        self._writing = False
        self._writers_waiting = 0

    @contextmanager
    def read(self, *, wait: bool = True) -> Iterator[None]:
        """Hold the lock beside other readers.

        Raises:
            WouldWait: a writer has it or is next, and `wait` is unset.
        """
        with self._condition:
            while self._writing or self._writers_waiting:
                if not wait:
                    raise WouldWait
                self._condition.wait()
            self._readers += 1
        try:
            yield
        finally:
            with self._condition:
                self._readers -= 1
                if not self._readers:
                    self._condition.notify_all()

    @contextmanager
    def write(self) -> Iterator[None]:
        """Hold the lock alone."""
        with self._condition:
            self._writers_waiting += 1
            try:
                while self._writing or self._readers:
                    self._condition.wait()
                self._writing = True
            finally:
                self._writers_waiting -= 1
                if not self._writing:  # interrupted while it waited: those who stood back for it may go on
                    self._condition.notify_all()
        try:
            yield
        finally:
            with self._condition:
                self._writing = False
                self._condition.notify_all()
