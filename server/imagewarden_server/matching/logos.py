"""What a logo is recognised by: prototypes of its drawings, how high pictures without it score, keypoints and shape."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from imagewarden_server import media
from imagewarden_server.matching import shapes
from imagewarden_server.matching.embedder import Embedder, Embeddings
from imagewarden_server.matching.errors import EmbeddingUnavailable
from imagewarden_server.matching.pictures import Workers
from imagewarden_server.matching.types import Box, LocalSignal, SignalType, Vectors, VectorSignal, VectorSpace
from imagewarden_server.media import Rendering

PROTOTYPES = 8
"""How many vectors stand for all drawings of a logo: more find no more, see docs/evaluation.md."""

# Photographs are seldom square, and the model sees every picture squeezed to a square.
_SQUEEZES = (1.0, 2 / 3)
_GAP = 0.03
_LOCAL_DRAWINGS = 3
_LOCAL_SIDE = 256
_SAME_SIZE = 1.1
_ROUNDS = 10
_EMBED_SECONDS = 120.0
_MIN_DEVIATION = 1e-3


@dataclass(frozen=True, slots=True)
class DescribedLogo:
    """The signals of a logo."""

    vectors: tuple[VectorSignal, ...]
    local: tuple[LocalSignal, ...]


class LogoDescriber:
    """Describes logos for registration."""

    def __init__(self, embedder: Embedder, workers: Workers) -> None:
        self._embedder = embedder
        self._workers = workers

    async def describe(self, renderings: Sequence[Rendering]) -> DescribedLogo:
        """Draw, embed, reduce to prototypes, and hold these against pictures without logos.

        Each drawing fills windows of the sizes that a check looks through, so that a logo inside a photograph is
        compared like with like.

        Raises:
            EmbeddingUnavailable: the model is not there, or changed meanwhile.
        """
        model = self._embedder.model
        if model is None:
            raise EmbeddingUnavailable(self._embedder.problem)
        pictures, owners = await self._workers.look(_draw, renderings, model.logo_windows)
        answer = await self._embedder.embed(pictures, frozenset({"logos"}), _EMBED_SECONDS)
        # One drawing is enough to rank by, and this output alone takes the whole network.
        meaning = await self._embedder.embed(pictures[:1], frozenset({"semantic"}), _EMBED_SECONDS)
        if {answer.model.fingerprint, meaning.model.fingerprint} != {model.fingerprint}:
            raise EmbeddingUnavailable(f"the model changed to {meaning.model.label} meanwhile; try again")
        background = await self._embedder.background(answer.model, VectorSpace.LOGO, _EMBED_SECONDS)
        vectors = await self._workers.run(_signals, answer, meaning, owners, background)
        return DescribedLogo(vectors, await self._workers.look(_local, renderings))


def _draw(renderings: Sequence[Rendering], windows: Sequence[Box]) -> tuple[NDArray[np.uint8], list[tuple[int, int]]]:
    """All drawings as the model takes them, uint8 [n, 299, 299, 3]; of each window that is filled, which drawing's."""
    pictures: list[NDArray[np.uint8]] = []
    owners: list[tuple[int, int]] = []
    for rendering, squeeze in itertools.product(renderings, _SQUEEZES):
        height, width = rendering.logo.shape[:2]
        for places in layouts(windows, width * squeeze / height):
            owners += [(len(pictures), place) for place in places]
            boxes = [astuple(windows[place]) for place in places]
            pictures.append(media.place_logo(rendering, boxes, squeeze))
    return np.stack(pictures), owners


def layouts(windows: Sequence[Box], aspect: float) -> list[list[int]]:
    """Which windows a logo is drawn into, a list a drawing: of each size the shape that suits it, none overlapping.

    Args:
        windows: of the model.
        aspect: the logo's width divided by its height, as drawn.
    """
    by_shape: dict[tuple[float, float], list[int]] = {}
    for place, box in enumerate(windows):
        by_shape.setdefault((round(box.right - box.left, 3), round(box.bottom - box.top, 3)), []).append(place)
    sizes: list[list[tuple[float, float]]] = []
    for shape in sorted(by_shape, key=math.prod, reverse=True):
        # Shapes of one size differ a little in area where one is cut at the picture's edges.
        if not sizes or math.prod(shape) * _SAME_SIZE < math.prod(sizes[-1][-1]):
            sizes.append([])
        sizes[-1].append(shape)
    waiting = [by_shape[min(shapes, key=lambda shape: abs(math.log(shape[0] / shape[1] / aspect)))] for shapes in sizes]
    drawings: list[list[int]] = []
    while waiting:
        chosen: list[int] = []
        left = []
        for places in waiting:
            free = next((one for one in places if not any(_touch(windows[one], windows[two]) for two in chosen)), None)
            if free is None:
                left.append(places)
            else:
                chosen.append(free)
        drawings.append(chosen)
        waiting = left
    return drawings


def _touch(one: Box, two: Box) -> bool:
    return (
        one.left < two.right + _GAP
        and two.left < one.right + _GAP
        and one.top < two.bottom + _GAP
        and two.top < one.bottom + _GAP
    )


def _signals(
    answer: Embeddings, meaning: Embeddings, owners: Sequence[tuple[int, int]], background: NDArray[np.float32]
) -> tuple[VectorSignal, ...]:
    if answer.logos is None or meaning.semantic is None:
        raise EmbeddingUnavailable(f"model {answer.model.label} did not give what was asked; look at the model host")
    drawn = answer.logos[[picture for picture, _ in owners], [place for _, place in owners]]
    fingerprint = answer.model.fingerprint
    kept = prototypes(drawn, PROTOTYPES)
    means, deviations = without(kept, background)
    return (
        *(
            VectorSignal(SignalType.EMBEDDING, VectorSpace.LOGO, fingerprint, kept[place : place + 1], mean, deviation)
            for place, (mean, deviation) in enumerate(zip(means, deviations, strict=True))
        ),
        VectorSignal(SignalType.SEMANTIC, VectorSpace.SEMANTIC, fingerprint, meaning.semantic),
    )


def prototypes(vectors: Vectors, most: int) -> Vectors:
    """Unit vectors that stand for all of a set: spherical k-means, begun at the vectors that are farthest apart.

    Args:
        vectors: float32 [n, d], unit norm.
        most: how many to make at most.

    Returns:
        float32 [min(n, most), d], unit norm; the same for the same vectors.
    """
    if len(vectors) <= most:
        return vectors
    chosen = [0]
    nearest = vectors @ vectors[0]
    while len(chosen) < most:
        chosen.append(int(nearest.argmin()))
        nearest = np.maximum(nearest, vectors @ vectors[chosen[-1]])
    centres = vectors[chosen]
    for _ in range(_ROUNDS):
        own = (vectors @ centres.T).argmax(1)
        sums = np.stack([vectors[own == place].sum(0) for place in range(most)])
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(norms > 0, sums / np.maximum(norms, 1e-12), centres).astype(np.float32)
    return centres


def without(vectors: Vectors, background: NDArray[np.float32]) -> tuple[list[float], list[float]]:
    """How high pictures without a logo score against it: the mean and the standard deviation of their best windows.

    Z-norm, as speaker verification calls it (Auckenthaler, Carey, Lloyd-Thomas, 2000): without it a few logos that are
    like anything would set the threshold for all.

    Args:
        vectors: of the logo, float32 [n, d].
        background: of the windows of pictures without logos, float32 [pictures, windows, d]; of none, the scores stay
            cosine similarities.
    """
    if not len(background):
        return [0.0] * len(vectors), [1.0] * len(vectors)
    best = np.stack([(picture @ vectors.T).max(0) for picture in background])
    deviations = np.maximum(best.std(0), _MIN_DEVIATION)
    return [float(value) for value in best.mean(0)], [float(value) for value in deviations]


def _local(renderings: Sequence[Rendering]) -> tuple[LocalSignal, ...]:
    """The keypoints of the first drawings, the logo in its colours on the grounds that it can be seen on; its shape.

    The shape of one drawing is enough: it knows no colours. And so is its small picture, whose colours may change.
    """
    signals = []
    for rendering in renderings[:_LOCAL_DRAWINGS]:
        features = media.extract(media.place_logo(rendering, [(0.05, 0.05, 0.95, 0.95)], side=_LOCAL_SIDE))
        if len(features.points):
            signals.append(LocalSignal(media.EXTRACTOR, features))
    drawing = LocalSignal(media.DRAWINGS, media.drawing(renderings[0]))
    return (*signals, *shapes.describe(renderings[0]), drawing)
