"""The contenders' processes: started, told what to do, stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from imagewarden_eval.errors import EvaluationError
from imagewarden_eval.service import launched

_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "2"}


def processor_seconds(pid: int) -> float:
    """How long a process and its children have had the processor, all their threads together.

    Children that have ended are not counted (proc_pid_stat(5): utime and stime).
    """
    children = [
        int(child) for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()
    ]
    return _own_seconds(pid) + sum(processor_seconds(child) for child in children)


def _own_seconds(pid: int) -> float:
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


class Contender:
    """A process of `imagewarden_bench.contender` that is told what to do."""

    def __init__(self, kind: str, argument: Path, log: Path) -> None:
        self._kind = kind
        self._log = log.open("wb")
        command = [sys.executable, "-m", "imagewarden_bench.contender", kind, str(argument)]
        self._process = subprocess.Popen(  # noqa: S603 -- this very package, with arguments made here
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, **_QUIET},
        )
        self.said = self._read()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(timeout=30)
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()

    def tell(self, **told: Any) -> dict[str, Any]:
        """What it answers."""
        if self._process.stdin is None:
            raise EvaluationError("the contender has no standard input")
        self._process.stdin.write(json.dumps(told) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout is not None else ""
        if not line:
            said = Path(self._log.name).read_text(errors="replace")[-2_000:]
            raise EvaluationError(f"the contender `{self._kind}` ended; it said:\n{said}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def made(kind: str, argument: Path) -> None:
    """Have a process of `imagewarden_bench.contender` make what its kind makes.

    Raises:
        EvaluationError: it failed; the message ends with what it said.
    """
    command = [sys.executable, "-m", "imagewarden_bench.contender", kind, str(argument)]
    done = subprocess.run(  # noqa: S603 -- the same
        command, capture_output=True, text=True, check=False, env={**os.environ, **_QUIET}
    )
    if done.returncode:
        raise EvaluationError(f"`{kind}` of {argument} could not be made:\n{done.stderr[-2_000:]}")


def export_textbook(scratch: Path) -> Path:
    """Export the textbook model; the directory of its version.

    Raises:
        EvaluationError: it could not be exported.
    """
    folder = scratch / "textbook"
    folder.mkdir()
    made("textbook", folder)
    return folder


@contextmanager
def textbook_host(folder: Path, scratch: Path) -> Iterator[str]:
    """The address of a model host that serves the textbook model, in the way that ours is served.

    Raises:
        EvaluationError: it could not be served.
    """
    arguments = ["model", "serve", "--model-name", "textbook", "--model-base-path", str(folder), "--port", "0"]
    with launched("the textbook's model host", arguments, scratch, "textbook") as ready:
        yield f"127.0.0.1:{ready['grpc_port']}"
