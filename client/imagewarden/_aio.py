"""The asyncio client: drives the calls that `_calls` makes, as `_sync` does."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from imagewarden import _calls as calls
from imagewarden import _types as t
from imagewarden._channel import TlsConfig, options
from imagewarden._errors import ImageWardenError
from imagewarden._retry import Attempts, RetryPolicy
from imagewarden._sources import ImageSource, needs_reading, read_image
from imagewarden._statuses import REQUEST_ID_HEADER, from_rpc_error
from imagewarden._sync import DEFAULT_TARGET, DEFAULT_TIMEOUT, _understood
from imagewarden.v1 import moderation_service_pb2 as pb

R = TypeVar("R")

Pairs = Iterable[tuple[str, ImageSource]] | AsyncIterable[tuple[str, ImageSource]]


async def _read(image: ImageSource) -> bytes:
    """The bytes of a picture, read on a thread where reading may block."""
    return await asyncio.to_thread(read_image, image) if needs_reading(image) else read_image(image)


class AsyncClient:
    """As `Client`, for asyncio: the same methods and arguments, to be awaited; listings are asynchronous iterators."""

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        tls: TlsConfig | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        retry: RetryPolicy | None = None,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.target = target
        self._timeout = timeout
        self._retry = retry or RetryPolicy()
        self._metadata = tuple(metadata)
        if tls is None:
            self._channel = grpc.aio.insecure_channel(target, options=options(tls))
        else:
            self._channel = grpc.aio.secure_channel(target, tls.credentials(), options=options(tls))

    async def __aenter__(self) -> Self:
        """The client itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        await self.close()

    async def close(self) -> None:
        """Close the connection; calls that run are cancelled."""
        await self._channel.close()

    async def _send(self, call: calls.Call[R], timeout: float | None) -> R:  # noqa: ASYNC109 -- as above
        request_id = call.request_id or str(uuid.uuid4())
        metadata = (*self._metadata, (REQUEST_ID_HEADER, request_id))
        stub = self._channel.unary_unary(
            call.path,
            request_serializer=type(call.request).SerializeToString,
            response_deserializer=call.response.FromString,
        )
        attempts = Attempts(self._retry, self._timeout if timeout is None else timeout)
        while True:
            try:
                answer = await stub(call.request, timeout=attempts.begin(), metadata=metadata)
                break
            except grpc.aio.AioRpcError as raised:
                error = from_rpc_error(raised, target=self.target, request_id=request_id)
                wait = attempts.wait_after(error)
                if wait is None:
                    raise error from raised
                await asyncio.sleep(wait)
        return _understood(call.convert, answer, request_id)

    async def check(
        self,
        image: ImageSource,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 -- as above
        **asked: Any,
    ) -> t.CheckResult:
        """As `Client.check`."""
        return await self._send(calls.check(await _read(image), **asked), timeout)

    async def check_batch(
        self,
        images: Sequence[ImageSource],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 -- as above
        **asked: Any,
    ) -> list[t.CheckResult | ImageWardenError]:
        """As `Client.check_batch`."""
        return await self._send(calls.check_batch([await _read(image) for image in images], **asked), timeout)

    async def check_stream(
        self,
        images: Pairs,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 -- as above
        **asked: Any,
    ) -> AsyncIterator[tuple[str, t.CheckResult | ImageWardenError]]:
        """As `Client.check_stream`; the pairs may come from an asynchronous iterator."""
        request_id = str(uuid.uuid4())
        stub = self._channel.stream_stream(
            calls.STREAM,
            request_serializer=pb.StreamCheckImagesRequest.SerializeToString,
            response_deserializer=pb.StreamCheckImagesResponse.FromString,
        )

        async def requests() -> AsyncIterator[pb.StreamCheckImagesRequest]:
            async for correlation_id, image in _pairs(images):
                request = calls.check_request(await _read(image), **asked)
                yield pb.StreamCheckImagesRequest(correlation_id=correlation_id, request=request)

        answers = stub(requests(), timeout=timeout, metadata=(*self._metadata, (REQUEST_ID_HEADER, request_id)))
        try:
            async for answer in answers:
                yield answer.correlation_id, calls.one_of(answer)
        except grpc.aio.AioRpcError as raised:
            raise from_rpc_error(raised, target=self.target, request_id=request_id) from raised
        finally:
            answers.cancel()

    async def search(
        self,
        image: ImageSource,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 -- as above
        **asked: Any,
    ) -> t.SearchResult:
        """As `Client.search`."""
        return await self._send(calls.search(await _read(image), **asked), timeout)

    async def create_bank(
        self,
        name: str,
        kind: t.BankKind | str,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 -- as above
        **said: Any,
    ) -> t.BankChange:
        """As `Client.create_bank`."""
        return await self._send(calls.create_bank(name, kind, **said), timeout)

    async def get_bank(self, name: str, *, timeout: float | None = None) -> t.Bank:  # noqa: ASYNC109 -- as above
        """As `Client.get_bank`."""
        return await self._send(calls.get_bank(name), timeout)

    def list_banks(self, *, timeout: float | None = None) -> AsyncIterator[t.Bank]:
        """As `Client.list_banks`."""
        return self._pages(calls.list_banks, timeout)

    async def update_bank(
        self,
        name: str,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 -- as above
        **changes: Any,
    ) -> t.BankChange:
        """As `Client.update_bank`."""
        return await self._send(calls.update_bank(name, **changes), timeout)

    async def delete_bank(
        self,
        name: str,
        *,
        force: bool = False,
        timeout: float | None = None,  # noqa: ASYNC109 -- as above
    ) -> t.Deletion:
        """As `Client.delete_bank`."""
        return await self._send(calls.delete_bank(name, force=force), timeout)

    async def add_hashes(
        self,
        bank: str,
        hashes: Sequence[t.Hash | str],
        *,
        validate_only: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 -- as above
    ) -> t.HashesAdded:
        """As `Client.add_hashes`."""
        call = calls.add_hashes(bank, hashes, validate_only=validate_only, request_id=request_id)
        return await self._send(call, timeout)

    async def add_image(
        self,
        bank: str,
        image: ImageSource,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 -- as above
        **said: Any,
    ) -> t.EntryChange:
        """As `Client.add_image`."""
        return await self._send(calls.add_image(bank, await _read(image), **said), timeout)

    async def register_logo(
        self,
        bank: str,
        brand: str,
        images: Sequence[ImageSource],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 -- as above
        **said: Any,
    ) -> t.EntryChange:
        """As `Client.register_logo`."""
        pictures = [await _read(one) for one in images]
        return await self._send(calls.register_logo(bank, brand, pictures, **said), timeout)

    async def get_entry(self, name: str, *, timeout: float | None = None) -> t.Entry:  # noqa: ASYNC109 -- as above
        """As `Client.get_entry`."""
        return await self._send(calls.get_entry(name), timeout)

    def list_entries(self, bank: str, *, timeout: float | None = None, **filters: Any) -> AsyncIterator[t.Entry]:
        """As `Client.list_entries`."""
        return self._pages(lambda token: calls.list_entries(bank, token, **filters), timeout)

    async def update_entry(
        self,
        name: str,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 -- as above
        **changes: Any,
    ) -> t.EntryChange:
        """As `Client.update_entry`."""
        return await self._send(calls.update_entry(name, **changes), timeout)

    async def delete_entry(
        self,
        name: str,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 -- as above
    ) -> t.Deletion:
        """As `Client.delete_entry`."""
        return await self._send(calls.delete_entry(name), timeout)

    async def _pages(
        self,
        page: Callable[[str], calls.Call[tuple[list[R], str]]],
        timeout: float | None,  # noqa: ASYNC109 -- as above
    ) -> AsyncIterator[R]:
        token = ""
        while True:
            items, token = await self._send(page(token), timeout)
            for item in items:
                yield item
            if not token:
                return


async def _pairs(images: Pairs) -> AsyncIterator[tuple[str, ImageSource]]:
    if isinstance(images, AsyncIterable):
        async for pair in images:
            yield pair
    else:
        for pair in images:
            yield pair
