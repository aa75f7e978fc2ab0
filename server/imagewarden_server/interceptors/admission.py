"""Refuses calls at once when the server has as much as it takes, or is not serving; before their messages are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from imagewarden_server.interceptors.around import Call, Concern
from imagewarden_server.matching.errors import InvalidField, NotServing, Overloaded
from imagewarden_server.matching.load import LoadObserver, Room

MOST_OPEN = 128
"""So many calls of health and reflection at once: anybody may make them, and who watches stays as long as he likes."""
MOST_OPEN_OF_ONE = 32
"""So many of them from one machine."""
_OPEN_BYTES = 64 * 1024
_BY_ITSELF = frozenset({"StreamCheckImages"})
"""These methods find room for each message themselves, and refuse it alone: the stream goes on."""


@dataclass(slots=True)
class _Place:
    """What an admitted call has.

    Attributes:
        machine: of a call of health or reflection, where it comes from.
        size: bytes of its message; of a stream's, of the one that it works on.
    """

    machine: str = ""
    size: int = 0


class Admission(Concern):
    """Admits at most so many calls at once, whose messages have so many bytes; apart from them, health and reflection.

    Args:
        most: calls.
        serving: whether any are admitted.
        room: for the messages of calls; a stream has one at a time, and none while it waits for the next.
        observer: who counts.
    """

    def __init__(self, most: int, serving: Callable[[], bool], room: Room, observer: LoadObserver) -> None:
        self._most = most
        self._serving = serving
        self._room = room
        self._observer = observer
        self._running = 0
        self._open: Counter[str] = Counter()

    def begin(self, call: Call) -> _Place:
        """Admit or refuse."""
        if call.infrastructure:
            return self._begin_open(call)
        if not self._serving():
            raise NotServing("the server is starting or stopping; try again, or ask another replica")
        if self._running >= self._most:
            self._observer.refused("calls")
            raise Overloaded(
                f"the server runs {self._running} calls at once, as many as it takes; try again a little later"
            )
        self._room.take(0)
        self._running += 1
        return _Place()

    def _begin_open(self, call: Call) -> _Place:
        machine = call.context.peer().rpartition(":")[0]
        if self._open.total() >= MOST_OPEN or self._open[machine] >= MOST_OPEN_OF_ONE:
            self._observer.refused("calls")
            raise Overloaded(
                f"{self._open.total()} calls of health and reflection are open, {self._open[machine]} of them yours; "
                f"{MOST_OPEN} may be, {MOST_OPEN_OF_ONE} of one machine: end one, or try again a little later"
            )
        self._open[machine] += 1
        return _Place(machine)

    def message(self, call: Call, begun: _Place, size: int) -> None:
        """Find room for it, or refuse."""
        if call.infrastructure:
            if size > _OPEN_BYTES:
                raise InvalidField("request", f"has {size:,} bytes; {_OPEN_BYTES:,} are enough for any such call")
        elif call.method not in _BY_ITSELF:
            self._room.take(size)
            begun.size = size

    def done(self, call: Call, begun: _Place) -> None:  # noqa: ARG002 -- as every concern is told
        """Give the message's bytes back."""
        self._room.give_back(begun.size)
        begun.size = 0

    def end(self, call: Call, begun: _Place, error: BaseException | None) -> None:  # noqa: ARG002 -- as every concern is told
        """Give the place back."""
        if call.infrastructure:
            self._open[begun.machine] -= 1
            self._open += Counter()  # without those that have none
        else:
            self._running -= 1
            self._room.give_back(begun.size)
