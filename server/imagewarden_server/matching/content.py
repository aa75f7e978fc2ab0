"""The content signals of a check: one pass of the model, and local features beside it, then what both say together."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imagewarden_server import media
from imagewarden_server.matching.embedder import Embedder, Embeddings, ModelInfo
from imagewarden_server.matching.errors import EmbeddingUnavailable
from imagewarden_server.matching.evidence import Sighting
from imagewarden_server.matching.lookup import LocalQuery, Lookup, VectorQueries
from imagewarden_server.matching.pictures import Look, Workers, embedding_usable, looks
from imagewarden_server.matching.types import Box, SignalType, UndecidedCode, VectorModel, VectorSpace
from imagewarden_server.matching.walk import DeadlineInStage, Walk
from imagewarden_server.media import Frame

_OUTPUTS = {VectorSpace.COPY: frozenset({"embedding", "regions"}), VectorSpace.LOGO: frozenset({"logos"})}
_MODEL_SIGNALS = (SignalType.EMBEDDING,)
_LOCAL_SIGNALS = (SignalType.LOCAL,)
# An entry may be the best of several views; more candidates than are answered let the signals correct each other.
_LEAST_CANDIDATES = 16
# So many of what each other signal finds are compared by local features too, where the embedding's score is at least
# this part of the threshold: what is like everything a little is no suspicion.
_SUSPECTED = 4
_SUSPICIOUS = 0.6
# So many logos that the embedding finds are looked at again: the right one is among them nearly always.
_LOOKED_AT = 12


class ContentComparer:
    """Compares what a picture shows: by embedding and by local features."""

    def __init__(self, lookup: Lookup, embedder: Embedder, workers: Workers) -> None:
        self._lookup = lookup
        self._embedder = embedder
        self._workers = workers

    async def compare(self, walk: Walk) -> None:
        """Note what the content signals find, each only where something in scope has it.

        Local features are extracted and looked up while the model works: its pass is the longest of all stages.
        """
        spaces = {
            space: models
            for space in (VectorSpace.COPY, VectorSpace.LOGO)
            if (models := self._lookup.models(walk.scope, space))
        }
        by_local = self._lookup.compares_local(walk.scope, media.EXTRACTOR)
        if not (spaces or by_local) or not await self._show(walk):
            return
        beside = asyncio.create_task(self._look_up_local(walk)) if by_local else None
        try:
            asked = await self._embed(walk, spaces) if spaces else None
            vectors = None
            if asked is not None:
                vectors = asked.answer.model, asked.queries()
                await self._search_vectors(walk, asked, *vectors)
            if beside is not None and not walk.decided:
                if (local := await beside) is not None:
                    await self._compare_local(walk, local)
                else:
                    walk.out_of_time("the local features", _LOCAL_SIGNALS)
            if vectors is not None and not walk.decided:
                await self._look_again(walk)
        finally:
            if beside is not None:
                beside.cancel()
        if not walk.decided and len(walk.candidates):
            await self._complete(walk, vectors)

    # ---------------------------------------------------------------------------------------------------- embedding

    async def _show(self, walk: Walk) -> bool:
        """Have the frames scaled to what the signals need; False where the deadline came first."""
        try:
            with walk.stage("resize"):
                await walk.within(self._workers.run(lambda: [frame.shown for frame in walk.frames]))
        except DeadlineInStage:
            walk.out_of_time("scaling the picture", (*_MODEL_SIGNALS, *_LOCAL_SIGNALS))
            return False
        return True

    async def _embed(self, walk: Walk, spaces: Mapping[VectorSpace, Mapping[VectorModel, int]]) -> _Asked | None:
        """The model's answer; None where nothing can be compared with it, or it did not come."""
        usable = [frame for frame in walk.frames if embedding_usable(frame)]
        if len(usable) < len(walk.frames):
            walk.say(
                UndecidedCode.TOO_PLAIN,
                "the picture is one flat colour, or nearly: its embedding says nothing; have a person look, or compare "
                "by digest alone",
                _MODEL_SIGNALS,
            )
        if not usable:
            return None
        outputs = frozenset[str]().union(*(_OUTPUTS[space] for space in spaces))
        try:
            with walk.stage("embed"):
                given = await self._workers.run(lambda: looks(usable, thorough=walk.request.thorough))
                pixels = np.stack([look.pixels for look in given])
                answer = await walk.within(self._embedder.embed(pixels, outputs, max(walk.left, 0.001)))
        except DeadlineInStage:
            walk.out_of_time("the model", _MODEL_SIGNALS)
        except EmbeddingUnavailable as error:
            if walk.left <= 0:
                walk.out_of_time("the model", _MODEL_SIGNALS)
            else:
                walk.say(UndecidedCode.EMBEDDING_UNAVAILABLE, error.message, _MODEL_SIGNALS)
        else:
            return _Asked(answer, given, spaces)
        return None

    async def _search_vectors(
        self, walk: Walk, asked: _Asked, model: ModelInfo, queries: Sequence[VectorQueries]
    ) -> None:
        walk.model = model.label
        if VectorSpace.COPY in asked.spaces:
            walk.whole = model.fingerprint, queries[0].vectors
        foreign, misshapen = asked.foreign()
        if misshapen:
            walk.say(
                UndecidedCode.EMBEDDING_UNAVAILABLE,
                f"{misshapen} stored vectors are under the name of the model, {model.label}, and have other numbers of "
                "dimensions than its own: they are never compared; find their entries with ListEntries, whose signals "
                "tell their dimensions, and delete them",
                _MODEL_SIGNALS,
            )
        if foreign:
            names = ", ".join(f"{name[:12]} ({count})" for name, count in sorted(foreign.items()))
            walk.say(
                UndecidedCode.EMBEDDING_UNAVAILABLE,
                f"the model is {model.label}; vectors of other models are stored, and never compared with its own: "
                f"{names}; serve that model again, or add those pictures and logos again",
                _MODEL_SIGNALS,
            )
        most = max(_LEAST_CANDIDATES, walk.request.max_matches)
        try:
            with walk.stage("vector_search"):
                searches = (self._workers.run(self._lookup.vectors, walk.scope, model, one, most) for one in queries)
                found = await walk.within(asyncio.gather(*searches))
                for query, seen in zip(queries, found, strict=True):
                    walk.candidates.note(seen)
                    # Of each search for itself: scores of copies and of logos have different units.
                    best = sorted(seen, key=lambda one: -one.found.value)[:_SUSPECTED]
                    least = _SUSPICIOUS * self._lookup.least(walk.scope, query.space)
                    walk.suspected += [one.entry for one in best if one.found.value >= least]
                await self._weigh(walk)
        except DeadlineInStage:
            walk.out_of_time("the vector search", _MODEL_SIGNALS)

    # ------------------------------------------------------------------------------------------------ local features

    async def _look_up_local(self, walk: Walk) -> _Local | None:
        """The frames' local features, and the entries they vote for; None where the deadline came first."""
        try:
            with walk.stage("local_extract"):
                queries = await walk.within(self._workers.look(_local_queries, walk.frames))
            with walk.stage("local_search"):
                found = await walk.within(self._workers.run(self._lookup.voted, walk.scope, media.EXTRACTOR, queries))
        except DeadlineInStage:
            return None
        return _Local(queries, found)

    async def _compare_local(self, walk: Walk, local: _Local) -> None:
        """Note what the votes found, and hold against the picture what other signals suspect beside it."""
        walk.candidates.note(local.found)
        suspected = [*walk.candidates.best(SignalType.PDQ, _SUSPECTED), *walk.suspected]
        seen = {one.entry for one in local.found}
        suspected = [entry for entry in suspected if entry not in seen]
        if not suspected:
            return
        try:
            with walk.stage("local_search"):
                walk.candidates.note(
                    await walk.within(
                        self._workers.run(
                            self._lookup.held_against, walk.scope, media.EXTRACTOR, local.queries, suspected
                        )
                    )
                )
        except DeadlineInStage:
            walk.out_of_time("the local features", _LOCAL_SIGNALS)

    async def _look_again(self, walk: Walk) -> None:
        """Look again, by their shapes and drawings, where the embedding sees logos."""
        places = walk.candidates.places(SignalType.EMBEDDING, _LOOKED_AT)
        if not places or not self._lookup.compares_local(walk.scope, media.SHAPES):
            return
        pictures = {frame.index: frame.small for frame in walk.frames}
        try:
            with walk.stage("local_search"):
                walk.candidates.strengthen(
                    await walk.within(self._workers.run(self._lookup.look_again, walk.scope, pictures, places))
                )
        except DeadlineInStage:
            walk.out_of_time("the second look at logos", _LOCAL_SIGNALS)

    # -------------------------------------------------------------------------------------------------- all together

    async def _complete(self, walk: Walk, vectors: tuple[ModelInfo, Sequence[VectorQueries]] | None) -> None:
        """Ask of each candidate what every signal says of it, and weigh all of it together."""
        lacking = {signal: walk.candidates.lacking(signal) for signal in (SignalType.PDQ, SignalType.EMBEDDING)}
        try:
            with walk.stage("local_search"):
                walk.candidates.note(
                    await walk.within(
                        self._workers.run(
                            self._lookup.complete, walk.scope, lacking, walk.hashes, walk.hash_frames, vectors
                        )
                    )
                )
        except DeadlineInStage:
            walk.out_of_time("weighing the signals together", (SignalType.COMBINED,))
        await self._weigh(walk)

    async def _weigh(self, walk: Walk) -> None:
        walk.pictured = await self._workers.run(self._lookup.matches, walk.scope, walk.candidates)


@dataclass(frozen=True, slots=True)
class _Local:
    """The local features of the frames, and the entries that they vote for."""

    queries: Sequence[LocalQuery]
    found: Sequence[Sighting]


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the model answered, with what it was given and the spaces that have something to compare with it."""

    answer: Embeddings
    given: Sequence[Look]
    spaces: Mapping[VectorSpace, Mapping[VectorModel, int]]

    def foreign(self) -> tuple[dict[str, int], int]:
        """How many stored vectors are of other models, by fingerprint; and how many of this one have other shapes."""
        model, others, misshapen = self.answer.model, Counter[str](), 0
        for space, stored in self.spaces.items():
            for one, count in stored.items():
                if one.fingerprint != model.fingerprint:
                    others[one.fingerprint] += count
                elif one != model.vectors_of(space):
                    misshapen += count
        return others, misshapen

    def queries(self) -> list[VectorQueries]:
        """What is compared in each space.

        For copies the whole picture and, apart, its regions. For logos all windows.
        """
        model, answer = self.answer.model, self.answer
        made = []
        if VectorSpace.COPY in self.spaces:
            frames = [look.frame for look in self.given]
            whole = [look.window for look in self.given]
            made.append(VectorQueries(VectorSpace.COPY, _given(model, answer.embedding), frames, whole))
            made.append(self._windows(VectorSpace.COPY, answer.regions, model.regions))
        if VectorSpace.LOGO in self.spaces:
            made.append(self._windows(VectorSpace.LOGO, answer.logos, model.logo_windows))
        return made

    def _windows(
        self, space: VectorSpace, vectors: NDArray[np.float32] | None, windows: Sequence[Box]
    ) -> VectorQueries:
        rows = _given(self.answer.model, vectors)
        frames = [look.frame for look in self.given for _ in windows]
        places = [look.place(box) for look in self.given for box in windows]
        return VectorQueries(space, rows.reshape(-1, rows.shape[-1]), frames, places)


def _given(model: ModelInfo, vectors: NDArray[np.float32] | None) -> NDArray[np.float32]:
    if vectors is None:
        raise EmbeddingUnavailable(f"model {model.label} did not give what was asked; look at the model host")
    return vectors


def _local_queries(frames: Sequence[Frame]) -> list[LocalQuery]:
    return [LocalQuery(frame.index, media.extract_checked(frame.small), media.luma(frame.small)) for frame in frames]
