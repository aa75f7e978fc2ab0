"""The blocking client against a real server of this process: requests, answers, errors, retries, limits, TLS."""

from __future__ import annotations

import io
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import code_pb2, status_pb2
from tests.support.fake_service import UNAVAILABLE, FakeService, fake_service, status

import imagewarden as iw
from imagewarden.v1 import bank_service_pb2 as banks_pb
from imagewarden.v1 import moderation_service_pb2 as pb
from imagewarden.v1 import types_pb2 as types

PICTURE = b"\x89PNG the bytes do not matter here"
ALLOW = pb.CheckImageResponse(verdict=types.VERDICT_NO_MATCH, action=types.ACTION_ALLOW, revision="r1")
SHA256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.fixture
def service() -> Iterator[FakeService]:
    with fake_service() as running:
        yield running


@pytest.fixture
def client(service: FakeService) -> Iterator[iw.Client]:
    retry = iw.RetryPolicy(attempts=3, initial_backoff=0.01, max_backoff=0.02)
    with iw.Client(service.address, retry=retry, metadata=[("authorization", "Bearer token")]) as made:
        yield made


def test_a_check_says_what_was_asked_and_tells_all_that_was_answered(service: FakeService, client: iw.Client) -> None:
    service.answer(
        "CheckImage",
        pb.CheckImageResponse(
            verdict=types.VERDICT_MATCH,
            action=types.ACTION_BLOCK,
            matches=[
                types.Match(
                    entry="banks/abuse/entries/1",
                    bank="banks/abuse",
                    bank_kind=types.BANK_KIND_BANNED,
                    signal=types.SIGNAL_TYPE_EMBEDDING,
                    score=0.91,
                    distance=0.09,
                    threshold=0.8,
                    region=types.BoundingBox(left=0.25, top=0.5, right=0.75, bottom=1),
                    frame=2,
                    action=types.ACTION_BLOCK,
                    cleared_by="banks/fine/entries/9",
                    external_id="case-1",
                    brand="Acme",
                    labels=["a", "b"],
                    evidence=[
                        types.Evidence(signal=types.SIGNAL_TYPE_EMBEDDING, value=0.91, reached=True),
                        types.Evidence(signal=types.SIGNAL_TYPE_LOCAL, value=9),
                    ],
                    transform=types.Transform(coefficients=[0.5, 0, 0.25, 0, 0.5, 0.5], mirrored=True),
                )
            ],
            undecided_reasons=[
                types.UndecidedReason(
                    code=types.UNDECIDED_CODE_DEADLINE, message="no time", signals=[types.SIGNAL_TYPE_LOCAL]
                )
            ],
            revision="r7",
            model_version="m1",
            image=pb.ImageInfo(format="png", width=3, height=4, frames=1, sha256="ab", pdq="cd", pdq_quality=77),
            timings=[pb.StageTiming(stage="decode", duration=Duration(nanos=2_500_000))],
        ),
    )
    result = client.check(
        PICTURE,
        banks=["abuse", "banks/brands"],
        max_matches=3,
        exhaustive=True,
        thorough=True,
        on_undecided="review",
        at_least_revision="r6",
        context={"upload": "42"},
        timeout=5,
    )
    assert result == iw.CheckResult(
        verdict=iw.Verdict.MATCH,
        action=iw.Action.BLOCK,
        matches=(
            iw.Match(
                entry="banks/abuse/entries/1",
                bank="banks/abuse",
                bank_kind=iw.BankKind.BANNED,
                signal=iw.SignalType.EMBEDDING,
                score=0.91,
                distance=0.09,
                threshold=0.8,
                region=iw.BoundingBox(0.25, 0.5, 0.75, 1.0),
                frame=2,
                action=iw.Action.BLOCK,
                cleared_by="banks/fine/entries/9",
                external_id="case-1",
                brand="Acme",
                labels=("a", "b"),
                evidence=(
                    iw.Evidence(iw.SignalType.EMBEDDING, 0.91, reached=True),
                    iw.Evidence(iw.SignalType.LOCAL, 9.0, reached=False),
                ),
                transform=iw.Transform((0.5, 0.0, 0.25, 0.0, 0.5, 0.5), mirrored=True),
            ),
        ),
        undecided_reasons=(iw.UndecidedReason(iw.UndecidedCode.DEADLINE, "no time", (iw.SignalType.LOCAL,)),),
        revision="r7",
        model_version="m1",
        image=iw.ImageInfo("png", 3, 4, 1, "ab", "cd", 77),
        timings=(iw.StageTiming("decode", timedelta(milliseconds=2.5)),),
    )
    assert (str(result.verdict), str(result.action)) == ("match", "block")
    assert service.calls["CheckImage"] == [
        pb.CheckImageRequest(
            image=PICTURE,
            banks=["banks/abuse", "banks/brands"],
            max_matches=3,
            exhaustive=True,
            thorough=True,
            on_undecided=types.ACTION_REVIEW,
            at_least_revision="r6",
            context={"upload": "42"},
        )
    ]
    sent = service.metadata["CheckImage"][0]
    assert sent["authorization"] == "Bearer token"
    assert uuid.UUID(str(sent["x-request-id"])).version == 4
    assert str(sent["user-agent"]).startswith("imagewarden/")


@pytest.mark.parametrize("kind", ["path", "text", "file"])
def test_a_picture_may_be_a_path_or_a_file(service: FakeService, client: iw.Client, tmp_path: Path, kind: str) -> None:
    service.answer("CheckImage", ALLOW)
    path = tmp_path / "picture"
    path.write_bytes(PICTURE)
    sources: dict[str, iw.ImageSource] = {"path": path, "text": str(path), "file": io.BytesIO(PICTURE)}
    client.check(sources[kind])
    assert service.calls["CheckImage"][0].image == PICTURE


@pytest.mark.parametrize(
    ("failure", "kind", "expected"),
    [
        (
            status(code_pb2.INVALID_ARGUMENT, "bad k", "INVALID_FIELD", field="k"),
            iw.InvalidRequest,
            {"reason": "INVALID_FIELD", "field": "k", "code": "INVALID_ARGUMENT"},
        ),
        (
            status(code_pb2.NOT_FOUND, "no bank", "BANK_NOT_FOUND", bank="banks/x"),
            iw.NotFound,
            {"reason": "BANK_NOT_FOUND", "metadata": {"bank": "banks/x"}},
        ),
        (status(code_pb2.ALREADY_EXISTS, "there", "BANK_EXISTS"), iw.AlreadyExists, {"reason": "BANK_EXISTS"}),
        (
            status(code_pb2.FAILED_PRECONDITION, "has entries", "BANK_NOT_EMPTY", entries="3"),
            iw.FailedPrecondition,
            {"metadata": {"entries": "3"}},
        ),
        (status(code_pb2.UNAUTHENTICATED, "who?"), iw.Unauthenticated, {"reason": ""}),
        (status(code_pb2.PERMISSION_DENIED, "no"), iw.PermissionDenied, {}),
        (
            status(code_pb2.RESOURCE_EXHAUSTED, "busy", "OVERLOADED", retry_after=60),
            iw.ResourceExhausted,
            {"retry_after": 60},
        ),
        (status(code_pb2.DEADLINE_EXCEEDED, "late", "DEADLINE"), iw.TimeoutExceeded, {"reason": "DEADLINE"}),
        (
            status(code_pb2.INTERNAL, "failed", "INTERNAL", request_id="abc"),
            iw.ServerError,
            {"request_id": "abc"},
        ),
        (status(code_pb2.UNIMPLEMENTED, "no such method"), iw.ServerError, {"code": "UNIMPLEMENTED"}),
        (
            status(code_pb2.UNAVAILABLE, "starting", "NOT_SERVING", retry_after=60),
            iw.Unavailable,
            {"reason": "NOT_SERVING"},
        ),
    ],
    ids=lambda value: value.message if isinstance(value, status_pb2.Status) else None,
)
def test_each_failure_has_its_exception(
    service: FakeService,
    client: iw.Client,
    failure: status_pb2.Status,
    kind: type[iw.ImageWardenError],
    expected: dict[str, object],
) -> None:
    service.answer("CheckImage", failure)
    with pytest.raises(iw.ImageWardenError) as caught:
        client.check(PICTURE)
    error = caught.value
    assert type(error) is kind
    assert str(error) == error.message == failure.message
    assert {"request_id": "of-the-server"} | expected == {
        name: getattr(error, name) for name in {"request_id": ""} | expected
    }
    assert len(service.calls["CheckImage"]) == 1


def test_details_that_lie_or_cannot_be_read_do_not_hide_the_status(service: FakeService, client: iw.Client) -> None:
    def lie(_: Any, context: grpc.ServicerContext) -> None:
        details = status_pb2.Status(code=code_pb2.OK, message="all is well").SerializeToString()
        context.set_trailing_metadata((("grpc-status-details-bin", details),))
        context.abort(grpc.StatusCode.NOT_FOUND, "no such bank")

    def junk(_: Any, context: grpc.ServicerContext) -> None:
        context.set_trailing_metadata((("grpc-status-details-bin", b"\xff\xff\xff"),))
        context.abort(grpc.StatusCode.NOT_FOUND, "no such bank")

    def rotten(*_: Any) -> status_pb2.Status:
        failure = status(code_pb2.NOT_FOUND, "no such bank", "BANK_NOT_FOUND")
        broken = failure.details.add()
        broken.CopyFrom(failure.details[0])
        broken.value = b"\xff\xff"
        return failure

    for answer, reason in ((lie, ""), (junk, ""), (rotten, "BANK_NOT_FOUND")):
        service.answer("GetBank", answer)
        with pytest.raises(iw.NotFound, match="no such bank") as caught:
            client.get_bank("x")
        assert caught.value.reason == reason


def test_what_is_unavailable_is_tried_again_with_the_same_request_id(service: FakeService, client: iw.Client) -> None:
    done = banks_pb.CreateBankResponse(
        bank=types.Bank(
            name="banks/abuse", kind=types.BANK_KIND_BANNED, policy=types.Policy(action=types.ACTION_BLOCK)
        ),
        revision="r1",
    )
    service.answer("CreateBank", UNAVAILABLE, UNAVAILABLE, done)
    assert client.create_bank("abuse", "banned").bank.name == "banks/abuse"
    requests = service.calls["CreateBank"]
    assert len(requests) == 3
    assert {request.request_id for request in requests} == {requests[0].request_id}
    assert uuid.UUID(requests[0].request_id).version == 4
    assert service.metadata["CreateBank"][0]["x-request-id"] == requests[0].request_id


def test_tries_end(service: FakeService, client: iw.Client) -> None:
    service.answer("CheckImage", UNAVAILABLE)
    with pytest.raises(iw.Unavailable, match="no embedding") as caught:
        client.check(PICTURE)
    assert len(service.calls["CheckImage"]) == 3
    assert not isinstance(caught.value, iw.ConnectionFailed)


def test_a_busy_server_is_asked_again_after_the_time_it_states(service: FakeService, client: iw.Client) -> None:
    service.answer("CheckImage", status(code_pb2.RESOURCE_EXHAUSTED, "busy", "OVERLOADED", retry_after=0.3), ALLOW)
    begin = time.monotonic()
    assert client.check(PICTURE).verdict is iw.Verdict.NO_MATCH
    assert time.monotonic() - begin >= 0.3


def test_the_timeout_holds_over_all_tries(service: FakeService, client: iw.Client) -> None:
    release = threading.Event()

    def hang(*_: Any) -> pb.CheckImageResponse:
        release.wait(5)
        return ALLOW

    service.answer("CheckImage", UNAVAILABLE, hang)
    begin = time.monotonic()
    with pytest.raises(iw.TimeoutExceeded, match=service.address) as caught:
        client.check(PICTURE, timeout=0.3)
    elapsed = time.monotonic() - begin
    release.set()
    assert 0.2 < elapsed < 1.0
    assert caught.value.request_id == service.metadata["CheckImage"][-1]["x-request-id"]


def test_a_change_whose_answer_was_lost_can_be_repeated_by_its_request_id(
    service: FakeService, client: iw.Client
) -> None:
    service.answer("DeleteEntry", status(code_pb2.DEADLINE_EXCEEDED, "late", "DEADLINE"))
    mine = str(uuid.uuid4())
    with pytest.raises(iw.TimeoutExceeded):
        client.delete_entry("abuse/1", request_id=mine)
    service.answer("DeleteEntry", banks_pb.DeleteEntryResponse(revision="r2"))
    assert client.delete_entry("abuse/1", request_id=mine) == iw.Deletion("r2", 0)
    assert [request.request_id for request in service.calls["DeleteEntry"]] == [mine, mine]


def test_nobody_at_the_address_is_said_with_the_address() -> None:
    with iw.Client("127.0.0.1:1", timeout=2, retry=iw.RetryPolicy(attempts=2, initial_backoff=0.01)) as client:
        begin = time.monotonic()
        with pytest.raises(iw.ConnectionFailed, match=r"no answer from 127\.0\.0\.1:1"):
            client.check(PICTURE)
    assert time.monotonic() - begin < 2


def test_a_server_that_starts_late_is_found_by_the_next_try() -> None:
    with fake_service() as gone:
        address = gone.address
    with iw.Client(
        address, timeout=10, retry=iw.RetryPolicy(attempts=20, initial_backoff=0.1, max_backoff=0.2)
    ) as client:
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(client.check, PICTURE)
            time.sleep(0.4)
            with fake_service(address=address) as service:
                service.answer("CheckImage", ALLOW)
                begin = time.monotonic()
                assert waiting.result(timeout=10).revision == "r1"
        # grpc's own way back would take a second and more.
        assert time.monotonic() - begin < 3


def test_a_picture_over_the_limit_is_refused_before_it_is_sent(service: FakeService, client: iw.Client) -> None:
    with pytest.raises(iw.InvalidRequest) as caught:
        client.check(bytes(iw.MAX_MESSAGE_BYTES))
    assert (caught.value.field, caught.value.reason) == ("image", "IMAGE_OVER_LIMITS")
    assert not service.calls["CheckImage"]


def test_an_answer_over_the_limit_is_an_error(service: FakeService, client: iw.Client) -> None:
    service.answer("CheckImage", pb.CheckImageResponse(revision="r" * (iw.MAX_MESSAGE_BYTES + 1)))
    with pytest.raises(iw.ResourceExhausted, match="larger than max"):
        client.check(PICTURE)


def test_words_of_a_newer_server_do_not_break_a_check_but_its_action_must_be_known(
    service: FakeService, client: iw.Client
) -> None:
    match = types.Match(bank="banks/x", action=types.ACTION_BLOCK)
    match.MergeFromString(b"\x18\x63\x20\x63")  # bank_kind 99, signal 99
    known = pb.CheckImageResponse(verdict=types.VERDICT_MATCH, action=types.ACTION_BLOCK, matches=[match])
    service.answer("CheckImage", known)
    found = client.check(PICTURE).matches[0]
    assert (found.bank_kind, found.signal) == (iw.BankKind.UNKNOWN, iw.SignalType.UNKNOWN)
    service.answer("CheckImage", pb.CheckImageResponse(verdict=types.VERDICT_MATCH))
    with pytest.raises(iw.ServerError, match="upgrade"):
        client.check(PICTURE)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"on_undecided": "publish"}, "'publish' is no Action; it is one of allow"),
        ({"banks": [""]}, "name a bank"),
        ({"banks": ["banks/"]}, "name a bank"),
    ],
)
def test_a_word_that_does_not_exist_is_an_invalid_request(
    service: FakeService, client: iw.Client, asked: dict[str, Any], said: str
) -> None:
    with pytest.raises(iw.InvalidRequest, match=said):
        client.check(PICTURE, **asked)
    assert not service.calls["CheckImage"]


def _echo(request: pb.BatchCheckImagesRequest, _: Any) -> pb.BatchCheckImagesResponse:
    return pb.BatchCheckImagesResponse(
        results=[
            pb.BatchCheckImagesResult(error=status(code_pb2.INVALID_ARGUMENT, "empty", "INVALID_FIELD", field="image"))
            if not one.image
            else pb.BatchCheckImagesResult(
                response=pb.CheckImageResponse(
                    verdict=types.VERDICT_NO_MATCH, action=types.ACTION_ALLOW, revision=str(len(one.image))
                )
            )
            for one in request.requests
        ]
    )


def test_a_batch_answers_each_picture_in_order_with_its_own_error(service: FakeService, client: iw.Client) -> None:
    service.answer("BatchCheckImages", _echo)
    too_large = bytes(iw.MAX_MESSAGE_BYTES)
    found = client.check_batch([b"a", b"", b"abc", too_large, b"ab"], banks=["abuse"])
    assert [one.revision if isinstance(one, iw.CheckResult) else type(one) for one in found] == [
        "1",
        iw.InvalidRequest,
        "3",
        iw.InvalidRequest,
        "2",
    ]
    assert all(one.banks == ["banks/abuse"] for call in service.calls["BatchCheckImages"] for one in call.requests)


def test_a_batch_is_cut_where_the_limits_are(service: FakeService, client: iw.Client) -> None:
    service.answer("BatchCheckImages", _echo)
    assert len(client.check_batch([b"x"] * 130)) == 130
    assert [len(call.requests) for call in service.calls["BatchCheckImages"]] == [64, 64, 2]
    service.calls.clear()
    big = bytes(12 * 2**20)
    found = client.check_batch([big, big, big])
    assert [one.revision for one in found if isinstance(one, iw.CheckResult)] == [str(len(big))] * 3
    assert [len(call.requests) for call in service.calls["BatchCheckImages"]] == [2, 1]
    assert client.check_batch([]) == []


def _backwards(requests: Iterator[pb.StreamCheckImagesRequest], _: Any) -> Iterator[pb.StreamCheckImagesResponse]:
    for one in reversed(list(requests)):
        answer = pb.StreamCheckImagesResponse(correlation_id=one.correlation_id)
        if one.request.image == b"bad":
            answer.error.CopyFrom(status(code_pb2.INVALID_ARGUMENT, "bad", "IMAGE_OVER_LIMITS"))
        else:
            answer.response.CopyFrom(ALLOW)
        yield answer


def test_a_stream_answers_by_id_in_any_order(service: FakeService, client: iw.Client) -> None:
    service.answer("StreamCheckImages", _backwards)
    pictures = [("1", b"a"), ("2", b"bad"), ("3", bytes(iw.MAX_MESSAGE_BYTES)), ("4", b"b")]
    found = dict(client.check_stream(pictures, banks=["abuse"]))
    assert next(iter(found)) == "4"
    assert {key: type(value) for key, value in found.items()} == {
        "1": iw.CheckResult,
        "2": iw.InvalidRequest,
        "3": iw.InvalidRequest,
        "4": iw.CheckResult,
    }


def test_what_the_callers_iterator_raises_is_raised_after_the_answers(
    service: FakeService, client: iw.Client, tmp_path: Path
) -> None:
    service.answer("StreamCheckImages", _backwards)
    answers = client.check_stream([("1", b"a"), ("2", tmp_path / "missing.jpg"), ("3", b"b")])
    assert next(answers)[0] == "1"
    with pytest.raises(FileNotFoundError):
        next(answers)
    with pytest.raises(ZeroDivisionError):
        list(client.check_stream((str(1 // number), b"a") for number in (0, 1)))


def test_a_stream_that_breaks_is_a_typed_error(service: FakeService, client: iw.Client) -> None:
    def breaks(requests: Any, context: grpc.ServicerContext) -> Iterator[pb.StreamCheckImagesResponse]:
        yield pb.StreamCheckImagesResponse(correlation_id=next(requests).correlation_id, response=ALLOW)
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a correlation id came twice")

    service.answer("StreamCheckImages", breaks)
    answers = client.check_stream([("1", b"a"), ("1", b"b")])
    assert next(answers)[0] == "1"
    with pytest.raises(iw.InvalidRequest, match="came twice"):
        next(answers)


def test_search(service: FakeService, client: iw.Client) -> None:
    service.answer(
        "SearchSimilarImages",
        pb.SearchSimilarImagesResponse(
            results=[
                pb.SimilarImage(
                    rank=1,
                    entry=types.Entry(name="banks/x/entries/1", state=types.ENTRY_STATE_ACTIVE),
                    bank="banks/x",
                    distance=0.25,
                    similarity=0.75,
                )
            ],
            revision="r1",
            model_version="m",
        ),
    )
    result = client.search(PICTURE, 5, "euclidean", ["x"])
    assert [(one.rank, one.entry.name, one.distance, one.similarity) for one in result.results] == [
        (1, "banks/x/entries/1", 0.25, 0.75)
    ]
    assert service.calls["SearchSimilarImages"] == [
        pb.SearchSimilarImagesRequest(image=PICTURE, k=5, metric=pb.DISTANCE_METRIC_EUCLIDEAN, banks=["banks/x"])
    ]


def test_lists_are_paged_as_they_are_read(service: FakeService, client: iw.Client) -> None:
    def page(request: banks_pb.ListBanksRequest, _: Any) -> banks_pb.ListBanksResponse:
        number = int(request.page_token or 0)
        bank = types.Bank(
            name=f"banks/b{number}", kind=types.BANK_KIND_BRAND, policy=types.Policy(action=types.ACTION_REVIEW)
        )
        return banks_pb.ListBanksResponse(banks=[bank], next_page_token=str(number + 1) if number < 2 else "")

    service.answer("ListBanks", page)
    banks = client.list_banks(page_size=1)
    assert next(banks).name == "banks/b0"
    assert len(service.calls["ListBanks"]) == 1
    assert [bank.name for bank in banks] == ["banks/b1", "banks/b2"]
    assert {request.page_size for request in service.calls["ListBanks"]} == {1}


def test_entries_are_listed_by_what_is_asked(service: FakeService, client: iw.Client) -> None:
    service.answer("ListEntries", banks_pb.ListEntriesResponse())
    assert list(client.list_entries("x", external_id="e", label="l", state="disabled")) == []
    assert service.calls["ListEntries"] == [
        banks_pb.ListEntriesRequest(bank="banks/x", external_id="e", label="l", state=types.ENTRY_STATE_DISABLED)
    ]


def test_hashes_are_texts_or_objects_and_a_wrong_one_is_named(service: FakeService, client: iw.Client) -> None:
    service.answer(
        "AddHashes",
        banks_pb.AddHashesResponse(
            results=[banks_pb.AddedHash(entry="banks/x/entries/1"), banks_pb.AddedHash(entry="e", duplicate=True)],
            added=1,
            duplicates=1,
            revision="r2",
        ),
    )
    expires = datetime(2030, 1, 2, tzinfo=UTC)
    typed = iw.Hash(
        iw.SignalType.PDQ, SHA256, quality=0, external_id="e", labels=("l",), metadata={"k": "v"}, expire_time=expires
    )
    added = client.add_hashes("x", [f"sha256:{SHA256}", typed], validate_only=True)
    assert (added.added, added.duplicates, [one.duplicate for one in added.results]) == (1, 1, [False, True])
    request = service.calls["AddHashes"][0]
    assert (request.bank, request.validate_only) == ("banks/x", True)
    assert request.hashes[0] == banks_pb.HashToAdd(type=types.SIGNAL_TYPE_SHA256, hex=SHA256)
    assert request.hashes[1] == banks_pb.HashToAdd(
        type=types.SIGNAL_TYPE_PDQ,
        hex=SHA256,
        quality=0,
        external_id="e",
        labels=["l"],
        metadata={"k": "v"},
        expire_time=Timestamp(seconds=int(expires.timestamp())),
    )
    with pytest.raises(iw.InvalidRequest, match="sha256 or pdq") as caught:
        client.add_hashes("x", [f"sha256:{SHA256}", SHA256])
    assert caught.value.field == "hashes[1]"


def test_changes_of_a_bank_name_the_fields_they_change(service: FakeService, client: iw.Client) -> None:
    bank = types.Bank(
        name="banks/x", kind=types.BANK_KIND_BANNED, policy=types.Policy(action=types.ACTION_NOTE), entry_count=3
    )
    service.answer("UpdateBank", banks_pb.UpdateBankResponse(bank=bank, revision="r3"))
    change = client.update_bank(
        "x", action="note", enabled=False, labels={}, thresholds=[iw.Threshold(iw.SignalType.PDQ, 20)]
    )
    assert (change.bank.entry_count, change.bank.policy.action, change.revision) == (3, iw.Action.NOTE, "r3")
    request = service.calls["UpdateBank"][0]
    assert sorted(request.update_mask.paths) == ["enabled", "labels", "policy.action", "policy.thresholds"]
    assert request.bank.policy.thresholds[0].threshold == 20
    service.answer("DeleteBank", banks_pb.DeleteBankResponse(revision="r4", deleted_entries=3))
    assert client.delete_bank("banks/x", force=True) == iw.Deletion("r4", 3)
    assert service.calls["DeleteBank"][0].force


def test_pictures_and_logos_are_added_with_what_is_said_of_them(service: FakeService, client: iw.Client) -> None:
    entry = types.Entry(
        name="banks/x/entries/1",
        state=types.ENTRY_STATE_ACTIVE,
        signals=[
            types.Signal(type=types.SIGNAL_TYPE_PDQ, hex=SHA256, quality=-1),
            types.Signal(type=types.SIGNAL_TYPE_EMBEDDING, views=4, dimensions=768, model_version="m"),
            types.Signal(type=types.SIGNAL_TYPE_LOCAL, views=1, keypoints=300, model_version="x"),
        ],
    )
    service.answer("AddImage", banks_pb.AddImageResponse(entry=entry, revision="r1", warnings=["plain"]))
    change = client.add_image("x", PICTURE, external_id="e", labels=["l"], metadata={"k": "v"}, source="s")
    assert (change.revision, change.warnings, change.entry.state) == ("r1", ("plain",), iw.EntryState.ACTIVE)
    assert [signal.quality for signal in change.entry.signals] == [None, None, None]
    assert [signal.keypoints for signal in change.entry.signals] == [0, 0, 300]
    sent = service.calls["AddImage"][0]
    assert sent.entry == types.Entry(external_id="e", labels=["l"], metadata={"k": "v"}, source="s")
    service.answer("RegisterLogo", banks_pb.RegisterLogoResponse(entry=entry, revision="r2"))
    client.register_logo("brands", "Acme", [b"<svg/>", io.BytesIO(PICTURE)], validate_only=True)
    sent = service.calls["RegisterLogo"][0]
    assert (sent.bank, sent.brand, list(sent.images), sent.validate_only) == (
        "banks/brands",
        "Acme",
        [b"<svg/>", PICTURE],
        True,
    )


def test_an_entry_is_named_short_or_long_and_its_expiry_can_be_taken_away(
    service: FakeService, client: iw.Client
) -> None:
    entry = types.Entry(name="banks/x/entries/1", state=types.ENTRY_STATE_DISABLED, thumbnail=b"png")
    service.answer("GetEntry", banks_pb.GetEntryResponse(entry=entry))
    assert client.get_entry("x/1").thumbnail == b"png"
    assert client.get_entry("banks/x/entries/1").expire_time is None
    assert [request.name for request in service.calls["GetEntry"]] == ["banks/x/entries/1"] * 2
    for wrong in ("x", "banks/x", "x/1/2", "/1"):
        with pytest.raises(iw.InvalidRequest, match="name an entry"):
            client.get_entry(wrong)
    service.answer("UpdateEntry", banks_pb.UpdateEntryResponse(entry=entry, revision="r1"))
    client.update_entry("x/1", state=iw.EntryState.DISABLED, never_expires=True)
    request = service.calls["UpdateEntry"][0]
    assert sorted(request.update_mask.paths) == ["expire_time", "state"]
    assert not request.entry.HasField("expire_time")


def test_one_client_serves_many_threads(service: FakeService, client: iw.Client) -> None:
    service.answer(
        "CheckImage",
        lambda request, _: pb.CheckImageResponse(
            verdict=types.VERDICT_NO_MATCH, action=types.ACTION_ALLOW, revision=request.image.decode()
        ),
    )
    pictures = [str(number).encode() for number in range(200)]
    with ThreadPoolExecutor(8) as pool:
        revisions = [result.revision for result in pool.map(client.check, pictures)]
    assert revisions == [picture.decode() for picture in pictures]


def test_tls_needs_the_right_roots_and_mutual_tls_the_callers_certificate(tmp_path: Path) -> None:
    authority = trustme.CA()
    roots = authority.cert_pem.bytes()
    ca = tmp_path / "ca.pem"
    ca.write_bytes(roots)
    server, mine = authority.issue_cert("127.0.0.1"), authority.issue_cert("hook@example.org")
    chain = b"".join(blob.bytes() for blob in mine.cert_chain_pems)
    credentials = grpc.ssl_server_credentials(
        [(server.private_key_pem.bytes(), b"".join(blob.bytes() for blob in server.cert_chain_pems))],
        root_certificates=roots,
        require_client_auth=True,
    )
    full = iw.TlsConfig(ca, certificate=chain, key=mine.private_key_pem.bytes())
    with fake_service(credentials=credentials) as service:
        service.answer("CheckImage", ALLOW)
        with iw.Client(service.address, tls=full) as client:
            assert client.check(PICTURE).action is iw.Action.ALLOW
        stranger = iw.TlsConfig(trustme.CA().cert_pem.bytes(), certificate=chain, key=mine.private_key_pem.bytes())
        for tls in (None, iw.TlsConfig(ca), stranger):
            with (
                iw.Client(service.address, tls=tls, retry=iw.RetryPolicy(attempts=1)) as client,
                pytest.raises(iw.ConnectionFailed, match="TLS"),
            ):
                client.check(PICTURE, timeout=5)


@pytest.mark.parametrize("make", [iw.Client, iw.AsyncClient])
def test_an_empty_address_is_refused_at_once(make: Callable[[str], object]) -> None:
    with pytest.raises(ValueError, match="host:port"):
        make("")


def test_a_slow_way_to_the_server_may_take_its_time_to_connect(service: FakeService) -> None:
    service.answer("CheckImage", ALLOW)
    with (
        slow_way(service.address, 0.4) as address,
        iw.Client(address, timeout=5, retry=iw.RetryPolicy(attempts=1)) as client,
    ):
        assert client.check(PICTURE).action is iw.Action.ALLOW


@contextmanager
def slow_way(address: str, seconds: float) -> Iterator[str]:
    """A way to an address that passes nothing on before some time is over, as a far network does."""
    host, port = address.split(":")

    def carry(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def accept() -> None:
        near, _ = listener.accept()
        time.sleep(seconds)
        far = socket.create_connection((host, int(port)))
        with near, far:
            back = threading.Thread(target=carry, args=(far, near))
            back.start()
            carry(near, far)
            back.join()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        carrier = threading.Thread(target=accept)
        carrier.start()
        yield "{}:{}".format(*listener.getsockname())
        carrier.join(10)


def test_half_a_client_certificate_is_refused_and_a_key_is_never_shown() -> None:
    with pytest.raises(ValueError, match="belong together"):
        iw.TlsConfig(certificate=b"x")
    assert "secret" not in repr(iw.TlsConfig(certificate=b"x", key=b"secret"))
