"""Calls that change banks and entries: each carries a request_id, so that it can be tried again and is made once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from google.protobuf.message import Message

from imagewarden import _convert as convert
from imagewarden import _types as t
from imagewarden._calls import Call, new_id

R = TypeVar("R")

SERVICE = "/imagewarden.v1.BankService/"


def change(
    name: str,
    build: Callable[[str], Message],
    response: type[Message],
    meaning: Callable[[Any], R],
    request_id: str | None,
    timeout: float | None,
    *,
    blocking: bool = False,
    service: str = SERVICE,
) -> Call[R]:
    """A call that changes something, under a request_id of its own unless there is one."""
    chosen = request_id or new_id()
    return Call(f"{service}{name}", lambda: build(chosen), response, meaning, timeout, blocking, chosen)


def bank_change(answer: Any) -> t.BankChange:
    """What a change of a bank answered."""
    return t.BankChange(convert.bank(answer.bank), answer.revision)


def entry_change(answer: Any) -> t.EntryChange:
    """What a change of an entry answered."""
    return t.EntryChange(convert.entry(answer.entry), answer.revision, tuple(getattr(answer, "warnings", ())))
