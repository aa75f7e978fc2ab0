"""A filter of system calls for decoder processes: what Landlock does not know of, given up for good (Linux's seccomp).

A list of what is denied, and not of what is allowed: eight libraries in C and Python itself do the decoding, and what
they call changes with their versions. A decoder that was taken over is to reach nothing but its memory and the two ends
it was given: no socket of any kind, no other process, no file's rights.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

_NO_NEW_PRIVILEGES = 38
_SET_MODE_FILTER = 1
_ALL_THREADS = 1

# linux/seccomp.h and linux/bpf_common.h: what a filter answers, and the few instructions that it takes.
_KILL, _ERRNO, _ALLOW = 0x8000_0000, 0x0005_0000, 0x7FFF_0000
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT, _ANSWER = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_X32 = 0x4000_0000
_NEW_THREAD = 0x0001_0000

_DENIED: Mapping[str, tuple[int | None, int | None]] = MappingProxyType(
    {
        # Connections of any kind.
        "socket": (41, 198),
        "connect": (42, 203),
        "accept": (43, 202),
        "bind": (49, 200),
        "listen": (50, 201),
        "socketpair": (53, 199),
        "accept4": (288, 242),
        # Other programs and processes.
        "fork": (57, None),
        "vfork": (58, None),
        "execve": (59, 221),
        "execveat": (322, 281),
        "ptrace": (101, 117),
        "process_vm_readv": (310, 270),
        "process_vm_writev": (311, 271),
        "kcmp": (312, 272),
        "tkill": (200, 130),
        "rt_sigqueueinfo": (129, 138),
        "rt_tgsigqueueinfo": (297, 240),
        "pidfd_send_signal": (424, 424),
        "pidfd_open": (434, 434),
        "pidfd_getfd": (438, 438),
        "process_madvise": (440, 440),
        "process_mrelease": (448, 448),
        "setpriority": (141, 140),
        "ioprio_set": (251, 30),
        "sched_setparam": (142, 118),
        "sched_setscheduler": (144, 119),
        "sched_setaffinity": (203, 122),
        "sched_setattr": (314, 274),
        "migrate_pages": (256, 238),
        "move_pages": (279, 239),
        # What is shared by name: memory, semaphores, messages, keys.
        "shmget": (29, 194),
        "shmat": (30, 196),
        "shmctl": (31, 195),
        "semget": (64, 190),
        "semop": (65, 193),
        "semctl": (66, 191),
        "semtimedop": (220, 192),
        "msgget": (68, 186),
        "msgsnd": (69, 189),
        "msgrcv": (70, 188),
        "msgctl": (71, 187),
        "mq_open": (240, 180),
        "mq_unlink": (241, 181),
        "add_key": (248, 217),
        "request_key": (249, 218),
        "keyctl": (250, 219),
        # Rights and attributes of files, which Landlock leaves alone.
        "chmod": (90, None),
        "fchmod": (91, 52),
        "fchmodat": (268, 53),
        "fchmodat2": (452, 452),
        "chown": (92, None),
        "fchown": (93, 55),
        "lchown": (94, None),
        "fchownat": (260, 54),
        "utime": (132, None),
        "utimes": (235, None),
        "futimesat": (261, None),
        "utimensat": (280, 88),
        "setxattr": (188, 5),
        "lsetxattr": (189, 6),
        "fsetxattr": (190, 7),
        "setxattrat": (463, 463),
        "removexattr": (197, 14),
        "lremovexattr": (198, 15),
        "fremovexattr": (199, 16),
        "removexattrat": (466, 466),
        "open_by_handle_at": (304, 265),
        # The ways into the kernel that have been the way out of such filters.
        "io_uring_setup": (425, 425),
        "io_uring_enter": (426, 426),
        "io_uring_register": (427, 427),
        "bpf": (321, 280),
        "perf_event_open": (298, 241),
        "userfaultfd": (323, 282),
        "unshare": (272, 97),
        "setns": (308, 268),
        "personality": (135, 92),
        "mount": (165, 40),
        "umount2": (166, 39),
        "pivot_root": (155, 41),
        "chroot": (161, 51),
        "open_tree": (428, 428),
        "move_mount": (429, 429),
        "fsopen": (430, 430),
        "fsconfig": (431, 431),
        "fsmount": (432, 432),
        "fspick": (433, 433),
        "mount_setattr": (442, 442),
        "init_module": (175, 105),
        "finit_module": (313, 273),
        "delete_module": (176, 106),
        "kexec_load": (246, 104),
        "kexec_file_load": (320, 294),
    }
)
"""By name: the numbers on x86-64 and on AArch64; None: there is no such call."""


class _Machine(NamedTuple):
    """What differs by processor: the architecture as the kernel names it, and the calls that are looked at closer."""

    column: int
    audit: int
    seccomp: int
    clone: int
    kill: int
    tgkill: int
    prlimit: int
    clone3: int = 435


_MACHINES: Mapping[str, _Machine] = MappingProxyType(
    {
        "x86_64": _Machine(0, 0xC000_003E, seccomp=317, clone=56, kill=62, tgkill=234, prlimit=302),
        "aarch64": _Machine(1, 0xC000_00B7, seccomp=277, clone=220, kill=129, tgkill=131, prlimit=261),
    }
)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def give_up_calls() -> bool:
    """Have the kernel refuse, from now on and in all threads, what decoding does not need; whether it does."""
    machine = _MACHINES.get(platform.machine())
    if not sys.platform.startswith("linux") or machine is None:
        return False
    code = b"".join(_instructions(machine, os.getpid()))
    held = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.cast(held, ctypes.c_void_p))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
        return False
    return bool(libc.syscall(machine.seccomp, _SET_MODE_FILTER, _ALL_THREADS, ctypes.byref(program)) == 0)


def _instructions(machine: _Machine, pid: int) -> Iterator[bytes]:
    """The filter: each call runs through it from above, and ends at the first answer."""
    yield _step(_LOAD, _ARCHITECTURE)
    # The numbers of another architecture mean other calls.
    yield _step(_IF_EQUAL, machine.audit, yes=1)
    yield _step(_ANSWER, _KILL)
    yield _step(_LOAD, _NUMBER)
    if machine.column == 0:
        yield _step(_IF_AT_LEAST, _X32, no=1)
        yield _step(_ANSWER, _KILL)
    for numbers in _DENIED.values():
        if (number := numbers[machine.column]) is not None:
            yield from _answered(number, _ERRNO | errno.EPERM)
    # Its flags are in memory, where no filter can look: the C library asks by `clone` then.
    yield from _answered(machine.clone3, _ERRNO | errno.ENOSYS)
    # Threads, and no processes.
    yield from _looked_at(machine.clone, _IF_ANY_BIT, _NEW_THREAD)
    # Signals to itself, as `abort` sends one; and limits of its own.
    yield from _looked_at(machine.kill, _IF_EQUAL, pid)
    yield from _looked_at(machine.tgkill, _IF_EQUAL, pid)
    yield from _looked_at(machine.prlimit, _IF_EQUAL, 0)
    yield _step(_ANSWER, _ALLOW)


def _answered(number: int, answer: int) -> Iterator[bytes]:
    yield _step(_IF_EQUAL, number, no=1)
    yield _step(_ANSWER, answer)


def _looked_at(number: int, test: int, value: int) -> Iterator[bytes]:
    """A call that is allowed where the lower half of its first argument passes a test."""
    yield _step(_IF_EQUAL, number, no=4)
    yield _step(_LOAD, _FIRST_ARGUMENT)
    yield _step(test, value, no=1)
    yield _step(_ANSWER, _ALLOW)
    yield _step(_ANSWER, _ERRNO | errno.EPERM)


def _step(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    """One instruction (struct sock_filter); `yes` and `no` are how many of the next ones a test leaves out."""
    return struct.pack("=HBBI", code, yes, no, value)
