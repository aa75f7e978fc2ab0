"""The service that is measured: started for the run, or one that runs already; always asked over gRPC."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import grpc

from imagewarden import BankKind, Client, ImageWardenError, ResourceExhausted, TimeoutExceeded, Unavailable
from imagewarden.v1 import bank_service_pb2 as banks_pb
from imagewarden.v1 import bank_service_pb2_grpc as banks_grpc
from imagewarden.v1 import moderation_service_pb2 as pb
from imagewarden.v1 import moderation_service_pb2_grpc as pb_grpc
from imagewarden.v1 import types_pb2 as types
from imagewarden_eval.errors import EvaluationError

T = TypeVar("T")
R = TypeVar("R")

READY_SECONDS = 900.0
CALL_SECONDS = 120.0
MAX_MATCHES = 100
_MESSAGE_BYTES = 128 * 2**20
_TRIES = 20
_AGAIN = {types.UNDECIDED_CODE_EMBEDDING_UNAVAILABLE, types.UNDECIDED_CODE_DEADLINE}
_PASSING = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED}

# Where a server that fuses nothing is measured: signal by signal, each threshold where hardly more than the bank's own
# neighbours answer, since all share one list of at most 100 matches. Two different pictures are 128 bits apart, +- 8.
_OPEN = {types.SIGNAL_TYPE_PDQ: 80.0, types.SIGNAL_TYPE_EMBEDDING: 0.0}


class ServiceError(EvaluationError):
    """The service could not be started or does not answer as it must; the message says what to do."""


@dataclass
class Candidate:
    """What a check says of one entry.

    Attributes:
        external_id: the entry's.
        scores: by signal, in lower-case words, in the unit of its threshold: pdq in bits, local in inliers; a digest
            that is equal is `digest` with 1. A signal that said nothing is missing.
        box: where the best match that names a box lies, as fractions; None: none did.
    """

    external_id: str
    brand: str = ""
    scores: dict[str, float] = field(default_factory=dict)
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class Answer:
    """One check's candidates by external id, what could not be compared, and how long it took, as the caller saw it."""

    candidates: Mapping[str, Candidate]
    undecided: tuple[str, ...]
    seconds: float
    stages: Mapping[str, float]


class Service:
    """One server under measurement."""

    def __init__(self, address: str, model_address: str | None) -> None:
        self.address = address
        self.model_address = model_address
        self.client = Client(address, timeout=CALL_SECONDS)
        options = [
            ("grpc.max_send_message_length", _MESSAGE_BYTES),
            ("grpc.max_receive_message_length", _MESSAGE_BYTES),
        ]
        self._channel = grpc.insecure_channel(address, options=options)
        self._moderation = pb_grpc.ModerationServiceStub(self._channel)
        self._banks = banks_grpc.BankServiceStub(self._channel)

    def close(self) -> None:
        """Close the connections."""
        self.client.close()
        self._channel.close()

    def create_open_bank(self, name: str, kind: BankKind) -> dict[str, float]:
        """Make a bank that answers every candidate it has, and say what its thresholds were: the shipped defaults."""
        self.client.create_bank(name, kind)
        shipped = self.thresholds(name)
        self._set_policy(name, _opened(self._bank(name).policy))
        return shipped

    @contextmanager
    def opened(self, names: Sequence[str]) -> Iterator[None]:
        """Meanwhile banks answer every candidate and only note it; in the end their policies are as they were."""
        before = {name: self._bank(name).policy for name in names}
        try:
            for name, policy in before.items():
                lowered = _opened(policy)
                lowered.action = types.ACTION_NOTE
                self._set_policy(name, lowered)
            yield
        finally:
            for name, policy in before.items():
                self._set_policy(name, policy)

    def _bank(self, name: str) -> types.Bank:
        request = banks_pb.GetBankRequest(name=f"banks/{name.removeprefix('banks/')}")
        try:
            return self._banks.GetBank(request, timeout=CALL_SECONDS).bank
        except grpc.RpcError as error:
            raise ServiceError(f"the bank {name} cannot be read at {self.address}: {error}") from error

    def _set_policy(self, name: str, policy: types.Policy) -> None:
        bank = types.Bank(name=f"banks/{name.removeprefix('banks/')}", policy=policy)
        request = banks_pb.UpdateBankRequest(bank=bank)
        request.update_mask.paths.extend(["policy.action", "policy.thresholds"])
        try:
            self._banks.UpdateBank(request, timeout=CALL_SECONDS)
        except grpc.RpcError as error:
            raise ServiceError(f"the policy of bank {name} cannot be set at {self.address}: {error}") from error

    def thresholds(self, name: str) -> dict[str, float]:
        """The thresholds of a bank that are in force, but for digests."""
        policy = self._bank(name).policy
        pairs = {_word(one.signal): one.threshold for one in policy.thresholds if not one.disabled}
        return {signal: value for signal, value in pairs.items() if signal not in {"sha256", "sha1", "md5"}}

    def check(self, image: bytes, banks: Sequence[str] = ()) -> Answer:
        """Check one picture, and read all that its answer says of each candidate."""
        request = pb.CheckImageRequest(
            image=image, banks=[f"banks/{one}" for one in banks], max_matches=MAX_MATCHES, exhaustive=True
        )
        begin = time.perf_counter()
        response = self._complete(request)
        seconds = time.perf_counter() - begin
        candidates: dict[str, Candidate] = {}
        for match in response.matches:
            key = match.external_id or match.entry
            _read(match, candidates.setdefault(key, Candidate(match.external_id, match.brand)))
        stages = {one.stage: one.duration.ToTimedelta().total_seconds() for one in response.timings}
        undecided = tuple(types.UndecidedCode.Name(one.code).lower() for one in response.undecided_reasons)
        return Answer(candidates, undecided, seconds, stages)

    def _complete(self, request: Any) -> Any:
        """An answer for which every signal was compared: where the model or the time was short it is asked again.

        What was not compared for the picture's own sake, as where it is too plain, stays so.
        """
        for last in (*[False] * (_TRIES - 1), True):
            try:
                response = self._moderation.CheckImage(request, timeout=CALL_SECONDS, wait_for_ready=True)
            except grpc.RpcError as error:
                if last or error.code() not in _PASSING:
                    raise ServiceError(f"a check failed: {error}") from error
            else:
                if not any(one.code in _AGAIN for one in response.undecided_reasons):
                    return response
            time.sleep(1.0)
        reasons = "; ".join(one.message for one in response.undecided_reasons)
        raise ServiceError(f"{_TRIES} checks of one picture were not complete: {reasons}")


def patiently(call: Callable[[str], R]) -> R:
    """Make a change that may fail because the service is short of time, again until it is made, and made once.

    Where the service says when to come back, it is asked then.

    Args:
        call: takes the request_id.

    Raises:
        ImageWardenError: it failed for another reason, or too often.
    """
    request_id = str(uuid.uuid4())
    for _ in range(_TRIES - 1):
        try:
            return call(request_id)
        except (Unavailable, TimeoutExceeded):
            time.sleep(1.0)
        except ResourceExhausted as busy:
            if busy.retry_after is None:
                raise
            time.sleep(max(busy.retry_after, 1.0))
    return call(request_id)


def _opened(policy: types.Policy) -> types.Policy:
    """The same policy, its thresholds as low as is needed for every candidate to be answered.

    With a COMBINED signal that one threshold at 0 is enough: it says something of every candidate.
    """
    known = {one.signal for one in policy.thresholds}
    opened = {types.SIGNAL_TYPE_COMBINED: 0.0} if types.SIGNAL_TYPE_COMBINED in known else _OPEN
    lowered = types.Policy(action=policy.action)
    for one in policy.thresholds:
        lowered.thresholds.add(
            signal=one.signal, threshold=opened.get(one.signal, one.threshold), disabled=one.disabled
        )
    return lowered


def _word(signal: int) -> str:
    return types.SignalType.Name(signal).removeprefix("SIGNAL_TYPE_").lower()  # type: ignore[arg-type]  # numbers of the wire


def _read(match: Any, into: Candidate) -> None:
    """Add what one match says: its own signal, and the evidence of the others."""
    said = {_word(one.signal): one.value for one in match.evidence}
    word = _word(match.signal)
    if word in {"sha256", "sha1", "md5"}:
        said["digest"] = 1.0
    else:
        said.setdefault(word, match.distance if word == "pdq" else match.score)
    for said_by, value in said.items():
        before = into.scores.get(said_by)
        better = min if said_by == "pdq" else max
        into.scores[said_by] = value if before is None else better(before, value)
    if match.HasField("region") and into.box is None:
        region = match.region
        into.box = (region.left, region.top, region.right, region.bottom)


def in_order(work: Callable[[T], R], items: Iterable[T], callers: int) -> Iterator[R]:
    """Work on items by several threads; results come in the items' order, and few are made ahead."""
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(callers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > callers * 4:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


@contextmanager
def launched(name: str, arguments: Sequence[str], scratch: Path, label: str) -> Iterator[dict[str, Any]]:
    """A process of `imagewarden` until it is ready, stopped in the end; what its ready file says, and its `pid`.

    Args:
        name: for people.
        arguments: of the command, without `--ready-file`.
        scratch: where its log and its ready file go.
        label: what these are called.

    Raises:
        ServiceError: it did not start; the message ends with its log.
    """
    ready, log = scratch / f"{label}.json", scratch / f"{label}.log"
    ready.unlink(missing_ok=True)
    command = [*arguments, "--ready-file", str(ready)]
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 -- this very package, with arguments made here
            [sys.executable, "-m", "imagewarden", *command],
            stdout=output,
            stderr=subprocess.STDOUT,
            # Whoever measures waits as long as it takes: nothing is refused for the load that is being measured.
            env={"IMAGEWARDEN_MAX_WAIT_SECONDS": "600", **os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
        )
    try:
        until = time.monotonic() + READY_SECONDS
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > until:
                said = log.read_text(errors="replace")[-2_000:]
                raise ServiceError(
                    f"{name} did not start (`imagewarden {' '.join(command)}`); its log ends with:\n{said}"
                )
            time.sleep(0.02)
        yield {**json.loads(ready.read_text()), "pid": process.pid}
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=60)


@contextmanager
def serving(
    model_base_path: Path | None, *, model_address: str | None = None, address: str | None = None
) -> Iterator[Service]:
    """The service of a run: a real server over an empty state of its own, stopped in the end; or one that runs.

    What is started is what `imagewarden serve --embedded` starts, a model host and a server beside it, by two commands:
    so that the textbook descriptor can be asked of the same host.

    Args:
        model_base_path: the directory of the model's versions; needed where nothing runs yet.
        model_address: a model host that runs; with `address`, the one to ask the textbook descriptor of.
        address: of a server that runs already: nothing is started.

    Raises:
        ServiceError: there is no model, or a process did not start; the message ends with its log.
    """
    if address is not None:
        service = Service(address, model_address)
        try:
            yield service
        finally:
            service.close()
        return
    if model_address is None and (model_base_path is None or not any(model_base_path.glob("[0-9]*"))):
        raise ServiceError(
            f"{model_base_path} has no version of a model; make one with `imagewarden model export --out var/model` "
            "and give --model-base-path var/model/inception, or give --address of a server that runs"
        )
    with tempfile.TemporaryDirectory(prefix="imagewarden-eval-") as folder, ExitStack() as stack:
        scratch = Path(folder)
        if model_address is None:
            model_address = f"unix:{scratch / 'model.sock'}"
            arguments = ["model", "serve", "--model-name", "inception", "--model-base-path", str(model_base_path)]
            arguments += ["--port", "0", "--exit-with-parent", "--grpc-socket-path", str(scratch / "model.sock")]
            stack.enter_context(launched("the model host", arguments, scratch, "host"))
        ready = stack.enter_context(launched("the server", server_arguments(scratch, model_address), scratch, "server"))
        service = Service(ready["grpc"], model_address)
        stack.callback(service.close)
        yield service


def server_arguments(scratch: Path, model_address: str) -> list[str]:
    """The command of a server over a state in a folder, on ports that the system picks."""
    listen = ["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]
    return ["serve", *listen, "--state-dir", str(scratch / "state"), "--model-address", model_address]


def wait_for_model(service: Service, image: bytes, seconds: float = 60.0) -> None:
    """Wait until the server has its model: a search by meaning works.

    Raises:
        ServiceError: it has none in time.
    """
    until = time.monotonic() + seconds
    while True:
        try:
            service.client.search(image, k=1, timeout=30)
        except ImageWardenError as error:
            if time.monotonic() > until:
                raise ServiceError(f"the server has no model: {error}; look at the model host") from error
            time.sleep(0.1)
        else:
            return
