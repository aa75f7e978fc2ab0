"""What happens around a call, whatever its kind, and the interceptor that has it happen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc


@dataclass(frozen=True, slots=True)
class Call:
    """The call that a concern stands around.

    Attributes:
        service: the full service name.
        method: the method's name.
        kind: `unary`, `client_stream`, `server_stream` or `bidi_stream`, as the ecosystem's metrics name them.
        metadata: the caller's first metadata.
        context: the servicer context.
    """

    service: str
    method: str
    kind: str
    metadata: dict[str, str]
    context: Any

    @property
    def infrastructure(self) -> bool:
        """Whether this is health or reflection: never refused by admission, never logged a line each."""
        return self.service.startswith("grpc.")


class Concern(ABC):
    """What happens around every call for one reason."""

    @abstractmethod
    def around(self, call: Call) -> AbstractAsyncContextManager[None]:
        """What happens before and after; an exception of the call passes through it."""


class Concerns(grpc.aio.ServerInterceptor):
    """All concerns around the handlers of every kind of call, the outermost first.

    One interceptor for all: each of grpc's own is asked for the handler at each call, and would wrap it anew.
    """

    def __init__(self, *concerns: Concern) -> None:
        self._concerns = concerns
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
        kinds = {
            (False, False): "unary",
            (True, False): "client_stream",
            (False, True): "server_stream",
            (True, True): "bidi_stream",
        }
        kind = kinds[bool(handler.request_streaming), bool(handler.response_streaming)]
        inner = handler.unary_unary or handler.stream_unary or handler.unary_stream or handler.stream_stream

        @asynccontextmanager
        async def around(context: Any) -> AsyncIterator[None]:
            metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
            call = Call(service, method, kind, metadata, context)
            async with AsyncExitStack() as stack:
                for concern in self._concerns:
                    await stack.enter_async_context(concern.around(call))
                yield

        async def single(request: Any, context: Any) -> Any:
            async with around(context):
                return await inner(request, context)

        async def streamed(request: Any, context: Any) -> AsyncIterator[Any]:
            async with around(context):
                answers = inner(request, context)
                if isinstance(answers, AsyncIterable):
                    async for answer in answers:
                        yield answer
                else:  # it writes by itself, as grpc's health service does
                    await answers

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
