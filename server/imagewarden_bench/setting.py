"""What all parts of a run share: what was asked, the pictures, the folder, and the servers that are measured."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from imagewarden.v1 import moderation_service_pb2 as pb
from imagewarden.v1 import types_pb2 as types
from imagewarden_bench.pictures import MEGAPIXEL, SMALL, Pictures
from imagewarden_eval.errors import EvaluationError
from imagewarden_eval.progress import Progress
from imagewarden_eval.service import READY_SECONDS, Service, launched, server_arguments, wait_for_model

_KNOWN_SHARE = 0.02


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured.

    Attributes:
        rounds: each contender's turns.
        seconds: of a turn.
        callers: at once, of new pictures.
        entries: banned pictures, and logos, while new pictures are checked.
        vectors: in the index.
        banks: pictures of the banks whose best entries are asked for.
        hashes: in the index.
        changing: banned pictures and PDQ hashes of the index that is searched while it changes.
        catalogues: pictures and PDQ hashes of the catalogues whose checks are compared, the smallest first.
        real: pictures that are banned in each of these catalogues; of them the others are mixed.
        size_checks: of each, a round.
        started: PDQ hashes of the catalogue that is started with, and of the list that comes in.
        bans: how many are timed.
        pictures: width and height of those whose stages are timed.
    """

    rounds: int
    seconds: float
    callers: tuple[int, ...]
    entries: tuple[int, int]
    vectors: tuple[int, ...]
    banks: tuple[int, ...]
    hashes: tuple[int, ...]
    changing: tuple[int, int]
    catalogues: tuple[tuple[int, int], ...]
    real: int
    size_checks: int
    started: int
    bans: int
    pictures: tuple[tuple[int, int], ...]


FULL = Sizes(
    rounds=5,
    seconds=10.0,
    callers=(1, 4, 16, 64),
    entries=(100, 20),
    vectors=(1_000, 10_000, 100_000, 1_000_000),
    banks=(1_000, 8_000, 20_000),
    hashes=(1_000_000, 10_000_000),
    changing=(8_000, 1_000_000),
    catalogues=((1_000, 1_000), (10_000, 100_000), (100_000, 1_000_000)),
    real=24,
    size_checks=30,
    started=1_000_000,
    bans=50,
    pictures=((4000, 3000), MEGAPIXEL, SMALL),
)
QUICK = Sizes(
    rounds=1,
    seconds=0.5,
    callers=(1, 16),
    entries=(3, 1),
    vectors=(1_000, 10_000),
    banks=(100, 800),
    hashes=(100_000,),
    changing=(800, 20_000),
    catalogues=((100, 1_000), (400, 10_000)),
    real=6,
    size_checks=8,
    started=10_000,
    bans=10,
    pictures=(MEGAPIXEL, SMALL),
)


@dataclass(frozen=True, slots=True)
class Host:
    """A model host that runs: its address, a socket, and its process."""

    address: str
    pid: int


@dataclass(frozen=True)
class Setting:
    """One run's.

    Attributes:
        model_base_path: the directory of the model's versions.
        scratch: a folder of the run's own.
        started: what is stopped when the run ends.
    """

    sizes: Sizes
    seed: int
    model_base_path: Path
    scratch: Path
    pictures: Pictures
    progress: Progress
    started: ExitStack

    def folder(self, name: str) -> Path:
        """A new folder."""
        made = self.scratch / name
        made.mkdir()
        return made

    @cached_property
    def model(self) -> Host:
        """The host of the product's model: one for all parts, started when the first of them asks for it."""
        socket = self.scratch / "model.sock"
        arguments = ["model", "serve", "--model-name", "inception", "--model-base-path", str(self.model_base_path)]
        arguments += ["--port", "0", "--exit-with-parent", "--grpc-socket-path", str(socket)]
        ready = self.started.enter_context(launched("the model host", arguments, self.scratch, "host"))
        return Host(f"unix:{socket}", ready["pid"])


@dataclass(frozen=True, slots=True)
class Running:
    """A server and its model host, as processes.

    Attributes:
        pids: by what they are: `server`, `model host`.
        start_seconds: until it was ready, the interpreter's start included.
    """

    service: Service
    pids: Mapping[str, int]
    start_seconds: float


@contextmanager
def running(setting: Setting, scratch: Path) -> Iterator[Running]:
    """A server over the state in a folder, empty where there is none, that has its model."""
    host = setting.model
    with ExitStack() as stack:
        begin = time.perf_counter()
        arguments = server_arguments(scratch, host.address)
        ready = stack.enter_context(launched("the server", arguments, scratch, "server"))
        took = time.perf_counter() - begin
        service = Service(ready["grpc"], host.address)
        stack.callback(service.close)
        wait_for_model(service, setting.pictures.file((320, 240)), READY_SECONDS)
        yield Running(service, {"server": ready["pid"], "model host": host.pid}, took)


def check_request(image: bytes, banks: Sequence[str] = ()) -> bytes:
    """A CheckImageRequest as it goes over the wire."""
    return pb.CheckImageRequest(image=image, banks=[f"banks/{bank}" for bank in banks]).SerializeToString()


def stage_medians(answers: Sequence[bytes]) -> dict[str, float]:
    """Of each stage of the checks that were answered, serialised CheckImageResponses, the median in milliseconds."""
    took: dict[str, list[float]] = {}
    for data in answers:
        for one in pb.CheckImageResponse.FromString(data).timings:
            took.setdefault(one.stage, []).append(1e3 * one.duration.ToTimedelta().total_seconds())
    return {stage: round(statistics.median(times), 1) for stage, times in took.items()}


def verdicts(answers: Sequence[bytes], *, new: bool = False) -> dict[str, int]:
    """How many answers have which verdict.

    Args:
        answers: CheckImageResponses as they came.
        new: the pictures are not to be known: a check that ends early since it knows one costs less.

    Raises:
        EvaluationError: an answer was undecided for want of time or of the model, or pictures that should be new are
            known: what was measured is not what it is called.
    """
    count: dict[str, int] = {}
    for data in answers:
        answer = pb.CheckImageResponse.FromString(data)
        for reason in answer.undecided_reasons:
            if reason.code in {types.UNDECIDED_CODE_DEADLINE, types.UNDECIDED_CODE_EMBEDDING_UNAVAILABLE}:
                raise EvaluationError(f"a check that was measured was not whole: {reason.message}")
        word = types.Verdict.Name(answer.verdict).removeprefix("VERDICT_").lower()
        count[word] = count.get(word, 0) + 1
    if new and count.get("match", 0) > _KNOWN_SHARE * len(answers):
        raise EvaluationError(
            f"{count['match']} of {len(answers)} pictures that should be new are known; give --images of a folder "
            "whose photographs have nothing in common"
        )
    return count


def spread(values: Sequence[float]) -> dict[str, Any]:
    """The median of rounds, with the least and the most."""
    return {
        "median": round(statistics.median(values), 4),
        "least": round(min(values), 4),
        "most": round(max(values), 4),
    }
