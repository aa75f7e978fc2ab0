"""What a banned or an allowed picture is recognised by: the vectors of its views and its local features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imagewarden_server import media
from imagewarden_server.matching.embedder import Embedder, Embeddings
from imagewarden_server.matching.errors import EmbeddingUnavailable
from imagewarden_server.matching.pictures import Workers
from imagewarden_server.matching.types import Box, LocalSignal, SignalType, Vectors, VectorSignal, VectorSpace
from imagewarden_server.media import Frame, View

_EMBED_SECONDS = 60.0
_ORDINARY = 3


class CopyDescriber:
    """Describes pictures for registration: passes of the model are spent here, so that a check needs one alone."""

    def __init__(self, embedder: Embedder, workers: Workers) -> None:
        self._embedder = embedder
        self._workers = workers

    async def describe(self, frames: Sequence[Frame]) -> tuple[tuple[VectorSignal, ...], tuple[LocalSignal, ...]]:
        """The vectors and the local features of a picture's frames.

        All views of the first frame are stored, and of the others of an animation the whole picture alone.

        Raises:
            EmbeddingUnavailable: the model is not there, or changed meanwhile.
        """
        views = await self._workers.look(_views, frames[0])
        views += [View(frame.model_input, None) for frame in frames[1:]]
        pixels = np.stack([view.pixels for view in views])
        answer = await self._embedder.embed(pixels, frozenset({"embedding", "regions"}), _EMBED_SECONDS)
        # One view is enough to rank by, and this output alone takes the whole network.
        meaning = await self._embedder.embed(pixels[:1], frozenset({"semantic"}), _EMBED_SECONDS)
        if answer.model.fingerprint != meaning.model.fingerprint:
            raise EmbeddingUnavailable(f"the model changed to {meaning.model.label} meanwhile; try again")
        background = await self._embedder.background(answer.model, VectorSpace.COPY, _EMBED_SECONDS)
        local = await self._workers.look(_local, frames)
        return await self._workers.run(_signals, views, answer, meaning, background), local


def _views(frame: Frame) -> list[View]:
    views = media.copy_views(Image.fromarray(frame.small))
    # The picture itself as a check gives it to the model: by way of `small` it would differ a little.
    return [View(frame.model_input, None), *views[1:]]


def _signals(
    views: Sequence[View], answer: Embeddings, meaning: Embeddings, background: NDArray[np.float32]
) -> tuple[VectorSignal, ...]:
    if answer.embedding is None or answer.regions is None or meaning.semantic is None:
        raise EmbeddingUnavailable(f"model {answer.model.label} did not give what was asked; look at the model host")
    boxes = answer.model.regions
    rows: list[Vectors] = []
    for place, view in enumerate(views):
        row = (
            answer.embedding[place] if view.window is None else answer.regions[place, nearest(boxes, Box(*view.window))]
        )
        rows.append(row)
    fingerprint = answer.model.fingerprint
    vectors = np.stack(rows)
    # A row each: each view is like other pictures in its own measure.
    return (
        *(
            VectorSignal(SignalType.EMBEDDING, VectorSpace.COPY, fingerprint, vectors[place : place + 1], mean)
            for place, mean in enumerate(ordinary(vectors, background))
        ),
        VectorSignal(SignalType.SEMANTIC, VectorSpace.SEMANTIC, fingerprint, meaning.semantic),
    )


def ordinary(vectors: Vectors, background: NDArray[np.float32]) -> list[float]:
    """How alike ordinary pictures are to each vector: the mean similarity of the few most alike.

    The most alike of all is left out: it may be the very picture.

    A thing on white or a dark corner is like much: what counts is how much more alike a checked picture is. By the
    stored vector instead of by the query (Pizzi et al., CVPR 2022), so that it costs nothing at a check: see
    docs/descriptor.md.

    Args:
        vectors: float32 [n, d], unit norm.
        background: of windows of ordinary pictures, float32 [pictures, windows, d]; of few the answer is 0.
    """
    if len(background) <= _ORDINARY:
        return [0.0] * len(vectors)
    best = np.stack([(picture @ vectors.T).max(0) for picture in background])
    return [float(value) for value in np.sort(best, axis=0)[-1 - _ORDINARY : -1].mean(0)]


def nearest(boxes: Sequence[Box], box: Box) -> int:
    """The place of the box whose edges are nearest to another's."""
    edges = np.array([(one.left, one.top, one.right, one.bottom) for one in boxes])
    return int(np.abs(edges - np.array([box.left, box.top, box.right, box.bottom])).sum(1).argmin())


def _local(frames: Sequence[Frame]) -> tuple[LocalSignal, ...]:
    """The local features of the frames that have any, and their small grey pictures."""
    found = [(frame, features) for frame in frames if len((features := media.extract(frame.small)).points)]
    return (
        *(LocalSignal(media.EXTRACTOR, features) for _, features in found),
        *(LocalSignal(media.GREYS, media.grey(frame.small)) for frame, _ in found),
    )
