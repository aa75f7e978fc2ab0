"""The best entries of a bank over all windows of a picture: what a check asks of vectors."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagewarden_bench.made_vectors import VIEWS, made_vectors
from imagewarden_bench.setting import Setting, spread
from imagewarden_server.index.entry_vectors import GRAPH_AXES, GRAPH_FROM, EntryVectors
from imagewarden_server.matching.types import VectorSpace

_WINDOWS = 100
_BEST = 50
_PICTURES = 20
_BETWEEN = 4
_APART = 0.35

Vectors = NDArray[np.float32]


def measure(setting: Setting) -> list[dict[str, Any]]:
    """A row a bank: milliseconds by all windows, by one row, of fifty given entries; how often the copy is first."""
    rows = []
    with setting.progress.task("the best entries", len(setting.sizes.banks)) as step:
        for pictures in setting.sizes.banks:
            rows.append(_bank(pictures, setting))
            step(1)
    return rows


def _bank(pictures: int, setting: Setting) -> dict[str, Any]:
    vectors, _ = made_vectors(pictures * VIEWS, setting.seed)
    index = EntryVectors(vectors.shape[1], GRAPH_FROM[VectorSpace.COPY], GRAPH_AXES[VectorSpace.COPY])
    keys = list(range(len(vectors)))
    index.add(keys, [key // VIEWS for key in keys], vectors)
    if index.wants_graph:
        index.adopt(index.graph_of(*index.rows()))
    chance = np.random.default_rng(setting.seed)
    asked = chance.integers(0, pictures, _PICTURES)
    windows = [_windows(vectors, int(picture) * VIEWS, chance) for picture in asked]
    right = np.mean([index.find_entries(one, 1).entries[0] == entry for one, entry in zip(windows, asked, strict=True)])
    given = range(_BEST)
    return {
        "pictures": pictures,
        "vectors": len(vectors),
        "has_graph": index.has_graph,
        "windows_ms": _timed(lambda one: index.find_entries(one, _BEST), windows),
        "one_row_ms": _timed(lambda one: index.find_entries(one[:1], _BEST), windows),
        "given_ms": _timed(lambda one: index.score_entries(given, one), windows),
        "copy_first": round(float(right), 3),
        "bytes_a_vector": round(index.nbytes / len(vectors)),
    }


def _windows(vectors: Vectors, view: int, chance: np.random.Generator) -> Vectors:
    """Windows of a picture: the first near a stored view, the others between several."""
    rows: Vectors = vectors[chance.integers(0, len(vectors), (_WINDOWS, _BETWEEN))].sum(1)
    rows[0] = vectors[view] + _APART * rows[0] / np.linalg.norm(rows[0])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def _timed(search: Callable[[Vectors], object], windows: list[Vectors]) -> dict[str, Any]:
    took = []
    for one in windows:
        begin = time.perf_counter()
        search(one)
        took.append(1e3 * (time.perf_counter() - begin))
    return spread([statistics.median(took), min(took), max(took)])
