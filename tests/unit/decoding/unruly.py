"""A decoder process that a picture has taken over, and which does what its bytes say: unruly.py DESCRIPTOR LIMITS."""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[3] / layer) for layer in ("server", "client")]

from imagewarden_server.decoding.messages import Wire, receive_question  # noqa: E402 -- found by the line above

FRAME = {"index": 0, "quality": 100, "turned": "00" * 256, "deviation": None}
GOOD: dict[str, Any] = {
    "header": ["png", 4, 2, 1],
    "frames": [FRAME],
    "memory": 1,
    "shapes": [[2, 4, 3]],
    "dropped": [],
}


def memory(length: int, *, sealed: bool = True) -> int:
    import fcntl

    descriptor = os.memfd_create("unruly", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, length)
    if sealed:
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    return descriptor


def answer(wire: socket.socket, said: Any, descriptors: Sequence[int] = ()) -> None:
    text = json.dumps(said).encode()
    message = struct.pack("<I", len(text)) + text
    if descriptors:
        socket.send_fds(wire, [message], list(descriptors))
    else:
        wire.sendall(message)


def frame(**changed: Any) -> dict[str, Any]:
    return GOOD | {"frames": [FRAME | changed]}


def shown(*shapes: list[int], deviation: float = 20.0) -> Any:
    """What a frame of an animation shows, in pixels of these shapes."""
    length = sum(height * width * channels for height, width, channels in shapes)
    said = frame(deviation=deviation) | {"shapes": shapes}
    return lambda wire: answer(wire, said, [memory(length)])


def half(wire: socket.socket) -> None:
    wire.sendall(struct.pack("<I", 100) + b"{")
    os._exit(0)


def trickle(wire: socket.socket) -> None:
    """A byte now and then, for ever: each comes in time, and the answer never."""
    wire.sendall(struct.pack("<I", 1_000))
    while True:
        wire.sendall(b" ")
        time.sleep(0.2)


def hoard(wire: socket.socket) -> None:
    """New memory for each answer, and none given back."""
    hoard.number += 1  # type: ignore[attr-defined]  # its own count
    answer(wire, GOOD | {"memory": hoard.number}, [memory(24)])  # type: ignore[attr-defined]  # the same


hoard.number = 100  # type: ignore[attr-defined]  # the same


DOES: dict[bytes, Callable[[socket.socket], None]] = {
    b"good": lambda wire: answer(wire, GOOD, [memory(24)]),
    b"exit": lambda _: os._exit(3),
    b"abort": lambda _: os.abort(),
    b"hang": lambda _: time.sleep(600),
    b"too long": lambda wire: wire.sendall(struct.pack("<I", 2**31)),
    b"half": half,
    b"trickle": trickle,
    b"hoard": hoard,
    b"deep JSON": lambda wire: wire.sendall(struct.pack("<I", 900_000) + b"[" * 900_000),
    b"memory of a negative number": lambda wire: answer(wire, GOOD | {"memory": -1}, [memory(24)]),
    b"memory of a huge number": lambda wire: answer(wire, GOOD | {"memory": 2**40}, [memory(24)]),
    b"huge memory": lambda wire: answer(wire, GOOD, [memory(2**28)]),
    b"a huge width": lambda wire: answer(wire, GOOD | {"header": ["png", 10**30, 2, 1]}, [memory(24)]),
    b"a quality over 100": lambda wire: answer(wire, frame(quality=101), [memory(24)]),
    b"an index under 0": lambda wire: answer(wire, frame(index=-5), [memory(24)]),
    b"no JSON": lambda wire: wire.sendall(struct.pack("<I", 3) + b"{{{"),
    b"a list": lambda wire: answer(wire, [1, 2]),
    b"nothing": lambda wire: answer(wire, {}),
    b"no memory": lambda wire: answer(wire, GOOD | {"memory": 9}),
    b"two memories": lambda wire: answer(wire, GOOD, [memory(24), memory(24)]),
    b"memory that can shrink": lambda wire: answer(wire, GOOD, [memory(24, sealed=False)]),
    b"too little memory": lambda wire: answer(wire, GOOD, [memory(23)]),
    b"no memory but a file": lambda wire: answer(wire, GOOD, [os.open(__file__, os.O_RDONLY)]),
    b"no memory but a socket": lambda wire: answer(wire, GOOD, [socket.socket().detach()]),
    b"sides of text": lambda wire: answer(wire, GOOD | {"shapes": [["2", 4, 3]]}, [memory(24)]),
    b"negative sides": lambda wire: answer(wire, GOOD | {"shapes": [[-2, -4, 3]]}, [memory(24)]),
    b"two channels": lambda wire: answer(wire, GOOD | {"shapes": [[2, 4, 2]]}, [memory(24)]),
    b"another frame": lambda wire: answer(wire, GOOD | {"frames": [FRAME, FRAME]}, [memory(24)]),
    b"a small frame that is large": shown([577, 1, 3], [299, 299, 3]),
    b"another model's input": shown([2, 4, 3], [298, 299, 3]),
    b"a deviation of no number": shown([2, 4, 3], [299, 299, 3], deviation=float("nan")),
    b"a deviation beyond white and black": shown([2, 4, 3], [299, 299, 3], deviation=127.6),
    b"no frames": lambda wire: answer(wire, GOOD | {"frames": []}, [memory(24)]),
    b"another format": lambda wire: answer(wire, GOOD | {"header": ["exe", 4, 2, 1]}, [memory(24)]),
    b"a header of text": lambda wire: answer(wire, GOOD | {"header": ["png", "4", 2, 1]}, [memory(24)]),
    b"short hashes": lambda wire: answer(wire, frame(turned="00"), [memory(24)]),
    b"hashes of no digits": lambda wire: answer(wire, frame(turned="zz" * 256), [memory(24)]),
    b"a quality of text": lambda wire: answer(wire, frame(quality="100"), [memory(24)]),
    b"an unknown problem": lambda wire: answer(wire, GOOD | {"problem": "?", "message": ""} | {"shapes": []}),
    b"a problem without words": lambda wire: answer(wire, GOOD | {"problem": "empty"} | {"shapes": []}),
    b"dropped memory of no number": lambda wire: answer(wire, GOOD | {"dropped": [[1]]}, [memory(24)]),
}


def main() -> None:
    with socket.socket(fileno=int(sys.argv[1])) as wire:
        while True:
            _, data, _ = receive_question(Wire(wire))
            DOES[data](wire)


if __name__ == "__main__":
    main()
