"""CheckImage: the road of an image, from bytes to one explained verdict.

The cheap signals come first. A standing match that blocks ends the road, unless the caller asks for all. A stage that
could have matched and did not run is a reason to be undecided, never silence.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from imagewarden_server import media
from imagewarden_server.matching.errors import EmbeddingUnavailable
from imagewarden_server.matching.lookup import Lookup, Scope, VectorQueries
from imagewarden_server.matching.pictures import (
    Workers,
    digest_signals,
    embedding_usable,
    model_input,
    pdq_usable,
    require_bytes,
)
from imagewarden_server.matching.policy import blocks, decide
from imagewarden_server.matching.ports import Catalog, Embedder, Embeddings, SearchIndex
from imagewarden_server.matching.revisions import Follower
from imagewarden_server.matching.types import (
    Action,
    Match,
    SignalType,
    Undecided,
    UndecidedCode,
    VectorSpace,
    Verdict,
)
from imagewarden_server.media import Digests, Frame, Header, Limits, MediaError, MediaProblem, Picture

T = TypeVar("T")

_OUTPUT = {VectorSpace.COPY: "embedding", VectorSpace.LOGO: "regions"}
_PIXEL_SIGNALS = (SignalType.PDQ, SignalType.EMBEDDING)
_ALL_SIGNALS = (SignalType.SHA256, SignalType.SHA1, SignalType.MD5, *_PIXEL_SIGNALS)

# Kept back from the caller's deadline for the verdict and the way home: seconds, and as a share of what is left.
_RESERVE_SECONDS = 0.05
_RESERVE_SHARE = 0.1
# A check that must wait for a revision gives this share of its time to the wait, and looks with the rest.
_WAIT_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class CheckRequest:
    """A picture to check; `deadline` is monotonic seconds."""

    image: bytes
    banks: tuple[str, ...] = ()
    max_matches: int = 10
    exhaustive: bool = False
    on_undecided: Action | None = None
    at_least_revision: int | None = None
    deadline: float = field(default_factory=lambda: time.monotonic() + 10.0)


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One explained verdict.

    Attributes:
        model: the label of the model whose vectors were compared; empty where none was asked.
        timings: seconds a stage, in the order they ran.
    """

    verdict: Verdict
    action: Action
    matches: tuple[Match, ...]
    undecided: tuple[Undecided, ...]
    revision: int
    model: str
    digests: Digests
    header: Header | None
    first_frame: Frame | None
    timings: Mapping[str, float]


class _DeadlineInStage(Exception):
    """The check's time was up before a stage had ended."""


class _Check:
    """One check's state as it goes along the road."""

    def __init__(self, request: CheckRequest, scope: Scope) -> None:
        self.request = request
        self.scope = scope
        self.matches: list[Match] = []
        self.undecided: list[Undecided] = []
        self.timings: dict[str, float] = {}
        self.header: Header | None = None
        self.frames: tuple[Frame, ...] = ()
        self.model = ""
        left = request.deadline - time.monotonic()
        self.until = request.deadline - min(_RESERVE_SECONDS, max(left, 0.0) * _RESERVE_SHARE)

    @property
    def left(self) -> float:
        """Seconds that stages may still take."""
        return self.until - time.monotonic()

    @property
    def decided(self) -> bool:
        """Whether the road may end here."""
        return not self.request.exhaustive and blocks(self.matches)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.timings[name] = self.timings.get(name, 0.0) + time.perf_counter() - begin

    async def within(self, work: Awaitable[T]) -> T:
        """Wait for a stage's work, no longer than the check has time; what runs on a thread ends by itself."""
        task = asyncio.ensure_future(work)
        done, _ = await asyncio.wait({task}, timeout=max(self.left, 0.0))
        if not done:
            task.cancel()
            raise _DeadlineInStage
        return task.result()

    def say(self, code: UndecidedCode, message: str, signals: Sequence[SignalType]) -> None:
        """Note a reason to be undecided."""
        self.undecided.append(Undecided(code, message, tuple(signals)))

    def out_of_time(self, stage: str, signals: Sequence[SignalType]) -> None:
        """Note that a stage was cut by the deadline."""
        self.say(
            UndecidedCode.DEADLINE,
            f"the deadline left no room for {stage}; give the call more time, or fewer or smaller pictures at once",
            signals,
        )


class Checker:
    """Checks pictures against the banks."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        index: SearchIndex,
        follower: Follower,
        embedder: Embedder,
        workers: Workers,
        limits: Limits,
        on_undecided: Action,
    ) -> None:
        self._catalog = catalog
        self._index = index
        self._follower = follower
        self._embedder = embedder
        self._workers = workers
        self._limits = limits
        self._on_undecided = on_undecided
        self._lookup = Lookup(catalog, index)

    async def check(self, request: CheckRequest) -> CheckResult:
        """Walk one picture down the road.

        Raises:
            InvalidField: the picture is empty.
            BankNotFound: a named bank does not exist.
        """
        require_bytes(request.image)
        behind = await self._reach(request)
        scope = await self._workers.run(Scope.of, self._catalog, request.banks)
        check = _Check(request, scope)
        revision = self._index.revision
        if behind:
            check.say(
                UndecidedCode.REVISION_BEHIND,
                f"the index is at change {revision} and had not reached the asked {request.at_least_revision} in time; "
                "ask again",
                _ALL_SIGNALS,
            )
        with check.stage("digest"):
            digests = await self._workers.run(media.digest, request.image)
        with check.stage("digest_search"):
            check.matches += await self._workers.run(self._lookup.digests, scope, digest_signals(digests))
        if not check.decided:
            await self._look_at_pixels(check)
        with check.stage("policy"):
            on_undecided = request.on_undecided or self._on_undecided
            verdict, action, matches = decide(check.matches, check.undecided, on_undecided)
        return CheckResult(
            verdict=verdict,
            action=action,
            matches=tuple(matches[: request.max_matches]),
            undecided=tuple(check.undecided),
            revision=revision,
            model=check.model,
            digests=digests,
            header=check.header,
            first_frame=check.frames[0] if check.frames else None,
            timings=check.timings,
        )

    async def _reach(self, request: CheckRequest) -> bool:
        """Wait for the asked revision; whether the index stayed behind it."""
        if request.at_least_revision is None or self._index.revision >= request.at_least_revision:
            return False
        until = time.monotonic() + (request.deadline - time.monotonic()) * _WAIT_SHARE
        return not await self._follower.reach(request.at_least_revision, until)

    async def _look_at_pixels(self, check: _Check) -> None:
        """Decode, then compare PDQ, then embeddings, each only where something in scope has it."""
        picture = await self._decode(check)
        if picture is None:
            return
        check.header, check.frames = picture.header, picture.frames
        if picture.header.frames > len(picture.frames):
            check.say(
                UndecidedCode.OVER_LIMITS,
                f"{len(picture.frames)} of the {picture.header.frames} frames were compared; have a person look "
                "at the rest, or raise IMAGEWARDEN_MAX_FRAMES",
                _PIXEL_SIGNALS,
            )
        await self._compare_pdq(check)
        if not check.decided:
            await self._compare_embeddings(check)

    async def _decode(self, check: _Check) -> Picture | None:
        try:
            with check.stage("decode"):
                return await check.within(self._workers.run(media.decode, check.request.image, self._limits))
        except MediaError as error:
            over = error.problem is MediaProblem.OVER_LIMITS
            code = UndecidedCode.OVER_LIMITS if over else UndecidedCode.UNDECODABLE
            check.say(code, f"{error.message}; only the digests were compared", _PIXEL_SIGNALS)
        except _DeadlineInStage:
            check.out_of_time("decoding", _PIXEL_SIGNALS)
        return None

    async def _compare_pdq(self, check: _Check) -> None:
        if not self._lookup.compares_pdq(check.scope):
            return
        usable = [frame for frame in check.frames if pdq_usable(frame)]
        if len(usable) < len(check.frames):
            worst = min(frame.pdq.quality for frame in check.frames)
            check.say(
                UndecidedCode.TOO_PLAIN,
                f"the picture has too little structure for PDQ (quality {worst} of 100, at least 50 is needed); "
                "have a person look, or compare by digest alone",
                (SignalType.PDQ,),
            )
        if not usable:
            return
        hashes = [frame.pdq.bits for frame in usable]
        try:
            with check.stage("pdq_search"):
                check.matches += await check.within(
                    self._workers.run(self._lookup.pdq, check.scope, hashes, [frame.index for frame in usable])
                )
        except _DeadlineInStage:
            check.out_of_time("the PDQ search", (SignalType.PDQ,))

    async def _compare_embeddings(self, check: _Check) -> None:
        spaces = {
            space: models
            for space in (VectorSpace.COPY, VectorSpace.LOGO)
            if (models := self._lookup.models(check.scope, space))
        }
        if not spaces:
            return
        usable = [frame for frame in check.frames if embedding_usable(frame)]
        if len(usable) < len(check.frames):
            check.say(
                UndecidedCode.TOO_PLAIN,
                "the picture is one flat colour, or nearly: its embedding says nothing; have a person look, or compare "
                "by digest alone",
                (SignalType.EMBEDDING,),
            )
        if not usable:
            return
        outputs = {_OUTPUT[space] for space in spaces}
        try:
            with check.stage("embed"):
                answer = await check.within(
                    self._embedder.embed(model_input(usable), frozenset(outputs), max(check.left, 0.001))
                )
        except _DeadlineInStage:
            check.out_of_time("the model", (SignalType.EMBEDDING,))
            return
        except EmbeddingUnavailable as error:
            if check.left <= 0:
                check.out_of_time("the model", (SignalType.EMBEDDING,))
            else:
                check.say(UndecidedCode.EMBEDDING_UNAVAILABLE, error.message, (SignalType.EMBEDDING,))
            return
        await self._search_vectors(check, answer, usable, spaces)

    async def _search_vectors(
        self,
        check: _Check,
        answer: Embeddings,
        frames: Sequence[Frame],
        spaces: Mapping[VectorSpace, Mapping[str, int]],
    ) -> None:
        model = answer.model
        check.model = model.label
        foreign = {
            name: count for models in spaces.values() for name, count in models.items() if name != model.fingerprint
        }
        if foreign:
            names = ", ".join(f"{name[:12]} ({count})" for name, count in sorted(foreign.items()))
            check.say(
                UndecidedCode.EMBEDDING_UNAVAILABLE,
                f"the model is {model.label}; vectors of other models are stored, and never compared with its own: "
                f"{names}; serve that model again, or add those pictures and logos again",
                (SignalType.EMBEDDING,),
            )
        try:
            with check.stage("vector_search"):
                for space in spaces:
                    queries = _queries(space, answer, frames)
                    check.matches += await check.within(
                        self._workers.run(self._lookup.vectors, check.scope, model, queries, check.request.max_matches)
                    )
        except _DeadlineInStage:
            check.out_of_time("the vector search", (SignalType.EMBEDDING,))


def _queries(space: VectorSpace, answer: Embeddings, frames: Sequence[Frame]) -> VectorQueries:
    """What is compared in a space: the whole picture for copies of it, every region for logos in it."""
    numbers = [frame.index for frame in frames]
    if space is VectorSpace.COPY and answer.embedding is not None:
        return VectorQueries(space, answer.embedding, numbers, [None] * len(numbers))
    if space is VectorSpace.LOGO and answer.regions is not None:
        boxes = answer.model.regions
        vectors = answer.regions.reshape(-1, answer.model.dimensions)
        return VectorQueries(space, vectors, [number for number in numbers for _ in boxes], list(boxes) * len(numbers))
    raise EmbeddingUnavailable(f"model {answer.model.label} did not give what was asked; look at the model host")
