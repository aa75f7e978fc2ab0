"""A checker over a real catalogue, index and decoder, without a model and without gRPC."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, Unpack, cast

from imagewarden_server.catalog import SqlCatalog
from imagewarden_server.decoding import DecoderProcesses
from imagewarden_server.index import IndexSet, open_index
from imagewarden_server.matching.check import Checker, CheckResult
from imagewarden_server.matching.embedder import Embedder
from imagewarden_server.matching.load import Turns
from imagewarden_server.matching.pictures import Workers
from imagewarden_server.matching.policy import Rest, complete
from imagewarden_server.matching.revisions import Follower
from imagewarden_server.matching.types import Action, BankKind, HashSignal, NewEntry, SignalType
from imagewarden_server.matching.walk import CheckRequest
from imagewarden_server.matching.window import Window
from imagewarden_server.media import Limits

T = TypeVar("T")


class CountingWorkers(Workers):
    """Counts what is handed to threads."""

    def __init__(self) -> None:
        super().__init__(2)
        self.runs: list[str] = []

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        self.runs.append(getattr(function, "__name__", "?"))
        return await super().run(function, *arguments)


class NoModel:
    """No model answers."""

    model = None


class Service:
    """A checker over a catalogue and an index of its own."""

    def __init__(self, folder: Path, embedder: object = None) -> None:
        self.embedder = cast("Embedder", embedder or NoModel())
        self.catalog = SqlCatalog.open(folder / "catalog.sqlite3")
        self.index: IndexSet = open_index(folder / "index", self.catalog)[0]
        self.follower = Follower(self.catalog, self.index)
        self.workers = CountingWorkers()
        self.decoder = DecoderProcesses(Limits(), processes=1)
        self.window = Window(2**20)
        self.checker = Checker(
            catalog=self.catalog,
            index=self.index,
            follower=self.follower,
            embedder=self.embedder,
            workers=self.workers,
            decoder=self.decoder,
            turns=Turns(60.0, 4),
            on_undecided=Action.REVIEW,
            window=self.window,
        )

    def bank(
        self, name: str, action: Action | None = None, kind: BankKind = BankKind.BANNED, **policy: Unpack[Rest]
    ) -> None:
        self.catalog.create_bank(name, kind, policy=complete(kind, action, {}, **policy))
        self.follow()

    def ban(self, bank: str, type_: SignalType, value: bytes) -> str:
        """Add one hash; the id of its entry."""
        (added,) = self.catalog.add_hashes(bank, [NewEntry(hashes=(HashSignal(type_, value),))]).value
        self.follow()
        return added.entry_id

    def follow(self) -> None:
        self.index.apply(self.catalog.changes(self.index.revision))

    def close(self) -> None:
        self.workers.close()
        self.decoder.close()
        self.catalog.close()

    def check(self, image: bytes, **asked: Any) -> CheckResult:
        self.workers.runs.clear()
        return asyncio.run(self.checker.check(CheckRequest(image, **asked)))


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
