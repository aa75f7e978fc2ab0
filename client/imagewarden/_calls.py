"""What one call is, and how both clients make methods of the functions that build calls.

A method is written once, as a function that answers a `Call` (or a `Batch` or `Pages` of calls); the two clients differ
only in how they send it. `_moderation`, `_banks` and `_entries` have the functions.
"""

from __future__ import annotations

import inspect
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from imagewarden._errors import ImageWardenError, ServerError
from imagewarden._sources import ImageSource, needs_reading

R = TypeVar("R")


def new_id() -> str:
    """A UUID4: the id of a call in the server's log, and the idempotency key of a change."""
    return str(uuid.uuid4())


@dataclass(frozen=True, slots=True)
class Call(Generic[R]):
    """One call: where to, with what, and what its answer means.

    Attributes:
        path: the full name of the method.
        build: makes the request; reads the pictures.
        response: the answer's message class.
        convert: the answer as the client's types.
        timeout: seconds, retries included; None: the client's.
        blocking: whether `build` reads files.
        request_id: sent with each try.
    """

    path: str
    build: Callable[[], Message]
    response: type[Message]
    convert: Callable[[Any], R]
    timeout: float | None = None
    blocking: bool = False
    request_id: str = field(default_factory=new_id)

    def understood(self, answer: Message) -> R:
        """The answer as the client's types.

        Raises:
            ServerError: a newer server says what this client has no word for.
        """
        return understood(self.convert, answer, self.request_id)


@dataclass(frozen=True, slots=True)
class Batch(Generic[R]):
    """Several calls whose answers make one list; an error among them stands for the one item that was not sent."""

    parts: Callable[[], Iterator[Call[list[R | ImageWardenError]] | ImageWardenError]]
    blocking: bool


@dataclass(frozen=True, slots=True)
class Pages(Generic[R]):
    """A listing: from a page's token to the call that answers its items and the next page's token."""

    page: Callable[[str], Call[tuple[list[R], str]]]


def understood(convert: Callable[[Any], R], answer: Any, request_id: str) -> R:
    """An answer, or a part of one, as the client's types; ServerError where it cannot be read."""
    try:
        return convert(answer)
    except ValueError as error:
        raise ServerError(f"the answer cannot be read: {error}", request_id=request_id) from error


def any_needs_reading(images: Sequence[ImageSource]) -> bool:
    """Whether one of several pictures is a file."""
    return any(needs_reading(image) for image in images)


def dress(method: Any, make: Callable[..., Any], answer: str) -> Any:
    """Give a client's method the name, documentation and signature of the function that builds its call.

    Args:
        method: what sends.
        make: what builds.
        answer: the return annotation, where `{}` is what the call answers.
    """
    signature = inspect.signature(make)
    inner = str(signature.return_annotation).partition("[")[2].removesuffix("]")
    itself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    method.__name__ = make.__name__
    method.__doc__ = make.__doc__
    method.__signature__ = signature.replace(
        parameters=[itself, *signature.parameters.values()], return_annotation=answer.format(inner)
    )
    return method
