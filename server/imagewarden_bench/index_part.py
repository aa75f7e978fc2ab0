"""The index beside faiss: vectors by a graph and exactly, PDQ hashes by a scan."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagewarden_bench import index_changes, index_entries
from imagewarden_bench.made_vectors import DIMENSIONS, made_vectors
from imagewarden_bench.pictures import SMALL
from imagewarden_bench.setting import Setting, spread
from imagewarden_server.index import IndexSet, load_snapshot, save_snapshot
from imagewarden_server.index.entry_vectors import GRAPH_AXES, GRAPH_FROM, EntryVectors
from imagewarden_server.index.flat import FlatHammingIndex
from imagewarden_server.index.parts import VectorPart
from imagewarden_server.matching.types import VectorSpace
from imagewarden_server.media.pdq import pdq

_K = 10
_LINKS, _BUILD_EFFORT, _EFFORT = 16, 128, 64
_TURNS = 8
_DISTANCE = 31
_CHANGES = 100
_GRAPH_FROM, _GRAPH_AXES = GRAPH_FROM[VectorSpace.COPY], GRAPH_AXES[VectorSpace.COPY]

Vectors = NDArray[np.float32]


def measure(setting: Setting) -> dict[str, Any]:
    """A row a size of vectors, of banks and of hashes; and searches beside changes."""
    sizes = setting.sizes
    with setting.progress.task("the index", len(sizes.vectors) + len(sizes.hashes)) as step:
        vectors, hashes = [], []
        for count in sizes.vectors:
            vectors.append(_vectors(count, setting))
            step(1)
        # The same picture for all sizes: how alike its turns are decides what they cost.
        turns = pdq(np.asarray(setting.pictures.picture(SMALL)))[1]
        for count in sizes.hashes:
            hashes.append(_hashes(count, turns, setting))
            step(1)
    return {
        "dimensions": DIMENSIONS,
        "vectors": vectors,
        "entries": index_entries.measure(setting),
        "hashes": hashes,
        "changing": index_changes.measure(setting),
    }


def _vectors(count: int, setting: Setting) -> dict[str, Any]:
    import faiss  # noqa: PLC0415 -- a peer, of the extra `bench`

    vectors, queries = made_vectors(count, setting.seed)
    exact = np.stack([np.argpartition(-(vectors @ query), min(_K, count) - 1)[:_K] for query in queries])
    ours, built = _timed(lambda: _ours(vectors))
    if ours.wants_graph:
        graph, graph_built = _timed(lambda: ours.graph_of(*ours.rows()))
        ours.adopt(graph)
        built += graph_built
    peer = faiss.IndexHNSWFlat(DIMENSIONS, _LINKS, faiss.METRIC_INNER_PRODUCT)
    peer.hnsw.efConstruction, peer.hnsw.efSearch = _BUILD_EFFORT, _EFFORT
    _, peer_built = _timed(lambda: peer.add(vectors))
    flat = faiss.IndexFlatIP(DIMENSIONS)
    flat.add(vectors)
    contenders: dict[str, Callable[[Vectors], Any]] = {
        "ours": lambda query: ours.search(query, _K)[0][0],
        "faiss HNSW": lambda query: peer.search(query, _K)[1][0],
        "faiss flat": lambda query: flat.search(query, _K)[1][0],
    }
    took: dict[str, list[float]] = {name: [] for name in contenders}
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for place, query in enumerate(queries):
        for name, search in contenders.items():
            answer, seconds = _timed(lambda search=search, query=query: search(query[None]))  # type: ignore[misc]  # bound
            took[name].append(1e3 * seconds)
            found[name].append(len(set(map(int, answer)) & set(exact[place].tolist())) / min(_K, count))
    held = IndexSet()
    held.put(VectorPart(1, VectorSpace.COPY, "made", DIMENSIONS, count, ours.arrays()))
    folder = setting.scratch / f"vectors-{count}"
    path, saved = _timed(lambda: save_snapshot(held, folder, "bench"))
    file_bytes = sum(one.stat().st_size for one in path.iterdir())
    _, loaded = _timed(lambda: load_snapshot(folder, "bench"))
    shutil.rmtree(folder)
    _, changed = _timed(lambda: _changed_vectors(ours, vectors[:_CHANGES]))
    return {
        "vectors": count,
        "ours_is_a_graph": ours.has_graph,
        "recall_at_10": {name: round(float(np.mean(values)), 4) for name, values in found.items()},
        "p50_ms": {name: round(float(np.percentile(values, 50)), 3) for name, values in took.items()},
        "p99_ms": {name: round(float(np.percentile(values, 99)), 3) for name, values in took.items()},
        "bytes_a_vector": round(ours.nbytes / count),
        "file_bytes_a_vector": round(file_bytes / count),
        "build_seconds": {
            "ours": round(built, 2),
            "faiss HNSW, all threads": round(peer_built, 2),
        },
        "save_seconds": round(saved, 2),
        "load_seconds": round(loaded, 2),
        "added_and_removed_ms": round(1e3 * changed / _CHANGES, 3),
    }


def _ours(vectors: Vectors) -> EntryVectors:
    """What the server holds the views of banned pictures in: here one view an entry."""
    made, keys = EntryVectors(DIMENSIONS, _GRAPH_FROM, _GRAPH_AXES), list(range(len(vectors)))
    made.add(keys, keys, vectors, [0.0] * len(keys), [1.0] * len(keys))
    return made


def _changed_vectors(index: EntryVectors, vectors: Vectors) -> None:
    first = len(index)
    for number, vector in enumerate(vectors):
        index.add([first + number], [first + number], vector[None], [0.0], [1.0])
        index.remove([first + number])


def _hashes(count: int, turns: Sequence[bytes], setting: Setting) -> dict[str, Any]:
    import faiss  # noqa: PLC0415 -- the same

    chance = np.random.default_rng(setting.seed)
    values = chance.integers(0, 256, (count, 32), np.uint8)
    # Of one of the eight turns a stored hash differs in 31 bits.
    queries = np.frombuffer(b"".join(turns), np.uint8).reshape(_TURNS, 32)
    bits = np.unpackbits(queries[3])
    bits[chance.choice(256, _DISTANCE, replace=False)] ^= 1
    values[count // 2] = np.packbits(bits)
    rows = {"keys": np.arange(count), "entries": np.arange(count), "values": values}
    ours, built = _timed(lambda: FlatHammingIndex.of(rows))
    flat = faiss.IndexBinaryFlat(256)
    flat.add(values)
    took: dict[str, list[float]] = {"ours": [], "faiss": []}
    right = []
    for _ in range(5 * setting.sizes.rounds):
        answer, seconds = _timed(lambda: ours.search(turns, _DISTANCE))
        took["ours"].append(1e3 * seconds)
        (limits, _, places), seconds = _timed(lambda: flat.range_search(queries, _DISTANCE + 1))
        took["faiss"].append(1e3 * seconds)
        theirs = [sorted(places[limits[row] : limits[row + 1]].tolist()) for row in range(_TURNS)]
        right.append(theirs == [sorted(keys.tolist()) for keys, _ in answer])
    path = setting.scratch / f"hashes-{count}.npz"
    _, saved = _timed(lambda: np.savez(path, **ours.arrays()))
    _, changed = _timed(lambda: _changed_hashes(ours, values[:_CHANGES]))
    return {
        "hashes": count,
        "eight_turns_ms": {name: spread(values_) for name, values_ in took.items()},
        "of_faiss": spread([one / two for one, two in zip(took["ours"], took["faiss"], strict=True)]),
        "same_answers": all(right),
        "bytes_a_hash": round(ours.nbytes / count, 1),
        "build_seconds": round(built, 3),
        "save_seconds": round(saved, 3),
        "added_and_removed_ms": round(1e3 * changed / _CHANGES, 4),
    }


def _changed_hashes(index: FlatHammingIndex, values: NDArray[np.uint8]) -> None:
    first = len(index)
    for number, value in enumerate(values):
        index.add([first + number], [first + number], [value.tobytes()])
        index.remove([first + number])


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    begin = time.perf_counter()
    answer = work()
    return answer, time.perf_counter() - begin
