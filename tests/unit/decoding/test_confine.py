"""What a decoder process can still do, tried from the inside: in a process, since rights are given up for good."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
from typing import Any

import pytest

from imagewarden_server.decoding import seccomp
from imagewarden_server.decoding.confine import lacking

SCRIPT = """
import ctypes, errno, json, os, platform, resource, signal, socket, subprocess, sys, threading
from imagewarden_server.decoding.confine import confine
from imagewarden_server.decoding.seccomp import _DENIED, _MACHINES

libc = ctypes.CDLL(None, use_errno=True)
ours, theirs = socket.socketpair()
listening = socket.create_server(("127.0.0.1", 0))
where = listening.getsockname()
unix = "{folder}/listening.sock"
server = socket.socket(socket.AF_UNIX)
server.bind(unix)
server.listen()
mine = os.open("{folder}/mine", os.O_CREAT | os.O_RDWR)
nothing = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
beside = subprocess.Popen(["sleep", "60"], **nothing)
before = threading.Event()
seen_before = []
def thread_of_before():
    before.wait()
    seen_before.append(tried(lambda: socket.socket()))
earlier = threading.Thread(target=thread_of_before)
earlier.start()
landlock, calls = confine(descriptors=mine + 3, memory=2**32, file_size=2**20)

def called(name, *arguments):
    number = dict(
        clone=_MACHINES[platform.machine()].clone,
        prlimit=_MACHINES[platform.machine()].prlimit,
        tgkill=_MACHINES[platform.machine()].tgkill,
    ).get(name) or _DENIED[name][_MACHINES[platform.machine()].column]
    def call():
        if libc.syscall(number, *arguments) < 0:
            raise OSError(ctypes.get_errno(), name)
    return tried(call)

def threads():
    done = []
    several = [threading.Thread(target=done.append, args=(one,)) for one in range(4)]
    for one in several:
        one.start()
    for one in several:
        one.join()
    return len(done)

def shown():
    ours.sendall(b"question")
    memory = os.memfd_create("pixels", os.MFD_ALLOW_SEALING)
    try:
        socket.send_fds(ours, [b"answer"], [memory])
    finally:
        os.close(memory)
    data, descriptors, *_ = socket.recv_fds(theirs, 100, 1)
    for one in descriptors:
        os.close(one)
    return [data.decode(), len(descriptors)]

def tried(what):
    try:
        what()
    except OSError as error:
        return errno.errorcode[error.errno]
    except MemoryError:
        return "MemoryError"
    return "done"

def more_descriptors():
    kept = [os.memfd_create("one") for _ in range(3)]

def larger_file():
    memory = os.memfd_create("large")
    try:
        os.ftruncate(memory, 2**21)
    finally:
        os.close(memory)

before.set()
earlier.join()
limits = (ctypes.c_ulong * 2)(64, 64)
# All but a few of these succeed where nothing was given up.
by_filter = {{
    "udp": tried(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)),
    "unix": tried(lambda: socket.socket(socket.AF_UNIX)),
    "pair": tried(lambda: socket.socketpair()),
    "raw netlink": tried(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)),
    "accept": tried(lambda: server.accept()),
    "connect": tried(lambda: listening.connect(where)),
    "fork": tried(lambda: os.fork() or os._exit(0)),
    "clone": called("clone", signal.SIGCHLD, 0, 0, 0, 0),
    "run": tried(lambda: os.execv(sys.executable, ["python", "-c", ""])),
    "kill": tried(lambda: os.kill(beside.pid, 0)),
    "kill the group": tried(lambda: os.kill(0, 0)),
    "kill a thread": called("tgkill", beside.pid, beside.pid, 0),
    "queue a signal": called("rt_sigqueueinfo", beside.pid, 0, ctypes.create_string_buffer(128)),
    "pidfd": tried(lambda: os.pidfd_open(beside.pid)),
    "trace": called("ptrace", 16, beside.pid, 0, 0),
    "read memory": called("process_vm_readv", beside.pid, 0, 0, 0, 0, 0),
    "limits": called("prlimit", beside.pid, resource.RLIMIT_NOFILE, limits, 0),
    "priority": tried(lambda: os.setpriority(os.PRIO_PROCESS, beside.pid, 5)),
    "processors": tried(lambda: os.sched_setaffinity(beside.pid, os.sched_getaffinity(0))),
    "rights": tried(lambda: os.fchmod(mine, 0o777)),
    "times": tried(lambda: os.utime(mine)),
    "attributes": tried(lambda: os.setxattr(mine, "user.one", b"1")),
    "shared memory": called("shmget", 0, 4096, 0o1600),
    "user namespace": called("unshare", 0x10000000),
    "ring": called("io_uring_setup", 1, ctypes.create_string_buffer(120)),
    "in a thread of before": seen_before[0],
}}
still = {{"threads": threads(), "shown": shown(), "own limits": resource.getrlimit(resource.RLIMIT_CORE)[0]}}
still["signal to itself"] = tried(lambda: os.kill(os.getpid(), 0))

print(json.dumps({{
    "landlock": landlock,
    "calls": calls,
    "by filter": by_filter,
    "still": still,
    "beside": beside.pid,
    "file": tried(larger_file),
    "read": tried(lambda: os.open("/etc/hostname", os.O_RDONLY)),
    "write": tried(lambda: os.open("{folder}/new", os.O_CREAT | os.O_WRONLY)),
    "run": tried(lambda: os.execv("/bin/true", ["true"])),
    "connect": tried(lambda: socket.create_connection(where, 1)),
    "signal": tried(lambda: os.kill(os.getppid(), 0)),
    "descriptors": tried(more_descriptors),
    "memory": tried(lambda: bytearray(2**33)),
    "core": resource.getrlimit(resource.RLIMIT_CORE)[1],
}}))
"""


@pytest.fixture(scope="module")
def tries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("confined")
    script = SCRIPT.format(folder=folder)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not (folder / "new").exists()
    answer: dict[str, Any] = json.loads(done.stdout)
    os.kill(answer["beside"], signal.SIGKILL)
    return answer


def test_memory_descriptors_and_files_are_bounded_everywhere(tries: dict[str, Any]) -> None:
    assert tries["descriptors"] == "EMFILE"
    assert tries["memory"] == "MemoryError"
    assert tries["file"] == "EFBIG"
    assert tries["core"] == 0


def test_files_programs_connections_and_signals_are_given_up_where_the_kernel_can(tries: dict[str, Any]) -> None:
    what = ["read", "write", "run", "connect", "signal"]
    version = tries["landlock"]
    given_up = {"EACCES", "EPERM"}
    assert (
        {tries[one] for one in what[: 3 if version < 4 else 4 if version < 6 else 5]} <= given_up if version else True
    )


FILTERED = sys.platform.startswith("linux") and platform.machine() in {"x86_64", "aarch64"}
FOREIGN = """
import ctypes, platform
from imagewarden_server.decoding.seccomp import _X32, give_up_calls
assert give_up_calls()
ctypes.CDLL(None).syscall(_X32 + 39)
print("alive")
"""


@pytest.mark.skipif(not FILTERED, reason="the filter is for Linux on x86-64 and AArch64")
def test_no_other_process_and_no_socket_is_within_reach(tries: dict[str, Any]) -> None:
    assert tries["calls"] is True
    refused = tries["by filter"]
    assert {name: said for name, said in refused.items() if said not in {"EPERM", "EACCES"}} == {}


@pytest.mark.skipif(not FILTERED, reason="the filter is for Linux on x86-64 and AArch64")
def test_what_decoding_needs_is_left(tries: dict[str, Any]) -> None:
    assert tries["still"] == {
        "threads": 4,
        "shown": ["questionanswer", 1],
        "own limits": 0,
        "signal to itself": "done",
    }


@pytest.mark.skipif(not FILTERED or platform.machine() != "x86_64", reason="x32 is x86-64's other set of calls")
def test_calls_by_another_set_of_numbers_end_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", FOREIGN], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (-signal.SIGSYS, ""), done.stderr


def test_where_no_filter_holds_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [one for one in lacking(os.getpid()) if "seccomp" in one]
    monkeypatch.setattr(seccomp, "_MACHINES", {})
    assert seccomp.give_up_calls() is False, "and nothing was given up"
