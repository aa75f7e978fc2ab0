"""Refuses calls at once when the server has as much as it takes, or is not serving."""

from __future__ import annotations

from collections.abc import Callable

from imagewarden_server.interceptors.around import Call, Concern
from imagewarden_server.matching.errors import NotServing, Overloaded


class Admission(Concern):
    """Admits at most so many calls at once; health and reflection are always answered."""

    def __init__(self, most: int, serving: Callable[[], bool]) -> None:
        self._most = most
        self._serving = serving
        self._running = 0

    def begin(self, call: Call) -> None:
        """Admit or refuse."""
        if call.infrastructure:
            return
        if not self._serving():
            raise NotServing("the server is starting or stopping; try again, or ask another replica")
        if self._running >= self._most:
            raise Overloaded(
                f"the server runs {self._running} calls at once, as many as it takes; try again a little later"
            )
        self._running += 1

    def end(self, call: Call, begun: None, error: BaseException | None) -> None:  # noqa: ARG002 -- as every concern is told
        """Give the place back."""
        if not call.infrastructure:
            self._running -= 1
