"""What a decoder process gives up before it sees a picture: files, connections, and memory for more than one picture.

Landlock is Linux's way for a process to give its rights up without any of its administrator's (Linux 5.13, kernel.org
userspace-api/landlock); a filter of system calls has what Landlock does not know of. What a kernel does not know of
them is left out; the resource limits hold everywhere.
"""

from __future__ import annotations

import ctypes
import os
import re
import resource
import sys
from pathlib import Path
from typing import NamedTuple

from imagewarden_server.decoding.seccomp import give_up_calls

_CREATE_RULESET, _RESTRICT_SELF = 444, 446  # the same on every architecture
_GIVE_VERSION = 1
_NO_NEW_PRIVILEGES = 38
# By the version of Landlock: how many rights to files it knows, from the lowest bit on.
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_TCP_RIGHTS = 0b11
_TCP_VERSION = 4
_SCOPES = 0b11
"""No abstract Unix sockets and no signals beyond the process itself."""
_SCOPES_VERSION = 6


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


class Confinement(NamedTuple):
    """What holds of a process.

    Attributes:
        landlock: the version of Landlock; 0: none.
        calls: whether the filter of system calls does.
    """

    landlock: int
    calls: bool


def confine(*, descriptors: int, memory: int, file_size: int) -> Confinement:
    """Give up what decoding does not need, for good.

    Args:
        descriptors: the number under which all that are open or will be opened must stay.
        memory: bytes of address space.
        file_size: bytes of the largest piece of memory that is shared.

    Returns:
        What holds from now on, beside the limits.
    """
    landlock = _give_up_files()
    for what, most in (
        (resource.RLIMIT_NOFILE, descriptors),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, file_size),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))
    return Confinement(landlock, give_up_calls())


def lacking(pid: int) -> list[str]:
    """What this system keeps a confined process from giving up, in words; empty where that is all given up."""
    lacks = []
    if landlock_version() < 1:
        lacks.append("files and TCP connections: the kernel has no Landlock")
    # A container's own filter holds of this process too.
    if _filters(str(pid)) <= _filters("self"):
        lacks.append("system calls: no filter (seccomp) of its own holds")
    return lacks


def _filters(pid: str) -> int:
    """How many filters of system calls hold of a process (since Linux 5.9, proc_pid_status)."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"^Seccomp_filters:\s*(\d+)$", status, re.MULTILINE)
    return 0 if found is None else int(found[1])


def landlock_version() -> int:
    """The version of Landlock that the kernel has; 0: none."""
    if not sys.platform.startswith("linux"):
        return 0
    return max(int(ctypes.CDLL(None, use_errno=True).syscall(_CREATE_RULESET, None, 0, _GIVE_VERSION)), 0)


def _give_up_files() -> int:
    """Open no file, run no program, connect to nothing by TCP, send no signal: as much of it as the kernel knows."""
    version = landlock_version()
    if version < 1:
        return 0
    libc = ctypes.CDLL(None, use_errno=True)
    rights = _FILE_RIGHTS.get(version, max(_FILE_RIGHTS.values()))
    ruleset = _Ruleset(
        files=(1 << rights) - 1,
        network=_TCP_RIGHTS if version >= _TCP_VERSION else 0,
        scopes=_SCOPES if version >= _SCOPES_VERSION else 0,
    )
    # A kernel takes a longer structure than it knows where the rest is zero.
    rules = libc.syscall(_CREATE_RULESET, ctypes.byref(ruleset), ctypes.sizeof(ruleset), 0)
    if rules < 0:
        return 0
    try:
        done = libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0 and libc.syscall(_RESTRICT_SELF, rules, 0) == 0
        return version if done else 0
    finally:
        os.close(rules)
