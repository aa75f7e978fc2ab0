"""Bans, registrations and tried pictures take turns with checks: what the machine has no time for is refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from tests.support.checking import NoModel, Service

from imagewarden_server.matching.embedder import Embedder
from imagewarden_server.matching.enroll import Enroller
from imagewarden_server.matching.errors import EmbeddingUnavailable, Overloaded
from imagewarden_server.matching.load import Turns
from imagewarden_server.matching.preview import Previewer, Tried
from imagewarden_server.matching.revisions import Follower
from imagewarden_server.matching.types import BankKind, NewEntry

LOGO = b'<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"><path d="M0 0h4v8z"/></svg>'
Work = Callable[["Desk", bytes], Coroutine[Any, Any, object]]


class Away(NoModel):
    """No model answers, and it says why."""

    problem = "the model is away"

    async def embed(self, *_: object) -> None:
        raise EmbeddingUnavailable(self.problem)


class Desk:
    """An enroller and a previewer with one turn, of which each is too long for a second one beside it."""

    def __init__(self, service: Service) -> None:
        self.service, self.turns = service, Turns(0.1, 1)
        self.enroller = Enroller(
            catalog=service.catalog,
            follower=Follower(service.catalog, service.index),
            embedder=cast("Embedder", Away()),
            workers=service.workers,
            decoder=service.decoder,
            turns=self.turns,
        )
        self.previewer = Previewer(
            catalog=service.catalog,
            index=service.index,
            window=service.window,
            enroller=self.enroller,
            workers=service.workers,
        )

    async def ban(self, picture: bytes) -> object:
        return await self.enroller.add_image(
            "a", picture, NewEntry(), deadline=time.monotonic() + 10, once=None, validate_only=False
        )

    async def register(self, _: bytes) -> object:
        said = NewEntry(brand="Acme")
        deadline = time.monotonic() + 10
        return await self.enroller.register_logo("b", [LOGO], said, deadline=deadline, once=None, validate_only=False)

    async def try_(self, picture: bytes) -> object:
        return await self.previewer.preview(await self.previewer.bank("a"), Tried(image=picture))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    service = Service(tmp_path)
    service.bank("a")
    service.bank("b", kind=BankKind.BRAND)
    yield Desk(service)
    service.workers.close()
    service.decoder.close()
    service.catalog.close()


@pytest.mark.parametrize("work", [Desk.ban, Desk.register, Desk.try_])
def test_what_would_take_too_long_is_refused_before_it_is_looked_at(
    desk: Desk, work: Work, photographs: dict[str, bytes]
) -> None:
    picture = photographs["dust-bowl-home"]
    revision = desk.service.catalog.revision()
    with desk.turns.turn(time.monotonic() + 60), pytest.raises(Overloaded, match="come back in") as refused:
        asyncio.run(work(desk, picture))
    assert refused.value.retry_after >= 0.1
    assert not {"decode_or_raise", "_render"} & set(desk.service.workers.runs)
    with pytest.raises(EmbeddingUnavailable):
        asyncio.run(work(desk, picture))
    assert desk.turns.running == 0, "what fails gives its turn back"
    assert desk.service.catalog.revision() == revision


def test_a_look_holds_its_turn_until_it_is_done(desk: Desk, photographs: dict[str, bytes]) -> None:
    seen: list[int] = []

    class Watching(Away):
        async def embed(self, *_: object) -> None:
            seen.append(desk.turns.running)
            raise EmbeddingUnavailable(self.problem)

    watching = Enroller(
        catalog=desk.service.catalog,
        follower=Follower(desk.service.catalog, desk.service.index),
        embedder=cast("Embedder", Watching()),
        workers=desk.service.workers,
        decoder=desk.service.decoder,
        turns=desk.turns,
    )
    desk.enroller = watching
    with pytest.raises(EmbeddingUnavailable):
        asyncio.run(desk.ban(photographs["dust-bowl-home"]))
    assert seen == [1]
