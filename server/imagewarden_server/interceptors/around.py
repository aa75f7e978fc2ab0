"""What happens around a call, whatever its kind, and the interceptor that has it happen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import grpc


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

    Two methods and no context manager: those of generators take as long as all of the concerns do together.
    """

    @abstractmethod
    def begin(self, call: Call) -> Any:
        """What happens before the call; what it answers is given to `end`. An exception refuses the call."""

    @abstractmethod
    def end(self, call: Call, begun: Any, error: BaseException | None) -> None:
        """What happens after a call that began, however it ended; a passed deadline is a CancelledError."""


Answer = Callable[[Call, Exception], grpc.Status]
"""The status that the caller sees of what went wrong."""


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

        async def single(request: Any, context: Any) -> Any:
            call = Call(service, method, kind, infrastructure, context)
            with _Around(self._outside, call):
                try:
                    with _Around(self._inside, call):
                        return await inner(request, context)
                except grpc.aio.AbortError:
                    raise
                except Exception as error:  # noqa: BLE001 -- whatever it is, the caller is answered
                    await self._refuse(call, error)

        async def streamed(request: Any, context: Any) -> AsyncIterator[Any]:
            call = Call(service, method, kind, infrastructure, context)
            with _Around(self._outside, call):
                try:
                    with _Around(self._inside, call):
                        answers = inner(request, context)
                        if isinstance(answers, AsyncIterable):
                            async for answer in answers:
                                yield answer
                        else:  # it writes by itself, as grpc's health service does
                            await answers
                except grpc.aio.AbortError:
                    raise
                except Exception as error:  # noqa: BLE001 -- as above
                    await self._refuse(call, error)

        make = {
            "unary": grpc.unary_unary_rpc_method_handler,
            "client_stream": grpc.stream_unary_rpc_method_handler,
            "server_stream": grpc.unary_stream_rpc_method_handler,
            "bidi_stream": grpc.stream_stream_rpc_method_handler,
        }[kind]
        wrapped: Any = streamed if handler.response_streaming else single
        return make(
            wrapped,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    async def _refuse(self, call: Call, error: Exception) -> None:
        status = self._answer(call, error)
        await call.context.abort(status.code, status.details, status.trailing_metadata)


class _Around:
    """Concerns begun, and ended in the reverse order; where one refuses, those before it are ended."""

    __slots__ = ("_begun", "_call", "_concerns")

    def __init__(self, concerns: Sequence[Concern], call: Call) -> None:
        self._concerns = concerns
        self._call = call
        self._begun: list[Any] = []

    def __enter__(self) -> None:
        try:
            for concern in self._concerns:
                self._begun.append(concern.begin(self._call))
        except BaseException as error:
            self._end(error)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        while self._begun:
            begun = self._begun.pop()
            self._concerns[len(self._begun)].end(self._call, begun, error)
