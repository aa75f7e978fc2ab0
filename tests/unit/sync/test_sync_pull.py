"""One synchronisation: in which order things happen, and what is left where they stop happening."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from imagewarden import BankKind, Client, ConnectionFailed, EntryRecord, ImportAnswer, RefusedRecord
from imagewarden_sync.config import ExchangeConfig
from imagewarden_sync.errors import ConfigError, FetchError, StateError, SweepRefused, SyncError
from imagewarden_sync.exchanges.base import Adapter, Delta
from imagewarden_sync.progress import Store
from imagewarden_sync.pull import How, Pull
from imagewarden_sync.service import Runner
from imagewarden_sync.status import read

CONFIG = ExchangeConfig("theirs", "tat", "bank", 60.0, {})
HOW = How("service:1")


@dataclasses.dataclass
class Checkpoint:
    """How many pages are behind."""

    page: int
    stale: bool = False

    def is_stale(self) -> bool:
        return self.stale

    def get_progress_timestamp(self) -> int:
        return self.page


class Pages(Adapter):
    """An exchange of pages of names; a name with `-` before it is taken back."""

    def __init__(self, pages: list[list[str]], events: list[str]) -> None:
        super().__init__(CONFIG)
        self.said = pages
        self.events = events
        self.breaks_after: int | None = None

    @property
    def checkpoint_class(self) -> Any:
        return Checkpoint

    def pages(self, checkpoint: Any) -> Iterator[Any]:
        start = 0 if checkpoint is None else checkpoint.page
        for number in range(start, len(self.said)):
            if number == self.breaks_after:
                raise ConnectionResetError(104, "Connection reset by peer")
            self.events.append(f"fetch {number}")
            yield number

    def delta(self, page: int) -> Delta:
        records = [EntryRecord(external_id=one.lstrip("-"), removed=one.startswith("-")) for one in self.said[page]]
        return Delta(Checkpoint(page + 1), records)


class Service:
    """A service that keeps names, and breaks off when it is told to."""

    def __init__(self, events: list[str]) -> None:
        self.names: dict[str, str] = {}
        self.events = events
        self.breaks_at: str | None = None
        self.refuses: set[str] = set()

    def get_bank(self, name: str) -> Any:
        return SimpleNamespace(name=f"banks/{name}", kind=BankKind.BANNED)

    def import_entries(
        self, bank: str, records: Iterable[tuple[int, EntryRecord]], *, validate_only: bool
    ) -> Iterator[ImportAnswer]:
        del bank
        for number, record in records:
            name = record.id or record.external_id
            if name == self.breaks_at:
                raise ConnectionFailed("nobody answers")
            refused = (RefusedRecord(number, "hashes", "are none"),) if name in self.refuses else ()
            if not (validate_only or refused):
                self.events.append(f"import {name}")
                self.names.pop(name, None) if record.removed else self.names.update({name: CONFIG.name})
            yield ImportAnswer(
                number, int(not record.removed and not refused), 0, 0, int(record.removed), 0, refused, ""
            )

    def export_entries(self, bank: str) -> Iterator[EntryRecord]:
        del bank
        for name, source in self.names.items():
            yield EntryRecord(id=name, external_id=name, source=source)


class Noted(Store):
    """A store that tells when it was written to."""

    events: list[str]

    def save(self, progress: Any) -> None:
        super().save(progress)
        self.events.append(f"save {progress.checkpoint and progress.checkpoint['page']}")

    def see(self, progress: Any, names: Iterable[str]) -> int:
        names = list(names)
        self.events.append(f"see {' '.join(names)}")
        return super().see(progress, names)


@dataclasses.dataclass
class World:
    adapter: Pages
    service: Service
    store: Noted
    events: list[str]

    def pull(self, how: How = HOW, stopped: Callable[[], bool] = lambda: False) -> Pull:
        return Pull(CONFIG, self.adapter, self.store, cast("Client", self.service), how, stopped)

    def checkpoint(self) -> Mapping[str, Any] | None:
        progress = self.store.load()
        assert progress is not None
        return progress.checkpoint


@pytest.fixture
def world(tmp_path: Path) -> World:
    events: list[str] = []
    store = Noted(tmp_path / "theirs")
    store.events = events
    return World(Pages([["a", "b"], ["c"], ["-a", "d"]], events), Service(events), store, events)


def test_a_checkpoint_comes_last(world: World) -> None:
    assert world.pull().run()
    assert world.events == [
        *("save None", "fetch 0", "import a", "import b", "see a b", "save 1"),
        *("fetch 1", "import c", "see c", "save 2"),
        *("fetch 2", "import a", "import d", "see d", "save 3"),
        "save 3",  # all was fetched, and nothing is gone
    ]
    assert set(world.service.names) == {"b", "c", "d"}
    world.events.clear()
    world.adapter.said.append(["e"])
    assert world.pull().run()
    assert world.events == ["fetch 3", "import e", "save 4"]


def test_what_is_not_acknowledged_is_fetched_again(world: World) -> None:
    world.service.breaks_at = "d"
    with pytest.raises(SyncError, match="ImageWarden: nobody answers") as raised:
        world.pull().run()
    assert raised.value.passing
    assert world.checkpoint() == {"page": 2, "stale": False}
    world.service.breaks_at = None
    world.events.clear()
    assert world.pull().run()
    assert world.events[:3] == ["fetch 2", "import a", "import d"]
    assert set(world.service.names) == {"b", "c", "d"}


def test_what_was_fetched_stays_when_the_exchange_breaks_off(world: World) -> None:
    world.adapter.breaks_after = 1
    with pytest.raises(FetchError, match="Connection reset by peer"):
        world.pull().run()
    assert set(world.service.names) == {"a", "b"}
    assert world.checkpoint() == {"page": 1, "stale": False}


def test_it_ends_between_two_deltas(world: World) -> None:
    assert not world.pull(stopped=lambda: True).run()
    assert set(world.service.names) == {"a", "b"}
    assert world.pull().run()
    assert set(world.service.names) == {"b", "c", "d"}
    assert world.events.count("import b") == 1


def test_what_the_service_refuses_is_counted_and_passed_over(world: World) -> None:
    world.service.refuses = {"b"}
    pull = world.pull()
    assert pull.run()
    assert (pull.counts.refused, pull.counts.added, pull.counts.removed) == (1, 3, 1)
    assert set(world.service.names) == {"c", "d"}


def test_what_is_gone_is_told_across_kills(world: World) -> None:
    """All is fetched anew in two runs: what the first one saw is not gone."""
    assert world.pull().run()
    world.service.names |= {"old": CONFIG.name, "ours": "", "b": CONFIG.name}
    world.adapter.breaks_after = 2
    with pytest.raises(FetchError):
        world.pull(dataclasses.replace(HOW, whole=True)).run()
    assert set(world.service.names) >= {"old", "b", "c"}
    world.adapter.breaks_after = None
    pull = world.pull()
    assert pull.run()
    assert set(world.service.names) == {"b", "c", "d", "ours"}
    assert pull.counts.removed == 2  # its tombstone, and what is gone


@pytest.mark.parametrize(("gone", "refused"), [(3, False), (4, True)])
def test_half_may_go_and_more_may_not(world: World, gone: int, refused: bool) -> None:
    world.adapter.said = [["a", "b", "c"]]
    world.service.names = {f"old{number}": CONFIG.name for number in range(gone)}
    if refused:
        with pytest.raises(SweepRefused, match="no longer has 4 of the 7 entries"):
            world.pull().run()
        assert len(world.service.names) == 7
        assert world.pull(dataclasses.replace(HOW, force=True)).run()
    else:
        assert world.pull().run()
    assert set(world.service.names) == {"a", "b", "c"}


def test_a_stale_checkpoint_begins_anew(world: World) -> None:
    assert world.pull().run()
    progress = world.store.load()
    assert progress is not None
    world.store.save(dataclasses.replace(progress, checkpoint={"page": 3, "stale": True}))
    world.events.clear()
    assert world.pull().run()
    assert world.events[:2] == ["save None", "fetch 0"]


def test_another_service_begins_anew(world: World) -> None:
    assert world.pull().run()
    world.events.clear()
    assert world.pull(How("service:2")).run()
    assert world.events[:2] == ["save None", "fetch 0"]


def test_a_checkpoint_of_another_exchange(world: World) -> None:
    assert world.pull().run()
    progress = world.store.load()
    assert progress is not None
    world.store.save(dataclasses.replace(progress, checkpoint={"page": "one"}))
    with pytest.raises(StateError, match=r"checkpoint.json is damaged \(tat has no such checkpoint"):
        world.pull().run()


def test_a_dry_run_writes_nothing(world: World) -> None:
    pull = world.pull(dataclasses.replace(HOW, dry_run=True))
    assert pull.run()
    assert pull.counts.added == 4
    assert world.service.names == {}
    assert list(world.store.directory.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "said", "passing"),
    [
        (FetchError("no answer", passing=True), "no answer", True),
        (OSError(28, "No space left on device", "checkpoint.json"), "checkpoint.json: No space left on device", True),
        (KeyError("a secret record"), "a defect of imagewarden: KeyError at ", False),
    ],
)
def test_what_goes_wrong_is_kept_for_people(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str, passing: bool
) -> None:
    def fail(_: Any) -> Any:
        raise error

    monkeypatch.setattr("imagewarden_sync.service.open_exchange", fail)
    runner = Runner(CONFIG, tmp_path, cast("Client", Service([])), HOW, threading.Event())
    runner.once()
    runner.once()
    kept = read(tmp_path / "theirs")
    assert kept is not None
    assert (kept.state, kept.failures) == ("failing", 2)
    assert said in kept.error
    assert "secret" not in kept.error
    assert runner.error is not None
    assert runner.error.passing is passing


def failed(runner: Runner) -> bool:
    """Run once; whether it failed."""
    runner.once()
    return runner.error is not None


def test_what_was_asked_for_once_is_done_once_it_can_be(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """--full and --force outlast runs that fail, and are not done again."""
    adapters: list[Any] = [ConfigError("no credentials")]

    def opened(_: Any) -> Any:
        found = adapters.pop(0) if adapters else world.adapter
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr("imagewarden_sync.service.open_exchange", opened)
    assert world.pull().run()
    world.service.names |= {f"old{number}": CONFIG.name for number in range(9)}
    how = dataclasses.replace(HOW, whole=True, force=True)
    runner = Runner(CONFIG, world.store.directory.parent, cast("Client", world.service), how, threading.Event())
    assert failed(runner)
    world.adapter.breaks_after = 2
    assert failed(runner)
    assert len(world.service.names) == 13  # and `a`, until its tombstone comes again
    world.adapter.breaks_after = None
    assert not failed(runner)
    assert set(world.service.names) == {"b", "c", "d"}
    world.service.names |= {"old": CONFIG.name}
    world.events.clear()
    assert not failed(runner)
    assert world.events == []


def test_who_finds_another_at_work_leaves_its_status(world: World) -> None:
    runner = Runner(CONFIG, world.store.directory.parent, cast("Client", world.service), HOW, threading.Event())
    with world.store.lock():
        runner.once()
    assert runner.error is not None
    assert runner.error.passing
    assert read(world.store.directory) is None
