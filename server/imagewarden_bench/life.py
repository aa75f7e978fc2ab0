"""The life of the index: a start with a large catalogue, and how soon a ban is in force while others check."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from imagewarden import BankKind, Client, Hash, SignalType, Verdict
from imagewarden_bench.load import CHECK, closed
from imagewarden_bench.pictures import MEGAPIXEL
from imagewarden_bench.setting import Setting, check_request, model_host, spread
from imagewarden_eval.service import CALL_SECONDS, Service, launched, server_arguments, wait_for_model

_A_CALL = 10_000
_CALLERS = 16


def measure(setting: Setting) -> dict[str, Any]:
    """Seconds to start, from a snapshot and without; milliseconds from a ban's acknowledgement to its first match."""
    scratch = setting.folder("life")
    with model_host(setting, scratch) as address:
        with _server(setting, scratch, address) as (service, _):
            imported = _import(setting, service)
        with _server(setting, scratch, address) as (service, from_snapshot):
            bans = _bans(setting, service)
        for one in (scratch / "state" / "index").rglob("*"):
            if one.is_file():
                one.unlink()
        with _server(setting, scratch, address) as (_, rebuilt):
            pass
    return {
        "hashes": setting.sizes.started,
        "import_seconds": round(imported, 1),
        "hashes_imported_a_second": round(setting.sizes.started / imported),
        "start_from_snapshot_seconds": round(from_snapshot, 2),
        "start_by_rebuilding_seconds": round(rebuilt, 2),
        "bans": bans,
    }


@contextmanager
def _server(setting: Setting, scratch: Path, address: str) -> Iterator[tuple[Service, float]]:
    """A server over the part's state, and the seconds until it was ready, the interpreter's start included."""
    begin = time.perf_counter()
    with launched("the server", server_arguments(scratch, address), scratch, "server") as ready:
        took = time.perf_counter() - begin
        service = Service(ready["grpc"], address)
        try:
            wait_for_model(service, setting.pictures.file((320, 240)))
            yield service, took
        finally:
            service.close()


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
    """Ban files while 16 callers check new pictures; each is checked as soon as its ban is acknowledged."""
    service.client.create_bank("bans", BankKind.BANNED)
    stop = threading.Event()
    answered: list[int] = []

    def load() -> None:
        while not stop.is_set():
            files = setting.pictures.files(_CALLERS, MEGAPIXEL)
            requests = [check_request(one) for one in files]
            answered.append(len(closed(service.address, CHECK, requests, _CALLERS, 60).seconds))

    beside = threading.Thread(target=load)
    files = setting.pictures.files(setting.sizes.bans, (640, 480))
    beside.start()
    acknowledged, matched, missed = [], [], 0
    try:
        with (
            Client(service.address, timeout=CALL_SECONDS) as client,
            setting.progress.task("bans under load", len(files)) as step,
        ):
            for data in files:
                begin = time.perf_counter()
                client.add_hashes("bans", [Hash(SignalType.SHA256, hashlib.sha256(data).hexdigest())])
                known = time.perf_counter()
                acknowledged.append(1e3 * (known - begin))
                while client.check(data).verdict is not Verdict.MATCH:
                    missed += 1
                matched.append(1e3 * (time.perf_counter() - known))
                step(1)
    finally:
        stop.set()
        beside.join()
    return {
        "callers": _CALLERS,
        "checks_beside": sum(answered),
        "acknowledged_ms": spread(acknowledged),
        "matched_ms_after": spread(matched),
        "checks_that_missed_it": missed,
    }
