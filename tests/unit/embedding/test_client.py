"""What the TensorFlow Serving client asks, and what it makes of answers, failures, slowness and nonsense."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import trustme
from tests.unit.embedding.model_host import (
    EMBEDDING,
    OUTPUTS,
    PICTURE,
    D,
    L,
    ModelHost,
    Observer,
    S,
    eventually,
    unit,
)

from imagewarden_server.embedding import TfServingEmbedder, _tfs
from imagewarden_server.embedding.client import MAX_BATCH
from imagewarden_server.embedding.retry import ATTEMPTS
from imagewarden_server.matching.errors import EmbeddingUnavailable


@pytest.mark.parametrize("as_float_val", [False, True])
async def test_outputs_come_by_name_from_either_form(
    fake_host: ModelHost, embedder: TfServingEmbedder, observer: Observer, as_float_val: bool
) -> None:
    fake_host.as_float_val = as_float_val
    answer = await embedder.embed(np.repeat(PICTURE, 3, axis=0), OUTPUTS, None)
    assert answer.embedding is not None
    assert np.allclose(answer.embedding, unit(3, D))
    assert answer.regions is not None
    assert np.allclose(answer.regions, unit(3, 2, D))
    assert answer.logos is not None
    assert np.allclose(answer.logos, unit(3, 3, L))
    assert answer.semantic is not None
    assert np.allclose(answer.semantic, unit(3, S))
    assert answer.embedding.dtype == answer.regions.dtype == answer.semantic.dtype == np.float32
    assert answer.model.label == "inception/1@ffffffffffff"
    assert sorted(fake_host.predictions[-1].output_filter) == sorted(OUTPUTS)
    assert observer.batches == [3]


async def test_only_what_is_asked_is_computed(fake_host: ModelHost, embedder: TfServingEmbedder) -> None:
    answer = await embedder.embed(PICTURE, EMBEDDING, None)
    assert (answer.regions, answer.logos, answer.semantic) == (None, None, None)
    assert list(fake_host.predictions[-1].output_filter) == ["embedding"]


async def test_pictures_arrive_as_they_are(fake_host: ModelHost, embedder: TfServingEmbedder) -> None:
    pictures = np.random.default_rng(3).integers(0, 256, (2, 299, 299, 3), np.uint8)
    # Not contiguous: a view of every other one, mirrored.
    await embedder.embed(np.repeat(pictures, 2, axis=0)[::2, :, ::-1], EMBEDDING, None)
    tensor = fake_host.predictions[0].inputs["images"]
    assert [size.size for size in tensor.tensor_shape.dim] == [2, 299, 299, 3]
    assert np.frombuffer(tensor.tensor_content, np.uint8).tobytes() == pictures[:, :, ::-1].tobytes()


async def test_many_pictures_go_in_several_requests_to_one_version(
    fake_host: ModelHost, embedder: TfServingEmbedder, observer: Observer
) -> None:
    answer = await embedder.embed(np.repeat(PICTURE, 2 * MAX_BATCH + 1, axis=0), EMBEDDING, None)
    assert answer.embedding is not None
    assert np.allclose(answer.embedding, np.concatenate([unit(MAX_BATCH, D), unit(MAX_BATCH, D), unit(1, D)]))
    assert [request.model_spec.version.value for request in fake_host.predictions] == [0, 1, 1]
    assert observer.batches == [MAX_BATCH, MAX_BATCH, 1]


@pytest.mark.parametrize("images", [PICTURE.astype(np.float32), PICTURE[0], PICTURE[:, :224, :224]])
async def test_pictures_of_another_shape_are_never_sent(
    fake_host: ModelHost, embedder: TfServingEmbedder, images: Any
) -> None:
    with pytest.raises(ValueError, match="uint8"):
        await embedder.embed(images, OUTPUTS, 1)
    assert not fake_host.predictions


@pytest.mark.parametrize("outputs", [frozenset(), frozenset({"embedding", "nsfw"})])
async def test_nothing_or_something_unknown_is_never_asked(
    fake_host: ModelHost, embedder: TfServingEmbedder, outputs: frozenset[str]
) -> None:
    with pytest.raises(ValueError, match="outputs"):
        await embedder.embed(PICTURE, outputs, 1)
    assert not fake_host.predictions


async def test_it_tries_again_what_was_not_there(
    fake_host: ModelHost, embedder: TfServingEmbedder, observer: Observer
) -> None:
    fake_host.failures = [grpc.StatusCode.UNAVAILABLE] * (ATTEMPTS - 1)
    await embedder.embed(PICTURE, OUTPUTS, 5)
    assert observer.failures == ["UNAVAILABLE"] * (ATTEMPTS - 1)


@pytest.mark.parametrize(
    ("failures", "tries", "said"),
    [
        ([grpc.StatusCode.UNAVAILABLE] * ATTEMPTS, ATTEMPTS, "IMAGEWARDEN_MODEL_ADDRESS"),
        ([grpc.StatusCode.INVALID_ARGUMENT], 1, "imagewarden model export"),
        ([grpc.StatusCode.FAILED_PRECONDITION], 1, "imagewarden model export"),
        ([grpc.StatusCode.RESOURCE_EXHAUSTED], 1, "RESOURCE_EXHAUSTED: as the test told"),
        ([grpc.StatusCode.NOT_FOUND], 1, "IMAGEWARDEN_MODEL_NAME"),
        ([grpc.StatusCode.INTERNAL], 1, "look at its log"),
    ],
)
async def test_other_failures_are_said_once(
    fake_host: ModelHost, embedder: TfServingEmbedder, failures: list[grpc.StatusCode], tries: int, said: str
) -> None:
    fake_host.failures = list(failures)
    with pytest.raises(EmbeddingUnavailable, match=said) as failure:
        await embedder.embed(PICTURE, OUTPUTS, 5)
    assert len(fake_host.predictions) == tries
    assert fake_host.address in failure.value.message
    assert failures[0].name in failure.value.message


async def test_tries_are_further_and_further_apart(fake_host: ModelHost) -> None:
    made = TfServingEmbedder(fake_host.address, "inception", chance=lambda: 1.0)
    await made.start()
    fake_host.failures = [grpc.StatusCode.UNAVAILABLE] * 2
    begin = time.monotonic()
    await made.embed(PICTURE, EMBEDDING, 5)
    assert time.monotonic() - begin >= 0.05 + 0.1
    await made.close()


async def test_there_is_no_waiting_for_a_try_that_comes_too_late(fake_host: ModelHost) -> None:
    made = TfServingEmbedder(fake_host.address, "inception", chance=lambda: 100.0)  # waits of 5 s
    await made.start()
    fake_host.failures = [grpc.StatusCode.UNAVAILABLE]
    begin = time.monotonic()
    with pytest.raises(EmbeddingUnavailable, match="UNAVAILABLE: as the test told"):
        await made.embed(PICTURE, EMBEDDING, 3)
    assert time.monotonic() - begin < 2
    await made.close()


async def test_a_long_detail_is_cut(fake_host: ModelHost, embedder: TfServingEmbedder) -> None:
    fake_host.failures, fake_host.details = [grpc.StatusCode.INTERNAL], "x" * 1_000
    with pytest.raises(EmbeddingUnavailable) as failure:
        await embedder.embed(PICTURE, OUTPUTS, 5)
    assert failure.value.message.count("x") == 300


async def test_in_a_long_outage_requests_are_no_longer_tried_again(
    fake_host: ModelHost, embedder: TfServingEmbedder
) -> None:
    fake_host.failures = [grpc.StatusCode.UNAVAILABLE] * 1_000
    for _ in range(4):
        with pytest.raises(EmbeddingUnavailable):
            await embedder.embed(PICTURE, EMBEDDING, 5)
    # The first two calls may try three times each; the budget is then half spent, and each further one asks once. After
    # one more the host is left alone: test_breaker.
    assert len(fake_host.predictions) <= 4 + 4
    fake_host.failures.clear()
    assert (await embedder.embed(PICTURE, EMBEDDING, 5)).embedding is not None


async def test_a_slow_host_is_left_in_time(fake_host: ModelHost, embedder: TfServingEmbedder) -> None:
    fake_host.delay = 5
    begin = time.monotonic()
    with pytest.raises(EmbeddingUnavailable, match="DEADLINE_EXCEEDED"):
        await embedder.embed(PICTURE, OUTPUTS, 0.2)
    assert time.monotonic() - begin < 1


@pytest.mark.parametrize(("asked", "least", "most"), [(None, 8, 10), (2.0, 1, 2), (1_000.0, 28, 30)])
async def test_every_request_has_a_deadline(
    fake_host: ModelHost, embedder: TfServingEmbedder, asked: float | None, least: float, most: float
) -> None:
    await embedder.embed(PICTURE, EMBEDDING, asked)
    # gRPC rounds a deadline on the wire up.
    assert least < fake_host.deadlines[0] < most + 0.5


async def test_many_pictures_have_the_time_of_several_requests(
    fake_host: ModelHost, embedder: TfServingEmbedder
) -> None:
    pictures = np.repeat(PICTURE, 3 * MAX_BATCH, axis=0)
    await embedder.embed(pictures, EMBEDDING, 1_000.0)
    assert all(28 < deadline < 30.5 for deadline in fake_host.deadlines), "no request has more than one may have"
    fake_host.delay = 1.0
    with pytest.raises(EmbeddingUnavailable, match="DEADLINE_EXCEEDED"):
        await embedder.embed(pictures, EMBEDDING, 2.5)
    assert len(fake_host.deadlines) == 6
    assert fake_host.deadlines[-1] < 1.0, "the last had what the first two left"


async def test_waiting_for_a_free_request_counts_as_time(fake_host: ModelHost, embedder: TfServingEmbedder) -> None:
    fake_host.delay = 2
    others = [asyncio.create_task(embedder.embed(PICTURE, EMBEDDING, 10)) for _ in range(32)]
    assert await eventually(lambda: len(fake_host.predictions) == 32)
    begin = time.monotonic()
    with pytest.raises(EmbeddingUnavailable, match=r"busy for 0\.2 s"):
        await embedder.embed(PICTURE, EMBEDDING, 0.2)
    assert time.monotonic() - begin < 1
    assert len(fake_host.predictions) == 32, "no more than 32 are on their way at once"
    await asyncio.gather(*others)
    fake_host.delay = 0
    assert (await embedder.embed(PICTURE, EMBEDDING, 5)).embedding is not None, "and each is given back"


async def test_a_caller_that_gives_up_gives_its_place_back(fake_host: ModelHost, embedder: TfServingEmbedder) -> None:
    fake_host.delay = 30
    others = [asyncio.create_task(embedder.embed(PICTURE, EMBEDDING, 10)) for _ in range(40)]
    assert await eventually(lambda: len(fake_host.predictions) == 32)
    for task in others:
        task.cancel()
    ends = await asyncio.gather(*others, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError) for end in ends)
    fake_host.delay = 0
    more = [embedder.embed(PICTURE, EMBEDDING, 5) for _ in range(40)]
    assert len(await asyncio.gather(*more)) == 40


def wrong_dtype(response: Any) -> None:
    response.outputs["embedding"].dtype = _tfs.DT_INT32


def not_a_number(response: Any) -> None:
    response.outputs["embedding"].tensor_content = np.full((1, D), np.nan, np.float32).tobytes()


def infinite(response: Any) -> None:
    response.outputs["embedding"].tensor_content = np.full((1, D), np.inf, np.float32).tobytes()


def huge_numbers(response: Any) -> None:
    response.outputs["embedding"].tensor_content = np.full((1, D), 3e38, np.float32).tobytes()


def zeros(response: Any) -> None:
    response.outputs["embedding"].tensor_content = np.zeros((1, D), np.float32).tobytes()


def not_of_unit_norm(response: Any) -> None:
    response.outputs["embedding"].tensor_content = (unit(1, D) * np.float32(1.02)).tobytes()


def other_dimension(response: Any) -> None:
    response.outputs["embedding"].tensor_shape.dim[1].size = D + 1


def other_count(response: Any) -> None:
    response.outputs["embedding"].tensor_shape.dim[0].size = 2
    response.outputs["embedding"].tensor_content = unit(2, D).tobytes()


def cut_short(response: Any) -> None:
    response.outputs["embedding"].tensor_content = b"\0" * 12


def cut_inside_a_number(response: Any) -> None:
    response.outputs["embedding"].tensor_content = b"\0" * 13


def missing(response: Any) -> None:
    del response.outputs["embedding"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (wrong_dtype, "DT_INT32, expected DT_FLOAT"),
        (not_a_number, "not finite"),
        (infinite, "not finite"),
        (huge_numbers, "not of unit norm"),
        (zeros, "not of unit norm"),
        (not_of_unit_norm, "not of unit norm"),
        (other_dimension, "shape \\[1, 9\\], expected \\[1, 8\\]"),
        (other_count, "shape \\[2, 8\\], expected \\[1, 8\\]"),
        (cut_short, "3 numbers"),
        (cut_inside_a_number, "3.25 numbers"),
        (missing, "missing"),
    ],
)
async def test_nonsense_is_never_a_vector(
    fake_host: ModelHost, embedder: TfServingEmbedder, observer: Observer, change: Callable[[Any], None], said: str
) -> None:
    fake_host.change = change
    with pytest.raises(EmbeddingUnavailable, match=f"'embedding'.*{said}"):
        await embedder.embed(PICTURE, OUTPUTS, 5)
    assert observer.failures == ["NONSENSE"]
    fake_host.change = lambda _: None
    assert (await embedder.embed(PICTURE, OUTPUTS, 5)).embedding is not None


@pytest.mark.parametrize("data", [b"\xff\xff\xff<html>", b""], ids=["of another kind", "none"])
async def test_bytes_that_are_no_message(
    data: bytes, fake_host: ModelHost, embedder: TfServingEmbedder, observer: Observer
) -> None:
    fake_host.garbage["predict"] = data
    with pytest.raises(EmbeddingUnavailable, match="no PredictResponse"):
        await embedder.embed(PICTURE, OUTPUTS, 5)
    assert observer.failures == ["NONSENSE"]


async def test_an_answer_that_is_too_large_is_not_taken(fake_host: ModelHost, embedder: TfServingEmbedder) -> None:
    def enormous(response: Any) -> None:
        response.outputs["other"].tensor_content = bytes(65 * 2**20)

    fake_host.change = enormous
    with pytest.raises(EmbeddingUnavailable, match="RESOURCE_EXHAUSTED"):
        await embedder.embed(PICTURE, OUTPUTS, 10)


async def test_over_a_unix_socket(tmp_path: Path) -> None:
    host = ModelHost()
    await host.start(unix=f"unix:{tmp_path}/model.sock")
    made = TfServingEmbedder(f"unix:{tmp_path}/model.sock", "inception")
    await made.start()
    assert (await made.embed(PICTURE, EMBEDDING, 5)).model.label == "inception/1@ffffffffffff"
    await made.close()
    await host.stop()


async def test_tls_and_who_the_host_is() -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    host = ModelHost()
    issued = authority.issue_cert("localhost")
    chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    await host.start(credentials=grpc.ssl_server_credentials([(issued.private_key_pem.bytes(), chain)]))
    address = f"dns:///localhost:{host.port}"
    made = TfServingEmbedder(address, "inception", root_certificates=authority.cert_pem.bytes())
    await made.start()
    assert (await made.embed(PICTURE, EMBEDDING, 5)).embedding is not None
    await made.close()
    wary = TfServingEmbedder(address, "inception", root_certificates=stranger.cert_pem.bytes())
    await wary.start()
    assert wary.model is None
    with pytest.raises(EmbeddingUnavailable, match="UNAVAILABLE"):
        await wary.embed(PICTURE, EMBEDDING, 2)
    await wary.close()
    await host.stop()
    assert len(host.predictions) == 1
