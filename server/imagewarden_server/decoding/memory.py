"""Memory that decoder processes show their pixels in, and use again once the server has seen them.

New memory costs a fault of the processor a page, in both processes: more than the pixels' copy itself. So a process
keeps what it has shown, and is told with each question which of it nobody looks at any more.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import tempfile
import weakref
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagewarden_server.media import Limits
from imagewarden_server.media.perceptual import MODEL_SIDE, SMALL_SIDE

Pixels = NDArray[np.uint8]

_KEPT = 4
"""So many pieces a process keeps that nobody looks at,"""
_KEPT_BYTES = 96 * 2**20
"""and so many bytes: what the largest pictures were shown in is given back."""
_STEP = 2**20
_SEALED = hasattr(os, "memfd_create")

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3, ctypes.c_long)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_FAILED = ctypes.c_void_p(-1).value


def shown_bytes(limits: Limits) -> int:
    """The most memory that a picture within the limits is shown in: one frame whole, or what many frames show."""
    shown = 3 * (SMALL_SIDE**2 + MODEL_SIDE**2)
    return max(4 * limits.max_pixels, limits.max_frames * shown) + _STEP


class Nonsense(Exception):
    """An answer that no decoder process gives by itself: a picture may have taken it over."""


class _Mapping:
    """A piece of memory, mapped until the object goes; Python's own mmap would keep a descriptor as long."""

    def __init__(self, descriptor: int, protection: int) -> None:
        """Map all of it. Raises OSError."""
        self.length = os.fstat(descriptor).st_size
        address = _libc.mmap(None, self.length, protection, mmap.MAP_SHARED, descriptor, 0)
        if address == _FAILED:
            raise OSError(ctypes.get_errno(), "mmap")
        self._memory = (ctypes.c_ubyte * self.length).from_address(address)
        weakref.finalize(self, _libc.munmap, address, self.length).atexit = False

    def array(self) -> Pixels:
        """Its bytes; whoever holds them or a part of them must hold this object too."""
        return np.frombuffer(memoryview(self._memory), np.uint8)


class Shown:
    """The side of the process that shows pixels."""

    def __init__(self) -> None:
        self._count = 0
        self._free: dict[int, _Mapping] = {}
        self._shown: dict[int, _Mapping] = {}

    def take_back(self, numbers: Iterable[int]) -> list[int]:
        """Pieces that nobody looks at any more; the numbers of those that are not kept."""
        self._free |= {number: self._shown.pop(number) for number in numbers}
        dropped, held = [], sum(mapped.length for mapped in self._free.values())
        while len(self._free) > _KEPT or held > _KEPT_BYTES:
            number = next(iter(self._free))
            held -= self._free.pop(number).length
            dropped.append(number)
        return dropped

    def show(self, arrays: Sequence[Pixels]) -> tuple[int, int | None]:
        """Copy arrays into a piece, one after the other.

        Returns:
            The piece's number; and its descriptor, to be closed by the caller, where the server has not seen it yet.
        """
        length = sum(one.nbytes for one in arrays)
        fitting = [number for number, mapped in self._free.items() if mapped.length >= length]
        descriptor = None
        if fitting:
            number = min(fitting, key=lambda one: self._free[one].length)
            mapped = self._free.pop(number)
        else:
            self._count += 1
            number, descriptor = self._count, _anonymous(-(-length // _STEP) * _STEP)
            mapped = _Mapping(descriptor, mmap.PROT_READ | mmap.PROT_WRITE)
        self._shown[number] = mapped
        into = mapped.array()
        place = 0
        for one in arrays:
            np.copyto(into[place : place + one.nbytes].reshape(one.shape), one)
            place += one.nbytes
        return number, descriptor


class Looked:
    """The server's side: it believes nothing of what it is told of the memory.

    Args:
        most: bytes of the largest piece.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._looking = 0
        self._mapped: dict[int, _Mapping] = {}
        self._unseen: deque[int] = deque()

    def look(self, number: Any, descriptor: int | None, shapes: Sequence[Any]) -> list[Pixels]:
        """The arrays in a piece, read-only; once none of them is held any more the process may use it again.

        Raises:
            Nonsense: there is no such piece, or not with such arrays.
        """
        if descriptor is not None:
            self._mapped[number] = _mapped(descriptor, self._most)
            # Those that are looked at, those that it is not told of yet, those that it keeps, and this one.
            if len(self._mapped) > self._looking + len(self._unseen) + _KEPT + 1:
                raise Nonsense("more memory than it gives back")
        mapped = self._mapped.get(number)
        lengths = [_volume(shape) for shape in shapes]
        if mapped is None or sum(lengths) > mapped.length:
            raise Nonsense("pixels without memory")
        whole = mapped.array()
        whole.flags.writeable = False
        # Each array below holds this one; and its end is the end of looking, for which the mapping is held.
        self._looking += 1
        weakref.finalize(whole, self._seen, number, mapped).atexit = False
        ends = np.cumsum(lengths)
        cuts = zip(ends, lengths, shapes, strict=True)
        return [whole[end - length : end].reshape(shape) for end, length, shape in cuts]

    def _seen(self, number: int, mapped: _Mapping) -> None:
        del mapped
        # In this order: for a moment it is counted twice, and never not at all.
        self._unseen.append(number)
        self._looking -= 1

    def unseen(self) -> list[int]:
        """The pieces that nobody has looked at since this was asked last."""
        numbers = []
        with contextlib.suppress(IndexError):
            while True:
                numbers.append(self._unseen.popleft())
        return numbers

    def forget(self, numbers: Iterable[Any]) -> None:
        """Pieces that the process does not use again. Raises Nonsense."""
        for number in numbers:
            if type(number) is not int:
                raise Nonsense("memory of no number")
            self._mapped.pop(number, None)


def _anonymous(length: int) -> int:
    if _SEALED:
        descriptor = os.memfd_create("imagewarden-pixels", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    else:  # elsewhere than on Linux: a file without a name
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, length)
    if _SEALED:
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    return descriptor


def _mapped(descriptor: int, most: int) -> _Mapping:
    try:
        # Memory that could still shrink under the server would end the server at the next look at it.
        if _SEALED and not fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK:
            raise Nonsense("memory that can shrink")
        if os.fstat(descriptor).st_size > most:
            raise Nonsense("more memory than a picture may have")
        return _Mapping(descriptor, mmap.PROT_READ)
    except (OSError, ValueError) as error:
        raise Nonsense("a descriptor of no memory") from error


def _volume(shape: Any) -> int:
    if type(shape) is not list or len(shape) != 3 or not all(type(side) is int and side > 0 for side in shape):
        raise Nonsense(f"pixels of the shape {str(shape)[:40]}")
    return int(shape[0] * shape[1] * shape[2])
