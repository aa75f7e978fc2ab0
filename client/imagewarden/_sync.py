"""The blocking client: sends what `_moderation` and `_banks` build."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, Unpack

import grpc

from imagewarden import _audit as audit
from imagewarden import _banks as banks
from imagewarden import _entries as entries
from imagewarden import _feedback as feedback
from imagewarden import _lists as lists
from imagewarden import _lists_sync as lists_sync
from imagewarden import _moderation as moderation
from imagewarden import _preview as preview
from imagewarden._calls import Batch, Call, Pages, dress, new_id
from imagewarden._channel import TlsConfig, checked_target, key_metadata, options
from imagewarden._errors import ImageWardenError
from imagewarden._lists_sync import Export
from imagewarden._records import EntryRecord, ImportAnswer
from imagewarden._retry import Attempts, RetryPolicy
from imagewarden._sources import ImageSource
from imagewarden._statuses import REQUEST_ID_HEADER, from_rpc_error
from imagewarden.v1 import bank_service_pb2 as banks_pb
from imagewarden.v1 import moderation_service_pb2 as pb

P = ParamSpec("P")
R = TypeVar("R")

DEFAULT_TARGET = "127.0.0.1:50051"
DEFAULT_TIMEOUT = 10.0


def _call(make: Callable[P, Call[R]]) -> Callable[Concatenate[Client, P], R]:
    def send(self: Client, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._send(make(*args, **kwargs))

    made: Callable[Concatenate[Client, P], R] = dress(send, make, "{}")
    return made


def _batch(make: Callable[P, Batch[R]]) -> Callable[Concatenate[Client, P], list[R | ImageWardenError]]:
    def send(self: Client, *args: P.args, **kwargs: P.kwargs) -> list[R | ImageWardenError]:
        found: list[R | ImageWardenError] = []
        for part in make(*args, **kwargs).parts():
            if isinstance(part, ImageWardenError):
                found.append(part)
            else:
                answers: list[R | ImageWardenError] = self._send(part)
                found += answers
        return found

    made: Callable[Concatenate[Client, P], list[R | ImageWardenError]] = dress(
        send, make, "list[{} | ImageWardenError]"
    )
    return made


def _pages(make: Callable[P, Pages[R]]) -> Callable[Concatenate[Client, P], Iterator[R]]:
    def send(self: Client, *args: P.args, **kwargs: P.kwargs) -> Iterator[R]:
        pages = make(*args, **kwargs)
        token = ""
        while True:
            items, token = self._send(pages.page(token))
            yield from items
            if not token:
                return

    made: Callable[Concatenate[Client, P], Iterator[R]] = dress(send, make, "Iterator[{}]")
    return made


class Client:
    """A client of one ImageWarden service; thread-safe, and a context manager that closes its connection.

    Args:
        target: host:port, dns:///name:port or unix:PATH.
        tls: TLS to the server; None: none, which is for loopback.
        timeout: seconds a call has, its retries included, unless the call says otherwise.
        retry: when failed calls are tried again.
        key: shown with each call, where the server asks for keys; never sent over a network without TLS.
        metadata: sent with each call.

    Raises:
        OSError: a PEM file of `tls` cannot be read.
        ValueError: the target is empty, or a key would be sent to another machine without TLS.
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
        if tls is None:
            self._channel = grpc.insecure_channel(target, options=options(tls))
        else:
            self._channel = grpc.secure_channel(target, tls.credentials(), options=options(tls))

    def __enter__(self) -> Self:
        """The client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Close the connection; calls that run are cancelled."""
        self._channel.close()

    def _send(self, call: Call[R]) -> R:
        attempts = Attempts(self._retry, self._timeout if call.timeout is None else call.timeout)
        request = call.build()
        stub: grpc.UnaryUnaryMultiCallable[Any, Any] = self._channel.unary_unary(
            call.path,
            request_serializer=type(request).SerializeToString,
            response_deserializer=call.response.FromString,
        )
        metadata = (*self._metadata, (REQUEST_ID_HEADER, call.request_id))
        while True:
            try:
                answer = stub(request, timeout=attempts.begin(), metadata=metadata)
            except grpc.RpcError as raised:
                error = from_rpc_error(raised, target=self.target, request_id=call.request_id)
                wait = attempts.wait_after(error)
                if wait is None:
                    raise error from raised
                time.sleep(wait)
            else:
                return call.understood(answer)

    def check_stream(
        self,
        images: Iterable[tuple[str, ImageSource]],
        *,
        timeout: float | None = None,
        **asked: Unpack[moderation.Asked],
    ) -> Iterator[tuple[str, moderation.Checked]]:
        """Check pictures as they come: pairs of a correlation id and a picture in, the same ids with verdicts out.

        Answers come in the order they are ready. A stream is not tried again. What `images` raises ends the stream: it
        is raised here once the pictures before it are answered.

        Args:
            images: each correlation id is unique among those that are not answered yet, at most 128 characters.
            timeout: seconds for the whole stream; None: as long as it takes.
            asked: as of `check`.
        """
        request_id = new_id()
        stream = moderation.Stream(request_id, asked)

        def requests() -> Iterator[pb.StreamCheckImagesRequest]:
            try:
                for correlation_id, image in images:
                    request = stream.request(correlation_id, image)
                    if request is not None:
                        yield request
            except Exception as error:  # noqa: BLE001 -- on this thread of grpc's it would be lost: raised below
                stream.failure = error

        stub: grpc.StreamStreamMultiCallable[Any, Any] = self._channel.stream_stream(
            moderation.STREAM,
            request_serializer=pb.StreamCheckImagesRequest.SerializeToString,
            response_deserializer=pb.StreamCheckImagesResponse.FromString,
        )
        answers = stub(requests(), timeout=timeout, metadata=(*self._metadata, (REQUEST_ID_HEADER, request_id)))
        try:
            for answer in answers:
                yield stream.answer(answer)
                yield from stream.refused()
        except grpc.RpcError as raised:
            raise from_rpc_error(raised, target=self.target, request_id=request_id) from raised
        finally:
            answers.cancel()
        yield from stream.refused()
        if stream.failure is not None:
            raise stream.failure

    def import_entries(
        self,
        bank: str,
        records: Iterable[tuple[int, EntryRecord]],
        *,
        validate_only: bool = False,
        timeout: float | None = None,
    ) -> Iterator[ImportAnswer]:
        """Bring a list into a bank: pairs of a number and a record in, and what became of them out, some at a time.

        The numbers are yours, such as those of lines; they grow. A record that is refused leaves the others alone. An
        answer says up to which number all is in force. The stream is not tried again: when it breaks, all answers that
        came are here before the error is, and the import goes on when the records after the last answer's number are
        sent again, or all of them: what the bank has already is left as it is. What `records` raises is raised here
        once the records before it are answered.

        Args:
            bank: `x` or `banks/x`.
            records: the numbers and the records, which are read as they are sent.
            validate_only: check all, and change nothing.
            timeout: seconds for the whole import; None: as long as it takes.
        """
        request_id = new_id()
        work = lists.Import(bank, request_id, validate_only=validate_only)
        stub: grpc.StreamStreamMultiCallable[Any, Any] = self._channel.stream_stream(
            lists.IMPORT,
            request_serializer=banks_pb.ImportEntriesRequest.SerializeToString,
            response_deserializer=banks_pb.ImportEntriesResponse.FromString,
        )
        begin = partial(stub, timeout=timeout, metadata=(*self._metadata, (REQUEST_ID_HEADER, request_id)))
        return lists_sync.send(work, records, begin, partial(from_rpc_error, target=self.target, request_id=request_id))

    def export_entries(self, bank: str, *, timeout: float | None = None) -> Export:
        """All entries of a bank with all that they are recognised by, in the order they were made.

        An iterator of `EntryRecord`, whose `entry_count` and `revision` are known from the first entry on. What changes
        while it runs is in it or not. It is not tried again.

        Args:
            bank: `x` or `banks/x`.
            timeout: seconds for the whole export; None: as long as it takes.
        """
        request_id = new_id()
        stub: grpc.UnaryStreamMultiCallable[Any, Any] = self._channel.unary_stream(
            lists.EXPORT,
            request_serializer=banks_pb.ExportEntriesRequest.SerializeToString,
            response_deserializer=banks_pb.ExportEntriesResponse.FromString,
        )
        metadata = (*self._metadata, (REQUEST_ID_HEADER, request_id))
        begin = partial(stub, lists.export_request(bank), timeout=timeout, metadata=metadata)
        return Export(begin, partial(from_rpc_error, target=self.target, request_id=request_id), request_id)

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
