"""Targets: both sides of what the server and a decoder process say to each other."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import time
from collections.abc import Iterator

from PIL import Image
from tests.fuzz import wounds
from tests.fuzz.target import Target

from imagewarden_server.decoding.memory import Looked, Nonsense
from imagewarden_server.decoding.messages import (
    Asked,
    Ended,
    Wire,
    read_first,
    read_picture,
    read_problem,
    receive_answer,
    receive_question,
    send_question,
)
from imagewarden_server.media import MediaError, Picture
from imagewarden_server.media.perceptual import MODEL_SIDE, SMALL_SIDE

MOST_MEMORY = 2**19
"""Bytes of the largest piece that an answer may bring."""

_SECONDS = 2.0
_RAW, _UNSEALED, _TWO, _NONE = 0x01, 0x02, 0x04, 0x08
_UNIT = 1_100
_HEAD = 3


def run_answer(data: bytes) -> None:
    """The server's side: whatever a process that was taken over answers, it is a picture, a problem, or nonsense.

    The first byte says how it comes, the second how much memory with it, the third how it is read.
    """
    if len(data) >= _HEAD:
        with contextlib.suppress(Ended, Nonsense):
            _assert_usable(read_answer(data))


def read_answer(data: bytes) -> Picture | Image.Image | MediaError:
    """What the server takes such an answer for.

    Raises:
        Ended, Nonsense: for none.
    """
    how, units, read, text = data[0], data[1], data[2], data[_HEAD:]
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for one in (ours, theirs):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**20)
        message = text if how & _RAW else struct.pack("<I", len(text)) + text
        with _memory(how, units * _UNIT) as descriptors:
            if descriptors and message:
                socket.send_fds(theirs, [message], descriptors)
            else:
                theirs.sendall(message)
        theirs.shutdown(socket.SHUT_WR)
        looked = Looked(MOST_MEMORY)
        answer, arrays = receive_answer(Wire(ours, time.monotonic() + _SECONDS), looked)
        return read_problem(answer) or (read_first(answer, arrays) if read % 2 else read_picture(answer, arrays))


@contextlib.contextmanager
def _memory(how: int, length: int) -> Iterator[list[int]]:
    """The descriptors that come with an answer: of sealed memory as a rule."""
    descriptors = []
    try:
        for _ in range(0 if how & _NONE else 2 if how & _TWO else 1):
            descriptor = os.memfd_create("fuzz", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            descriptors.append(descriptor)
            os.ftruncate(descriptor, length)
            if not how & _UNSEALED:
                fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        yield descriptors
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _assert_usable(found: Picture | Image.Image | MediaError) -> None:
    """All that the server does with an answer works on it, though its pixels may be a lie."""
    if isinstance(found, MediaError):
        assert len(found.message) <= 1_000
        return
    if isinstance(found, Image.Image):
        assert found.mode == "RGBA"
        return
    header = found.header
    assert min(header.width, header.height, header.frames) >= 1
    assert found.frames
    for frame in found.frames:
        assert 0 <= frame.pdq.quality <= 100
        assert len(frame.turned) == 8
        assert frame.model_input.shape == (MODEL_SIDE, MODEL_SIDE, 3)
        assert max(frame.small.shape[:2]) <= SMALL_SIDE
        assert 0 <= frame.deviation <= 127.5
        Image.fromarray(frame.small)


def run_question(data: bytes) -> None:
    """The process's side: what is asked arrives as it was asked, or, cut short, as the end."""
    if len(data) < _HEAD:
        return
    asked = Asked.FIRST if data[0] & 1 else Asked.PICTURE
    cut, count, rest = data[0] & 2, data[1], data[_HEAD:]
    unseen = [int.from_bytes(rest[4 * place : 4 * place + 4], "little") for place in range(min(count, len(rest) // 4))]
    sent, seen = socket.socketpair()
    with sent, seen:
        for one in (sent, seen):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**20)
        send_question(Wire(sent), asked, rest, unseen)
        if cut:
            whole = seen.recv(2**20)
            seen.close()
            _cut_short(whole[: len(whole) * data[2] // 256])
            return
        assert receive_question(Wire(seen)) == (asked, rest, tuple(unseen))


def _cut_short(message: bytes) -> None:
    sent, seen = socket.socketpair()
    with seen:
        with sent:
            sent.sendall(message)
        try:
            receive_question(Wire(seen, time.monotonic() + _SECONDS))
        except Ended:
            return
    raise AssertionError(f"a question of {len(message)} bytes, cut short, was taken for a whole one")


def targets() -> list[Target]:
    """The two sides."""
    words = (
        b'"header"',
        b'"frames"',
        b'"memory"',
        b'"shapes"',
        b'"dropped"',
        b'"problem"',
        b'"message"',
        b"NaN",
        b"1e999",
    )
    return [
        Target("decoder-answer", run_answer, wounds.behind(_HEAD, wounds.several(wounds.json_text)), words),
        Target("decoder-question", run_question),
    ]
