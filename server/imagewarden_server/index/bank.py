"""All indexes of one bank: what rows of the catalogue do to them, and what a snapshot keeps of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from imagewarden_server.index import digests as digest_tables
from imagewarden_server.index.digests import DigestTable
from imagewarden_server.index.entry_vectors import GRAPH_AXES, GRAPH_FROM, EntryVectors
from imagewarden_server.index.errors import WrongShape
from imagewarden_server.index.flat import FlatHammingIndex
from imagewarden_server.index.local import LocalIndex
from imagewarden_server.index.parts import HashPart, LocalPart, Part, VectorPart
from imagewarden_server.index.vectors import check_scale, check_vectors
from imagewarden_server.matching.ports import StoredHash, StoredLocal, StoredVector
from imagewarden_server.matching.types import DIGEST_BYTES, HASH_BYTES, SignalType, VectorSpace
from imagewarden_server.media import DRAWINGS, GREYS, SHAPES

Place = tuple[VectorSpace, str, int]
"""Which vectors of a bank are in one index: space, model and dimensions.

A model has vectors of one number of dimensions; where a list brought others under its name, they stand apart, so that
they hold up neither changes nor a start, and a check can tell that they are there."""

_DESCRIPTOR_BYTES = 128
# What is kept as sets of local features are, and has no keypoints to vote with.
_NO_KEYPOINTS = frozenset({DRAWINGS, GREYS, SHAPES})


class BankIndexes:
    """The indexes of one bank; not thread-safe: the holder locks.

    What is added is passed over where it is there already, and what is removed where it is not.
    """

    def __init__(self) -> None:
        self.digests: dict[SignalType, DigestTable] = {}
        self.pdq = FlatHammingIndex()
        self.vectors: dict[Place, EntryVectors] = {}
        self.locals: dict[str, LocalIndex] = {}

    # -------------------------------------------------------------------------------------------------------- checks

    def check(
        self, hashes: Iterable[StoredHash], vectors: Iterable[StoredVector], features: Iterable[StoredLocal]
    ) -> None:
        """Refuse rows that would poison the indexes, before anything is changed.

        Raises:
            IndexRefused: a row is not as it must be.
        """
        for row in hashes:
            expected = HASH_BYTES.get(row.type)
            if len(row.value) != expected:
                raise WrongShape(f"hash {row.key} of type {row.type.value} has {len(row.value)} bytes, not {expected}")
        for (_, _, dimensions), group in _by_place(vectors).items():
            _check_group(group, dimensions)
        for local in features:
            points, descriptors = local.features.points, local.features.descriptors
            count = len(points)
            if points.shape != (count, 4) or descriptors.shape != (count, _DESCRIPTOR_BYTES):
                raise WrongShape(
                    f"local features {local.key} have points {points.shape} and descriptors {descriptors.shape}, and "
                    f"(n, 4) and (n, {_DESCRIPTOR_BYTES}) were expected"
                )
            if points.dtype != np.float32 or descriptors.dtype != np.uint8:
                raise WrongShape(
                    f"local features {local.key} are {points.dtype} and {descriptors.dtype}, not float32 and uint8"
                )

    # ------------------------------------------------------------------------------------------------------- changes

    def add_hashes(self, rows: Iterable[StoredHash]) -> None:
        """Add hashes that `check` has seen."""
        pdq = []
        for row in rows:
            if row.type is SignalType.PDQ:
                pdq.append(row)
            else:
                self.digests.setdefault(row.type, DigestTable()).add(row.key, row.value)
        if pdq:
            self.pdq.add([row.key for row in pdq], [row.entry for row in pdq], [row.value for row in pdq])

    def remove_hashes(self, rows: Iterable[StoredHash]) -> None:
        """Remove hashes."""
        pdq = []
        for row in rows:
            if row.type is SignalType.PDQ:
                pdq.append(row.key)
            elif row.type in self.digests:
                self.digests[row.type].remove(row.key, row.value)
        if pdq:
            self.pdq.remove(pdq)

    def add_vectors(self, rows: Iterable[StoredVector]) -> None:
        """Add vectors that `check` has seen."""
        for place, group in _by_place(rows).items():
            if place not in self.vectors:
                self.vectors[place] = EntryVectors(place[2], GRAPH_FROM[place[0]], GRAPH_AXES.get(place[0]))
            index = self.vectors[place]
            there = index.holds([row.key for row in group])
            fresh = list({row.key: row for row, held in zip(group, there, strict=True) if not held}.values())
            if fresh:
                index.add(
                    [row.key for row in fresh],
                    [row.entry for row in fresh],
                    np.stack([row.vector for row in fresh]),
                    [row.mean for row in fresh],
                    [row.deviation for row in fresh],
                )

    def remove_vectors(self, rows: Iterable[StoredVector]) -> None:
        """Remove vectors, by their keys alone; an index that is left without any goes."""
        gone: dict[tuple[VectorSpace, str], list[int]] = defaultdict(list)
        for row in rows:
            gone[row.space, row.model].append(row.key)
        for place in [place for place in self.vectors if place[:2] in gone]:
            self.vectors[place].remove(gone[place[:2]])
            if not len(self.vectors[place]):
                del self.vectors[place]

    def add_locals(self, rows: Iterable[StoredLocal]) -> None:
        """Add local features that `check` has seen."""
        for extractor, group in _by_extractor(rows).items():
            index = self.locals.setdefault(extractor, LocalIndex(votes=extractor not in _NO_KEYPOINTS))
            fresh = list({row.key: row for row in group if row.key not in index}.values())
            if fresh:
                index.add([row.key for row in fresh], [row.entry for row in fresh], [row.features for row in fresh])

    def remove_locals(self, rows: Iterable[StoredLocal]) -> None:
        """Remove local features; an index that is left without any goes."""
        for extractor, group in _by_extractor(rows).items():
            index = self.locals.get(extractor)
            if index is None:
                continue
            index.remove([row.key for row in group])
            if not len(index):
                del self.locals[extractor]

    # ----------------------------------------------------------------------------------------------------- snapshots

    def contents(self) -> list[SignalType | Place | str]:
        """What there are indexes of: types of hashes, places of vectors, extractors of local features."""
        types = [*self.digests, *([SignalType.PDQ] if len(self.pdq) else [])]
        return [*types, *self.vectors, *self.locals]

    def copying(self, bank: int, name: SignalType | Place | str) -> Callable[[], Part] | None:
        """What makes a part of one of the `contents`, and may run without the lock; None where nothing is left of it.

        Under the lock is only what must be: hashes and digests are copied as they lie (some 15 ms a million), graphs
        are written whole (some 30 ms for 100,000 vectors). Vectors and local features are never changed where they are.
        """
        if isinstance(name, SignalType):
            return self._copying_hashes(bank, name)
        if isinstance(name, tuple):
            index = self.vectors.get(name)
            if index is None:
                return None
            vectors = VectorPart(bank, *name, len(index), index.arrays())
            return lambda: vectors
        local = self.locals.get(name)
        if local is None:
            return None
        count, arrays = len(local), local.copying()
        return lambda: LocalPart(bank, name, count, arrays())

    def _copying_hashes(self, bank: int, type_: SignalType) -> Callable[[], Part] | None:
        if type_ is SignalType.PDQ:
            if not len(self.pdq):
                return None
            arrays = self.pdq.copying()
            return lambda: HashPart(bank, type_, arrays())
        table = self.digests.get(type_)
        if not table:
            return None
        pairs = table.pairs()

        def made() -> Part:
            keys, values = digest_tables.arrays(pairs, DIGEST_BYTES[type_])
            return HashPart(bank, type_, {"keys": keys, "values": values})

        return made

    def put(self, part: Part) -> None:
        """Take a part.

        Raises:
            ValueError: the part does not hold what it says.
        """
        if isinstance(part, VectorPart):
            vectors = EntryVectors.of(part.arrays, part.dimensions, GRAPH_FROM[part.space], GRAPH_AXES.get(part.space))
            if len(vectors) != part.count:
                raise WrongShape(f"the part has {len(vectors)} vectors, and {part.count} were expected")
            self.vectors[part.space, part.model, part.dimensions] = vectors
        elif isinstance(part, LocalPart):
            features = LocalIndex.of(part.arrays, votes=part.extractor not in _NO_KEYPOINTS)
            if len(features) != part.count:
                raise WrongShape(f"the part has {len(features)} sets of local features, and {part.count} were expected")
            self.locals[part.extractor] = features
        elif part.type is SignalType.PDQ:
            self.pdq = FlatHammingIndex.of(part.arrays)
        else:
            keys, values = part.arrays["keys"], part.arrays["values"]
            if values.shape != (len(keys), DIGEST_BYTES[part.type]):
                raise WrongShape(f"{values.shape} are not {len(keys)} digests of {part.type.value}")
            table = self.digests.setdefault(part.type, DigestTable())
            for key, value in zip(keys.tolist(), values, strict=True):
                table.add(key, value.tobytes())


def _check_group(rows: Sequence[StoredVector], dimensions: int) -> None:
    for row in rows:
        if row.vector.shape != (dimensions,):
            raise WrongShape(
                f"vector {row.key} of model {row.model} has shape {row.vector.shape}, and ({dimensions},) was expected"
            )
    check_vectors(np.stack([row.vector for row in rows]), len(rows), dimensions)
    scales = np.array([(row.mean, row.deviation) for row in rows], np.float32)
    check_scale(scales[:, 0], scales[:, 1])


def _by_place(rows: Iterable[StoredVector]) -> dict[Place, list[StoredVector]]:
    places: dict[Place, list[StoredVector]] = defaultdict(list)
    for row in rows:
        places[row.space, row.model, len(row.vector)].append(row)
    return places


def _by_extractor(rows: Iterable[StoredLocal]) -> dict[str, list[StoredLocal]]:
    extractors: dict[str, list[StoredLocal]] = defaultdict(list)
    for row in rows:
        extractors[row.extractor].append(row)
    return extractors
