"""The index beside faiss: vectors by a graph and exactly, PDQ hashes by a scan."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagewarden_bench.setting import Setting, spread
from imagewarden_server.index.flat import FlatHammingIndex
from imagewarden_server.index.graph import UsearchVectorIndex

DIMENSIONS = 512
"""Of the shipped descriptor."""

_QUERIES = 200
_K = 10
_LINKS, _BUILD_EFFORT, _EFFORT = 16, 128, 64
_CENTRES = 0.01
_TURNS = 8
_DISTANCE = 31

Vectors = NDArray[np.float32]


def measure(setting: Setting) -> dict[str, Any]:
    """A row a size of vectors, and a row a size of hashes."""
    sizes = setting.sizes
    with setting.progress.task("the index", len(sizes.vectors) + len(sizes.hashes)) as step:
        vectors, hashes = [], []
        for count in sizes.vectors:
            vectors.append(_vectors(count, setting))
            step(1)
        for count in sizes.hashes:
            hashes.append(_hashes(count, setting))
            step(1)
    return {"dimensions": DIMENSIONS, "vectors": vectors, "hashes": hashes}


def made_vectors(count: int, seed: int) -> tuple[Vectors, Vectors]:
    """Unit vectors about centres, one in a hundred, as views lie about pictures; queries near some of them."""
    chance = np.random.default_rng(seed)
    centres = chance.normal(size=(max(1, int(count * _CENTRES)), DIMENSIONS)).astype(np.float32)
    owners = chance.integers(0, len(centres), count)
    vectors = centres[owners] + chance.normal(size=(count, DIMENSIONS)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = vectors[chance.integers(0, count, _QUERIES)] + 0.02 * chance.normal(size=(_QUERIES, DIMENSIONS))
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    return vectors, np.asarray(queries, np.float32)


def _vectors(count: int, setting: Setting) -> dict[str, Any]:
    import faiss  # noqa: PLC0415 -- a peer, of the extra `bench`

    vectors, queries = made_vectors(count, setting.seed)
    keys = list(range(count))
    exact = np.argsort(-(queries @ vectors.T), axis=1)[:, :_K]
    ours, built = _timed(lambda: UsearchVectorIndex.built(np.arange(count), vectors, DIMENSIONS))
    graph = faiss.IndexHNSWFlat(DIMENSIONS, _LINKS, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction, graph.hnsw.efSearch = _BUILD_EFFORT, _EFFORT
    _, graph_built = _timed(lambda: graph.add(vectors))
    flat = faiss.IndexFlatIP(DIMENSIONS)
    flat.add(vectors)
    contenders: dict[str, Callable[[Vectors], Any]] = {
        "ours": lambda query: ours.search(query, _K)[0][0],
        "faiss HNSW": lambda query: graph.search(query, _K)[1][0],
        "faiss flat": lambda query: flat.search(query, _K)[1][0],
    }
    took: dict[str, list[float]] = {name: [] for name in contenders}
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for place, query in enumerate(queries):
        for name, search in contenders.items():
            answer, seconds = _timed(lambda search=search, query=query: search(query[None]))  # type: ignore[misc]  # bound
            took[name].append(1e3 * seconds)
            found[name].append(len(set(map(int, answer)) & set(exact[place].tolist())) / min(_K, count))
    path = setting.scratch / f"vectors-{count}"
    _, saved = _timed(lambda: ours.save(path))
    _, loaded = _timed(lambda: UsearchVectorIndex.load(path, DIMENSIONS))
    _, added = _timed(lambda: _replaced(ours, keys[:100], vectors[:100]))
    return {
        "vectors": count,
        "recall_at_10": {name: round(float(np.mean(values)), 4) for name, values in found.items()},
        "p50_ms": {name: round(float(np.percentile(values, 50)), 3) for name, values in took.items()},
        "p99_ms": {name: round(float(np.percentile(values, 99)), 3) for name, values in took.items()},
        "bytes_a_vector": round(ours.nbytes / count),
        "build_seconds": {"ours": round(built, 2), "faiss HNSW": round(graph_built, 2)},
        "save_seconds": round(saved, 2),
        "load_seconds": round(loaded, 2),
        "replace_a_vector_ms": round(1e3 * added / 100, 3),
        "file_bytes_a_vector": round(_size(path) / count),
    }


def _replaced(index: UsearchVectorIndex, keys: list[int], vectors: Vectors) -> None:
    index.remove(keys)
    index.add(keys, vectors)


def _hashes(count: int, setting: Setting) -> dict[str, Any]:
    import faiss  # noqa: PLC0415 -- the same

    chance = np.random.default_rng(setting.seed)
    values = chance.integers(0, 256, (count, 32), np.uint8)
    # The eight turns of one picture; one of them is 31 bits from a stored hash.
    queries = chance.integers(0, 256, (_TURNS, 32), np.uint8)
    bits = np.unpackbits(values[count // 2])
    bits[chance.choice(256, _DISTANCE, replace=False)] ^= 1
    queries[3] = np.packbits(bits)
    rows = {"keys": np.arange(count), "entries": np.arange(count), "values": values}
    ours, built = _timed(lambda: FlatHammingIndex.of(rows))
    flat = faiss.IndexBinaryFlat(256)
    flat.add(values)
    asked = [one.tobytes() for one in queries]
    took: dict[str, list[float]] = {"ours": [], "faiss": []}
    right = []
    for _ in range(5 * setting.sizes.rounds):
        answer, seconds = _timed(lambda: ours.search(asked, _DISTANCE))
        took["ours"].append(1e3 * seconds)
        (limits, _, places), seconds = _timed(lambda: flat.range_search(queries, _DISTANCE + 1))
        took["faiss"].append(1e3 * seconds)
        theirs = [sorted(places[limits[row] : limits[row + 1]].tolist()) for row in range(_TURNS)]
        right.append(theirs == [sorted(keys.tolist()) for keys, _ in answer])
    path = setting.scratch / f"hashes-{count}.npz"
    _, saved = _timed(lambda: np.savez(path, **ours.arrays()))
    _, changed = _timed(lambda: _banned_again(ours, values))
    return {
        "hashes": count,
        "eight_turns_ms": {name: spread(values_) for name, values_ in took.items()},
        "of_faiss": spread([one / two for one, two in zip(took["ours"], took["faiss"], strict=True)]),
        "same_answers": all(right),
        "bytes_a_hash": round(ours.nbytes / count, 1),
        "build_seconds": round(built, 3),
        "save_seconds": round(saved, 3),
        "replace_a_hash_ms": round(1e3 * changed / 100, 4),
    }


def _banned_again(index: FlatHammingIndex, values: NDArray[np.uint8]) -> None:
    for key in range(100):
        index.remove([key])
        index.add([key], [key], [values[key].tobytes()])


def _size(path: Path) -> int:
    return sum(one.stat().st_size for one in path.parent.glob(f"{path.name}*"))


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    begin = time.perf_counter()
    answer = work()
    return answer, time.perf_counter() - begin
