"""A list of hashes comes in by `imagewarden import`, while others check: how long it takes, and what they wait."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from imagewarden import BankKind, Client, Hash, SignalType, Verdict
from imagewarden_bench.new_pictures import fill
from imagewarden_bench.pictures import MEGAPIXEL, SMALL
from imagewarden_bench.setting import Setting, running
from imagewarden_eval.errors import EvaluationError
from imagewarden_eval.service import CALL_SECONDS, Service

_BANK, _DIGESTS = "hashes", "digests"
_DIGEST_CALLS_A_SECOND = 20
_IMPORT_SECONDS = 900.0


class _Answer(NamedTuple):
    """How long a check took, and what it said."""

    seconds: float
    verdict: Verdict


def measure(setting: Setting) -> dict[str, Any]:
    """Seconds of the import, and the checks' times with nothing beside and with the import beside.

    There are banned pictures and logos, so that a new picture goes the whole road, and the model's passes with it.
    """
    scratch = setting.folder("lists")
    count = setting.sizes.started
    file = scratch / "hashes.txt"
    chance = np.random.default_rng(setting.seed)
    with file.open("w", encoding="ascii") as lines:
        for _ in range(count):
            lines.write(f"pdq {chance.bytes(32).hex()}\n")
    with running(setting, scratch) as whole:
        service = whole.service
        fill(setting, service)
        for bank in (_BANK, _DIGESTS):
            service.client.create_bank(bank, BankKind.BANNED)
        with setting.progress.task("checks alone, then beside an import", 3) as step:
            alone = _alone(setting, service)
            step(1)
            first, beside = _imported(setting, service, file)
            step(1)
            again, _ = _imported(setting, service, file)
            step(1)
        entries = service.client.get_bank(_BANK).entry_count
    if entries != count:
        raise EvaluationError(
            f"{entries} of {count} hashes are in the bank: what was measured is not what it is called"
        )
    return {
        "hashes": count,
        "seconds": round(first, 1),
        "hashes_a_second": round(count / first),
        "banned_pictures": setting.sizes.entries[0],
        "logos": setting.sizes.entries[1],
        "again_seconds": round(again, 1),
        "checks": {"alone": alone, "beside": beside},
    }


def _alone(setting: Setting, service: Service) -> dict[str, Any]:
    with _checking(setting, service) as told:
        time.sleep(3 * setting.sizes.seconds)
    return told()


def _imported(setting: Setting, service: Service, file: Path) -> tuple[float, dict[str, Any]]:
    with _checking(setting, service) as told:
        begin = time.perf_counter()
        command = [sys.executable, "-m", "imagewarden", "--server", service.address, "import", str(file)]
        done = subprocess.run(  # noqa: S603 -- this very package, with arguments made here
            [*command, "--bank", _BANK, "--yes"],
            capture_output=True,
            text=True,
            timeout=_IMPORT_SECONDS,
            check=False,
        )
        took = time.perf_counter() - begin
    if done.returncode:
        raise EvaluationError(f"the import ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return took, told()


@contextmanager
def _checking(setting: Setting, service: Service) -> Iterator[Callable[[], dict[str, Any]]]:
    """Check until the block ends: one caller new pictures, one after the other; one a banned file, twenty a second.

    Yields:
        What tells, after the block, the percentiles of each.
    """
    stop = threading.Event()
    known = setting.pictures.file(SMALL)
    with Client(service.address, timeout=CALL_SECONDS) as client, ThreadPoolExecutor(2) as pool:
        client.add_hashes(_DIGESTS, [Hash(SignalType.SHA256, hashlib.sha256(known).hexdigest())])
        new = pool.submit(_new, setting, client, stop)
        digests = pool.submit(_known, client, known, stop)
        try:
            yield lambda: {"new": _told(new.result()), "digest": _told(digests.result())}
        finally:
            stop.set()


def _new(setting: Setting, client: Client, stop: threading.Event) -> list[_Answer]:
    answers: list[_Answer] = []
    while not stop.is_set():
        for image in setting.pictures.files(8, MEGAPIXEL):
            answers.append(_checked(client, image))
            if stop.is_set():
                break
    return answers


def _known(client: Client, image: bytes, stop: threading.Event) -> list[_Answer]:
    answers: list[_Answer] = []
    due = time.perf_counter()
    while not stop.is_set():
        answers.append(_checked(client, image))
        due += 1 / _DIGEST_CALLS_A_SECOND
        stop.wait(max(0.0, due - time.perf_counter()))
    return answers


def _checked(client: Client, image: bytes) -> _Answer:
    begin = time.perf_counter()
    verdict = client.check(image).verdict
    return _Answer(time.perf_counter() - begin, verdict)


def _told(answers: Sequence[_Answer]) -> dict[str, float]:
    took = [one.seconds for one in answers]
    figures = {f"p{share}_ms": round(1e3 * float(np.percentile(took, share)), 1) for share in (50, 95, 99)}
    undecided = sum(one.verdict is Verdict.UNDECIDED for one in answers)
    return {"answers": len(answers), "undecided": undecided, **figures}
