"""Vectors under the model's name that cannot be its own: they are refused, and where they are, harm nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.support.checking import Service
from tests.support.pictures import encoded

from imagewarden_server.index import load_snapshot, open_index, save_snapshot
from imagewarden_server.matching.check import CheckResult
from imagewarden_server.matching.embedder import Embeddings, ModelInfo
from imagewarden_server.matching.importer import Importer
from imagewarden_server.matching.lists import Imported, ListRecord
from imagewarden_server.matching.patches import EntryPatch
from imagewarden_server.matching.types import (
    BankKind,
    Box,
    Entry,
    EntryState,
    NewEntry,
    SignalType,
    UndecidedCode,
    VectorModel,
    VectorSignal,
    VectorSpace,
    Verdict,
)

WHOLE = Box(0.0, 0.0, 1.0, 1.0)
MODEL = ModelInfo("small/1@abc", "abc", 8, 12, 6, (WHOLE,), (WHOLE,))


class Small:
    """A model of few dimensions to which all pictures are the same."""

    def __init__(self) -> None:
        self.model: ModelInfo | None = MODEL
        self.problem = "it is not served yet"

    async def embed(self, images: NDArray[np.uint8], outputs: frozenset[str], time_limit: float | None) -> Embeddings:
        del time_limit
        count = len(images)
        rows = {
            "embedding": unit(8, count),
            "regions": unit(8, count)[:, None],
            "logos": unit(6, count)[:, None],
            "semantic": unit(12, count),
        }
        return Embeddings(MODEL, **{name: rows[name] for name in outputs})


def unit(dimensions: int, count: int = 1) -> NDArray[np.float32]:
    return np.repeat(np.eye(dimensions, dtype=np.float32)[:1], count, axis=0)


def entry(dimensions: int, model: str = MODEL.fingerprint, name: str = "") -> NewEntry:
    vectors = VectorSignal(SignalType.EMBEDDING, VectorSpace.COPY, model, unit(dimensions))
    return NewEntry(vectors=(vectors,), external_id=name)


@pytest.fixture
def model() -> Small:
    return Small()


@pytest.fixture
def service(tmp_path: Path, model: Small) -> Iterator[Service]:
    made = Service(tmp_path, model)
    made.bank("a")
    yield made
    made.close()


@pytest.fixture
def importer(service: Service) -> Importer:
    return Importer(service.catalog, service.follower, service.workers, service.embedder)


def bring(importer: Importer, *records: ListRecord, bank: str = "a") -> Imported:
    async def work() -> Imported:
        found = await importer.bank(bank)
        return (await importer.take(found, len(records), lambda: (list(records), []), validate_only=False)).value

    return asyncio.run(work())


def stray(importer: Importer, model: Small, state: EntryState | None = None) -> None:
    """One is there: it came before the model was served."""
    model.model = None
    assert bring(importer, ListRecord(1, entry(4, name="stray"), state=state)).added == 1
    model.model = MODEL


def named(service: Service, name: str) -> Entry:
    return next(one for one in service.catalog.list_entries("a").items if one.external_id == name)


def checked(service: Service, number: int = 1) -> CheckResult:
    """A check of a picture that was not checked before."""
    pixels = np.random.default_rng(number).integers(0, 256, (160, 200, 3), dtype=np.uint8)
    return service.check(encoded(Image.fromarray(pixels)))


def assert_undecided(result: CheckResult) -> None:
    (reason,) = result.undecided
    assert reason.code is UndecidedCode.EMBEDDING_UNAVAILABLE
    assert "1 stored vectors" in reason.message
    assert "dimensions" in reason.message
    assert "delete" in reason.message


def test_a_list_may_not_name_the_served_model_for_vectors_that_cannot_be_its_own(
    service: Service, importer: Importer
) -> None:
    service.bank("logos", kind=BankKind.BRAND)
    gone = ListRecord(4, NewEntry(vectors=entry(5).vectors, external_id="nothing"), removed=True)
    said = bring(importer, ListRecord(1, entry(4)), ListRecord(2, entry(8)), ListRecord(3, entry(4, "other")), gone)
    assert (said.added, said.absent) == (2, 1)
    (refused,) = said.refused
    assert (refused.number, refused.field) == (1, "vectors")
    assert "4 dimensions" in refused.message
    assert "8" in refused.message
    signals = [
        VectorSignal(SignalType.EMBEDDING, VectorSpace.LOGO, MODEL.fingerprint, unit(8)),
        VectorSignal(SignalType.SEMANTIC, VectorSpace.SEMANTIC, MODEL.fingerprint, unit(6)),
        VectorSignal(SignalType.EMBEDDING, VectorSpace.LOGO, MODEL.fingerprint, unit(6)),
    ]
    records = [ListRecord(place, NewEntry(vectors=(one,), brand="b")) for place, one in enumerate(signals, 1)]
    said = bring(importer, *records, bank="logos")
    assert (said.added, [one.number for one in said.refused]) == (1, [1, 2])


def test_a_check_that_meets_one_is_undecided_and_says_what_to_do(
    service: Service, importer: Importer, model: Small
) -> None:
    stray(importer, model)
    result = checked(service)
    assert result.verdict is Verdict.UNDECIDED
    assert_undecided(result)
    service.catalog.delete_entry("a", named(service, "stray").id)
    service.follow()
    assert checked(service, 2).verdict is Verdict.NO_MATCH


@pytest.mark.parametrize("state", [None, EntryState.DISABLED])
def test_changes_and_starts_go_on_beside_one(
    service: Service, importer: Importer, model: Small, tmp_path: Path, state: EntryState | None
) -> None:
    stray(importer, model, state)
    service.catalog.add_entry("a", entry(8, name="good"))
    service.follow()
    if state is EntryState.DISABLED:
        service.catalog.update_entry("a", named(service, "stray").id, EntryPatch(state=EntryState.ACTIVE))
        service.follow()
    assert service.index.revision == service.catalog.revision()
    result = checked(service)
    assert result.verdict is Verdict.MATCH
    assert [match.entry.external_id for match in result.matches] == ["good"]
    assert_undecided(result)
    rebuilt, how, _ = open_index(tmp_path / "none", service.catalog)
    assert how == "rebuilt"
    save_snapshot(service.index, tmp_path / "saved", service.catalog.id)
    loaded, _ = load_snapshot(tmp_path / "saved", service.catalog.id)
    for index in (rebuilt, loaded, service.index):
        assert index is not None
        models = index.vector_models([1], VectorSpace.COPY)
        assert models == {VectorModel("abc", 4): 1, VectorModel("abc", 8): 1}
