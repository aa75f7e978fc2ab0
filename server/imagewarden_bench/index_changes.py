"""The index while it changes: how long searches take beside additions and removals, and beside a snapshot."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagewarden_bench.made_vectors import DIMENSIONS, VIEWS, made_vectors
from imagewarden_bench.setting import Setting, spread
from imagewarden_server.index import IndexSet, save_snapshot
from imagewarden_server.matching.ports import Change, StoredHash, StoredVector
from imagewarden_server.matching.types import SignalType, VectorSpace

_BANK, _MODEL = 1, "made"
_DISTANCE = 31
_TURNS = 8
_BEST = 50
_FIRST_CHANGE = 1_000_000_000
"""Keys of what is added meanwhile begin here."""

Vectors = NDArray[np.float32]


def measure(setting: Setting) -> dict[str, Any]:
    """Milliseconds of a search: alone, beside changes, beside a snapshot being saved; the rounds by turns.

    A search is what one check asks: the eight turns of a hash, and the best entries over a picture's windows. A change
    adds an entry of a hash and twelve views and removes the one that the change before had added.
    """
    entries, hashes = setting.sizes.changing
    index, windows = _filled(setting, entries, hashes)
    turns = [np.random.default_rng(setting.seed + turn).bytes(32) for turn in range(_TURNS)]
    saved: list[float] = []
    changed: list[float] = []
    phases: dict[str, Callable[[], Any]] = {
        "alone": contextlib.nullcontext,
        "beside changes": lambda: _changing(index, windows, changed),
        "beside a snapshot": lambda: _saving(index, setting, saved),
    }
    took: dict[str, list[list[float]]] = {name: [] for name in phases}
    with setting.progress.task("the index while it changes", setting.sizes.rounds * len(phases)) as step:
        for _ in range(setting.sizes.rounds):
            for name, phase in phases.items():
                with phase():
                    took[name].append(_searched(index, turns, windows, setting.sizes.seconds))
                step(1)
    return {
        "pictures": entries,
        "hashes": hashes,
        "searches": {name: _times(rounds) for name, rounds in took.items()},
        "change_ms": {"p50": _share(changed, 50), "p99": _share(changed, 99), "most": _share(changed, 100)},
        "changes_a_second": round(len(changed) / (setting.sizes.rounds * setting.sizes.seconds)),
        "snapshot_seconds": spread(saved),
    }


def _filled(setting: Setting, entries: int, hashes: int) -> tuple[IndexSet, Vectors]:
    vectors, windows = made_vectors(entries * VIEWS, setting.seed)
    chance = np.random.default_rng(setting.seed)
    index = IndexSet()
    index.load_rows(
        [[StoredHash(key, _BANK, SignalType.PDQ, chance.bytes(32), key) for key in range(hashes)]],
        [[_view(key, vector, key // VIEWS) for key, vector in enumerate(vectors)]],
    )
    index.compact()
    return index, windows[:100]


def _view(key: int, vector: Vectors, entry: int) -> StoredVector:
    return StoredVector(key, _BANK, VectorSpace.COPY, _MODEL, vector, entry)


def _searched(index: IndexSet, turns: list[bytes], windows: Vectors, seconds: float) -> list[float]:
    took = []
    until = time.perf_counter() + seconds
    while (begin := time.perf_counter()) < until:
        index.find_pdq([_BANK], turns, _DISTANCE)
        index.find_entries([_BANK], VectorSpace.COPY, _MODEL, windows, _BEST)
        took.append(1e3 * (time.perf_counter() - begin))
    return took


@contextmanager
def _changing(index: IndexSet, windows: Vectors, took: list[float]) -> Iterator[None]:
    with _beside(lambda stop: _change_until(stop, index, windows, took)):
        yield


def _change_until(stop: threading.Event, index: IndexSet, windows: Vectors, took: list[float]) -> None:
    chance = np.random.default_rng(index.revision)
    before: Change | None = None
    while not stop.is_set():
        entry = _FIRST_CHANGE + index.revision
        rows = windows[chance.integers(0, len(windows), VIEWS)] + 0.02 * chance.standard_normal(
            (VIEWS, DIMENSIONS), np.float32
        )
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        change = Change(
            index.revision + 1,
            removed_hashes=before.added_hashes if before else (),
            removed_vectors=before.added_vectors if before else (),
            added_hashes=[StoredHash(entry, _BANK, SignalType.PDQ, chance.bytes(32), entry)],
            added_vectors=[_view(entry * VIEWS + place, row, entry) for place, row in enumerate(rows)],
        )
        begin = time.perf_counter()
        index.apply([change])
        took.append(1e3 * (time.perf_counter() - begin))
        before = change
    if before is not None:
        last = Change(index.revision + 1, removed_hashes=before.added_hashes, removed_vectors=before.added_vectors)
        index.apply([last])


@contextmanager
def _saving(index: IndexSet, setting: Setting, took: list[float]) -> Iterator[None]:
    """Save one snapshot after the other, as nobody does: so each search is beside one."""

    def save(stop: threading.Event) -> None:
        while not stop.is_set():
            begin = time.perf_counter()
            save_snapshot(index, setting.scratch / "changing", "bench")
            took.append(time.perf_counter() - begin)

    with _beside(save):
        yield


@contextmanager
def _beside(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run work on a thread until the block ends; its error is the block's."""
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(work, stop)
        try:
            yield
        finally:
            stop.set()
            running.result()


def _times(rounds: list[list[float]]) -> dict[str, Any]:
    return {
        "p50_ms": spread([_share(one, 50) for one in rounds]),
        "p99_ms": spread([_share(one, 99) for one in rounds]),
        "most_ms": spread([max(one) for one in rounds]),
    }


def _share(values: list[float], percent: float) -> float:
    return round(float(np.percentile(values, percent)), 3)
