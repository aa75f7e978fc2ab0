"""Measures the index: `python tests/benchmarks/bench_index.py [part ...]`; some minutes on one core. Not a test.

Prints the tables of docs/index.md with the machine they are of; parts are the names in `PARTS`, all without any. Times
are of one core, as the processor counts them, so that what else the machine does matters little: set
OPENBLAS_NUM_THREADS=1. Data are made from a seed: entries are random centres with views about them; PDQ hashes are
random bits; descriptors of local features have the few large values that SIFT's have.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import usearch

from imagewarden_server.catalog.features import decode_features, encode_features
from imagewarden_server.index import (
    EntryVectors,
    ExactVectorIndex,
    IndexSet,
    UsearchVectorIndex,
    load_snapshot,
    save_snapshot,
)
from imagewarden_server.index.digests import DigestTable
from imagewarden_server.index.flat import FlatHammingIndex
from imagewarden_server.index.local import LocalIndex
from imagewarden_server.index.vectors import Matrix
from imagewarden_server.matching.ports import StoredHash, StoredVector
from imagewarden_server.matching.types import LocalFeatures, SignalType, VectorSpace

SEED = 20_240_601
DIMENSIONS = 768
QUERIES = (1, 32)
SIZES = (1_000, 10_000, 20_000)
WINDOWS = 100
BANKS = ((1_000, 12, 512), (300, 30, 256), (4_200, 12, 512), (8_400, 12, 512))
GRAPH_BANK = (4_200, 12, 512)
KEYPOINTS = 300
HASHES = (10_000, 100_000, 1_000_000)


def say(line: str) -> None:
    """Print a line."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def unit(raw: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Matrix:
    """Rows of norm 1, float32."""
    return np.asarray(raw / np.linalg.norm(raw, axis=1, keepdims=True), np.float32)


def vectors_like_pictures(count: int, generator: np.random.Generator, dimensions: int = DIMENSIONS) -> Matrix:
    """Pictures about 200 subjects; each second vector is a view of the one before it, at a cosine of about 0.9."""
    centres = generator.standard_normal((200, dimensions))
    raw = centres[generator.integers(0, 200, count)] + 0.8 * generator.standard_normal((count, dimensions))
    raw[1::2] = raw[: len(raw) // 2 * 2 : 2] + 0.6 * generator.standard_normal((count // 2, dimensions))
    return unit(raw)


def copies(of: Matrix, generator: np.random.Generator) -> Matrix:
    """Copies of pictures, at a cosine of about 0.9."""
    return unit(of * np.sqrt(DIMENSIONS) + 0.48 * generator.standard_normal(of.shape))


def milliseconds(work: Callable[[], object], rounds: int = 15) -> float:
    """The median of some rounds in this thread's time on the processor, after one that is not counted."""
    work()
    took = []
    for _ in range(rounds):
        begin = time.thread_time()
        work()
        took.append(time.thread_time() - begin)
    return 1_000 * statistics.median(took)


def bench_entries() -> None:
    """The best entries over a picture's windows, by the product."""
    generator = np.random.default_rng(SEED)
    say(
        f"\n| entries x views x dimensions | vectors | {WINDOWS} rows, ms | 1 row, ms | 50 entries given, ms | "
        "bytes a view |"
    )
    say("|---|---:|---:|---:|---:|---:|")
    for entries, views, dimensions in BANKS:
        index, centres = bank_of(entries, views, dimensions, generator)
        size = entries * views
        queries = windows_of(centres[:1], generator)
        times = (
            milliseconds(partial(index.find_entries, queries, 50), 9),
            milliseconds(partial(index.find_entries, queries[:1], 50), 9),
            milliseconds(partial(index.score_entries, range(50), queries), 9),
        )
        figures = " | ".join(f"{one:.1f}" for one in times)
        say(f"| {entries:,} x {views} x {dimensions} | {size:,} | {figures} | {index.nbytes / size:,.0f} |")


def bench_graph() -> None:
    """The best entries as a graph names them, for a bank that is too large for a product."""
    generator = np.random.default_rng(SEED)
    entries, views, dimensions = GRAPH_BANK
    index, centres = bank_of(entries, views, dimensions, generator)
    asked = [windows_of(centres[place : place + 1], generator) for place in range(0, entries, entries // 30)]
    exact = [index.find_entries(queries, 50) for queries in asked]
    product = milliseconds(partial(index.find_entries, asked[0], 50), 5)
    begin = time.thread_time()
    index.adopt(UsearchVectorIndex.built(*index.rows(), dimensions))
    say(f"\na graph of {len(index):,} vectors: built in {time.thread_time() - begin:.0f} s")
    took = milliseconds(partial(index.find_entries, asked[0], 50), 5)
    found = [index.find_entries(queries, 50) for queries in asked]
    right = np.mean([one.entries[0] == other.entries[0] for one, other in zip(found, exact, strict=True)])
    say(
        f"{WINDOWS} rows: {took:.0f} ms with it, {product:.0f} ms without; the best entry is the right one: {right:.3f}"
    )
    say(f"bytes a view: {index.nbytes / len(index):,.0f}")


def bank_of(
    entries: int, views: int, dimensions: int, generator: np.random.Generator
) -> tuple[EntryVectors, np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
    """An index of entries, each with views at a cosine of about 0.8 to its centre; and the centres."""
    centres = generator.standard_normal((entries, dimensions))
    index = EntryVectors(dimensions, 10**9)
    for begin in range(0, entries, 500):
        some = centres[begin : begin + 500]
        raw = some[:, None] + 0.7 * generator.standard_normal((len(some), views, dimensions))
        owners = np.repeat(np.arange(begin, begin + len(some)), views)
        keys = range(begin * views, begin * views + len(owners))
        index.add(keys, owners.tolist(), unit(raw.reshape(-1, dimensions)))
    return index, centres


def windows_of(centre: np.ndarray[tuple[int, ...], np.dtype[np.float64]], generator: np.random.Generator) -> Matrix:
    """Queries of which the first is a copy of an entry, at a cosine of about 0.6, and the others of nothing."""
    rows = generator.standard_normal((WINDOWS, centre.shape[1]))
    rows[:1] = centre + 1.2 * rows[:1]
    return unit(rows)


def bench_vectors() -> None:
    """Searches of neighbours by numpy's product and by usearch's graph, with the graph's recall."""
    generator = np.random.default_rng(SEED)
    data = vectors_like_pictures(max(SIZES), generator)
    exact, graph = EntryVectors(DIMENSIONS, 10**9), UsearchVectorIndex(DIMENSIONS)
    say("\n| vectors | queries | product, ms | graph, ms | recall@10 | copy found | adds to a graph/s |")
    say("|---:|---:|---:|---:|---:|---:|---:|")
    done = 0
    for size in SIZES:
        keys = list(range(done, size))
        exact.add(keys, keys, data[done:size])
        begin = time.thread_time()
        graph.add(keys, data[done:size])
        rate = (size - done) / (time.thread_time() - begin)
        done = size
        queries = copies(data[generator.integers(0, size, 500)], generator)
        pairs = list(zip(graph.search(queries, 10)[0], exact.search(queries, 10)[0], strict=True))
        recall = np.mean([len(set(one.tolist()) & set(other.tolist())) / 10 for one, other in pairs])
        best = np.mean([one[0] == other[0] for one, other in pairs])
        for count in QUERIES:
            figures = [milliseconds(partial(index.search, queries[:count], 10)) for index in (exact, graph)]
            times = " | ".join(f"{one:.2f}" for one in figures)
            say(f"| {size:,} | {count} | {times} | {recall:.3f} | {best:.3f} | {rate:,.0f} |")
    bare = UsearchVectorIndex(DIMENSIONS), ExactVectorIndex(DIMENSIONS)
    for index in bare:
        index.add(list(range(5_000)), unit(np.random.default_rng(SEED).standard_normal((5_000, DIMENSIONS))))
    queries = unit(generator.standard_normal((200, DIMENSIONS)))
    pairs = list(zip(*(index.search(queries, 10)[0] for index in bare), strict=True))
    recall = np.mean([len(set(one.tolist()) & set(other.tolist())) / 10 for one, other in pairs])
    say(f"\nthe graph's recall@10 on 5,000 vectors without any structure: {recall:.2f}")


def bench_locals() -> None:
    """Memory and time of local features, and the bytes that the catalogue keeps of them."""
    generator = np.random.default_rng(SEED)
    features = []
    for _ in range(1_000):
        points = generator.uniform(0, 1, (KEYPOINTS, 4)) * (1, 1, 0.05, 2 * np.pi)
        descriptors = np.minimum(generator.exponential(40, (KEYPOINTS, 128)), 255).astype(np.uint8)
        features.append(LocalFeatures(points.astype(np.float32), descriptors, 1.5))
    index = LocalIndex()
    begin = time.thread_time()
    for key, one in enumerate(features):
        index.add([key], [key], [one])
    took = 1_000 * (time.thread_time() - begin) / len(features)
    say(f"\n{len(features):,} sets of {KEYPOINTS} keypoints, added one by one: {took:.1f} ms a set")
    say(
        f"in memory {index.nbytes / len(features):,.0f} bytes a set, "
        f"{index.nbytes / len(features) / KEYPOINTS:.0f} a keypoint"
    )
    say(f"in the catalogue {len(encode_features(features[0])):,} bytes a set")
    data = encode_features(features[0])
    times = milliseconds(partial(encode_features, features[0])), milliseconds(partial(decode_features, data))
    say(f"encoded in {times[0]:.2f} ms, decoded in {times[1]:.2f} ms")
    held, made = milliseconds(index.copying, 5), milliseconds(index.arrays, 5)
    say(f"copying them for a snapshot: {held:.1f} ms under the lock, {made:.0f} in all")


def bench_exchange() -> None:
    """What is found by itself after 60% were removed and replaced, five times: by usearch's own remove, and by ours."""
    say("\n| removed by | found by itself |\n|---|---:|")
    for ours in (True, False):
        generator = np.random.default_rng(SEED)
        index = UsearchVectorIndex(64)
        held: dict[int, Matrix] = {}
        following = 0
        for _ in range(6):
            gone = generator.permutation(list(held))[: int(len(held) * 0.6)].tolist()
            if ours:
                index.remove(gone)
            else:
                for key in gone:
                    index._graph.remove(key)
            for key in gone:
                del held[key]
            count = 10_000 - len(held)
            vectors = vectors_like_pictures(count, generator, 64)
            keys = list(range(following, following + count))
            following += count
            index.add(keys, vectors)
            held.update(zip(keys, vectors, strict=True))
        found, _ = index.search(np.stack(list(held.values())), 1)
        share = np.mean([row[0] == key for row, key in zip(found, held, strict=True)])
        say(f"| {'leaving it out of what is found' if ours else 'usearch'} | {share:.2%} |")


def bench_hashes() -> None:
    """The scan over PDQ hashes, and memory."""
    generator = np.random.default_rng(SEED)
    say(
        "\n| PDQ hashes | 1 query, ms | 8 queries, ms | 8 queries of 50 entries given, ms | bytes a hash |\n"
        "|---:|---:|---:|---:|---:|"
    )
    for size in HASHES:
        raw = generator.bytes(32 * size)
        index = FlatHammingIndex()
        index.add(range(size), range(size), [raw[32 * place : 32 * place + 32] for place in range(size)])
        queries = [raw[32 * place : 32 * place + 32] for place in range(8)]
        one = milliseconds(partial(index.search, queries[:1], 31))
        eight = milliseconds(partial(index.search, queries, 31), 5)
        given = milliseconds(partial(index.distances, range(50), queries), 5)
        say(f"| {size:,} | {one:.2f} | {eight:.2f} | {given:.2f} | {index.nbytes / size:.0f} |")
    table = DigestTable()
    for key in range(100_000):
        table.add(key, generator.bytes(32))
    say(f"\na SHA-256: {table.nbytes / len(table):.0f} bytes")


def bench_snapshot() -> None:
    """Rebuilding, saving and loading an index of a million hashes and 20,000 vectors, in the processor's time."""
    generator = np.random.default_rng(SEED)
    index = IndexSet()
    raw = generator.bytes(32 * 1_000_000)
    hashes = [
        StoredHash(key, 1, SignalType.PDQ if key % 2 else SignalType.SHA256, raw[32 * key : 32 * key + 32], key // 2)
        for key in range(1_000_000)
    ]
    data = vectors_like_pictures(20_000, generator)
    vectors = [StoredVector(key, 1, VectorSpace.COPY, "m", data[key], key // 12) for key in range(20_000)]
    begin = time.process_time()
    index.load_rows([hashes], [vectors])
    say(f"\n500,000 PDQ, 500,000 SHA-256, 20,000 vectors: rebuilt from rows in {time.process_time() - begin:.1f} s")
    with tempfile.TemporaryDirectory() as directory:
        begin = time.process_time()
        path = save_snapshot(index, Path(directory), "bench")
        megabytes = sum(file.stat().st_size for file in path.iterdir()) / 1e6
        say(f"saved in {time.process_time() - begin:.1f} s, {megabytes:.0f} MB")
        begin = time.process_time()
        load_snapshot(Path(directory), "bench", 0)
        say(f"checked and loaded in {time.process_time() - begin:.1f} s")


PARTS = {
    "hashes": bench_hashes,
    "entries": bench_entries,
    "graph": bench_graph,
    "vectors": bench_vectors,
    "locals": bench_locals,
    "exchange": bench_exchange,
    "snapshot": bench_snapshot,
}

if __name__ == "__main__":
    say(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, seed {SEED}")
    say(f"Python {platform.python_version()}, numpy {np.__version__}, usearch {usearch.__version__}")
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
