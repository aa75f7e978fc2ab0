"""What stands around a call: the order, what refuses it, and that whatever began is ended."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import grpc
import pytest
from google.protobuf.message import DecodeError

from imagewarden_server.interceptors.around import Call, Concern, Concerns


class Said(NamedTuple):
    code: grpc.StatusCode
    details: str
    trailing_metadata: tuple[tuple[str, str | bytes], ...]


class Status(Said, grpc.Status):
    """A status to abort with."""


class Context:
    """A servicer's context with messages to read, that knows how many were and what it was ended with."""

    def __init__(self, *messages: Any) -> None:
        self.left = list(messages)
        self.aborted: tuple[Any, ...] | None = None

    async def read(self) -> Any:
        return self.left.pop(0) if self.left else grpc.aio.EOF

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return (("x-one", "a"), ("x-one", "b"), ("x-raw-bin", b"\x00"))

    async def abort(self, *said: Any) -> None:
        self.aborted = said
        raise grpc.aio.AbortError


class Recording(Concern):
    """Writes down when it begins and how it ends; may refuse."""

    def __init__(self, name: str, log: list[str], refuses: Exception | None = None) -> None:
        self._name, self._log, self._refuses = name, log, refuses

    def begin(self, call: Call) -> str:
        self._log.append(f"{self._name} begins {call.method}")
        if self._refuses is not None:
            raise self._refuses
        return self._name

    def message(self, call: Call, begun: str, size: int) -> None:
        assert begun == self._name
        if self._name == "door":
            self._log.append(f"{size} bytes for {call.method}")

    def done(self, call: Call, begun: str) -> None:
        assert begun == self._name
        if self._name == "door":
            self._log.append(f"done with one for {call.method}")

    def end(self, call: Call, begun: str, error: BaseException | None) -> None:
        assert begun == self._name
        self._log.append(f"{self._name} ends {call.kind} {type(error).__name__ if error else 'well'}")


def handled(log: list[str], handler: Any, *, refuses: Exception | None = None) -> Any:
    """The handler of /a.b/C as the interceptor wraps it."""
    outside = (Recording("one", log), Recording("two", log))
    inside = (Recording("three", log), Recording("door", log, refuses))

    def answer(call: Call, error: Exception) -> grpc.Status:
        log.append(f"answers {call.service} {error}")
        return Status(grpc.StatusCode.UNAVAILABLE, str(error), (("x-id", "7"),))

    class Details:
        method = "/a.b/C"

    async def found(_: Any) -> Any:
        return handler

    async def ask() -> Any:
        concerns = Concerns(outside, answer, inside)
        wrapped = await concerns.intercept_service(found, Details)  # type: ignore[arg-type]  # all it reads
        assert await concerns.intercept_service(found, Details) is wrapped  # type: ignore[arg-type]  # the same
        return wrapped

    return asyncio.run(ask())


def unary(log: list[str], error: BaseException | None = None, refuses: Exception | None = None) -> Any:
    async def inner(request: Any, _: Any) -> Any:
        log.append("runs")
        if error is not None:
            raise error
        return request

    return handled(log, grpc.unary_unary_rpc_method_handler(inner), refuses=refuses).stream_unary


def test_concerns_stand_around_a_call_in_their_order() -> None:
    log: list[str] = []
    assert asyncio.run(unary(log)(None, Context(b"hello"))) == b"hello"
    names = ["one", "two", "three", "door"]
    ends = [f"{name} ends unary well" for name in names[::-1]]
    assert log == [*(f"{name} begins C" for name in names), "5 bytes for C", "runs", *ends]


def test_what_goes_wrong_is_answered_inside_of_those_who_see_the_answer() -> None:
    log: list[str] = []
    context = Context(b"hello")
    with pytest.raises(grpc.aio.AbortError):
        asyncio.run(unary(log, ValueError("no"))(None, context))
    assert context.aborted == (grpc.StatusCode.UNAVAILABLE, "no", (("x-id", "7"),))
    assert log[5:] == [
        "runs",
        "door ends unary ValueError",
        "three ends unary ValueError",
        "answers a.b no",
        "two ends unary AbortError",
        "one ends unary AbortError",
    ]


def test_a_refused_call_is_not_read_and_does_not_run_and_what_began_is_ended() -> None:
    log: list[str] = []
    context = Context(b"hello")
    with pytest.raises(grpc.aio.AbortError):
        asyncio.run(unary(log, refuses=ValueError("full"))(None, context))
    assert context.left == [b"hello"]
    assert log[3:] == [
        "door begins C",
        "three ends unary ValueError",
        "answers a.b full",
        "two ends unary AbortError",
        "one ends unary AbortError",
    ]


@pytest.mark.parametrize("error", [grpc.aio.AbortError(), asyncio.CancelledError()])
def test_what_is_answered_already_and_what_is_cancelled_is_no_error_to_answer(error: BaseException) -> None:
    log: list[str] = []
    with pytest.raises(type(error)):
        asyncio.run(unary(log, error)(None, Context(b"")))
    assert not [line for line in log if line.startswith("answers")]
    assert [line for line in log if line.startswith("one ends")] == [f"one ends unary {type(error).__name__}"]


def test_a_stream_is_ended_when_it_is_over() -> None:
    log: list[str] = []

    async def inner(request: Any, _: Any) -> AsyncIterator[Any]:
        for number in range(len(request)):
            yield number
        raise ValueError("late")

    wrapped = handled(log, grpc.unary_stream_rpc_method_handler(inner)).stream_stream

    seen: list[int] = []

    async def read() -> None:
        async for one in wrapped(None, Context(b"abc")):
            seen.append(one)
            assert not [line for line in log if " ends " in line]

    with pytest.raises(grpc.aio.AbortError):
        asyncio.run(read())
    assert seen == [0, 1, 2]
    assert log[-2:] == ["two ends server_stream AbortError", "one ends server_stream AbortError"]
    assert "answers a.b late" in log


def test_the_messages_of_a_stream_are_told_of_and_parsed_one_by_one() -> None:
    log: list[str] = []

    async def inner(requests: AsyncIterator[Any], _: Any) -> int:
        return sum([len(one) async for one in requests])

    handler: Any = grpc.stream_unary_rpc_method_handler(inner, request_deserializer=lambda data: data * 2)
    assert asyncio.run(handled(log, handler).stream_unary(None, Context(b"a", b"bc"))) == 6
    said = [line for line in log if "bytes" in line or "done" in line]
    assert said == ["1 bytes for C", "done with one for C", "2 bytes for C", "done with one for C"]


def test_a_stream_that_waits_for_its_next_message_holds_none() -> None:
    class Message:
        pass

    alive: weakref.WeakSet[Message] = weakref.WeakSet()
    held: list[int] = []

    def parsed(_: bytes) -> Message:
        message = Message()
        alive.add(message)
        return message

    class Waiting(Context):
        async def read(self) -> Any:
            held.append(len(alive))
            return await super().read()

    async def inner(requests: AsyncIterator[Any], _: Any) -> int:
        count = 0
        async for one in requests:
            assert len(alive) == 1
            del one
            count += 1
        return count

    handler: Any = grpc.stream_unary_rpc_method_handler(inner, request_deserializer=parsed)
    assert asyncio.run(handled([], handler).stream_unary(None, Waiting(b"a", b"b", b"c"))) == 3
    assert held == [0, 0, 0, 0]


def unreadable(data: bytes) -> Any:
    raise DecodeError(f"{data!r} is nothing")


@pytest.mark.parametrize(("messages", "said"), [([], "is missing"), ([b"?"], "is no message of C")])
def test_no_message_and_bytes_that_are_none_are_the_callers_mistake(messages: list[bytes], said: str) -> None:
    log: list[str] = []

    async def inner(_request: Any, _: Any) -> None:
        raise AssertionError("it must not run")

    handler: Any = grpc.unary_unary_rpc_method_handler(inner, request_deserializer=unreadable)
    context = Context(*messages)
    with pytest.raises(grpc.aio.AbortError):
        asyncio.run(handled(log, handler).stream_unary(None, context))
    assert context.aborted is not None
    assert said in context.aborted[1]


def test_a_header_is_the_last_of_its_name_and_a_text() -> None:
    call = Call("s", "m", "unary", False, Context())  # noqa: FBT003 -- by position, as it is made
    assert (call.header("x-one"), call.header("x-raw-bin"), call.header("x-none")) == ("b", "", "")
