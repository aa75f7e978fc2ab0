"""Measures the index: `python tests/benchmarks/bench_index.py`; a minute or two on two cores. Not a test.

Prints the tables of docs/index.md with the machine they are of. Data are made from a seed: vectors of 768 dimensions
about random centres, half of them near another one, as the views of one picture are; PDQ hashes of random bits.
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

from imagewarden_server.index import ExactVectorIndex, IndexSet, UsearchVectorIndex, load_snapshot, save_snapshot
from imagewarden_server.index.digests import DigestTable
from imagewarden_server.index.flat import FlatHammingIndex
from imagewarden_server.index.vectors import Matrix
from imagewarden_server.matching.ports import StoredHash, StoredVector
from imagewarden_server.matching.types import SignalType, VectorSpace

SEED = 20_240_601
DIMENSIONS = 768
QUERIES = (1, 8, 32)
SIZES = (100, 1_000, 5_000, 10_000, 20_000)
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
    """The median of some rounds, after one that is not counted."""
    work()
    took = []
    for _ in range(rounds):
        begin = time.perf_counter()
        work()
        took.append(time.perf_counter() - begin)
    return 1_000 * statistics.median(took)


def bench_vectors() -> None:
    """Searches by numpy's product, usearch's scan and usearch's graph, with the graph's recall."""
    generator = np.random.default_rng(SEED)
    data = vectors_like_pictures(max(SIZES), generator)
    exact, scan = ExactVectorIndex(DIMENSIONS), UsearchVectorIndex(DIMENSIONS, 10**9)
    say("\n| vectors | queries | numpy f32, ms | scan f16, ms | graph f16, ms | recall@10 | copy found | adds/s |")
    say("|---:|---:|---:|---:|---:|---:|---:|---:|")
    done = 0
    for size in SIZES:
        keys = list(range(done, size))
        exact.add(keys, data[done:size])
        begin = time.perf_counter()
        scan.add(keys, data[done:size])
        rate = (size - done) / (time.perf_counter() - begin)
        done = size
        graph = UsearchVectorIndex(DIMENSIONS, 0)
        graph._graph = scan._graph
        queries = copies(data[generator.integers(0, size, 500)], generator)
        pairs = list(zip(graph.search(queries, 10)[0], exact.search(queries, 10)[0], strict=True))
        recall = np.mean([len(set(one.tolist()) & set(other.tolist())) / 10 for one, other in pairs])
        best = np.mean([one[0] == other[0] for one, other in pairs])
        for count in QUERIES:
            figures = [milliseconds(partial(index.search, queries[:count], 10)) for index in (exact, scan, graph)]
            times = " | ".join(f"{one:.2f}" for one in figures)
            say(f"| {size:,} | {count} | {times} | {recall:.3f} | {best:.3f} | {rate:,.0f} |")
    bare = UsearchVectorIndex(DIMENSIONS, 0), ExactVectorIndex(DIMENSIONS)
    for index in bare:
        index.add(list(range(5_000)), unit(np.random.default_rng(SEED).standard_normal((5_000, DIMENSIONS))))
    queries = unit(generator.standard_normal((200, DIMENSIONS)))
    pairs = list(zip(*(index.search(queries, 10)[0] for index in bare), strict=True))
    recall = np.mean([len(set(one.tolist()) & set(other.tolist())) / 10 for one, other in pairs])
    say(f"\nthe graph's recall@10 on 5,000 vectors without any structure: {recall:.2f}")
    size = len(scan.arrays()["graph"])
    say(f"\na vector of {DIMENSIONS} dimensions: {size / len(scan):,.0f} bytes")
    say(f"copying {size / 1e6:.0f} MB of a graph for a snapshot: {milliseconds(scan.arrays, 5):.0f} ms")


def bench_exchange() -> None:
    """What is found by itself after 60% were removed and replaced, five times: by usearch's own remove, and by ours."""
    say("\n| removed by | found by itself |\n|---|---:|")
    for ours in (True, False):
        generator = np.random.default_rng(SEED)
        index = UsearchVectorIndex(64, 0)
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
    say("\n| PDQ hashes | 1 query, ms | 8 queries, ms | bytes a hash |\n|---:|---:|---:|---:|")
    for size in HASHES:
        raw = generator.bytes(32 * size)
        index = FlatHammingIndex()
        index.add(range(size), [raw[32 * place : 32 * place + 32] for place in range(size)])
        queries = [raw[32 * place : 32 * place + 32] for place in range(8)]
        one = milliseconds(partial(index.search, queries[:1], 31))
        eight = milliseconds(partial(index.search, queries, 31), 5)
        say(f"| {size:,} | {one:.2f} | {eight:.2f} | {index.nbytes / size:.0f} |")
    table = DigestTable()
    for key in range(100_000):
        table.add(key, generator.bytes(32))
    say(f"\na SHA-256: {table.nbytes / len(table):.0f} bytes")


def bench_snapshot() -> None:
    """Rebuilding, saving and loading an index of a million hashes and 20,000 vectors."""
    generator = np.random.default_rng(SEED)
    index = IndexSet()
    raw = generator.bytes(32 * 1_000_000)
    hashes = [
        StoredHash(key, 1, SignalType.PDQ if key % 2 else SignalType.SHA256, raw[32 * key : 32 * key + 32])
        for key in range(1_000_000)
    ]
    data = vectors_like_pictures(20_000, generator)
    vectors = [StoredVector(key, 1, VectorSpace.COPY, "m", data[key]) for key in range(20_000)]
    begin = time.perf_counter()
    index.load_rows([hashes], [vectors])
    say(f"\n500,000 PDQ, 500,000 SHA-256, 20,000 vectors: rebuilt from rows in {time.perf_counter() - begin:.1f} s")
    with tempfile.TemporaryDirectory() as directory:
        begin = time.perf_counter()
        path = save_snapshot(index, Path(directory), "bench")
        megabytes = sum(file.stat().st_size for file in path.iterdir()) / 1e6
        say(f"saved in {time.perf_counter() - begin:.1f} s, {megabytes:.0f} MB")
        begin = time.perf_counter()
        load_snapshot(Path(directory), "bench", 0)
        say(f"checked and loaded in {time.perf_counter() - begin:.1f} s")


if __name__ == "__main__":
    say(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, seed {SEED}")
    say(f"Python {platform.python_version()}, numpy {np.__version__}, usearch {usearch.__version__}")
    bench_hashes()
    bench_vectors()
    bench_exchange()
    bench_snapshot()
