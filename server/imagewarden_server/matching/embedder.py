"""What the domain asks of the model: the port that the TensorFlow Serving client implements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from imagewarden_server.matching.errors import InvalidField
from imagewarden_server.matching.types import Box, NewEntry, VectorModel, Vectors, VectorSpace


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The model that answers now, as its card says.

    Attributes:
        label: for people and answers: name, version and the beginning of the fingerprint.
        fingerprint: what decides the vectors, hashed: vectors of equal fingerprints are comparable.
        dimensions: of `embedding` and `regions`.
        semantic_dimensions: of `semantic`.
        logo_dimensions: of `logos`.
        regions: the boxes that the rows of `regions` were pooled over, as fractions of the input.
        logo_windows: the boxes that the rows of `logos` were pooled over.
        copy_background: how many ordinary pictures the model knows as copies are known, and how many windows of each;
            0: none.
        logo_background: how many pictures without logos it knows, and how many windows of each; 0: none.
    """

    label: str
    fingerprint: str
    dimensions: int
    semantic_dimensions: int
    logo_dimensions: int
    regions: tuple[Box, ...]
    logo_windows: tuple[Box, ...]
    copy_background: tuple[int, int] = (0, 0)
    logo_background: tuple[int, int] = (0, 0)

    def vectors_of(self, space: VectorSpace) -> VectorModel:
        """As what its own vectors of a space are stored."""
        dimensions = {
            VectorSpace.COPY: self.dimensions,
            VectorSpace.LOGO: self.logo_dimensions,
            VectorSpace.SEMANTIC: self.semantic_dimensions,
        }
        return VectorModel(self.fingerprint, dimensions[space])


@dataclass(frozen=True, slots=True)
class Embeddings:
    """What the model said of n pictures; all rows of unit norm.

    Attributes:
        model: the model that really answered.
        embedding: float32 [n, dimensions], or None where not asked.
        regions: float32 [n, len(model.regions), dimensions], or None where not asked.
        logos: float32 [n, len(model.logo_windows), logo_dimensions], or None where not asked.
        semantic: float32 [n, semantic_dimensions], or None where not asked.
    """

    model: ModelInfo
    embedding: Vectors | None = None
    regions: NDArray[np.float32] | None = None
    logos: NDArray[np.float32] | None = None
    semantic: Vectors | None = None


def check_dimensions(model: ModelInfo, entry: NewEntry) -> None:
    """Refuse vectors under the name of the model that answers now that cannot be its own.

    Raises:
        InvalidField: which they are.
    """
    for signal in entry.vectors:
        side, own = signal.vectors.shape[1], model.vectors_of(signal.space)
        if signal.model == own.fingerprint and side != own.dimensions:
            raise InvalidField(
                "vectors",
                f"of model {signal.model} have {side} dimensions, and it is served here, with {own.dimensions}; export "
                "the list again where its pictures were added, or leave the vectors out",
            )


class Embedder(Protocol):
    """The model, wherever it runs."""

    @property
    def model(self) -> ModelInfo | None:
        """The model that answers now; None while there is none that can be used."""

    @property
    def problem(self) -> str:
        """Why there is none, in a sentence; empty where there is one."""

    async def embed(self, images: NDArray[np.uint8], outputs: frozenset[str], time_limit: float | None) -> Embeddings:
        """Ask for outputs (`embedding`, `regions`, `logos`, `semantic`) of uint8 pictures [n, 299, 299, 3].

        Raises:
            EmbeddingUnavailable: the model is not there, failed, answered nonsense or took longer than `time_limit`
                seconds; the message says which.
        """

    async def background(self, model: ModelInfo, space: VectorSpace, time_limit: float) -> NDArray[np.float32]:
        """The windows' vectors of pictures that show nothing to be found: float32 [pictures, windows, dimensions].

        Args:
            model: whose.
            space: COPY: of ordinary pictures; LOGO: of pictures without logos.
            time_limit: in seconds.

        Raises:
            EmbeddingUnavailable: as `embed`; also where the model is another one meanwhile.
        """
