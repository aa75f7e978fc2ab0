"""A model host that stands before the real one, and answers oddly where a file tells it how; a process of its own.

python -m tests.support.odd_host REAL_ADDRESS MODE_FILE READY_FILE
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from imagewarden_server.embedding import _tfs
from tests.support import processes
from tests.support.processes import Host

ROOT = Path(__file__).parents[2]
LATE_SECONDS = 30.0
_OPTIONS = [
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
]


class OddHost(Host):
    """The process, and how it answers."""

    mode: Path

    def answer(self, how: str) -> None:
        """How pictures are answered from now on; empty: as the real host does."""
        temporary = self.mode.with_suffix(".tmp")
        temporary.write_text(how)
        temporary.replace(self.mode)


def launch_odd_host(real: str, scratch: Path) -> OddHost:
    """Start one before a real host; it answers as that does until it is told otherwise."""
    mode, ready, log = scratch / "mode", scratch / "odd.ready", scratch / "odd.log"
    mode.write_text("")
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.odd_host", real, str(mode), str(ready)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(["server", "client", *sys.path])},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    processes.end_with_the_rest(process)
    deadline = time.monotonic() + processes.READY_SECONDS
    while not ready.exists():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
    host = OddHost(process, log, f"127.0.0.1:{ready.read_text()}")
    host.mode = mode
    return host


def _shape(tensor: Any) -> None:
    """A vector less of a number."""
    tensor.tensor_shape.dim[-1].size -= 1


def _short(tensor: Any) -> None:
    """Not all of the numbers."""
    tensor.tensor_content = tensor.tensor_content[:-4]


def _not_a_number(tensor: Any) -> None:
    tensor.tensor_content = np.full(len(tensor.tensor_content) // 4, np.nan, "<f4").tobytes()


def _endless(tensor: Any) -> None:
    tensor.tensor_content = np.full(len(tensor.tensor_content) // 4, np.inf, "<f4").tobytes()


def _not_unit(tensor: Any) -> None:
    tensor.tensor_content = (np.frombuffer(tensor.tensor_content, "<f4") * 1_000).tobytes()


def _type(tensor: Any) -> None:
    tensor.dtype = _tfs.DT_INT32


_CHANGES = {
    "shape": _shape,
    "short": _short,
    "nan": _not_a_number,
    "inf": _endless,
    "not unit": _not_unit,
    "type": _type,
}
HOWS = ("late", "garbage", "empty", "error", "nothing", *_CHANGES)
"""Each way to answer oddly."""


class _Before(grpc.GenericRpcHandler):
    """Hands every call on, and changes what comes back."""

    def __init__(self, real: str, mode: Path) -> None:
        self._channel = grpc.insecure_channel(real, options=_OPTIONS)
        self._mode = mode

    def service(self, details: Any) -> Any:
        def handle(request: bytes, context: Any) -> bytes:
            return self._handle(details.method, request, context)

        return grpc.unary_unary_rpc_method_handler(handle)

    def _handle(self, method: str, request: bytes, context: Any) -> bytes:
        how = self._mode.read_text() if self._of_pictures(method, request) else ""
        if how == "late":
            time.sleep(LATE_SECONDS)
        elif how == "garbage":
            return b"\xff" * 1_000
        elif how == "empty":
            return b""
        elif how == "error":
            context.abort(grpc.StatusCode.INTERNAL, "as the test told")
        call: Any = self._channel.unary_unary(method)
        try:
            answer: bytes = call(request, timeout=context.time_remaining())
        except grpc.RpcError as error:
            said: Any = error
            context.abort(said.code(), said.details())
        if how == "nothing":
            response = _tfs.PredictResponse.FromString(answer)
            response.outputs.clear()
            return bytes(response.SerializeToString())
        if how in _CHANGES:
            response = _tfs.PredictResponse.FromString(answer)
            for tensor in response.outputs.values():
                _CHANGES[how](tensor)
            return bytes(response.SerializeToString())
        return answer

    @staticmethod
    def _of_pictures(method: str, request: bytes) -> bool:
        if not method.endswith("/Predict"):
            return False
        return bool(_tfs.PredictRequest.FromString(request).model_spec.signature_name == "serving_default")


def _main() -> None:
    real, mode, ready = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    server = grpc.server(ThreadPoolExecutor(32), options=_OPTIONS)
    server.add_generic_rpc_handlers((_Before(real, mode),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    temporary = ready.with_suffix(".tmp")
    temporary.write_text(str(port))
    temporary.replace(ready)
    server.wait_for_termination()


if __name__ == "__main__":
    _main()
