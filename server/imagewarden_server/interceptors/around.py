"""What each interceptor is made of: something that happens around a call, whatever its kind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import grpc


@dataclass(frozen=True, slots=True)
class Call:
    """The call that an interceptor stands around.

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


def _metadata(details: grpc.HandlerCallDetails) -> dict[str, str]:
    return {key: value for key, value in details.invocation_metadata or () if isinstance(value, str)}


class AroundInterceptor(grpc.aio.ServerInterceptor, ABC):
    """Wraps the handler of every kind of call in one asynchronous context manager."""

    @abstractmethod
    def around(self, call: Call) -> AbstractAsyncContextManager[None]:
        """What happens before and after; an exception of the call passes through it."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Find the handler and wrap it."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        _, service, method = handler_call_details.method.split("/", 2)
        metadata = _metadata(handler_call_details)
        kinds = {
            (False, False): "unary",
            (True, False): "client_stream",
            (False, True): "server_stream",
            (True, True): "bidi_stream",
        }
        kind = kinds[bool(handler.request_streaming), bool(handler.response_streaming)]
        inner = handler.unary_unary or handler.stream_unary or handler.unary_stream or handler.stream_stream

        async def single(request: Any, context: Any) -> Any:
            async with self.around(Call(service, method, kind, metadata, context)):
                return await inner(request, context)

        async def streamed(request: Any, context: Any) -> AsyncIterator[Any]:
            async with self.around(Call(service, method, kind, metadata, context)):
                async for answer in inner(request, context):
                    yield answer

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
