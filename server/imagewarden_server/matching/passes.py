"""Passes of the model that need not be made: what it said of the same pixels is kept, and asked for once at a time."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from imagewarden_server.matching.embedder import Embedder, Embeddings, ModelInfo
from imagewarden_server.matching.errors import EmbeddingUnavailable
from imagewarden_server.matching.pictures import Workers
from imagewarden_server.matching.types import VectorSpace

Rows = dict[str, NDArray[np.float32]]
"""What the model said of one picture, by output."""

_Key = tuple[str, bytes]
"""The fingerprint of the model, and the SHA-256 of the picture's pixels."""

_OVERHEAD = 600
"""Bytes that a picture takes beside its vectors: the key, the dictionaries, the arrays' heads."""


class PassObserver(Protocol):
    """Who counts the passes that were not made."""

    def passes(self, *, kept: int, shared: int, made: int) -> None:
        """So many pictures were answered of what is kept, of a pass under way, and by a pass of their own."""


class _Silent:
    """Nobody counts."""

    def passes(self, *, kept: int, shared: int, made: int) -> None:
        """Nothing."""


class Passes:
    """Implements `Embedder` over another one; of one event loop.

    What is kept becomes wrong by nothing but another model: so it is known by the model's fingerprint, and what was not
    asked for longest goes when the memory is used up.

    Args:
        embedder: who is asked.
        workers: the threads that digest pixels.
        room: how many bytes may be kept; 0: none, though pictures in flight are shared all the same.
        observer: who counts.
    """

    def __init__(self, embedder: Embedder, workers: Workers, room: int, observer: PassObserver | None = None) -> None:
        self._embedder = embedder
        self._workers = workers
        self._room = room
        self._observer = observer or _Silent()
        self._kept: OrderedDict[_Key, Rows] = OrderedDict()
        self._bytes = 0
        self._flying: dict[tuple[_Key, frozenset[str]], asyncio.Task[Embeddings]] = {}

    @property
    def model(self) -> ModelInfo | None:
        """The model that answers now."""
        return self._embedder.model

    @property
    def problem(self) -> str:
        """Why there is none."""
        return self._embedder.problem

    @property
    def nbytes(self) -> int:
        """How many bytes are kept."""
        return self._bytes

    async def background(self, model: ModelInfo, space: VectorSpace, time_limit: float) -> NDArray[np.float32]:
        """See `Embedder.background`."""
        return await self._embedder.background(model, space, time_limit)

    async def embed(self, images: NDArray[np.uint8], outputs: frozenset[str], time_limit: float | None) -> Embeddings:
        """See `Embedder.embed`."""
        model = self._embedder.model
        if model is None:
            return await self._embedder.embed(images, outputs, time_limit)
        begin = time.monotonic()
        keys = [(model.fingerprint, digest) for digest in await self._workers.run(_digests, images)]
        kept = [self._held(key, outputs) for key in keys]
        missing = [place for place, rows in enumerate(kept) if rows is None]
        if not missing:
            self._observer.passes(kept=len(keys), shared=0, made=0)
            return _joined(model, outputs, [rows for rows in kept if rows is not None])
        if len(keys) == 1:
            return await self._shared(images, outputs, time_limit, keys[0], begin)
        # Several frames: few of them come twice, and one request for all is cheaper than one for each.
        answer = await self._embedder.embed(images[missing], outputs, _left(time_limit, begin))
        made = {place: _row(answer, outputs, row) for row, place in enumerate(missing)}
        for place, rows in made.items():
            self._keep((answer.model.fingerprint, keys[place][1]), rows)
        self._observer.passes(kept=len(keys) - len(missing), shared=0, made=len(missing))
        if len(missing) == len(keys):
            return answer
        if answer.model.fingerprint != model.fingerprint:
            return await self._embedder.embed(images, outputs, _left(time_limit, begin))
        return _joined(answer.model, outputs, [rows or made[place] for place, rows in enumerate(kept)])

    async def _shared(
        self, image: NDArray[np.uint8], outputs: frozenset[str], time_limit: float | None, key: _Key, begin: float
    ) -> Embeddings:
        """One picture's pass, of the caller's own or of another one's that is under way."""
        flight = (key, outputs)
        while (running := self._flying.get(flight)) is not None:
            # Another caller's pass has the time of that caller: where it fails, the next one makes its own.
            done, _ = await asyncio.wait({running}, timeout=_left(time_limit, begin))
            if not done:
                raise EmbeddingUnavailable(
                    f"the same picture's pass, which is under way, took longer than {time_limit:.3g} s; give the call "
                    "more time, or the model host more room"
                )
            if not running.cancelled() and running.exception() is None:
                self._observer.passes(kept=0, shared=1, made=0)
                return running.result()
        task = asyncio.create_task(self._embedder.embed(image, outputs, _left(time_limit, begin)))
        self._flying[flight] = task
        task.add_done_callback(lambda ended: self._ended(flight, ended))
        self._observer.passes(kept=0, shared=0, made=1)
        # A caller that goes away takes nothing from those that wait for the same pass.
        return await asyncio.shield(task)

    def _ended(self, flight: tuple[_Key, frozenset[str]], task: asyncio.Task[Embeddings]) -> None:
        if self._flying.get(flight) is task:
            del self._flying[flight]
        if not task.cancelled() and task.exception() is None:
            answer = task.result()
            self._keep((answer.model.fingerprint, flight[0][1]), _row(answer, flight[1], 0))

    def _held(self, key: _Key, outputs: frozenset[str]) -> Rows | None:
        rows = self._kept.get(key)
        if rows is None or not outputs <= rows.keys():
            return None
        self._kept.move_to_end(key)
        return rows

    def _keep(self, key: _Key, rows: Rows) -> None:
        before = self._kept.pop(key, None)
        if before is not None:
            self._bytes -= _size(before)
            rows = {**before, **rows}
        size = _size(rows)
        if size > self._room:
            return
        self._kept[key] = rows
        self._bytes += size
        while self._bytes > self._room:
            _, gone = self._kept.popitem(last=False)
            self._bytes -= _size(gone)


def _digests(images: NDArray[np.uint8]) -> list[bytes]:
    return [hashlib.sha256(image.tobytes()).digest() for image in images]


def _left(time_limit: float | None, begin: float) -> float | None:
    return None if time_limit is None else max(time_limit - (time.monotonic() - begin), 0.001)


def _size(rows: Mapping[str, NDArray[np.float32]]) -> int:
    return sum(row.nbytes for row in rows.values()) + _OVERHEAD


def _row(answer: Embeddings, outputs: frozenset[str], place: int) -> Rows:
    """What an answer says of one of its pictures: copies, since a row would keep all of the answer."""
    found: dict[str, NDArray[np.float32] | None] = {name: getattr(answer, name) for name in outputs}
    return {name: values[place].copy() for name, values in found.items() if values is not None}


def _joined(model: ModelInfo, outputs: frozenset[str], rows: Sequence[Rows]) -> Embeddings:
    return Embeddings(model, **{name: np.stack([one[name] for one in rows]) for name in outputs})
