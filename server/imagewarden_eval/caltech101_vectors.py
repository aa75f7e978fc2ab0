"""Each picture's features: the model's over the TensorFlow Serving API, the hand-crafted here; kept in a cache."""

from __future__ import annotations

import asyncio
import hashlib
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imagewarden_eval import handcrafted
from imagewarden_eval.caltech101_data import Dataset
from imagewarden_eval.errors import EvaluationError
from imagewarden_eval.progress import Progress
from imagewarden_server import media
from imagewarden_server.embedding import TfServingEmbedder
from imagewarden_server.matching.errors import EmbeddingUnavailable

Matrix = NDArray[np.float32]

OUTPUTS = ("semantic", "embedding")
BATCH = 8
MODEL_NAME = "inception"
"""By which a model host is asked, whatever it hosts."""

_SECONDS = 30.0
_LIMITS = media.Limits()
_TRIES = 3


class VectorsError(EvaluationError):
    """A picture or the model gave no vector; the message says which and why."""


@dataclass(frozen=True, slots=True)
class ModelVectors:
    """What a model says of the pictures.

    Attributes:
        label: the model's name, version and the beginning of its fingerprint.
        fingerprint: of all that decides its vectors.
        by_output: float32 [n, D] of unit norm, by the output's name.
    """

    label: str
    fingerprint: str
    by_output: Mapping[str, Matrix]


def model_vectors(address: str, data: Dataset, cache: Path | None, progress: Progress) -> ModelVectors:
    """Ask a model host for the outputs of every picture, decoded as the server decodes them.

    Raises:
        VectorsError: a picture cannot be decoded, or the host gives no vectors.
    """
    return asyncio.run(_model_vectors(address, data, cache, progress))


async def _model_vectors(address: str, data: Dataset, cache: Path | None, progress: Progress) -> ModelVectors:
    embedder = TfServingEmbedder(address, MODEL_NAME)
    await embedder.start()
    try:
        model = embedder.model
        if model is None:
            raise VectorsError(f"the model host at {address} gives no vectors: {embedder.problem}")
        kept = _file(cache, data, model.fingerprint)
        if (found := _cached(kept, OUTPUTS)) is None:
            found = await _ask(embedder, data, progress)
            _keep(kept, found)
        return ModelVectors(model.label, model.fingerprint, found)
    finally:
        await embedder.close()


async def _ask(embedder: TfServingEmbedder, data: Dataset, progress: Progress) -> dict[str, Matrix]:
    parts: dict[str, list[Matrix]] = {output: [] for output in OUTPUTS}
    with progress.task("vectors of the model", len(data)) as advance:
        for begin in range(0, len(data), BATCH):
            names = data.paths[begin : begin + BATCH]
            inputs = np.stack([await asyncio.to_thread(_input, data.root / name) for name in names])
            semantic, embedding = await _patiently(embedder, inputs)
            parts["semantic"].append(semantic)
            parts["embedding"].append(embedding)
            advance(len(names))
    return {output: np.concatenate(found) for output, found in parts.items()}


async def _patiently(embedder: TfServingEmbedder, inputs: NDArray[np.uint8]) -> tuple[Matrix, Matrix]:
    """One batch; a host that others keep busy is given more than one chance."""
    for attempt in range(_TRIES):
        try:
            answer = await embedder.embed(inputs, frozenset(OUTPUTS), _SECONDS)
        except EmbeddingUnavailable as error:
            if attempt + 1 == _TRIES:
                raise VectorsError(f"the model host gave no vectors: {error.message}") from error
        else:
            if answer.semantic is not None and answer.embedding is not None:
                return answer.semantic, answer.embedding
            break
    raise VectorsError(
        "the model gave no `semantic` or no `embedding`; export it again with `imagewarden model export`"
    )


def _input(path: Path) -> NDArray[np.uint8]:
    """A picture as the server gives it to the model."""
    try:
        return media.decode(path.read_bytes(), _LIMITS).frames[0].model_input
    except media.MediaError as error:
        raise VectorsError(f"{path}: {error.message}; take it away, or get it again") from error
    except OSError as error:
        raise VectorsError(f"{path} cannot be read: {error}") from error


def pixels(path: Path) -> handcrafted.Picture:
    """A picture as a viewer shows it: uint8 [h, w, 3], RGB.

    Raises:
        VectorsError: it cannot be read or decoded.
    """
    from PIL import Image, ImageOps  # noqa: PLC0415 -- beside its one use

    try:
        with Image.open(path) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"), np.uint8)
    except (OSError, SyntaxError, ValueError) as error:
        raise VectorsError(f"{path} cannot be read as a picture: {error}; take it away, or get it again") from error


def handcrafted_vectors(data: Dataset, cache: Path | None, progress: Progress) -> dict[str, Matrix]:
    """The features of `handcrafted.FEATURES`, float32 [n, D] by name.

    Raises:
        VectorsError: a picture cannot be read.
    """
    names = tuple(handcrafted.FEATURES)
    kept = _file(cache, data, "handcrafted-1")
    if (found := _cached(kept, names)) is not None:
        return found
    rows: dict[str, list[handcrafted.Feature]] = {name: [] for name in names}
    with progress.task("hand-crafted features", len(data)) as advance:
        for path in data.paths:
            picture = pixels(data.root / path)
            for name, feature in handcrafted.FEATURES.items():
                rows[name].append(feature(picture))
            advance(1)
    made = {name: np.stack(vectors) for name, vectors in rows.items()}
    _keep(kept, made)
    return made


def _file(cache: Path | None, data: Dataset, source: str) -> Path | None:
    """Where a source's vectors of just these pictures are kept."""
    if cache is None:
        return None
    digest = hashlib.sha256(source.encode())
    for path in data.paths:
        digest.update(f"\0{path}\0{(data.root / path).stat().st_size}".encode())
    return cache / f"caltech101-{digest.hexdigest()[:24]}.npz"


def _cached(path: Path | None, names: Sequence[str]) -> dict[str, Matrix] | None:
    if path is None or not path.is_file():
        return None
    try:
        with np.load(path) as kept:
            return {name: kept[name] for name in names}
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return None  # cut short, or of another version of this command: it is made again


def _keep(path: Path | None, arrays: Mapping[str, Matrix]) -> None:
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with _whole(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for its own options


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A name to write to that becomes `path` when all is written."""
    temporary = path.with_suffix(".tmp")
    yield temporary
    temporary.replace(path)
