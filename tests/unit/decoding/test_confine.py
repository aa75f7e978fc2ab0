"""What a decoder process can still do, tried from the inside: in a process, since rights are given up for good."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

SCRIPT = """
import errno, json, os, resource, socket, sys
from imagewarden_server.decoding.confine import confine

listening = socket.create_server(("127.0.0.1", 0))
where = listening.getsockname()
landlock = confine(descriptors=listening.fileno() + 2, memory=2**32, file_size=2**20)

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

print(json.dumps({{
    "landlock": landlock,
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
def tries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("confined")
    script = SCRIPT.format(folder=folder)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not list(folder.iterdir())
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def test_memory_descriptors_and_files_are_bounded_everywhere(tries: dict[str, object]) -> None:
    assert tries["descriptors"] == "EMFILE"
    assert tries["memory"] == "MemoryError"
    assert tries["file"] == "EFBIG"
    assert tries["core"] == 0


def test_files_programs_connections_and_signals_are_given_up_where_the_kernel_can(tries: dict[str, object]) -> None:
    what = ["read", "write", "run", "connect", "signal"]
    version = tries["landlock"]
    assert isinstance(version, int)
    given_up = {"EACCES", "EPERM"}
    assert (
        {tries[one] for one in what[: 3 if version < 4 else 4 if version < 6 else 5]} <= given_up if version else True
    )
