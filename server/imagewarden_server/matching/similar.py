"""SearchSimilarImages: entries ranked by meaning. It decides nothing."""

from __future__ import annotations

import enum
import math
import time
from dataclasses import dataclass

from imagewarden_server import media
from imagewarden_server.matching.embedder import Embedder
from imagewarden_server.matching.errors import EmbeddingUnavailable, RevisionBehind
from imagewarden_server.matching.load import Turns
from imagewarden_server.matching.lookup import Lookup
from imagewarden_server.matching.pictures import Workers, decode_or_raise, model_input, require_bytes
from imagewarden_server.matching.ports import Catalog, Decoder, SearchIndex
from imagewarden_server.matching.revisions import Follower
from imagewarden_server.matching.types import Bank, Entry
from imagewarden_server.matching.visible import Banks
from imagewarden_server.media import Picture


class Metric(enum.StrEnum):
    """How two semantic vectors are compared."""

    COSINE = "cosine"
    EUCLIDEAN = "euclidean"


@dataclass(frozen=True, slots=True)
class Similar:
    """One entry like the picture; `distance` by the asked metric, `similarity` the cosine."""

    entry: Entry
    bank: Bank
    distance: float
    similarity: float


@dataclass(frozen=True, slots=True)
class SimilarResult:
    """The entries like the picture, ranked."""

    results: tuple[Similar, ...]
    revision: int
    model: str
    sha256: bytes
    picture: Picture


def distance(metric: Metric, similarity: float) -> float:
    """The distance of two unit vectors of this cosine: |a - b|^2 = 2 - 2 cos, so both metrics rank alike."""
    if metric is Metric.EUCLIDEAN:
        return math.sqrt(max(0.0, 2.0 - 2.0 * similarity))
    return 1.0 - similarity


class Similarity:
    """Searches by meaning."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        index: SearchIndex,
        follower: Follower,
        embedder: Embedder,
        workers: Workers,
        decoder: Decoder,
        turns: Turns,
    ) -> None:
        self._index = index
        self._follower = follower
        self._embedder = embedder
        self._workers = workers
        self._decoder = decoder
        self._turns = turns
        self._lookup = Lookup(catalog, index)

    async def search(
        self,
        image: bytes,
        banks: tuple[str, ...],
        k: int,
        metric: Metric,
        *,
        visible: Banks,
        at_least_revision: int | None,
        deadline: float,
    ) -> SimilarResult:
        """Find the k entries most like a picture; `deadline` is monotonic seconds.

        Raises:
            InvalidField, ImageUndecodable, ImageOverLimits: the picture gives no pixels.
            BankNotFound: a named bank does not exist.
            RevisionBehind: the index did not reach the asked revision in time.
            EmbeddingUnavailable: the model gave no vector.
            Overloaded: it would take too long.
        """
        require_bytes(image)
        if at_least_revision is not None and not await self._follower.reach(at_least_revision, deadline):
            raise RevisionBehind(
                f"the index is at change {self._index.revision} and had not reached the asked {at_least_revision} in "
                "time; ask again",
                revision=str(at_least_revision),
            )
        scope = await self._workers.run(self._lookup.scope, banks, visible)
        with self._turns.turn(deadline):
            picture = await self._workers.look(decode_or_raise, image, self._decoder, deadline)
            sha256 = await self._workers.run(media.sha256, image)
            revision = self._index.revision
            answer = await self._embedder.embed(
                model_input(picture.frames[:1]), frozenset({"semantic"}), max(deadline - time.monotonic(), 0.001)
            )
        if answer.semantic is None:
            raise EmbeddingUnavailable("the model gave no `semantic`; export it again with `imagewarden model export`")
        found = await self._workers.run(self._lookup.similar, scope, answer.model, answer.semantic[0], k)
        ranked = tuple(Similar(entry, bank, distance(metric, cosine), cosine) for entry, bank, cosine in found)
        return SimilarResult(ranked, revision, answer.model.label, sha256, picture)
