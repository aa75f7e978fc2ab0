"""Who changes something, and by which call: what a change is recorded under, without every function handing it on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts.

    Attributes:
        name: for people: a key's id and name, `local` where keys are not asked for, `server` for what it does itself.
        method: the call's method, or the work's name.
        request_id: of the call; empty outside of one.
    """

    name: str
    method: str = ""
    request_id: str = ""


SERVER = Actor("server")

_current: ContextVar[Actor] = ContextVar("imagewarden_actor", default=SERVER)


def current() -> Actor:
    """Who acts in this task."""
    return _current.get()


@contextmanager
def as_server() -> Iterator[None]:
    """Meanwhile it is the server itself that acts, whoever asked for what it does."""
    token = _current.set(SERVER)
    try:
        yield
    finally:
        _current.reset(token)


def acting(actor: Actor) -> Token[Actor]:
    """From now on, in this task and in the threads that work for it, somebody acts."""
    return _current.set(actor)
