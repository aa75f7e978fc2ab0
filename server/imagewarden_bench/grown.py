"""A catalogue of many pictures, made of a few real ones: what a check costs depends on how many there are.

Of each made picture the index has what it has of a real one: twelve views, keypoints with their descriptors, a small
grey picture. Views are mixtures of two real pictures' same views, descriptors of two real descriptors, so that they lie
among each other as real ones do and are no copies. The catalogue has their entries, and not again what the index has
in its snapshot: the server starts from that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagewarden_server.catalog import SqlCatalog
from imagewarden_server.catalog.audit import Note
from imagewarden_server.catalog.engine import open_database
from imagewarden_server.catalog.entries import NewRow, insert_entries
from imagewarden_server.catalog.transactions import Done, Ledger
from imagewarden_server.index import IndexSet, save_snapshot
from imagewarden_server.matching.ports import StoredHash, StoredLocal, StoredVector
from imagewarden_server.matching.types import LocalFeatures, NewEntry, SignalType, VectorSpace
from imagewarden_server.media import EXTRACTOR, GREYS

_BATCH = 1_000
_FIRST_KEY = 1_000_000_000
"""Keys of what the catalogue does not have begin here."""
_KEYPOINTS = 300
_SHIFT = 0.15

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Real:
    """What real pictures have: views [pictures, views, dimensions], and of all together points and descriptors."""

    model: str
    views: Floats
    points: Floats
    descriptors: Floats
    greys: Sequence[LocalFeatures]


def grow(state: Path, pictures: int, hashes: int, seed: int) -> None:
    """Make a server's state that has a few real pictures in its bank `pictures` one of many.

    Args:
        state: its folder; no server runs over it.
        pictures: how many more.
        hashes: random PDQ hashes in the bank `hashes`.
        seed: the same seed makes the same state.
    """
    database = open_database(state / "catalog.sqlite3")
    catalog = SqlCatalog(database)
    try:
        banks = {bank.id: bank.key for bank in catalog.all_banks()}
        first = _entries(Ledger(database), banks["pictures"], pictures)
        real = _real(catalog)
        chance = np.random.default_rng(seed)
        index = IndexSet(catalog.revision())
        index.load_rows(catalog.live_hashes(), catalog.live_vectors(), catalog.live_locals())
        index.load_rows(_hashes(banks["hashes"], hashes, chance), ())
        for begin in range(0, pictures, _BATCH):
            keys = range(first + begin, first + min(begin + _BATCH, pictures))
            index.load_rows((), [_views(real, banks["pictures"], keys, chance)])
            index.load_rows((), (), [_locals(real, banks["pictures"], keys, chance)])
        index.compact()
        save_snapshot(index, state / "index", catalog.id)
    finally:
        catalog.close()


def _entries(ledger: Ledger, bank: int, count: int) -> int:
    """Rows of entries without signals; the key of the first."""

    def work(connection: Any, now: int) -> Done[int]:
        first = 0
        for begin in range(0, count, _BATCH):
            ids = [f"made-{number}" for number in range(begin, min(begin + _BATCH, count))]
            at = insert_entries(connection, bank, [NewRow(one, NewEntry(external_id=one)) for one in ids], now)
            first = first or at
        return first, {}, None, Note("", None, {"made": count})

    return ledger.change("grown", None, lambda *_: 0, work).value


def _real(catalog: SqlCatalog) -> _Real:
    rows = [row for batch in catalog.live_vectors() for row in batch if row.space is VectorSpace.COPY]
    by_entry: dict[int, list[Floats]] = {}
    for row in rows:
        by_entry.setdefault(row.entry, []).append(row.vector)
    fewest = min(map(len, by_entry.values()))
    sets = [row for batch in catalog.live_locals() for row in batch]
    keypoints = [row.features for row in sets if row.extractor == EXTRACTOR]
    return _Real(
        rows[0].model,
        np.stack([np.stack(views[:fewest]) for views in by_entry.values()]),
        np.concatenate([one.points for one in keypoints]),
        np.concatenate([one.descriptors for one in keypoints]).astype(np.float32),
        [row.features for row in sets if row.extractor == GREYS],
    )


def _hashes(bank: int, count: int, chance: np.random.Generator) -> Iterator[list[StoredHash]]:
    for begin in range(0, count, 100 * _BATCH):
        keys = range(_FIRST_KEY + begin, _FIRST_KEY + min(begin + 100 * _BATCH, count))
        yield [StoredHash(key, bank, SignalType.PDQ, chance.bytes(32), key) for key in keys]


def _views(real: _Real, bank: int, keys: range, chance: np.random.Generator) -> list[StoredVector]:
    count, views = len(keys), real.views.shape[1]
    one, two, three, four = chance.integers(0, len(real.views), (4, count))
    share = chance.uniform(0.3, 0.7, (count, 1, 1)).astype(np.float32)
    mixed = share * real.views[one] + (1 - share) * real.views[two]
    mixed += _SHIFT * (real.views[three, 0] - real.views[four, 0])[:, None]
    mixed /= np.linalg.norm(mixed, axis=2, keepdims=True)
    return [
        StoredVector(_FIRST_KEY + key * views + view, bank, VectorSpace.COPY, real.model, mixed[place, view], key)
        for place, key in enumerate(keys)
        for view in range(views)
    ]


def _locals(real: _Real, bank: int, keys: range, chance: np.random.Generator) -> list[StoredLocal]:
    made = []
    for key in keys:
        one, two = chance.integers(0, len(real.descriptors), (2, _KEYPOINTS))
        share = chance.uniform(0.3, 0.7, (_KEYPOINTS, 1)).astype(np.float32)
        mixed = share * real.descriptors[one] + (1 - share) * real.descriptors[two]
        # Of the length that they had: that of all descriptors.
        lengths = np.linalg.norm(real.descriptors[one], axis=1, keepdims=True)
        mixed *= lengths / np.maximum(np.linalg.norm(mixed, axis=1, keepdims=True), 1)
        descriptors = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
        features = LocalFeatures(real.points[chance.integers(0, len(real.points), _KEYPOINTS)], descriptors, 4 / 3)
        grey = real.greys[int(chance.integers(len(real.greys)))]
        made.append(StoredLocal(_FIRST_KEY + 2 * key, bank, key, EXTRACTOR, features))
        made.append(StoredLocal(_FIRST_KEY + 2 * key + 1, bank, key, GREYS, grey))
    return made
