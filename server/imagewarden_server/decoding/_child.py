"""A decoder process: python -I _child.py DESCRIPTOR LIMITS; it answers over the socket until that ends.

It can open no file and no connection, start no process, and has memory for one picture: what a hostile picture does to
a decoder, it does to this process alone. It runs by its path, isolated from the environment.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
from pathlib import Path

# Isolated, it does not find the package by itself; and it must be the one that the server runs.
sys.path.insert(0, str(Path(__file__).parents[2]))

from imagewarden_server.decoding.confine import confine
from imagewarden_server.decoding.memory import Pixels, Shown, shown_bytes
from imagewarden_server.decoding.messages import (
    Asked,
    Ended,
    Said,
    Wire,
    receive_question,
    say_first,
    say_picture,
    say_problem,
    send_answer,
)
from imagewarden_server.media import Limits, MediaError, decode
from imagewarden_server.media.pixels import first_frame

_DESCRIPTOR = 3
_LIBRARIES_BYTES = 2 * 2**30
# Pixels as the decoder has them, converted, through a profile, and shown to the server.
_PIXEL_BYTES = 40


def _answer(asked: Asked, data: bytes, limits: Limits) -> tuple[Said, list[Pixels]]:
    try:
        if asked is Asked.PICTURE:
            return say_picture(decode(data, limits))
        return say_first(first_frame(data, limits))
    except MediaError as error:
        return say_problem(error)


def _main() -> None:
    descriptor, limits = int(sys.argv[1]), Limits(**json.loads(sys.argv[2]))
    # It ends when the server does, which answers what is in flight first.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    # What is said here is read when the process ends: until then a full pipe must hold nothing up.
    os.set_blocking(sys.stderr.fileno(), False)
    memory = Shown()
    # The lowest number there is, so that the limit below is for one more: the memory that pixels are shown in.
    os.dup2(descriptor, _DESCRIPTOR, inheritable=False)
    if descriptor != _DESCRIPTOR:
        os.close(descriptor)
    with socket.socket(fileno=_DESCRIPTOR) as connection, contextlib.suppress(Ended):
        wire = Wire(connection)
        confine(
            descriptors=_DESCRIPTOR + 2,
            memory=_LIBRARIES_BYTES + _PIXEL_BYTES * limits.max_pixels,
            file_size=shown_bytes(limits),
        )
        while True:
            asked, data, unseen = receive_question(wire)
            dropped = memory.take_back(unseen)
            said, arrays = _answer(asked, data, limits)
            send_answer(wire, said | {"dropped": dropped}, arrays, memory)


if __name__ == "__main__":
    _main()
