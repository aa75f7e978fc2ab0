"""The life of the index: a start with a large catalogue, and how soon a ban is in force while others check."""

from __future__ import annotations

import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from imagewarden import BankKind, Client, Hash, SignalType, Verdict
from imagewarden_bench.load import CHECK, closed
from imagewarden_bench.pictures import MEGAPIXEL
from imagewarden_bench.setting import Setting, check_request, running, spread, verdicts
from imagewarden_eval.service import CALL_SECONDS, Service

_A_CALL = 10_000
_CALLERS = 16
_TRIES = 20


def measure(setting: Setting) -> dict[str, Any]:
    """Seconds to start, from a snapshot and without; milliseconds from a ban's acknowledgement to its first match."""
    scratch = setting.folder("life")
    with running(setting, scratch) as first:
        imported = _import(setting, first.service)
    with running(setting, scratch) as from_snapshot:
        bans = _bans(setting, from_snapshot.service)
    for one in (scratch / "state" / "index").rglob("*"):
        if one.is_file():
            one.unlink()
    with running(setting, scratch) as rebuilt:
        pass
    return {
        "hashes": setting.sizes.started,
        "import_seconds": round(imported, 1),
        "hashes_imported_a_second": round(setting.sizes.started / imported),
        "start_from_snapshot_seconds": round(from_snapshot.start_seconds, 2),
        "start_by_rebuilding_seconds": round(rebuilt.start_seconds, 2),
        "bans": bans,
    }


def _import(setting: Setting, service: Service) -> float:
    count = setting.sizes.started
    service.client.create_bank("hashes", BankKind.BANNED)
    chance = np.random.default_rng(setting.seed)
    begin = time.perf_counter()
    with setting.progress.task("banning hashes", count) as step:
        for first in range(0, count, _A_CALL):
            rows = min(_A_CALL, count - first)
            hashes = [Hash(SignalType.PDQ, chance.bytes(32).hex()) for _ in range(rows)]
            service.client.add_hashes("hashes", hashes, timeout=CALL_SECONDS)
            step(rows)
    return time.perf_counter() - begin


def _bans(setting: Setting, service: Service) -> dict[str, Any]:
    """Ban pictures while 16 callers check new ones; each is checked before its ban, and when that is acknowledged.

    By turns a file's digest and a picture's PDQ hash: what was seen of it before must count for neither.
    """
    service.client.create_bank("bans", BankKind.BANNED)
    stop = threading.Event()

    def load() -> int:
        answered = 0
        while not stop.is_set():
            requests = [check_request(one) for one in setting.pictures.files(_CALLERS, MEGAPIXEL)]
            answers = closed(service.address, CHECK, requests, _CALLERS, 60).answers
            verdicts(answers)
            answered += len(answers)
        return answered

    files = setting.pictures.files(setting.sizes.bans, (640, 480))
    acknowledged, matched, missed = [], [], 0
    with ThreadPoolExecutor(1) as pool, Client(service.address, timeout=CALL_SECONDS) as client:
        beside = pool.submit(load)
        try:
            with setting.progress.task("bans under load", len(files)) as step:
                for number, data in enumerate(files):
                    seen = client.check(data)
                    digest = Hash(SignalType.SHA256, hashlib.sha256(data).hexdigest())
                    ban = Hash(SignalType.PDQ, seen.image.pdq) if number % 2 else digest
                    begin = time.perf_counter()
                    client.add_hashes("bans", [ban])
                    known = time.perf_counter()
                    acknowledged.append(1e3 * (known - begin))
                    tries = next((turn for turn in range(_TRIES) if _matches(client, data)), _TRIES)
                    matched.append(1e3 * (time.perf_counter() - known))
                    missed += tries
                    step(1)
        finally:
            stop.set()
        checks = beside.result()
    return {
        "callers": _CALLERS,
        "checks_beside": checks,
        "acknowledged_ms": spread(acknowledged),
        "matched_ms_after": spread(matched),
        "checks_that_missed_it": missed,
    }


def _matches(client: Client, data: bytes) -> bool:
    return client.check(data).verdict is Verdict.MATCH
