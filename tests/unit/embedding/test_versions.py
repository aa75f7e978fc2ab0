"""Which model answered: versions that come, go and change places, hosts that die, and models that cannot be used."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.unit.embedding.model_host import (
    EMBEDDING,
    LOADING,
    OUTPUTS,
    PICTURE,
    Card,
    D,
    ModelHost,
    Observer,
    S,
    card,
    eventually,
    unit,
)

from imagewarden_server.embedding import TfServingEmbedder, versions
from imagewarden_server.embedding.client import MAX_BATCH
from imagewarden_server.matching.embedder import ModelInfo
from imagewarden_server.matching.errors import EmbeddingUnavailable


async def fingerprint(embedder: TfServingEmbedder) -> str:
    return (await embedder.embed(PICTURE, OUTPUTS, 5)).model.fingerprint


async def test_a_new_version_is_known_by_its_own_card(fake_host: ModelHost, embedder: TfServingEmbedder) -> None:
    assert await fingerprint(embedder) == "f" * 64
    fake_host.versions[2] = card("e" * 64)
    assert await fingerprint(embedder) == "e" * 64
    assert await eventually(lambda: embedder.model is not None and embedder.model.label.startswith("inception/2@"))
    fake_host.versions = {1: card()}
    assert await fingerprint(embedder) == "f" * 64


async def test_versions_live_side_by_side_during_a_change(fake_host: ModelHost, embedder: TfServingEmbedder) -> None:
    answering, go_on = asyncio.Event(), asyncio.Event()

    async def hold(_request: Any) -> None:
        if not answering.is_set():
            answering.set()
            await go_on.wait()

    fake_host.before_answer = hold
    slow = asyncio.create_task(embedder.embed(PICTURE, OUTPUTS, 5))
    await answering.wait()
    fake_host.versions = {2: card("e" * 64)}
    assert await eventually(lambda: embedder.model is not None and embedder.model.fingerprint == "e" * 64)
    assert await fingerprint(embedder) == "e" * 64
    go_on.set()
    assert (await slow).model.fingerprint == "f" * 64, "version 1 answered, though it is gone since"


async def test_pictures_in_parts_are_asked_anew_where_their_version_goes(
    fake_host: ModelHost, embedder: TfServingEmbedder
) -> None:
    async def change(_request: Any) -> None:
        fake_host.versions = {2: card("e" * 64)}

    fake_host.before_answer = change
    answer = await embedder.embed(np.repeat(PICTURE, MAX_BATCH + 1, axis=0), EMBEDDING, 5)
    assert answer.model.fingerprint == "e" * 64
    assert answer.embedding is not None
    assert len(answer.embedding) == MAX_BATCH + 1
    assert [request.model_spec.version.value for request in fake_host.predictions] == [0, 0, 2]


async def test_a_host_that_answers_by_another_version_than_asked_is_not_believed(
    fake_host: ModelHost, embedder: TfServingEmbedder
) -> None:
    def other(response: Any) -> None:
        response.model_spec.version.value = len(fake_host.predictions)

    fake_host.change = other
    fake_host.versions = dict.fromkeys(range(1, 9), card())
    with pytest.raises(EmbeddingUnavailable, match="answered by version"):
        await embedder.embed(np.repeat(PICTURE, 40, axis=0), EMBEDDING, 5)


async def test_the_same_number_that_becomes_another_model(fake_host: ModelHost, embedder: TfServingEmbedder) -> None:
    assert await fingerprint(embedder) == "f" * 64
    fake_host.versions[1] = card("a" * 64)
    assert await eventually(lambda: embedder.model is not None and embedder.model.fingerprint == "a" * 64)
    assert await fingerprint(embedder) == "a" * 64
    fake_host.versions[1] = None
    assert await eventually(lambda: embedder.model is None)
    with pytest.raises(EmbeddingUnavailable, match="describe"):
        await fingerprint(embedder)


@pytest.mark.parametrize(("becomes", "said"), [(card("a" * 64), "a" * 64), (None, "describe")])
async def test_what_is_on_its_way_while_a_number_becomes_another_model_is_asked_anew(
    fake_host: ModelHost, embedder: TfServingEmbedder, becomes: Card | None, said: str
) -> None:
    answering, go_on = asyncio.Event(), asyncio.Event()

    async def hold(_request: Any) -> None:
        if not answering.is_set():
            answering.set()
            await go_on.wait()

    fake_host.before_answer = hold
    slow = asyncio.create_task(fingerprint(embedder))
    await answering.wait()
    fake_host.versions[1] = becomes
    assert await eventually(lambda: embedder.model is None or embedder.model.fingerprint == "a" * 64)
    go_on.set()
    if becomes is None:
        with pytest.raises(EmbeddingUnavailable, match=said):
            await slow
    else:
        assert await slow == said
    assert len(fake_host.predictions) == 2, "the first answer may be of either"


async def test_a_version_that_answered_and_cannot_be_asked_who_it_is(
    fake_host: ModelHost, embedder: TfServingEmbedder
) -> None:
    def unheard_of(response: Any) -> None:
        response.model_spec.version.value = 7

    fake_host.change = unheard_of
    with pytest.raises(EmbeddingUnavailable, match=r"NOT_FOUND.*Specific\(7\)"):
        await fingerprint(embedder)


async def test_a_host_that_goes_and_comes_back_as_another(fake_host: ModelHost, embedder: TfServingEmbedder) -> None:
    assert embedder.model is not None
    port = fake_host.port
    await fake_host.stop()
    assert await eventually(lambda: embedder.model is None)
    assert fake_host.address in embedder.problem
    fake_host.versions = {1: card("c" * 64)}
    await fake_host.start(port)
    assert await eventually(lambda: embedder.model is not None)
    assert await fingerprint(embedder) == "c" * 64, "version 1 of another host is another model"


async def test_a_connection_that_breaks_is_noticed_at_once(fake_host: ModelHost) -> None:
    made = TfServingEmbedder(fake_host.address, "inception", watch_seconds=600)
    await made.start()
    port = fake_host.port
    await fake_host.stop()
    assert await eventually(lambda: made.model is None), "though the next look is ten minutes away"
    fake_host.versions = {1: card("c" * 64)}
    await fake_host.start(port)
    assert await eventually(lambda: made.model is not None and made.model.fingerprint == "c" * 64)
    await made.close()


@pytest.mark.parametrize("late", ["status", "describe"])
async def test_a_host_that_is_late_to_say_how_it_does_is_busy_while_it_answers_others(
    fake_host: ModelHost, embedder: TfServingEmbedder, monkeypatch: pytest.MonkeyPatch, late: str
) -> None:
    monkeypatch.setattr(versions, "_STATUS_SECONDS", 0.1)
    monkeypatch.setattr(versions, "_SILENT_SECONDS", 1.5)
    fake_host.late[late] = 5.0
    for _ in range(20):
        assert await fingerprint(embedder) == "f" * 64
        assert embedder.model is not None, embedder.problem
        await asyncio.sleep(0.1)
    assert embedder.model is not None, embedder.problem
    assert await eventually(lambda: embedder.model is None), "it answers nobody, so it hangs"
    assert "DEADLINE_EXCEEDED" in embedder.problem
    fake_host.late.clear()
    assert await eventually(lambda: embedder.model is not None)


async def test_an_answer_from_before_the_connection_broke_is_not_given_to_the_model_after(
    fake_host: ModelHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host answers and dies before its card is read; in its place another model stands under the same number."""
    made = TfServingEmbedder(fake_host.address, "inception", watch_seconds=600)
    await made.start()
    describe, replaced = made._versions._describe, False
    vectors = unit(1, D)

    def mirrored(response: Any) -> None:
        response.outputs["embedding"].tensor_content = (-vectors).tobytes()

    async def describe_the_next(version: int, until: float) -> ModelInfo:
        nonlocal replaced
        if not replaced:
            replaced = True
            port = fake_host.port
            await fake_host.stop()
            fake_host.versions = {2: card("b" * 64)}
            fake_host.change = mirrored
            await fake_host.start(port)
            # The watch has found the new host: so this call will too.
            assert await eventually(lambda: made.model is not None and made.model.fingerprint == "b" * 64)
        return await describe(version, until)

    monkeypatch.setattr(made._versions, "_describe", describe_the_next)
    fake_host.versions[2] = card("e" * 64)
    answer = await made.embed(PICTURE, EMBEDDING, 10)
    await made.close()
    assert replaced
    assert answer.embedding is not None
    assert answer.model.fingerprint == "b" * 64
    assert np.allclose(answer.embedding, -vectors), "the first model's vectors under the second one's name"


async def test_nobody_at_the_address_is_no_error_at_the_start(tmp_path: Any) -> None:
    address = f"unix:{tmp_path}/late.sock"
    made = TfServingEmbedder(address, "inception", watch_seconds=0.05)
    await made.start()
    assert made.model is None
    with pytest.raises(EmbeddingUnavailable, match="start it"):
        await made.embed(PICTURE, OUTPUTS, 2)
    host = ModelHost()
    await host.start(unix=address)
    assert await eventually(lambda: made.model is not None)
    assert not made.problem
    await made.close()
    await host.stop()


async def test_a_model_that_the_host_does_not_have(fake_host: ModelHost) -> None:
    made = TfServingEmbedder(fake_host.address, "resnet", watch_seconds=0.05)
    await made.start()
    assert made.model is None
    assert "IMAGEWARDEN_MODEL_NAME" in made.problem
    await made.close()


async def test_a_model_that_is_still_loading(fake_host: ModelHost, embedder: TfServingEmbedder) -> None:
    fake_host.states[1] = LOADING
    assert await eventually(lambda: embedder.model is None)
    assert "version 1 is LOADING" in embedder.problem
    fake_host.states.clear()
    assert await eventually(lambda: embedder.model is not None)


async def test_a_newer_version_that_is_not_available_yet_changes_nothing(
    fake_host: ModelHost, embedder: TfServingEmbedder
) -> None:
    fake_host.states[2] = LOADING
    fake_host.versions = {2: card("e" * 64), **fake_host.versions}
    looks = fake_host.descriptions
    assert await eventually(lambda: fake_host.descriptions > looks + 2)
    assert embedder.model is not None
    assert embedder.model.label == "inception/1@ffffffffffff"


async def test_a_card_in_tensor_content(fake_host: ModelHost, embedder: TfServingEmbedder) -> None:
    fake_host.strings_as_content = True
    fake_host.versions = {5: card("5" * 64)}
    assert await fingerprint(embedder) == "5" * 64


async def test_a_model_without_a_card_is_not_used(
    fake_host: ModelHost, embedder: TfServingEmbedder, observer: Observer
) -> None:
    fake_host.versions = {3: None}
    assert await eventually(lambda: embedder.model is None)
    assert "imagewarden model export" in embedder.problem
    with pytest.raises(EmbeddingUnavailable, match="describe"):
        await embedder.embed(PICTURE, OUTPUTS, 5)
    assert "UNUSABLE" in observer.failures


def float_input(signature: Any) -> None:
    signature.inputs["images"].dtype = 1


def smaller_input(signature: Any) -> None:
    signature.inputs["images"].tensor_shape.dim[1].size = 224


def no_input(signature: Any) -> None:
    del signature.inputs["images"]


def no_regions(signature: Any) -> None:
    del signature.outputs["regions"]


def other_size(signature: Any) -> None:
    signature.outputs["semantic"].tensor_shape.dim[1].size = S + 1


def unknown_rank(signature: Any) -> None:
    signature.outputs["embedding"].tensor_shape.unknown_rank = True
    del signature.outputs["embedding"].tensor_shape.dim[:]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (float_input, "'images' of DT_FLOAT .* expected DT_UINT8"),
        (smaller_input, "'images' .*224.*299"),
        (no_input, "no input 'images'"),
        (no_regions, "no output 'regions'"),
        (other_size, "'semantic' .*17.*16"),
        (unknown_rank, "'embedding'"),
    ],
)
async def test_a_signature_that_does_not_fit_is_not_used(
    fake_host: ModelHost, embedder: TfServingEmbedder, change: Callable[[Any], None], said: str
) -> None:
    fake_host.signature = change
    fake_host.versions = {4: card("d" * 64)}
    with pytest.raises(EmbeddingUnavailable, match=f"{said}.*imagewarden model export"):
        await embedder.embed(PICTURE, OUTPUTS, 5)
    assert await eventually(lambda: embedder.model is None)


@pytest.mark.parametrize("where", ["status", "metadata"])
async def test_garbage_at_the_start_is_a_problem_and_no_crash(fake_host: ModelHost, where: str) -> None:
    fake_host.garbage[where] = b"\xff\xff\xff"
    made = TfServingEmbedder(fake_host.address, "inception", watch_seconds=0.05)
    await made.start()
    assert made.model is None
    assert made.problem
    fake_host.garbage.clear()
    assert await eventually(lambda: made.model is not None), "and it goes on looking"
    await made.close()


async def test_the_watch_outlives_a_bug_in_what_it_calls(fake_host: ModelHost) -> None:
    class Broken(Observer):
        def failure(self, code: str) -> None:
            raise RuntimeError(code)

    made = TfServingEmbedder(fake_host.address, "inception", observer=Broken(), watch_seconds=0.05)
    await made.start()
    fake_host.versions = {3: None}
    assert await eventually(lambda: "report this as a bug" in made.problem)
    assert made.model is None
    fake_host.versions = {1: card()}
    assert await eventually(lambda: made.model is not None)
    await made.close()
