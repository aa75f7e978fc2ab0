"""The decoder processes: each is asked for one picture at a time, and replaced when it ends."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, TypeVar

from imagewarden_server import media
from imagewarden_server.decoding.confine import lacking
from imagewarden_server.decoding.memory import Looked, Nonsense, Pixels, shown_bytes
from imagewarden_server.decoding.messages import (
    Asked,
    Ended,
    Said,
    Wire,
    read_first,
    read_picture,
    read_problem,
    receive_answer,
    send_question,
)
from imagewarden_server.media import Limits, MediaError, MediaProblem, Picture, Rendering

T = TypeVar("T")
Read = Callable[[Said, list[Pixels]], T]

_CHILD = Path(__file__).with_name("_child.py")
SECONDS = 20.0
"""A picture that takes longer is given up: a hundred megapixels take three on a slow core."""
_END_SECONDS = 5.0
_MOST_SAID = 65_536
_HOW: Mapping[type[BaseException], str] = MappingProxyType({TimeoutError: "killed", Nonsense: "nonsense"})
# The smallest GIF: one pixel.
_PIXEL = bytes.fromhex("47494638396101000100800000ffffff0000002c00000000010001000002024401003b")


class DecoderObserver(Protocol):
    """Who counts decoder processes that ended."""

    def decoder_ended(self, how: str) -> None:
        """A process `crashed`, was `killed` since a picture took too long, or answered `nonsense`."""


class _Silent:
    """Nobody counts."""

    def decoder_ended(self, how: str) -> None:
        """Nothing."""


class DecoderProcesses:
    """Decodes pictures out of the server's process (a matching.ports.Decoder); any thread may ask, and waits.

    Args:
        limits: what a picture may be.
        processes: how many; None: as many as there are cores.
        observer: who counts those that ended.
        seconds: how long one picture may take.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        processes: int | None = None,
        observer: DecoderObserver | None = None,
        seconds: float = SECONDS,
    ) -> None:
        self._limits = limits
        self._observer = observer or _Silent()
        self._seconds = seconds
        self._closed = threading.Event()
        self._last_said = ""
        # None: a process is started when it is needed.
        self._idle: queue.SimpleQueue[_Process | None] = queue.SimpleQueue()
        for _ in range(processes or os.cpu_count() or 1):
            self._idle.put(_Process(limits))

    def warm(self) -> None:
        """Have each process decode a first picture, so that what it loads is loaded.

        Raises:
            RuntimeError: they don't work; it says the last that they said.
        """
        for _ in range(self._idle.qsize()):
            try:
                self.picture(_PIXEL)
            except MediaError as error:
                raise RuntimeError(
                    f"the decoder processes do not work: {error.message} ({self._last_said or 'they say nothing'})"
                ) from error

    def lacking(self) -> list[str]:
        """What this system keeps the processes from giving up, in words."""
        process = self._idle.get()
        try:
            return [] if process is None else lacking(process.pid)
        finally:
            self._give_back(process)

    def picture(self, data: bytes, deadline: float | None = None) -> Picture:
        """Decode a picture: see `matching.ports.Decoder`. Raises MediaError."""
        return self._ask(Asked.PICTURE, data, read_picture, deadline)

    def logo(self, data: bytes) -> list[Rendering]:
        """Draw a logo: see `media.render_logo`. Raises MediaError."""
        return media.render_logo(data, self._limits, lambda raster, _: self._ask(Asked.FIRST, raster, read_first))

    def close(self) -> None:
        """End the processes; one that is being asked ends after its answer."""
        self._closed.set()
        with contextlib.suppress(queue.Empty):
            while True:
                if (process := self._idle.get_nowait()) is not None:
                    process.end()

    def _ask(self, asked: Asked, data: bytes, read: Read[T], deadline: float | None = None) -> T:
        # What is over the limits by its length alone is not sent to a process first.
        if len(data) > self._limits.max_bytes:
            media.inspect(data, self._limits)
        with contextlib.suppress(Ended, Nonsense):
            return self._ask_once(asked, data, read, deadline)
        # Something else may have ended that process, so another one is asked before the picture is given up.
        try:
            return self._ask_once(asked, data, read, deadline)
        except (Ended, Nonsense) as error:
            raise MediaError(
                MediaProblem.UNDECODABLE,
                "the picture ended two decoder processes; have a person look at the file",
                passing=True,
            ) from error

    def _ask_once(self, asked: Asked, data: bytes, read: Read[T], deadline: float | None) -> T:
        try:
            process = self._idle.get(timeout=None if deadline is None else max(deadline - time.monotonic(), 0.0))
        except queue.Empty as error:
            raise MediaError(
                MediaProblem.OVER_LIMITS,
                "no decoder was free before the call's deadline; give it more time",
                passing=True,
            ) from error
        try:
            process = process or _Process(self._limits)
            said, arrays = process.ask(asked, data, self._seconds)
            answer: T | MediaError = read_problem(said) or read(said, arrays)
        except BaseException as error:  # whatever it was, the process may still answer this question to the next one
            if process is not None:
                self._last_said = process.kill()
                self._observer.decoder_ended(_HOW.get(type(error), "crashed"))
            self._give_back(None)
            if isinstance(error, TimeoutError):
                raise MediaError(
                    MediaProblem.OVER_LIMITS,
                    f"the picture takes more than {self._seconds:g} s to decode; save it again in a plainer form",
                    passing=True,
                ) from error
            raise
        self._give_back(process)
        if isinstance(answer, MediaError):
            raise answer
        return answer

    def _give_back(self, process: _Process | None) -> None:
        self._idle.put(process)
        if self._closed.is_set():
            self.close()


class _Process:
    """One decoder process and the server's end of its socket."""

    def __init__(self, limits: Limits) -> None:
        self._memory = Looked(shown_bytes(limits))
        self._wire, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 -- no part of the command is a caller's
                [
                    sys.executable,
                    "-I",
                    str(_CHILD),
                    str(theirs.fileno()),
                    json.dumps(dataclasses.asdict(limits)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                # Not the server's own: who has a file open can empty it. What is written here is read when it ends.
                stderr=subprocess.PIPE,
                pass_fds=(theirs.fileno(),),
                # Nothing of the server's settings is a picture's business; and what a terminal's keys end is the
                # server, which ends its decoders when what is in flight has its answers. No threads of a library's:
                # what a thread gives up, others that run already keep.
                env={"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def ask(self, asked: Asked, data: bytes, seconds: float) -> tuple[Said, list[Pixels]]:
        """Ask and wait. Raises Ended, Nonsense, TimeoutError."""
        wire = Wire(self._wire, time.monotonic() + seconds)
        send_question(wire, asked, data, self._memory.unseen())
        return receive_answer(wire, self._memory)

    def end(self) -> None:
        """Let it end: it sees that nobody will ask any more."""
        self._wire.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._close()

    def kill(self) -> str:
        """End it at once; the last that it said."""
        self._wire.close()
        self._process.kill()
        self._process.wait()
        return self._close()

    def _close(self) -> str:
        errors = self._process.stderr
        if errors is None:
            return ""
        with errors:
            # What it started may hold the other end open.
            os.set_blocking(errors.fileno(), False)
            said = errors.read(_MOST_SAID) or b""
        return said.decode("utf-8", "replace").strip().rpartition("\n")[2]
