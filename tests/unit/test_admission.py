"""Who is admitted: the bytes of messages find room, those of streams one by one."""

from __future__ import annotations

from typing import Any

import pytest

from imagewarden_server.interceptors.admission import Admission
from imagewarden_server.interceptors.around import Call
from imagewarden_server.matching.errors import Overloaded
from imagewarden_server.matching.load import Room


class Counts:
    def refused(self, why: str) -> None:
        pass


def admission(room: Room) -> Admission:
    return Admission(10, lambda: True, room, Counts())


def call(method: str, kind: str) -> Call:
    return Call("imagewarden.v1.BankService", method, kind, infrastructure=False, context=None)


@pytest.mark.parametrize("kind", ["unary", "client_stream", "server_stream", "bidi_stream"])
def test_a_message_is_counted_until_its_call_ends(kind: str) -> None:
    room = Room(100)
    door, one = admission(room), call("Some", kind)
    begun = door.begin(one)
    door.message(one, begun, 60)
    assert room.held == 60
    door.end(one, begun, RuntimeError("whatever it is"))
    assert room.held == 0


def test_each_message_of_a_stream_is_counted_while_it_is_worked_on() -> None:
    room = Room(100)
    door, one = admission(room), call("ImportEntries", "bidi_stream")
    begun: Any = door.begin(one)
    for size in (60, 100, 1_000, 7):
        door.message(one, begun, size)
        assert room.held == size
        door.done(one, begun)
        assert room.held == 0, "it waits for the next one, and has none"
    door.end(one, begun, None)
    assert room.held == 0


def test_a_message_of_a_stream_that_finds_no_room_is_refused_and_nothing_is_kept_of_it() -> None:
    room = Room(100)
    door, one = admission(room), call("ImportEntries", "bidi_stream")
    begun = door.begin(one)
    door.message(one, begun, 40)
    door.done(one, begun)
    with room.hold(50):
        with pytest.raises(Overloaded, match="50 bytes of requests"):
            door.message(one, begun, 60)
        door.end(one, begun, Overloaded("no room"))
        assert room.held == 50


def test_the_pictures_of_a_stream_find_room_by_themselves() -> None:
    room = Room(100)
    door, one = admission(room), call("StreamCheckImages", "bidi_stream")
    begun = door.begin(one)
    with room.hold(50):
        door.message(one, begun, 60)
        assert room.held == 50
        door.done(one, begun)
        door.end(one, begun, None)
        assert room.held == 50
