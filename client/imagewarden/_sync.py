"""The blocking client: drives the calls that `_calls` makes."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from imagewarden import _calls as calls
from imagewarden import _types as t
from imagewarden._channel import TlsConfig, options
from imagewarden._errors import ImageWardenError, ServerError
from imagewarden._retry import Attempts, RetryPolicy
from imagewarden._sources import ImageSource, read_image
from imagewarden._statuses import REQUEST_ID_HEADER, from_rpc_error
from imagewarden.v1 import moderation_service_pb2 as pb

R = TypeVar("R")

DEFAULT_TARGET = "127.0.0.1:50051"
DEFAULT_TIMEOUT = 10.0


class Client:
    """A client of one ImageWarden service; thread-safe, and a context manager that closes its connection.

    Args:
        target: host:port, dns:///name:port or unix:PATH.
        tls: TLS to the server; None: none, which is for loopback.
        timeout: seconds a call has, its retries included, unless the call says otherwise.
        retry: when failed calls are tried again.
        metadata: sent with each call.
    """

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

    def _send(self, call: calls.Call[R], timeout: float | None) -> R:
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
                answer = stub(call.request, timeout=attempts.begin(), metadata=metadata)
                break
            except grpc.RpcError as raised:
                error = from_rpc_error(raised, target=self.target, request_id=request_id)
                wait = attempts.wait_after(error)
                if wait is None:
                    raise error from raised
                time.sleep(wait)
        return _understood(call.convert, answer, request_id)

    def check(self, image: ImageSource, *, timeout: float | None = None, **asked: Any) -> t.CheckResult:
        """Check one picture.

        Args:
            image: bytes, a path, or a file opened for reading bytes.
            timeout: seconds, retries included.
            asked: banks (names, with or without `banks/`), max_matches, exhaustive, on_undecided, at_least_revision,
                context: as CheckImageRequest states them.

        Raises:
            ImageWardenError: see its tree. A picture that cannot be decoded is no error: it is UNDECIDED.
        """
        return self._send(calls.check(read_image(image), **asked), timeout)

    def check_batch(
        self, images: Sequence[ImageSource], *, timeout: float | None = None, **asked: Any
    ) -> list[t.CheckResult | ImageWardenError]:
        """Check at most 64 pictures in one call: for each its verdict, or its own error."""
        return self._send(calls.check_batch([read_image(image) for image in images], **asked), timeout)

    def check_stream(
        self, images: Iterable[tuple[str, ImageSource]], *, timeout: float | None = None, **asked: Any
    ) -> Iterator[tuple[str, t.CheckResult | ImageWardenError]]:
        """Check pictures as they come: pairs of a correlation id and a picture in, the same ids with verdicts out.

        Answers come in the order they are ready. A stream is not tried again. `timeout` is for the whole stream; None:
        as long as it takes.
        """
        request_id = str(uuid.uuid4())
        stub = self._channel.stream_stream(
            calls.STREAM,
            request_serializer=pb.StreamCheckImagesRequest.SerializeToString,
            response_deserializer=pb.StreamCheckImagesResponse.FromString,
        )
        requests = (
            pb.StreamCheckImagesRequest(
                correlation_id=correlation_id, request=calls.check_request(read_image(image), **asked)
            )
            for correlation_id, image in images
        )
        answers = stub(requests, timeout=timeout, metadata=(*self._metadata, (REQUEST_ID_HEADER, request_id)))
        try:
            for answer in answers:
                yield answer.correlation_id, calls.one_of(answer)
        except grpc.RpcError as raised:
            raise from_rpc_error(raised, target=self.target, request_id=request_id) from raised
        finally:
            answers.cancel()

    def search(self, image: ImageSource, *, timeout: float | None = None, **asked: Any) -> t.SearchResult:
        """The entries most like a picture in meaning: k (10), metric (COSINE), banks, at_least_revision."""
        return self._send(calls.search(read_image(image), **asked), timeout)

    def create_bank(
        self, name: str, kind: t.BankKind | str, *, timeout: float | None = None, **said: Any
    ) -> t.BankChange:
        """Make a bank: display_name, policy, labels, keep_images."""
        return self._send(calls.create_bank(name, kind, **said), timeout)

    def get_bank(self, name: str, *, timeout: float | None = None) -> t.Bank:
        """One bank."""
        return self._send(calls.get_bank(name), timeout)

    def list_banks(self, *, timeout: float | None = None) -> Iterator[t.Bank]:
        """All banks, page by page as they are asked for."""
        return self._pages(calls.list_banks, timeout)

    def update_bank(self, name: str, *, timeout: float | None = None, **changes: Any) -> t.BankChange:
        """Change a bank: display_name, action, thresholds, enabled, labels, keep_images."""
        return self._send(calls.update_bank(name, **changes), timeout)

    def delete_bank(self, name: str, *, force: bool = False, timeout: float | None = None) -> t.Deletion:
        """Delete a bank; one with entries with `force` alone."""
        return self._send(calls.delete_bank(name, force=force), timeout)

    def add_hashes(
        self,
        bank: str,
        hashes: Sequence[t.Hash | str],
        *,
        validate_only: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> t.HashesAdded:
        """Add at most 10,000 digests and PDQ hashes, all or none: `Hash` objects, or texts as `sha256:...`."""
        call = calls.add_hashes(bank, hashes, validate_only=validate_only, request_id=request_id)
        return self._send(call, timeout)

    def add_image(self, bank: str, image: ImageSource, *, timeout: float | None = None, **said: Any) -> t.EntryChange:
        """Ban or allow one picture: external_id, labels, metadata, source, expire_time, validate_only."""
        return self._send(calls.add_image(bank, read_image(image), **said), timeout)

    def register_logo(
        self, bank: str, brand: str, images: Sequence[ImageSource], *, timeout: float | None = None, **said: Any
    ) -> t.EntryChange:
        """Register one logo of a brand from pictures of it: external_id, labels, metadata, source, expire_time."""
        return self._send(calls.register_logo(bank, brand, [read_image(one) for one in images], **said), timeout)

    def get_entry(self, name: str, *, timeout: float | None = None) -> t.Entry:
        """One entry with its signals and thumbnail."""
        return self._send(calls.get_entry(name), timeout)

    def list_entries(self, bank: str, *, timeout: float | None = None, **filters: Any) -> Iterator[t.Entry]:
        """A bank's entries, page by page as they are asked for: external_id, label, state."""
        return self._pages(lambda token: calls.list_entries(bank, token, **filters), timeout)

    def update_entry(self, name: str, *, timeout: float | None = None, **changes: Any) -> t.EntryChange:
        """Change an entry: external_id, labels, metadata, source, brand, state, expire_time, never_expires."""
        return self._send(calls.update_entry(name, **changes), timeout)

    def delete_entry(self, name: str, *, timeout: float | None = None) -> t.Deletion:
        """Delete an entry: from the answer on, no check finds it."""
        return self._send(calls.delete_entry(name), timeout)

    def _pages(self, page: Callable[[str], calls.Call[tuple[list[R], str]]], timeout: float | None) -> Iterator[R]:
        token = ""
        while True:
            items, token = self._send(page(token), timeout)
            yield from items
            if not token:
                return


def _understood(convert: Callable[[Any], R], answer: Any, request_id: str) -> R:
    """The answer as the client's types; a server that says what this client has no word for is an error of its own."""
    try:
        return convert(answer)
    except ValueError as error:
        raise ServerError(f"the answer cannot be read: {error}", request_id=request_id) from error
