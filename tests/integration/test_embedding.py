"""The TensorFlow Serving client against the real model, behind the embedded host as a process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.support.processes import start_host

from imagewarden_server.embedding import TfServingEmbedder
from imagewarden_server.matching.errors import EmbeddingUnavailable
from imagewarden_server.matching.types import VectorSpace
from imagewarden_serving.host.precision import Precision

pytestmark = [pytest.mark.model, pytest.mark.timeout(300)]

ALL = frozenset({"embedding", "regions", "logos", "semantic"})
EMBEDDING = frozenset({"embedding"})


@pytest.fixture
async def embedder(model_host: str) -> AsyncIterator[TfServingEmbedder]:
    made = TfServingEmbedder(model_host, "inception")
    await made.start()
    yield made
    await made.close()


@pytest.fixture
def pictures(photographs: dict[str, bytes]) -> NDArray[np.uint8]:
    """Three photographs as the model takes them: uint8 [3, 299, 299, 3]."""
    files = [photographs[name] for name in sorted(photographs)][:3]
    return np.stack([np.asarray(Image.open(BytesIO(data)).convert("RGB").resize((299, 299))) for data in files])


def test_the_model_is_the_one_whose_card_lies_beside_it(embedder: TfServingEmbedder, model_base: Path) -> None:
    version = max(int(path.name) for path in model_base.glob("[0-9]*"))
    card = json.loads((model_base / str(version) / "model_card.json").read_text())
    model = embedder.model
    assert model is not None
    assert not embedder.problem
    assert model.fingerprint == card["fingerprint"]
    assert model.label == f"inception/{version}@{card['fingerprint'][:12]}"
    assert (model.dimensions, model.semantic_dimensions) == (
        card["embedding"]["dimension"],
        card["semantic"]["dimension"],
    )
    assert [[box.left, box.top, box.right, box.bottom] for box in model.regions] == card["regions"]["boxes"]
    assert [[box.left, box.top, box.right, box.bottom] for box in model.logo_windows] == card["logos"]["boxes"]
    assert (model.logo_dimensions, list(model.logo_background)) == (
        card["logos"]["dimension"],
        card["logos"]["background"],
    )
    assert list(model.copy_background) == card["embedding"]["background"]


async def test_real_pictures_have_their_own_vectors(embedder: TfServingEmbedder, pictures: NDArray[np.uint8]) -> None:
    answer = await embedder.embed(pictures, ALL, 60)
    model = answer.model
    assert answer.embedding is not None
    assert answer.regions is not None
    assert answer.logos is not None
    assert answer.semantic is not None
    assert answer.logos.shape == (3, len(model.logo_windows), model.logo_dimensions)
    assert answer.embedding.shape == (3, model.dimensions)
    assert answer.regions.shape == (3, len(model.regions), model.dimensions)
    assert answer.semantic.shape == (3, model.semantic_dimensions)
    for vectors in (answer.embedding, answer.regions, answer.logos, answer.semantic):
        assert np.allclose(np.linalg.norm(vectors, axis=-1), 1, atol=1e-4)
    again = (await embedder.embed(recompressed(pictures), EMBEDDING, 60)).embedding
    assert again is not None
    alike = again @ answer.embedding.T
    others = alike[~np.eye(3, dtype=bool)]
    assert np.diag(alike).min() > others.max() + 0.3, "a picture recompressed is far more like itself than like others"


def recompressed(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    changed = []
    for picture in pictures:
        file = BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=60)
        changed.append(np.asarray(Image.open(file)))
    return np.stack(changed)


@pytest.mark.parametrize("space", [VectorSpace.COPY, VectorSpace.LOGO])
async def test_the_model_brings_ordinary_pictures_along(embedder: TfServingEmbedder, space: VectorSpace) -> None:
    model = embedder.model
    assert model is not None
    found = await embedder.background(model, space, 60)
    if space is VectorSpace.COPY:
        assert found.shape == (*model.copy_background, model.dimensions)
    else:
        assert found.shape == (*model.logo_background, model.logo_dimensions)
    assert len(found) >= 32, "a mean and a deviation of fewer would say little"
    assert np.allclose(np.linalg.norm(found, axis=-1), 1, atol=1e-4)
    likeness = found.reshape(len(found), -1) @ found.reshape(len(found), -1).T
    assert np.triu(likeness, 1).max() < 0.99 * likeness.max(), "each is a picture of its own"


async def test_company_changes_no_vector(embedder: TfServingEmbedder, pictures: NDArray[np.uint8]) -> None:
    """Alone, in one request with others, and in several requests at once, which the host batches: the same vectors."""
    together = (await embedder.embed(pictures, EMBEDDING, 60)).embedding
    apart = await asyncio.gather(*(embedder.embed(picture[None], EMBEDDING, 60) for picture in pictures))
    assert together is not None
    alone = np.concatenate([answer.embedding for answer in apart if answer.embedding is not None])
    assert np.allclose(together, alone, atol=1e-4)


async def test_more_pictures_than_a_batch(embedder: TfServingEmbedder, pictures: NDArray[np.uint8]) -> None:
    many = np.concatenate([pictures] * 12)[:34]
    found = (await embedder.embed(many, EMBEDDING, 60)).embedding
    assert found is not None
    assert len(found) == 34
    assert np.allclose(found, np.concatenate([found[:3]] * 12)[:34], atol=1e-4), "in the order they were given"


async def test_hosts_of_both_precisions_say_the_same_of_a_picture(
    model_base: Path, pictures: NDArray[np.uint8], tmp_path: Path
) -> None:
    """What one of them described is found by checks that another one describes."""
    said = []
    for precision in ("none", "bfloat16"):
        scratch = tmp_path / precision
        scratch.mkdir()
        with start_host(model_base, scratch, "--mixed-precision", precision) as host:
            made = TfServingEmbedder(host.address, "inception")
            await made.start()
            answer = await made.embed(pictures, ALL, 120)
            await made.close()
            assert ("in bfloat16" in host.log.read_text()) == (precision == "bfloat16")
        said.append((answer.embedding, answer.regions, answer.logos, answer.semantic))
    for exact, rounded in zip(*said, strict=True):
        assert exact is not None
        assert rounded is not None
        cosines = (exact * rounded).sum(-1) / (np.linalg.norm(exact, axis=-1) * np.linalg.norm(rounded, axis=-1))
        assert float(np.median(cosines)) > 0.998
        if Precision.AUTO.uses_bfloat16():
            assert not np.array_equal(exact, rounded)


async def test_a_time_limit_that_cannot_be_kept(embedder: TfServingEmbedder, pictures: NDArray[np.uint8]) -> None:
    with pytest.raises(EmbeddingUnavailable, match="DEADLINE_EXCEEDED"):
        await embedder.embed(np.concatenate([pictures] * 10), ALL, 0.01)
    assert (await embedder.embed(pictures, EMBEDDING, 60)).embedding is not None


async def test_a_model_that_is_not_there(model_host: str, pictures: NDArray[np.uint8]) -> None:
    made = TfServingEmbedder(model_host, "resnet")
    await made.start()
    assert made.model is None
    assert "NOT_FOUND" in made.problem
    with pytest.raises(EmbeddingUnavailable, match="IMAGEWARDEN_MODEL_NAME"):
        await made.embed(pictures, EMBEDDING, 10)
    await made.close()
