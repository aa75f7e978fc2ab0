"""The asyncio client: sends what `_moderation` and `_banks` build, as `_sync` does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, Unpack

import grpc

from imagewarden import _audit as audit
from imagewarden import _banks as banks
from imagewarden import _entries as entries
from imagewarden import _feedback as feedback
from imagewarden import _lists as lists
from imagewarden import _lists_aio as lists_aio
from imagewarden import _moderation as moderation
from imagewarden import _preview as preview
from imagewarden._calls import Batch, Call, Pages, dress, new_id
from imagewarden._channel import TlsConfig, checked_target, key_metadata, options
from imagewarden._errors import ImageWardenError
from imagewarden._lists_aio import AsyncExport
from imagewarden._records import ImportAnswer
from imagewarden._retry import Attempts, RetryPolicy
from imagewarden._sources import ImageSource, needs_reading
from imagewarden._statuses import REQUEST_ID_HEADER, from_rpc_error
from imagewarden._sync import DEFAULT_TARGET, DEFAULT_TIMEOUT
from imagewarden.v1 import bank_service_pb2 as banks_pb
from imagewarden.v1 import moderation_service_pb2 as pb

P = ParamSpec("P")
R = TypeVar("R")

Pairs = Iterable[tuple[str, ImageSource]] | AsyncIterable[tuple[str, ImageSource]]


def _call(make: Callable[P, Call[R]]) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, R]]:
    async def send(self: AsyncClient, *args: P.args, **kwargs: P.kwargs) -> R:
        return await self._send(make(*args, **kwargs))

    made: Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, R]] = dress(send, make, "{}")
    return made


def _batch(
    make: Callable[P, Batch[R]],
) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, list[R | ImageWardenError]]]:
    async def send(self: AsyncClient, *args: P.args, **kwargs: P.kwargs) -> list[R | ImageWardenError]:
        batch = make(*args, **kwargs)
        parts = batch.parts()
        found: list[R | ImageWardenError] = []
        while True:
            part = await asyncio.to_thread(next, parts, None) if batch.blocking else next(parts, None)
            if part is None:
                return found
            if isinstance(part, ImageWardenError):
                found.append(part)
            else:
                answers: list[R | ImageWardenError] = await self._send(part)
                found += answers

    made: Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, list[R | ImageWardenError]]] = dress(
        send, make, "list[{} | ImageWardenError]"
    )
    return made


def _pages(make: Callable[P, Pages[R]]) -> Callable[Concatenate[AsyncClient, P], AsyncIterator[R]]:
    async def send(self: AsyncClient, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[R]:
        pages = make(*args, **kwargs)
        token = ""
        while True:
            items, token = await self._send(pages.page(token))
            for item in items:
                yield item
            if not token:
                return

    made: Callable[Concatenate[AsyncClient, P], AsyncIterator[R]] = dress(send, make, "AsyncIterator[{}]")
    return made


class AsyncClient:
    """As `Client`, for asyncio: the same methods and arguments, to be awaited; listings are asynchronous iterators.

    It may be made before an event loop runs; its connection belongs to the loop of the first call.
    """

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        tls: TlsConfig | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        retry: RetryPolicy | None = None,
        key: str | None = None,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.target = checked_target(target)
        self._timeout = timeout
        self._retry = retry or RetryPolicy()
        self._metadata = (*key_metadata(key, target, tls), *metadata)
        self._options = options(tls)
        self._credentials = None if tls is None else tls.credentials()
        self._opened: grpc.aio.Channel | None = None
        self._closed = False

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
        self._closed = True
        if self._opened is not None:
            await self._opened.close()

    def _channel(self) -> grpc.aio.Channel:
        """The channel, which binds to the running loop when it is made: not before there is one."""
        if self._closed:
            raise ValueError("this client is closed; make a new one")
        if self._opened is None:
            if self._credentials is None:
                self._opened = grpc.aio.insecure_channel(self.target, options=self._options)
            else:
                self._opened = grpc.aio.secure_channel(self.target, self._credentials, options=self._options)
        return self._opened

    async def _send(self, call: Call[R]) -> R:
        attempts = Attempts(self._retry, self._timeout if call.timeout is None else call.timeout)
        request = await asyncio.to_thread(call.build) if call.blocking else call.build()
        stub: grpc.aio.UnaryUnaryMultiCallable[Any, Any] = self._channel().unary_unary(
            call.path,
            request_serializer=type(request).SerializeToString,
            response_deserializer=call.response.FromString,
        )
        metadata = (*self._metadata, (REQUEST_ID_HEADER, call.request_id))
        while True:
            try:
                answer = await stub(request, timeout=attempts.begin(), metadata=metadata)
            except grpc.aio.AioRpcError as raised:
                error = from_rpc_error(raised, target=self.target, request_id=call.request_id)
                wait = attempts.wait_after(error)
                if wait is None:
                    raise error from raised
                await asyncio.sleep(wait)
            else:
                return call.understood(answer)

    async def check_stream(
        self,
        images: Pairs,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 -- grpc's own deadline, which the server sees too
        **asked: Unpack[moderation.Asked],
    ) -> AsyncIterator[tuple[str, moderation.Checked]]:
        """As `Client.check_stream`; the pairs may come from an asynchronous iterator."""
        request_id = new_id()
        stream = moderation.Stream(request_id, asked)

        stub: grpc.aio.StreamStreamMultiCallable[Any, Any] = self._channel().stream_stream(
            moderation.STREAM,
            request_serializer=pb.StreamCheckImagesRequest.SerializeToString,
            response_deserializer=pb.StreamCheckImagesResponse.FromString,
        )
        answers = stub(
            _requests(stream, images), timeout=timeout, metadata=(*self._metadata, (REQUEST_ID_HEADER, request_id))
        )
        try:
            async for answer in answers:
                yield stream.answer(answer)
                for refused in stream.refused():
                    yield refused
        except grpc.aio.AioRpcError as raised:
            raise from_rpc_error(raised, target=self.target, request_id=request_id) from raised
        finally:
            answers.cancel()
        for refused in stream.refused():
            yield refused
        if stream.failure is not None:
            raise stream.failure

    def import_entries(
        self,
        bank: str,
        records: lists.AnyRecords,
        *,
        validate_only: bool = False,
        timeout: float | None = None,
    ) -> AsyncIterator[ImportAnswer]:
        """As `Client.import_entries`; the records may come from an asynchronous iterator."""
        request_id = new_id()
        work = lists.Import(bank, request_id, validate_only=validate_only)

        def begin(requests: AsyncIterator[banks_pb.ImportEntriesRequest]) -> Any:
            stub: grpc.aio.StreamStreamMultiCallable[Any, Any] = self._channel().stream_stream(
                lists.IMPORT,
                request_serializer=banks_pb.ImportEntriesRequest.SerializeToString,
                response_deserializer=banks_pb.ImportEntriesResponse.FromString,
            )
            return stub(requests, timeout=timeout, metadata=(*self._metadata, (REQUEST_ID_HEADER, request_id)))

        return lists_aio.send(work, records, begin, partial(from_rpc_error, target=self.target, request_id=request_id))

    def export_entries(self, bank: str, *, timeout: float | None = None) -> AsyncExport:
        """As `Client.export_entries`: an asynchronous iterator."""
        request_id = new_id()
        request = lists.export_request(bank)

        def begin() -> Any:
            stub: grpc.aio.UnaryStreamMultiCallable[Any, Any] = self._channel().unary_stream(
                lists.EXPORT,
                request_serializer=banks_pb.ExportEntriesRequest.SerializeToString,
                response_deserializer=banks_pb.ExportEntriesResponse.FromString,
            )
            return stub(request, timeout=timeout, metadata=(*self._metadata, (REQUEST_ID_HEADER, request_id)))

        return AsyncExport(begin, partial(from_rpc_error, target=self.target, request_id=request_id), request_id)

    check = _call(moderation.check)
    check_batch = _batch(moderation.check_batch)
    search = _call(moderation.search)
    report_match = _call(feedback.report_match)
    create_bank = _call(banks.create_bank)
    get_bank = _call(banks.get_bank)
    list_banks = _pages(banks.list_banks)
    update_bank = _call(banks.update_bank)
    delete_bank = _call(banks.delete_bank)
    add_hashes = _call(banks.add_hashes)
    add_image = _call(banks.add_image)
    register_logo = _call(banks.register_logo)
    get_entry = _call(entries.get_entry)
    list_entries = _pages(entries.list_entries)
    update_entry = _call(entries.update_entry)
    delete_entry = _call(entries.delete_entry)
    preview_policy = _call(preview.preview_policy)
    list_audit_events = _pages(audit.list_audit_events)
    read_audit_event = _pages(audit.read_audit_event)


async def _pairs(images: Pairs) -> AsyncIterator[tuple[str, ImageSource]]:
    if isinstance(images, AsyncIterable):
        async for pair in images:
            yield pair
    else:
        for pair in images:
            yield pair


async def _requests(stream: moderation.Stream, images: Pairs) -> AsyncIterator[pb.StreamCheckImagesRequest]:
    try:
        async for correlation_id, image in _pairs(images):
            if needs_reading(image):
                request = await asyncio.to_thread(stream.request, correlation_id, image)
            else:
                request = stream.request(correlation_id, image)
            if request is not None:
                yield request
    except Exception as error:  # noqa: BLE001 -- in the task of grpc's that runs this it would be lost
        stream.failure = error
