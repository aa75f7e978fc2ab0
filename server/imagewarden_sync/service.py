"""All exchanges, each in a thread of its own: one that hangs or fails holds up no other."""

from __future__ import annotations

import dataclasses
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from imagewarden import Client
from imagewarden_sync import log, status
from imagewarden_sync.config import ExchangeConfig
from imagewarden_sync.errors import StateError, SyncError
from imagewarden_sync.exchanges import open_exchange
from imagewarden_sync.progress import Store
from imagewarden_sync.pull import How, Pull
from imagewarden_sync.status import Status

_FIRST_RETRY = 30.0
_LAST_RETRY = 3_600.0
END_SECONDS = 30.0
"""How long a delta may take to end once it was asked to."""


def retry_after(failures: int, every: float) -> float:
    """Seconds until the next try, after so many failures in a row.

    More each time: from the interval or half a minute on, whichever is less, to the interval or an hour, whichever is
    more.
    """
    least, most = min(_FIRST_RETRY, every), max(_LAST_RETRY, every)
    return min(most, least * 2.0 ** min(failures - 1, 30))


class Runner:
    """Runs one exchange.

    Attributes:
        status: what is known of it.
        error: what the last run failed at.
    """

    def __init__(self, config: ExchangeConfig, state: Path, client: Client, how: How, stop: threading.Event) -> None:
        self._config = config
        self._store = Store(state / config.name)
        self._client = client
        self._how = how
        self._stop = stop
        kept = status.read(self._store.directory)
        found = kept or Status(config.name, config.kind, config.bank, config.every)
        self.status = dataclasses.replace(found, kind=config.kind, bank=config.bank, every=config.every)
        self.error: SyncError | None = None

    def once(self) -> None:
        """Pull; what goes wrong is told and kept, and raised to nobody."""
        try:
            with self._store.lock():
                self._once()
        except SyncError as error:  # another process has it, and writes its status
            self._note(error)

    def _once(self) -> None:
        self.status.last_start = time.time()
        pull: Pull | None = None
        try:
            # Anew each time: credentials are renewed while this runs.
            adapter = open_exchange(self._config)
            pull = Pull(self._config, adapter, self._store, self._client, self._how, self._stop.is_set)
            # A fetch of all that has begun is gone on with, whatever it was asked for by.
            self._how = dataclasses.replace(self._how, whole=False)
            ended = pull.run()
        except SyncError as error:
            self._fail(error, pull)
        except OSError as error:
            what = f"{error.filename or self._store.directory}: {error.strerror or type(error).__name__}"
            self._fail(StateError(f"what is kept between runs cannot be read or written: {what}", passing=True), pull)
        except Exception as error:  # noqa: BLE001 -- a defect that one exchange brings to light must not stop the others
            # Where, and not in whose words: those may be an exchange's.
            places = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
            log.error("defect", exchange=self._config.name, type=type(error).__name__, at=places[-8:])
            self._fail(SyncError(f"a defect of imagewarden: {type(error).__name__} at {places[-1]}"), pull)
        else:
            self._succeed(pull, ended=ended)

    def _succeed(self, pull: Pull, *, ended: bool) -> None:
        known = self.status
        self.error = None
        if ended:  # until then it is still to be done
            self._how = dataclasses.replace(self._how, force=False)
        known.state, known.error, known.failures = "ok", "", 0
        known.counts, known.up_to = pull.counts, pull.up_to
        if ended and not self._how.dry_run:
            known.last_success = time.time()
        self._write()
        event = "done" if ended else "stopped"
        log.info(event, exchange=known.name, dry_run=self._how.dry_run, **dataclasses.asdict(known.counts))

    def _fail(self, error: SyncError, pull: Pull | None) -> None:
        known = self.status
        if pull is not None:
            known.counts = pull.counts
            known.up_to = pull.up_to or known.up_to
        self._note(error)
        self._write()

    def _note(self, error: SyncError) -> None:
        known = self.status
        self.error = error
        known.state, known.error, known.failures = "failing", error.message, known.failures + 1
        log.error("failed", exchange=known.name, failures=known.failures, passing=error.passing, reason=error.message)

    def _write(self) -> None:
        if self._how.dry_run:
            return
        try:
            status.write(self._store.directory, self.status)
        except OSError as error:  # it is for people: the work goes on
            log.warning("status", exchange=self._config.name, why=f"cannot be written: {error.strerror}")

    def forever(self) -> None:
        """Pull each time it is due, until it is stopped."""
        while not self._stop.is_set():
            began = time.monotonic()
            self.once()
            wait = self._config.every - (time.monotonic() - began)
            if self.error is not None:
                wait = retry_after(self.status.failures, self._config.every)
            self._stop.wait(max(0.0, wait))


def run(runners: Sequence[Runner], stop: threading.Event, *, once: bool) -> bool:
    """Run all exchanges until each was pulled once, or until it is stopped; whether each of them came to an end."""
    works: list[Callable[[], None]] = [one.once if once else one.forever for one in runners]
    # Daemons: a fetch that hangs must not keep the process from ending.
    threads = [
        threading.Thread(target=work, name=runner.status.name, daemon=True)
        for work, runner in zip(works, runners, strict=True)
    ]
    for thread in threads:
        thread.start()
    while not stop.is_set() and any(thread.is_alive() for thread in threads):
        stop.wait(0.2)
    deadline = time.monotonic() + END_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)
