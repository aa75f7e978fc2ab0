"""What happens around a call, whatever its kind, and the interceptor that has it happen.

All of it begins before the call's message is read: who is refused has sent in vain, and the server has not received.
"""

from __future__ import annotations

import asyncio
import traceback
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf.message import DecodeError

from imagewarden_server.matching.errors import DeadlinePassed, InvalidField

_READ_SECONDS = 60.0
"""A caller that sends its one message for longer is given up: it keeps a place that others could have."""
_OPEN_READS, _OPEN_READ_SECONDS = 2, 1.0
"""Messages of health and reflection are small. So many are read at once, so long: whoever sends large ones, which
anybody may, takes the memory of so many and no more."""


@dataclass(slots=True)
class Call:
    """The call that a concern stands around.

    Attributes:
        service: the full service name.
        method: the method's name.
        kind: `unary`, `client_stream`, `server_stream` or `bidi_stream`, as the ecosystem's metrics name them.
        infrastructure: whether this is health or reflection: never refused by admission, never logged a line each.
        context: the servicer context.
    """

    service: str
    method: str
    kind: str
    infrastructure: bool
    context: Any

    def header(self, name: str) -> str:
        """The last value of a text header in the caller's first metadata; empty where there is none."""
        given = [value for key, value in self.context.invocation_metadata() or () if key == name]
        return given[-1] if given and isinstance(given[-1], str) else ""


class Concern(ABC):
    """What happens around every call for one reason, without waiting for anything.

    Methods and no context manager: those of generators take as long as all of the concerns do together.
    """

    @abstractmethod
    def begin(self, call: Call) -> Any:
        """What happens before the call; what it answers is given to `end`. An exception refuses the call."""

    def message(self, call: Call, begun: Any, size: int) -> None:  # noqa: B027 -- most concerns have nothing to do
        """A message of so many bytes came, and is not parsed yet. An exception refuses the call."""

    def done(self, call: Call, begun: Any) -> None:  # noqa: B027 -- as above
        """Who takes a stream's messages has let go of the last one, and waits for another, which may never come."""

    @abstractmethod
    def end(self, call: Call, begun: Any, error: BaseException | None) -> None:
        """What happens after a call that began, however it ended; a passed deadline is a CancelledError."""


Answer = Callable[[Call, Exception], grpc.Status]
"""The status that the caller sees of what went wrong."""

Parse = Callable[[bytes], Any]
"""Makes a message of its bytes; None: they are what is taken."""


class Concerns(grpc.aio.ServerInterceptor):
    """All concerns around the handlers of every kind of call.

    One interceptor for all: each of grpc's own is asked for the handler at each call, and would wrap it anew.

    Args:
        outside: what sees the status that the caller sees, the outermost first.
        answer: what makes that status of an exception.
        inside: what may refuse a call by an exception, the outermost first.
    """

    def __init__(self, outside: Sequence[Concern], answer: Answer, inside: Sequence[Concern]) -> None:
        self._outside = outside
        self._answer = answer
        self._inside = inside
        self._wrapped: dict[str, Any] = {}
        self._open_reads = asyncio.Semaphore(_OPEN_READS)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The handler, wrapped once for each method; what is no method is not remembered."""
        method = handler_call_details.method
        wrapped = self._wrapped.get(method)
        if wrapped is None:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None
            wrapped = self._wrapped[method] = self._wrap(method, handler)
        return wrapped

    def _wrap(self, full_name: str, handler: Any) -> Any:
        _, service, method = full_name.split("/", 2)
        infrastructure = service.startswith("grpc.")
        kinds = {
            (False, False): "unary",
            (True, False): "client_stream",
            (False, True): "server_stream",
            (True, True): "bidi_stream",
        }
        kind = kinds[bool(handler.request_streaming), bool(handler.response_streaming)]
        inner = handler.unary_unary or handler.stream_unary or handler.unary_stream or handler.stream_stream
        receive = _messages if handler.request_streaming else self._message

        async def single(_requests: Any, context: Any) -> Any:
            call = Call(service, method, kind, infrastructure, context)
            with _Around(self._outside, call):
                try:
                    with _Around(self._inside, call) as inside:
                        return await inner(await receive(inside, handler.request_deserializer), context)
                except grpc.aio.AbortError:
                    raise
                except Exception as error:  # noqa: BLE001 -- whatever it is, the caller is answered
                    await self._refuse(call, error)

        async def streamed(_requests: Any, context: Any) -> AsyncIterator[Any]:
            call = Call(service, method, kind, infrastructure, context)
            with _Around(self._outside, call):
                try:
                    with _Around(self._inside, call) as inside:
                        answers = inner(await receive(inside, handler.request_deserializer), context)
                        if isinstance(answers, AsyncIterable):
                            async for answer in answers:
                                yield answer
                        else:  # it writes by itself, as grpc's health service does
                            await answers
                except grpc.aio.AbortError:
                    raise
                except Exception as error:  # noqa: BLE001 -- as above
                    await self._refuse(call, error)

        # A stream of messages, whatever the method takes: grpc reads the one message of any other handler before it
        # asks the handler anything. Nothing is parsed before the concerns have let it through.
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(streamed, response_serializer=handler.response_serializer)
        return grpc.stream_unary_rpc_method_handler(single, response_serializer=handler.response_serializer)

    async def _message(self, inside: _Around, parse: Parse | None) -> Any:
        """The one message of a call that has one."""
        context = inside.call.context
        if inside.call.infrastructure:
            async with self._open_reads:
                return _parsed(inside, parse, await _within(_OPEN_READ_SECONDS, context.read()))
        return _parsed(inside, parse, await _within(_READ_SECONDS, context.read()))

    async def _refuse(self, call: Call, error: Exception) -> None:
        status = self._answer(call, error)
        _forget_frames(error)
        await call.context.abort(status.code, status.details, status.trailing_metadata)


class _Around:
    """Concerns begun, and ended in the reverse order; where one refuses, those before it are ended."""

    __slots__ = ("_begun", "_concerns", "call")

    def __init__(self, concerns: Sequence[Concern], call: Call) -> None:
        self._concerns = concerns
        self.call = call
        self._begun: list[Any] = []

    def __enter__(self) -> Self:
        try:
            for concern in self._concerns:
                self._begun.append(concern.begin(self.call))
        except BaseException as error:
            self._end(error)
            raise
        return self

    def message(self, size: int) -> None:
        """Tell all of them of a message."""
        for concern, begun in zip(self._concerns, self._begun, strict=True):
            concern.message(self.call, begun, size)

    def done(self) -> None:
        """Tell all of them that the last message is let go of."""
        for concern, begun in zip(self._concerns, self._begun, strict=True):
            concern.done(self.call, begun)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        while self._begun:
            begun = self._begun.pop()
            self._concerns[len(self._begun)].end(self.call, begun, error)


def _forget_frames(error: BaseException | None) -> None:
    """Let go of what an error went through: frames that have the request.

    grpc keeps the abort, and by it the error, in a cycle with the call: until the collector came by, which large
    objects do not hasten, each refused request would stay whole.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


async def _messages(inside: _Around, parse: Parse | None) -> AsyncIterator[Any]:
    """The messages of a call that has any number of them."""

    async def each() -> AsyncIterator[Any]:
        while (message := await inside.call.context.read()) is not grpc.aio.EOF:
            # Of two forms of one message only the parsed one is held while its receiver works.
            message = _parsed(inside, parse, message)
            yield message
            del message
            inside.done()

    return each()


def _parsed(inside: _Around, parse: Parse | None, message: Any) -> Any:
    """A message, once the concerns know of it.

    Raises:
        InvalidField: there is none, or its bytes are none.
    """
    if message is grpc.aio.EOF:
        raise InvalidField("request", "is missing: the call ended before its message; send one")
    inside.message(len(message))
    try:
        return message if parse is None else parse(message)
    except DecodeError as error:
        raise InvalidField("request", f"is no message of {inside.call.method}: {error}") from error


async def _within(seconds: float, read: Awaitable[Any]) -> Any:
    """What is read. Raises DeadlinePassed."""
    try:
        async with asyncio.timeout(seconds):
            return await read
    except TimeoutError as error:
        raise DeadlinePassed(f"the message took longer than {seconds:g} s to arrive; send it faster") from error
