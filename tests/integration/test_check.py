"""The road of an image over gRPC: real server, real model host, real photographs and logos."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import grpc
import pytest
from PIL import Image
from tests.support.api import (
    ALLOWED,
    BANNED,
    COMBINED,
    CONTENT,
    EMBEDDING,
    LOCAL,
    MATCH,
    NO_MATCH,
    PDQ,
    SHA256,
    UNDECIDED,
    Api,
    evidence_of,
)
from tests.support.errors import fails
from tests.support.pictures import cropped, encoded, opened
from tests.support.processes import Server

from imagewarden.v1 import bank_service_pb2 as banks_pb
from imagewarden.v1 import moderation_service_pb2 as pb
from imagewarden.v1 import types_pb2 as types

pytestmark = pytest.mark.model


@pytest.fixture
def api(server: Server) -> Iterator[Api]:
    with Api(server.address) as api:
        yield api


def test_copies_of_a_banned_photograph_are_caught_and_others_pass(api: Api, photographs: dict[str, bytes]) -> None:
    bank = api.create_bank("abuse")
    added = api.add_image(bank, photographs["dust-bowl-home"], external_id="case-7", labels=["x"])
    picture = opened(photographs["dust-bowl-home"])
    copies = {
        "original": (photographs["dust-bowl-home"], {SHA256}),
        "half": (encoded(picture.resize((512, 394))), {PDQ}),
        "recompressed": (encoded(picture, quality=20), {PDQ}),
        "png": (encoded(picture, "PNG"), {PDQ}),
        "mirrored": (encoded(picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)), {PDQ}),
        "turned": (encoded(picture.transpose(Image.Transpose.ROTATE_90)), {PDQ}),
        "cropped": (encoded(cropped(picture, 0.7)), CONTENT),
    }
    for name, (copy, signals) in copies.items():
        answer = api.check(copy)
        assert answer.verdict == MATCH, name
        assert answer.action == types.ACTION_BLOCK
        assert answer.matches[0].entry == added.entry.name
        assert answer.matches[0].signal in signals, name
        assert answer.matches[0].external_id == "case-7"
        assert list(answer.matches[0].labels) == ["x"]
        assert answer.revision == added.revision
    for name, other in photographs.items():
        if name != "dust-bowl-home":
            answer = api.check(other)
            assert (answer.verdict, answer.action) == (NO_MATCH, types.ACTION_ALLOW), name
            assert not answer.matches
            assert answer.model_version.startswith("inception/")


def test_the_answer_says_what_was_read_and_how_long_it_took(api: Api, photographs: dict[str, bytes]) -> None:
    data = photographs["allium-oreophilum"]
    answer = api.check(data)
    assert (answer.image.format, answer.image.width, answer.image.height, answer.image.frames) == ("jpeg", 807, 1024, 1)
    assert answer.image.sha256 == hashlib.sha256(data).hexdigest()
    assert len(answer.image.pdq) == 64
    assert answer.image.pdq_quality == 100
    assert [timing.stage for timing in answer.timings] == ["digest", "digest_search", "decode", "policy"]
    assert not answer.model_version, "no entry has an embedding: the model was not asked"


def test_early_signals_end_the_road_unless_all_are_asked(api: Api, photographs: dict[str, bytes]) -> None:
    bank = api.create_bank("abuse")
    api.add_image(bank, photographs["nagasaki-boats"])
    short = api.check(photographs["nagasaki-boats"])
    assert [match.signal for match in short.matches] == [SHA256]
    assert "decode" not in {timing.stage for timing in short.timings}
    whole = api.check(photographs["nagasaki-boats"], exhaustive=True)
    assert [match.signal for match in whole.matches] == [SHA256, PDQ], "the bytes, and what is to be seen"
    assert len({match.entry for match in whole.matches}) == 1
    stages = [timing.stage for timing in whole.timings]
    assert {"digest", "decode", "pdq_search", "embed", "vector_search", "local_extract", "local_search"} < set(stages)
    by_pixels = whole.matches[1]
    assert (by_pixels.distance, by_pixels.score, by_pixels.threshold) == (0, 1, 31)
    said = evidence_of(by_pixels)
    assert set(said) == {PDQ, EMBEDDING, LOCAL, COMBINED}
    assert all(one.reached for one in said.values())
    assert said[PDQ].value == 0
    assert 0.7 < said[EMBEDDING].value < 1, "as alike as can be, less what ordinary pictures are"
    assert said[LOCAL].value > 100
    assert said[COMBINED].value > 0.99
    assert not by_pixels.transform.mirrored
    assert list(by_pixels.transform.coefficients) == pytest.approx([1, 0, 0, 0, 1, 0], abs=0.02)


def test_banned_hashes_are_caught(api: Api, photographs: dict[str, bytes]) -> None:
    bank = api.create_bank("hashes")
    data = photographs["acanthus-mollis"]
    pdq = api.check(photographs["airplane-from-above"]).image.pdq
    flipped = f"{int(pdq, 16) ^ ((1 << 31) - 1):064x}"
    api.add_hash(bank, types.SIGNAL_TYPE_MD5, hashlib.md5(data, usedforsecurity=False).hexdigest())
    api.add_hash(bank, PDQ, flipped, quality=90)
    assert api.check(data).matches[0].signal == types.SIGNAL_TYPE_MD5
    found = api.check(photographs["airplane-from-above"]).matches[0]
    assert (found.signal, found.distance) == (PDQ, 31)
    further = f"{int(pdq, 16) ^ ((1 << 32) - 1):064x}"
    other = api.create_bank("further")
    api.add_hash(other, PDQ, further)
    assert api.check(photographs["airplane-from-above"], banks=[other]).verdict == NO_MATCH


def test_an_allowed_picture_is_cleared_and_says_by_what(api: Api, photographs: dict[str, bytes]) -> None:
    banned, allowed = api.create_bank("abuse"), api.create_bank("cleared", ALLOWED)
    data = photographs["allium-oreophilum"]
    api.add_hash(banned, PDQ, api.check(data).image.pdq)
    assert api.check(data).verdict == MATCH
    cleared = api.add_image(allowed, data)
    answer = api.check(data)
    assert (answer.verdict, answer.action) == (NO_MATCH, types.ACTION_ALLOW)
    assert {match.cleared_by for match in answer.matches if match.bank == banned} <= {cleared.entry.name}
    smaller = encoded(opened(data).resize((600, 761)), quality=95)
    answer = api.check(smaller)
    assert answer.verdict == NO_MATCH
    (match,) = [match for match in answer.matches if match.bank == banned]
    assert match.cleared_by == cleared.entry.name
    api.add_hash(banned, SHA256, hashlib.sha256(smaller).hexdigest())
    assert api.check(smaller).verdict == MATCH, "what was cleared by likeness never clears banned bytes"


def test_the_banks_own_thresholds_and_actions_decide(api: Api, photographs: dict[str, bytes]) -> None:
    strict = types.Policy(
        action=types.ACTION_REVIEW,
        thresholds=[
            types.SignalThreshold(signal=PDQ, threshold=0),
            *(types.SignalThreshold(signal=one, disabled=True, threshold=0.5) for one in (EMBEDDING, COMBINED)),
            types.SignalThreshold(signal=LOCAL, disabled=True, threshold=12),
        ],
    )
    bank = api.create_bank("abuse", BANNED, strict)
    api.add_image(bank, photographs["nagasaki-boats"])
    copy = encoded(opened(photographs["nagasaki-boats"]).resize((300, 240)), quality=15)
    assert api.check(copy).verdict == NO_MATCH
    thresholds = types.Policy(thresholds=[types.SignalThreshold(signal=PDQ, threshold=60)])
    request = banks_pb.UpdateBankRequest(bank=types.Bank(name=bank, policy=thresholds))
    request.update_mask.paths.append("policy.thresholds")
    changed = api.banks.UpdateBank(request)
    assert changed.bank.policy.action == types.ACTION_REVIEW
    answer = api.check(copy, at_least_revision=changed.revision)
    assert (answer.verdict, answer.action) == (MATCH, types.ACTION_REVIEW)
    assert answer.matches[0].threshold == 60
    request = banks_pb.UpdateBankRequest(bank=types.Bank(name=bank, enabled=False))
    request.update_mask.paths.append("enabled")
    api.banks.UpdateBank(request)
    assert api.check(copy).verdict == NO_MATCH


def test_bank_filters_lose_nothing(api: Api, photographs: dict[str, bytes]) -> None:
    picture = opened(photographs["airplane-from-above"])
    crowded, quiet = api.create_bank("crowded"), api.create_bank("quiet")
    for number in range(12):
        api.add_image(crowded, encoded(picture, quality=60 + number))
    api.add_image(quiet, encoded(cropped(picture, 0.9), quality=90))
    answer = api.check(encoded(picture, quality=55), banks=[quiet], max_matches=1, exhaustive=True)
    assert {match.bank for match in answer.matches} == {quiet}
    everything = api.check(encoded(picture, quality=55), exhaustive=True, max_matches=100)
    assert len({match.entry for match in everything.matches}) == 13


def test_an_animation_is_looked_at_frame_by_frame(api: Api, photographs: dict[str, bytes]) -> None:
    bank = api.create_bank("abuse")
    api.add_image(bank, photographs["dust-bowl-home"])
    names = ["allium-oreophilum", "nagasaki-boats", "dust-bowl-home", "acanthus-mollis"]
    frames = [opened(photographs[name]).resize((400, 300)) for name in names]
    animation = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], duration=100, quality=80)
    answer = api.check(animation)
    assert answer.image.frames == 4
    assert answer.verdict == MATCH
    assert answer.matches[0].frame == 2
    long = encoded(frames[0], "GIF", save_all=True, append_images=[frames[1], frames[3]] * 6, duration=50)
    answer = api.check(long)
    assert answer.image.frames == 13
    assert answer.verdict == UNDECIDED
    assert answer.undecided_reasons[0].code == types.UNDECIDED_CODE_OVER_LIMITS


def test_search_ranks_by_meaning(api: Api, photographs: dict[str, bytes]) -> None:
    bank = api.create_bank("gallery")
    entries = {name: api.add_image(bank, data).entry.name for name, data in photographs.items()}
    query = encoded(opened(photographs["acanthus-mollis"]).transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    for metric in (pb.DISTANCE_METRIC_COSINE, pb.DISTANCE_METRIC_EUCLIDEAN):
        request = pb.SearchSimilarImagesRequest(image=query, k=3, metric=metric)
        answer = api.moderation.SearchSimilarImages(request)
        assert [one.rank for one in answer.results] == [1, 2, 3]
        assert answer.results[0].entry.name == entries["acanthus-mollis"]
        distances = [one.distance for one in answer.results]
        assert distances == sorted(distances)
        first = answer.results[0]
        expected = (2 - 2 * first.similarity) ** 0.5 if metric == 2 else 1 - first.similarity
        assert first.distance == pytest.approx(expected, abs=1e-6)


def test_a_batch_answers_each_picture_on_its_own(api: Api, photographs: dict[str, bytes]) -> None:
    bank = api.create_bank("abuse")
    api.add_image(bank, photographs["nagasaki-boats"])
    images = [photographs["nagasaki-boats"], b"", photographs["acanthus-mollis"], b"junk"]
    request = pb.BatchCheckImagesRequest(requests=[pb.CheckImageRequest(image=image) for image in images])
    results = api.moderation.BatchCheckImages(request).results
    assert [one.WhichOneof("result") for one in results] == ["response", "error", "response", "response"]
    assert [results[0].response.verdict, results[2].response.verdict, results[3].response.verdict] == [
        MATCH,
        NO_MATCH,
        UNDECIDED,
    ]
    assert results[1].error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    with fails() as failure:
        api.moderation.BatchCheckImages(pb.BatchCheckImagesRequest())
    assert failure.metadata == {"field": "requests"}


def test_a_stream_answers_with_correlation_ids(api: Api, photographs: dict[str, bytes]) -> None:
    bank = api.create_bank("abuse")
    api.add_image(bank, photographs["nagasaki-boats"])
    requests = [
        pb.StreamCheckImagesRequest(correlation_id=f"{name}-{turn}", request=pb.CheckImageRequest(image=data))
        for turn in range(10)
        for name, data in photographs.items()
    ]
    requests.append(pb.StreamCheckImagesRequest(correlation_id="empty", request=pb.CheckImageRequest()))
    answers = {one.correlation_id: one for one in api.moderation.StreamCheckImages(iter(requests), timeout=120)}
    assert set(answers) == {one.correlation_id for one in requests}
    assert answers.pop("empty").WhichOneof("result") == "error"
    for name, answer in answers.items():
        assert answer.response.verdict == (MATCH if name.startswith("nagasaki") else NO_MATCH)


def test_a_stream_refuses_an_id_that_is_not_answered_yet(api: Api, photographs: dict[str, bytes]) -> None:
    one = pb.StreamCheckImagesRequest(
        correlation_id="same", request=pb.CheckImageRequest(image=photographs["acanthus-mollis"])
    )
    with fails() as failure:
        list(api.moderation.StreamCheckImages(iter([one, one, one]), timeout=60))
    assert failure.metadata == {"field": "correlation_id"}
