"""Guards of upload hooks against a real server of this process: verdicts, failures, hostile uploads, the budget."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from google.rpc import code_pb2, status_pb2
from tests.support.fake_service import UNAVAILABLE, FakeService, fake_service, status

import imagewarden as iw
from imagewarden.hook import AsyncUploadGuard, Decision, OnError, Reason, UploadGuard, fail_closed, fail_open
from imagewarden.v1 import moderation_service_pb2 as pb
from imagewarden.v1 import types_pb2 as types

UPLOAD = b"an upload"
Kind = Literal["blocking", "asyncio"]


@pytest.fixture
def service() -> Iterator[FakeService]:
    with fake_service() as running:
        yield running


@pytest.fixture(params=["blocking", "asyncio"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def decide(
    kind: str,
    address: str,
    on_error: OnError = "fail_closed",
    *,
    upload: bytes = UPLOAD,
    context: dict[str, str] | None = None,
    **rules: Any,
) -> Decision:
    """One decision of a guard of either stack."""
    make = {"fail_open": fail_open, "fail_closed": fail_closed}[on_error]
    if kind == "blocking":
        with iw.Client(address) as client:
            guard = make(client, **rules)
            assert isinstance(guard, UploadGuard)
            return guard.check(upload, context=context)
    async with iw.AsyncClient(address) as asynchronous:
        waiting = make(asynchronous, **rules)
        assert isinstance(waiting, AsyncUploadGuard)
        return await waiting.check(upload, context=context)


def verdict(verdict: Any, action: Any) -> pb.CheckImageResponse:
    return pb.CheckImageResponse(verdict=verdict, action=action)


@pytest.mark.parametrize(
    ("answer", "review_allows", "allowed", "action"),
    [
        (verdict(types.VERDICT_NO_MATCH, types.ACTION_ALLOW), True, True, "allow"),
        (verdict(types.VERDICT_MATCH, types.ACTION_BLOCK), True, False, "block"),
        (verdict(types.VERDICT_UNDECIDED, types.ACTION_REVIEW), True, True, "review"),
        (verdict(types.VERDICT_UNDECIDED, types.ACTION_REVIEW), False, False, "review"),
    ],
)
async def test_a_verdict_decides(
    service: FakeService, kind: str, answer: pb.CheckImageResponse, review_allows: bool, allowed: bool, action: str
) -> None:
    service.answer("CheckImage", answer)
    decision = await decide(
        kind, service.address, review_allows=review_allows, banks=["abuse"], on_undecided="review", context={"id": "7"}
    )
    assert (decision.allowed, decision.action, decision.reason) == (allowed, action, "verdict")
    assert decision.result is not None
    assert decision.error is None
    sent = service.calls["CheckImage"][0]
    assert (sent.image, list(sent.banks), sent.on_undecided, dict(sent.context)) == (
        UPLOAD,
        ["banks/abuse"],
        types.ACTION_REVIEW,
        {"id": "7"},
    )


@pytest.mark.parametrize(
    "failure",
    [
        UNAVAILABLE,
        status(code_pb2.RESOURCE_EXHAUSTED, "busy", "OVERLOADED", retry_after=60),
        status(code_pb2.INTERNAL, "failed", "INTERNAL"),
        status(code_pb2.UNAUTHENTICATED, "who?"),
        status(code_pb2.NOT_FOUND, "no bank", "BANK_NOT_FOUND"),
        status(code_pb2.INVALID_ARGUMENT, "no name", "INVALID_FIELD", field="banks[0]"),
        pb.CheckImageResponse(verdict=types.VERDICT_MATCH),  # an answer without an action
    ],
    ids=["unavailable", "busy", "bug", "unauthenticated", "not found", "invalid", "unreadable"],
)
async def test_a_failure_opens_or_closes_and_says_which(
    service: FakeService, kind: str, failure: status_pb2.Status
) -> None:
    service.answer("CheckImage", failure)
    opened = await decide(kind, service.address, "fail_open", budget=0.4)
    assert (opened.allowed, opened.action, opened.reason) == (True, iw.Action.ALLOW, Reason.FAILED_OPEN)
    closed = await decide(kind, service.address, "fail_closed", budget=0.4)
    assert (closed.allowed, closed.action, closed.reason) == (False, iw.Action.BLOCK, Reason.FAILED_CLOSED)
    assert closed.result is None
    assert closed.error is not None
    assert type(closed.error).__name__ in closed.detail


async def test_nobody_there_opens_or_closes_within_the_budget(kind: str) -> None:
    decision = await decide(kind, "127.0.0.1:1", "fail_closed", budget=0.5)
    assert decision.reason is Reason.FAILED_CLOSED
    assert isinstance(decision.error, iw.ConnectionFailed | iw.TimeoutExceeded)
    assert decision.elapsed < 0.8


async def test_the_budget_holds_whatever_the_server_does(service: FakeService, kind: str) -> None:
    release = threading.Event()
    service.answer("CheckImage", UNAVAILABLE, lambda *_: release.wait(5) and UNAVAILABLE)
    begin = time.monotonic()
    decision = await decide(kind, service.address, "fail_open", budget=0.3)
    release.set()
    assert decision.reason is Reason.FAILED_OPEN
    assert 0.2 < decision.elapsed < 0.6
    assert time.monotonic() - begin < 1.5


@pytest.mark.parametrize(
    "failure",
    [
        status(code_pb2.INVALID_ARGUMENT, "image: is empty", "INVALID_FIELD", field="image"),
        status(code_pb2.INVALID_ARGUMENT, "too many pixels", "IMAGE_OVER_LIMITS"),
        status(code_pb2.RESOURCE_EXHAUSTED, "Received message larger than max (8 vs. 4)"),
    ],
    ids=lambda failure: failure.message,
)
async def test_an_upload_that_cannot_be_checked_never_opens_the_door(
    service: FakeService, kind: str, failure: status_pb2.Status
) -> None:
    service.answer("CheckImage", failure)
    held = await decide(kind, service.address, "fail_open", review_allows=False)
    assert (held.allowed, held.action, held.reason) == (False, iw.Action.REVIEW, Reason.UNSCANNABLE)
    blocked = await decide(kind, service.address, "fail_open", on_undecided=iw.Action.BLOCK)
    assert (blocked.allowed, blocked.action, blocked.reason) == (False, iw.Action.BLOCK, Reason.UNSCANNABLE)
    allowed = await decide(kind, service.address, "fail_closed", on_undecided="allow")
    assert (allowed.allowed, allowed.reason) == (True, Reason.UNSCANNABLE)


async def test_an_upload_too_large_to_send_never_opens_the_door(service: FakeService, kind: str) -> None:
    decision = await decide(
        kind, service.address, "fail_open", upload=bytes(iw.MAX_MESSAGE_BYTES), on_undecided="block"
    )
    assert (decision.allowed, decision.reason) == (False, Reason.UNSCANNABLE)
    assert not service.calls["CheckImage"]


async def test_an_odd_file_name_does_not_fail_the_check(service: FakeService, kind: str) -> None:
    service.answer("CheckImage", verdict(types.VERDICT_MATCH, types.ACTION_BLOCK))
    context = {"name": "x" * 5000, "bytes": "a\udcff.jpg"} | {f"header{number}": "v" for number in range(40)}
    decision = await decide(kind, service.address, "fail_open", context=context)
    assert decision.reason is Reason.VERDICT
    sent = dict(service.calls["CheckImage"][0].context)
    assert (len(sent), sent["name"], sent["bytes"]) == (16, "x" * 256, "a?.jpg")


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"budget": 0}, "budget is 0"),
        ({"on_error": "open"}, "'fail_open' or 'fail_closed'"),
        ({"on_undecided": "note"}, "one of allow, review, block"),
    ],
)
def test_rules_that_make_no_sense_are_refused_at_once(rules: dict[str, Any], said: str) -> None:
    with iw.Client() as client, pytest.raises(ValueError, match=said):
        UploadGuard(client, **rules)
