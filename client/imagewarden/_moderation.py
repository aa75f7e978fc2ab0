"""The calls of ModerationService."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import TypedDict

from imagewarden import _convert as convert
from imagewarden import _enums as e
from imagewarden import _types as t
from imagewarden._calls import Batch, Call, any_needs_reading, understood
from imagewarden._channel import MAX_MESSAGE_BYTES
from imagewarden._errors import ImageWardenError, InvalidRequest
from imagewarden._names import bank_name
from imagewarden._sources import ImageSource, needs_reading, read_image
from imagewarden._statuses import from_status
from imagewarden.v1 import moderation_service_pb2 as pb
from imagewarden.v1 import types_pb2 as types

_SERVICE = "/imagewarden.v1.ModerationService/"
STREAM = f"{_SERVICE}StreamCheckImages"
MAX_BATCH = 64
# Room in a message for the frames around the pictures of a batch.
_MARGIN = 64 * 2**10

Checked = t.CheckResult | ImageWardenError


class Asked(TypedDict, total=False):
    """What a check may be asked; see `check`."""

    banks: Sequence[str]
    max_matches: int
    exhaustive: bool
    thorough: bool
    on_undecided: e.Action | str | None
    at_least_revision: str | None
    context: Mapping[str, str] | None


def _request(image: ImageSource, asked: Asked) -> pb.CheckImageRequest:
    on_undecided = asked.get("on_undecided")
    return pb.CheckImageRequest(
        image=read_image(image),
        banks=[bank_name(name, field="banks") for name in asked.get("banks", ())],
        max_matches=asked.get("max_matches", 0),
        exhaustive=asked.get("exhaustive", False),
        thorough=asked.get("thorough", False),
        on_undecided=types.ACTION_UNSPECIFIED if on_undecided is None else convert.action_number(on_undecided),
        at_least_revision=asked.get("at_least_revision") or "",
        context=asked.get("context") or {},
    )


def check(
    image: ImageSource,
    *,
    banks: Sequence[str] = (),
    max_matches: int = 0,
    exhaustive: bool = False,
    thorough: bool = False,
    on_undecided: e.Action | str | None = None,
    at_least_revision: str | None = None,
    context: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> Call[t.CheckResult]:
    """Check one picture.

    Args:
        image: bytes, a path, or a file opened for reading bytes.
        banks: the banks to compare with, as `x` or `banks/x`; none: all that the caller may check.
        max_matches: how many matches to answer at most, 1 to 100; 0: 10.
        exhaustive: compare all signals even when an early one already blocks.
        thorough: spend six passes of the model, for what is small in the picture.
        on_undecided: the action of an UNDECIDED verdict: ALLOW, REVIEW or BLOCK; None: the server's setting.
        at_least_revision: a revision that a change answered: the check sees it, or waits, or says that it could not.
        context: facts of the caller's own for log and audit: at most 16 pairs of at most 256 characters.
        timeout: seconds, retries included; None: the client's.

    Raises:
        ImageWardenError: see its tree. A picture that cannot be decoded is no error: it is UNDECIDED.
        OSError: the file cannot be read.
    """
    asked = Asked(
        banks=banks,
        max_matches=max_matches,
        exhaustive=exhaustive,
        thorough=thorough,
        on_undecided=on_undecided,
        at_least_revision=at_least_revision,
        context=context,
    )
    return Call(
        f"{_SERVICE}CheckImage",
        lambda: _request(image, asked),
        pb.CheckImageResponse,
        convert.check_result,
        timeout,
        needs_reading(image),
    )


def check_batch(
    images: Sequence[ImageSource],
    *,
    banks: Sequence[str] = (),
    max_matches: int = 0,
    exhaustive: bool = False,
    thorough: bool = False,
    on_undecided: e.Action | str | None = None,
    at_least_revision: str | None = None,
    context: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> Batch[t.CheckResult]:
    """Check several pictures: for each, in their order, its verdict or its own error.

    They are sent in as few calls as the limits allow: 64 pictures and 32 MiB a call. One bad picture fails its own
    item only; a call that fails as a whole is raised.

    Args:
        images: bytes, paths, or files opened for reading bytes.
        banks: as of `check`, and so are the others.
        max_matches: see `check`.
        exhaustive: see `check`.
        thorough: see `check`.
        on_undecided: see `check`.
        at_least_revision: see `check`.
        context: see `check`.
        timeout: seconds that each call has.
    """
    asked = Asked(
        banks=banks,
        max_matches=max_matches,
        exhaustive=exhaustive,
        thorough=thorough,
        on_undecided=on_undecided,
        at_least_revision=at_least_revision,
        context=context,
    )
    return Batch(lambda: _parts(images, asked, timeout), any_needs_reading(images))


def _parts(
    images: Sequence[ImageSource], asked: Asked, timeout: float | None
) -> Iterator[Call[list[Checked]] | ImageWardenError]:
    waiting: list[pb.CheckImageRequest] = []
    size = 0
    for image in images:
        refused, request = None, pb.CheckImageRequest()
        try:
            request = _request(image, asked)
        except InvalidRequest as error:
            if error.field != "image":
                raise
            refused = error
        if waiting and (
            refused or len(waiting) == MAX_BATCH or size + request.ByteSize() > MAX_MESSAGE_BYTES - _MARGIN
        ):
            yield _batch(waiting, timeout)
            waiting, size = [], 0
        if refused is not None:
            yield refused
        else:
            waiting.append(request)
            size += request.ByteSize()
    if waiting:
        yield _batch(waiting, timeout)


def _batch(requests: list[pb.CheckImageRequest], timeout: float | None) -> Call[list[Checked]]:
    return Call(
        f"{_SERVICE}BatchCheckImages",
        lambda: pb.BatchCheckImagesRequest(requests=requests),
        pb.BatchCheckImagesResponse,
        lambda answer: [_one_of(one, "") for one in answer.results],
        timeout,
    )


def _one_of(message: pb.BatchCheckImagesResult | pb.StreamCheckImagesResponse, request_id: str) -> Checked:
    """One item of a batch or a stream: a verdict, or the error that a single check would have raised."""
    kind = message.WhichOneof("result")
    if kind == "response":
        return convert.check_result(message.response)
    if kind == "error":
        return from_status(message.error, request_id=request_id)
    raise ValueError("an item has neither an answer nor an error")


class Stream:
    """One stream's requests and answers, whatever carries them.

    What goes wrong on this side must not look like the server's failure: a picture that is too large is answered with
    its own error, and an exception of the caller's iterator ends the requests and is raised after the last answer.

    Attributes:
        failure: the exception of the caller's iterator, or of reading a picture.
    """

    def __init__(self, request_id: str, asked: Asked) -> None:
        self.failure: Exception | None = None
        self._request_id = request_id
        self._asked = asked
        self._refused: deque[tuple[str, Checked]] = deque()

    def request(self, correlation_id: str, image: ImageSource) -> pb.StreamCheckImagesRequest | None:
        """The message for a picture, or None: it cannot be sent, and its error waits among the refused."""
        try:
            request = _request(image, self._asked)
        except InvalidRequest as error:
            if error.field != "image":
                raise
            self._refused.append((correlation_id, error))
            return None
        return pb.StreamCheckImagesRequest(correlation_id=correlation_id, request=request)

    def answer(self, message: pb.StreamCheckImagesResponse) -> tuple[str, Checked]:
        """A message as the picture's id and its verdict or error."""
        found = understood(lambda one: _one_of(one, self._request_id), message, self._request_id)
        return message.correlation_id, found

    def refused(self) -> Iterator[tuple[str, Checked]]:
        """The pictures that could not be sent and were not answered yet."""
        while self._refused:
            yield self._refused.popleft()


def search(
    image: ImageSource,
    k: int = 10,
    metric: e.Metric | str = e.Metric.COSINE,
    banks: Sequence[str] = (),
    *,
    at_least_revision: str | None = None,
    timeout: float | None = None,
) -> Call[t.SearchResult]:
    """The entries whose pictures are most like this one in meaning, ranked. It decides nothing.

    Args:
        image: bytes, a path, or a file opened for reading bytes.
        k: how many, 1 to 100.
        metric: COSINE or EUCLIDEAN.
        banks: the banks to search, as `x` or `banks/x`; none: all that the caller may check.
        at_least_revision: a revision that a change answered: the search sees it, or waits, or fails.
        timeout: seconds, retries included; None: the client's.
    """
    return Call(
        f"{_SERVICE}SearchSimilarImages",
        lambda: pb.SearchSimilarImagesRequest(
            image=read_image(image),
            banks=[bank_name(name, field="banks") for name in banks],
            k=k,
            metric=convert.metric_number(metric),
            at_least_revision=at_least_revision or "",
        ),
        pb.SearchSimilarImagesResponse,
        convert.search_result,
        timeout,
        needs_reading(image),
    )
