"""What the server and a decoder process say to each other over their socket, and the memory that pixels come in.

A question is one byte for what is asked, the length of the picture's bytes, and those. An answer is the length of a
JSON text and that text; with it comes, where there are pixels, the descriptor of the memory that holds them. The server
believes nothing of an answer that it has not checked: a picture may have taken the process over.
"""

from __future__ import annotations

import contextlib
import enum
import json
import os
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from imagewarden_server.decoding.memory import Looked, Nonsense, Pixels
from imagewarden_server.decoding.memory import Shown as Showing
from imagewarden_server.media import Frame, Header, ImageFormat, MediaError, MediaProblem, PdqHash, Picture
from imagewarden_server.media.perceptual import MODEL_SIDE, SMALL_SIDE
from imagewarden_server.media.types import Shown

_QUESTION = struct.Struct("<BIQ")
_LENGTH = struct.Struct("<I")
_DESCRIPTOR = struct.Struct("i")
_MOST_ANSWER = 2**20
_MOST_FRAMES = 64
_MOST_MESSAGE = 1_000
_MOST_PIECES = 2**31
_HASH_BYTES = 32
_TURNS = 8
_RGB, _RGBA = 3, 4
_MOST_DEVIATION = 127.5


Said = dict[str, Any]


class Asked(enum.IntEnum):
    """What a decoder process is asked for."""

    PICTURE = 1
    """All that the signals need: header, hashes, pixels."""
    FIRST = 2
    """The first frame's pixels with their alpha."""


class Ended(Exception):
    """The other side is gone."""


# ------------------------------------------------------------------------------------------------------- the wire


@dataclass(frozen=True, slots=True)
class Wire:
    """One side's end of the socket, with the time that an exchange over it has.

    Attributes:
        until: monotonic seconds by which all of it is over; None: it may take for ever.
    """

    connection: socket.socket
    until: float | None = None

    def ready(self) -> socket.socket:
        """The socket, whose next step may take what is left. Raises TimeoutError."""
        if self.until is not None:
            left = self.until - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self.connection.settimeout(left)
        return self.connection


def send_question(wire: Wire, asked: Asked, data: bytes, unseen: Sequence[int]) -> None:
    """Ask, and say which pieces of memory nobody looks at any more. Raises Ended, TimeoutError."""
    _send(wire, _QUESTION.pack(asked, len(unseen), len(data)) + struct.pack(f"<{len(unseen)}I", *unseen))
    _send(wire, data)


def receive_question(wire: Wire) -> tuple[Asked, bytes, Sequence[int]]:
    """What is asked next. Raises Ended."""
    asked, count, length = _QUESTION.unpack(_receive(wire, _QUESTION.size))
    unseen = struct.unpack(f"<{count}I", _receive(wire, 4 * count))
    return Asked(asked), _receive(wire, length), unseen


def send_answer(wire: Wire, said: Said, arrays: Sequence[Pixels], memory: Showing) -> None:
    """Answer, with the arrays' pixels in memory. Raises Ended."""
    number, descriptor = memory.show(arrays) if arrays else (0, None)
    text = json.dumps(said | {"memory": number, "shapes": [one.shape for one in arrays]}).encode()
    message = _LENGTH.pack(len(text)) + text
    if descriptor is not None:
        try:
            sent = socket.send_fds(wire.ready(), [message], [descriptor])
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Ended from error
        finally:
            os.close(descriptor)
        message = message[sent:]
    _send(wire, message)


def receive_answer(wire: Wire, memory: Looked) -> tuple[Said, list[Pixels]]:
    """The answer and its arrays, which are read-only.

    Raises:
        Ended: the process is gone.
        Nonsense: the answer is none.
        TimeoutError: it did not come in time.
    """
    begin, descriptor = _receive_with_descriptor(wire)
    try:
        (length,) = _LENGTH.unpack(begin)
        if length > _MOST_ANSWER:
            raise Nonsense(f"an answer of {length} bytes")
        try:
            said = json.loads(_receive(wire, length))
            fields = _Fields(said)
        except (ValueError, RecursionError) as error:
            raise Nonsense("an answer that is no JSON") from error
        memory.forget(fields.take("dropped", list))
        number, shapes = fields.number("memory", 0, _MOST_PIECES), fields.take("shapes", list)
        return said, memory.look(number, descriptor, shapes) if shapes else []
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _send(wire: Wire, data: bytes) -> None:
    try:
        wire.ready().sendall(data)
    except (BrokenPipeError, ConnectionResetError) as error:
        raise Ended from error


def _receive(wire: Wire, length: int) -> bytes:
    data = bytearray(length)
    _fill(wire, memoryview(data))
    return bytes(data)


def _fill(wire: Wire, view: memoryview) -> None:
    while view:
        try:
            count = wire.ready().recv_into(view)
        except ConnectionResetError as error:
            raise Ended from error
        if not count:
            raise Ended
        view = view[count:]


def _receive_with_descriptor(wire: Wire) -> tuple[bytes, int | None]:
    """The answer's first bytes, and the descriptor that comes with them: one at most, or the kernel cuts."""
    try:
        begin, beside, flags, _ = wire.ready().recvmsg(_LENGTH.size, socket.CMSG_LEN(_DESCRIPTOR.size))
    except ConnectionResetError as error:
        raise Ended from error
    given = [
        _DESCRIPTOR.unpack(data)[0]
        for level, kind, data in beside
        if (level, kind, len(data)) == (socket.SOL_SOCKET, socket.SCM_RIGHTS, _DESCRIPTOR.size)
    ]
    descriptor = given[0] if given else None
    with contextlib.ExitStack() as stack:
        if descriptor is not None:
            stack.callback(os.close, descriptor)
        if flags & socket.MSG_CTRUNC:
            raise Nonsense("more than one piece of memory")
        if not begin:
            raise Ended
        begin += _receive(wire, _LENGTH.size - len(begin))
        stack.pop_all()
    return begin, descriptor


# --------------------------------------------------------------------------------------------------- what is said


@dataclass(frozen=True, slots=True)
class _Fields:
    """Takes the fields of an answer, each of the type that it must have."""

    said: Any

    def take(self, name: str, *kinds: type) -> Any:
        value = self.said.get(name) if type(self.said) is dict else None
        if type(value) not in kinds:
            raise Nonsense(f"{name} is {str(value)[:40]!r}")
        return value

    def number(self, name: str, least: int, most: int) -> int:
        value: int = self.take(name, int)
        if not least <= value <= most:
            raise Nonsense(f"{name} is {value}")
        return value


def say_problem(error: MediaError) -> tuple[Said, list[Pixels]]:
    """What a picture without pixels answers."""
    return {"problem": error.problem.value, "message": error.message}, []


def read_problem(said: Said) -> MediaError | None:
    """The MediaError that an answer is, if it is one. Raises Nonsense."""
    if "problem" not in said:
        return None
    fields = _Fields(said)
    try:
        problem = MediaProblem(fields.take("problem", str))
    except ValueError as error:
        raise Nonsense("an unknown problem") from error
    return MediaError(problem, fields.take("message", str)[:_MOST_MESSAGE])


def say_first(image: Image.Image) -> tuple[Said, list[Pixels]]:
    """A frame with its alpha as an answer: mode RGBA."""
    return {}, [np.asarray(image)]


def read_first(said: Said, arrays: Sequence[Pixels]) -> Image.Image:
    """The frame that an answer is: mode RGBA. Raises Nonsense."""
    del said
    if len(arrays) == 1 and arrays[0].shape[2] == _RGBA:
        # A copy: Pillow would look at the memory itself, which may be used again.
        return Image.fromarray(arrays[0].copy())
    raise Nonsense("no frame with alpha")


def say_picture(picture: Picture) -> tuple[Said, list[Pixels]]:
    """A picture as an answer: what is said, and the pixels that come with it."""
    header = picture.header
    said: Said = {
        "header": [header.format.value, header.width, header.height, header.frames],
        "frames": [],
    }
    arrays = []
    for frame in picture.frames:
        held = frame.held
        arrays += [held.small, held.model_input] if isinstance(held, Shown) else [held]
        said["frames"].append(
            {
                "index": frame.index,
                "quality": frame.pdq.quality,
                "turned": "".join(bits.hex() for bits in frame.turned),
                "deviation": held.deviation if isinstance(held, Shown) else None,
            }
        )
    return said, arrays


def read_picture(said: Said, arrays: Sequence[Pixels]) -> Picture:
    """The picture that an answer is. Raises Nonsense."""
    fields = _Fields(said)
    header, frames, left = fields.take("header", list), fields.take("frames", list), list(arrays)
    if len(header) != 4 or not 1 <= len(frames) <= _MOST_FRAMES:
        raise Nonsense("a header or frames of another number")
    try:
        made = tuple(_read_frame(_Fields(frame), left) for frame in frames)
        format_ = ImageFormat(header[0])
    except (IndexError, TypeError, ValueError) as error:
        raise Nonsense("frames without their pixels, or a format that is none") from error
    if left or not all(type(value) is int and 0 < value < _MOST_PIECES for value in header[1:]):
        raise Nonsense("pixels without a frame, or a header without a size")
    return Picture(Header(format_, *header[1:]), made)


def _read_frame(fields: _Fields, left: list[Pixels]) -> Frame:
    turned = bytes.fromhex(fields.take("turned", str))
    if len(turned) != _TURNS * _HASH_BYTES:
        raise Nonsense("hashes of another length")
    hashes = tuple(turned[place : place + _HASH_BYTES] for place in range(0, len(turned), _HASH_BYTES))
    deviation = fields.take("deviation", float, type(None))
    pixels = [left.pop(0) for _ in range(1 if deviation is None else 2)]
    if any(one.shape[2] != _RGB for one in pixels):
        raise Nonsense("a frame that is not RGB")
    held = pixels[0] if deviation is None else _shown(pixels[0], pixels[1], deviation)
    return Frame(
        fields.number("index", 0, _MOST_PIECES), PdqHash(hashes[0], fields.number("quality", 0, 100)), hashes, held
    )


def _shown(small: Pixels, model_input: Pixels, deviation: float) -> Shown:
    """What a frame shows, in the sizes and within the bounds that its type documents. Raises Nonsense."""
    if max(small.shape[:2]) > SMALL_SIDE or model_input.shape != (MODEL_SIDE, MODEL_SIDE, _RGB):
        raise Nonsense(f"a frame shown in {small.shape} and {model_input.shape} pixels")
    if not 0 <= deviation <= _MOST_DEVIATION:  # nor what is no number
        raise Nonsense(f"a deviation of {deviation}")
    return Shown(small, model_input, deviation)
