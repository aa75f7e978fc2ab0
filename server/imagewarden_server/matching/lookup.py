"""Asking the index within a check's scope: what each signal finds, by entry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from imagewarden_server import media
from imagewarden_server.matching import second_look
from imagewarden_server.matching.agreement import agreement, stronger
from imagewarden_server.matching.directory import Directory, Scope
from imagewarden_server.matching.embedder import ModelInfo
from imagewarden_server.matching.evidence import Candidates, Found, Sighting
from imagewarden_server.matching.geometry import Verified, verify_many
from imagewarden_server.matching.policy import action_of
from imagewarden_server.matching.ports import Catalog, EntryHit, Hit, SearchIndex, StoredLocal
from imagewarden_server.matching.types import (
    Bank,
    BankKind,
    Box,
    Entry,
    HashSignal,
    LocalFeatures,
    Match,
    SignalType,
    VectorModel,
    Vectors,
    VectorSpace,
)
from imagewarden_server.matching.visible import ALL_BANKS, Banks

# Of each bank so many sets of local features, those that most keypoints vote for, are compared keypoint by keypoint.
_VOTED = 8
# Under this score no pixels are compared: so many inliers any two pictures may have.
_WORTH_A_LOOK = 4.0
# Sets with fewer votes are not held against the picture: 4 of 560 right ones, and most wrong ones (ADR 18).
_LEAST_VOTES = 1.5

Now = Callable[[], datetime]


def utc_now() -> datetime:
    """The time that entries expire by."""
    return datetime.now(UTC)


_COPY_KINDS = frozenset({BankKind.BANNED, BankKind.ALLOWED})
_LOGO_KINDS = frozenset({BankKind.BRAND})
_SPACE_KINDS = {VectorSpace.COPY: _COPY_KINDS, VectorSpace.LOGO: _LOGO_KINDS}


@dataclass(frozen=True, slots=True)
class VectorQueries:
    """The vectors to compare in one space, with where each stands in the picture.

    Attributes:
        vectors: float32 [n, dimensions], unit norm.
        frames: the frame number of each row.
        regions: the box of each row; None: the whole picture.
    """

    space: VectorSpace
    vectors: Vectors
    frames: Sequence[int]
    regions: Sequence[Box | None]


@dataclass(frozen=True, slots=True)
class LocalQuery:
    """The local features of one frame, and its grey levels: uint8 [height, width]."""

    frame: int
    features: LocalFeatures
    luma: NDArray[np.uint8]


class Lookup:
    """Finds what may be in a picture; blocking, to be run on a worker thread."""

    def __init__(self, catalog: Catalog, index: SearchIndex, now: Now = utc_now) -> None:
        self._catalog = catalog
        self._index = index
        self._directory = Directory(catalog, index)
        self._now = now
        self._shelf = second_look.Shelf()

    def scope(self, names: Sequence[str], visible: Banks = ALL_BANKS, *, wait: bool = True) -> Scope:
        """The named banks, or all that are enabled; see `Directory.scope`. Raises BankNotFound, WouldWait."""
        return self._directory.scope(names, visible, wait=wait)

    def compares_weak_digests(self, scope: Scope) -> bool:
        """Whether any entry in scope can be recognised by SHA-1 or MD5."""
        return any(
            self._index.hash_count(list(scope.comparing(type_)), type_) > 0
            for type_ in (SignalType.SHA1, SignalType.MD5)
        )

    def compares_pdq(self, scope: Scope) -> bool:
        """Whether any entry in scope can be recognised by PDQ."""
        return self._index.hash_count(list(scope.comparing(SignalType.PDQ)), SignalType.PDQ) > 0

    def compares_local(self, scope: Scope, extractor: str) -> bool:
        """Whether any entry in scope can be recognised by local features of this extractor."""
        return self._index.local_count(list(scope.comparing(SignalType.LOCAL))).get(extractor, 0) > 0

    def models(self, scope: Scope, space: VectorSpace) -> dict[VectorModel, int]:
        """How many vectors in scope a space has, by what made them."""
        banks = scope.comparing(SignalType.EMBEDDING, _SPACE_KINDS[space])
        return self._index.vector_models(list(banks), space)

    def least(self, scope: Scope, space: VectorSpace) -> float:
        """The lowest threshold in scope of what a space's vectors find."""
        found = scope.comparing(SignalType.EMBEDDING, _SPACE_KINDS[space])
        return min((threshold.value for threshold in found.values()), default=0.0)

    def digests(self, scope: Scope, digests: Sequence[HashSignal], *, wait: bool = True) -> list[Match]:
        """Entries that have one of the digests: at most one match an entry, by its most exact digest.

        Raises:
            WouldWait: the index or the catalogue cannot be read at once, and `wait` is unset.
        """
        hits: list[Hit] = []
        for place, digest in enumerate(digests):
            banks = list(scope.comparing(digest.type))
            found = self._index.find_digests(banks, [digest], wait=wait)
            hits += [Hit(hit.key, place, hit.value) for hit in found]
        entries = self._directory.entries_by_hash_key([hit.key for hit in hits], wait=wait)
        known = self._in_scope(scope, entries.values())
        matches: dict[int, Match] = {}
        for hit in hits:
            entry = entries.get(hit.key)
            if entry is not None and entry.key in known and entry.key not in matches:
                bank, signal = known[entry.key][1], digests[hit.query].type
                matches[entry.key] = Match(entry, bank, signal, 1.0, 0.0, 0.0, action_of(entry, bank))
        return list(matches.values())

    def pdq(self, scope: Scope, hashes: Sequence[bytes], frames: Sequence[int]) -> list[Sighting]:
        """The entries within the Hamming distance that their bank allows; `frames` numbers the hashes' frames."""
        thresholds = scope.comparing(SignalType.PDQ)
        hits: list[Hit] = []
        for distance in {threshold.value for threshold in thresholds.values()}:
            banks = [key for key, threshold in thresholds.items() if threshold.value == distance]
            hits += self._index.find_pdq(banks, hashes, int(distance))
        entries = self._directory.entries_by_hash_key([hit.key for hit in hits])
        return [_by_pdq(entries[hit.key].key, hit, frames) for hit in hits if hit.key in entries]

    def vectors(self, scope: Scope, model: ModelInfo, queries: VectorQueries, most: int) -> list[Sighting]:
        """The entries of each bank whose views are most like one of the queries, at most `most`."""
        banks = list(scope.comparing(SignalType.EMBEDDING, _SPACE_KINDS[queries.space]))
        hits = self._index.find_entries(banks, queries.space, model.fingerprint, queries.vectors, most)
        return [_by_embedding(hit, queries) for hit in hits]

    def voted(self, scope: Scope, extractor: str, queries: Sequence[LocalQuery]) -> list[Sighting]:
        """The entries that most keypoints of the frames vote for, held against the picture keypoint by keypoint."""
        banks = list(scope.comparing(SignalType.LOCAL))
        sightings = []
        for query in queries:
            if not len(query.features.points):
                continue
            found = self._index.find_local(banks, extractor, query.features, _VOTED)
            votes = {one.key: one for one in found if one.votes >= _LEAST_VOTES}
            entries = list(dict.fromkeys(one.entry for one in votes.values()))
            sets = [one for one in self._index.local_features(entries, banks, extractor) if one.key in votes]
            sightings += self._verified(banks, query, sets, [votes[one.key].mirrored for one in sets])
        return sightings

    def held_against(
        self, scope: Scope, extractor: str, queries: Sequence[LocalQuery], entries: Sequence[int]
    ) -> list[Sighting]:
        """Entries that other signals found, by their keys, held against the picture keypoint by keypoint."""
        banks = list(scope.comparing(SignalType.LOCAL))
        sets = self._index.local_features(list(dict.fromkeys(entries)), banks, extractor)
        return [one for query in queries for one in self._verified(banks, query, sets, [None] * len(sets))]

    def look_again(
        self, scope: Scope, pictures: Mapping[int, NDArray[np.uint8]], places: Mapping[int, Found]
    ) -> list[Sighting]:
        """How well logos fit where the embedding sees them, by their shapes and their drawings: see `second_look`.

        Args:
            scope: the banks.
            pictures: the frames' pixels, by their numbers.
            places: the frame and the window of each entry, by key.
        """
        banks = list(scope.comparing(SignalType.LOCAL, _LOGO_KINDS))
        rows = [
            row
            for extractor in (media.SHAPES, media.DRAWINGS)
            for row in self._index.local_features(list(places), banks, extractor)
        ]
        stored = self._shelf.stored(rows)
        sightings = []
        for frame, pixels in pictures.items():
            windows = {
                entry: place.region
                for entry, place in places.items()
                if place.frame == frame and place.region is not None and entry in stored
            }
            for entry, seen in second_look.look(pixels, stored, windows).items():
                sightings.append(Sighting(entry, SignalType.LOCAL, Found(seen.fit, 0.0, frame, seen.box)))
        return sightings

    def complete(
        self,
        scope: Scope,
        lacking: Mapping[SignalType, Sequence[int]],
        hashes: Sequence[bytes],
        frames: Sequence[int],
        vectors: tuple[ModelInfo, Sequence[VectorQueries]] | None,
    ) -> list[Sighting]:
        """What PDQ and the embedding say of entries that they did not find by themselves.

        Args:
            scope: the banks.
            lacking: the keys of the entries that lack each signal.
            hashes: the picture's PDQ bits.
            frames: their frame numbers.
            vectors: the model and what was searched by its vectors; None where it gave none.
        """
        banks = list(scope.comparing(SignalType.PDQ))
        hits = self._index.hash_distances(lacking[SignalType.PDQ], banks, hashes) if hashes else []
        sightings = [_by_pdq(hit.key, hit, frames) for hit in hits]
        if vectors is not None:
            model, queries = vectors
            for one in queries:
                banks = list(scope.comparing(SignalType.EMBEDDING, _SPACE_KINDS[one.space]))
                entries = lacking[SignalType.EMBEDDING]
                scored = self._index.score_entries(entries, banks, one.space, model.fingerprint, one.vectors)
                sightings += [_by_embedding(hit, one) for hit in scored]
        return sightings

    def matches(self, scope: Scope, candidates: Candidates) -> list[Match]:
        """The matches among the candidates.

        The catalogue has the last word: what it deleted or disabled since the index was asked is no match.
        """
        entries = self._directory.entries_by_key(candidates.keys())
        return candidates.matches(self._in_scope(scope, entries.values()))

    def similar(
        self, scope: Scope, model: ModelInfo, vector: NDArray[np.float32], k: int
    ) -> list[tuple[Entry, Bank, float]]:
        """The k entries nearest in meaning: entry, bank, cosine similarity, nearest first."""
        banks = [bank.key for bank in scope.banks]
        hits = self._index.find_vectors(banks, VectorSpace.SEMANTIC, model.fingerprint, vector[None, :], k)
        entries = self._catalog.entries_by_vector_key([hit.key for hit in hits])
        known = self._in_scope(scope, entries.values())
        best: dict[int, tuple[Entry, Bank, float]] = {}
        for hit in sorted(hits, key=lambda hit: -hit.value):
            entry = entries.get(hit.key)
            if entry is not None and entry.key in known:
                best.setdefault(entry.key, (*known[entry.key], hit.value))
        return list(best.values())[:k]

    def _verified(
        self, banks: Sequence[int], query: LocalQuery, sets: Sequence[StoredLocal], mirrored: Sequence[bool | None]
    ) -> list[Sighting]:
        """Sets of local features held against a frame: keypoint by keypoint, then pixel by pixel."""
        found = verify_many(query.features, [one.features for one in sets], mirrored=mirrored)
        seen = [(one.entry, where) for one, where in zip(sets, found, strict=True) if where is not None]
        worth = [entry for entry, where in seen if where.score >= _WORTH_A_LOOK]
        greys: dict[int, list[NDArray[np.uint8]]] = {}
        for one in self._index.local_features(worth, banks, media.GREYS) if worth else ():
            greys.setdefault(one.entry, []).append(media.unpacked(one.features))
        return [_by_local(entry, where, query, greys.get(entry, ())) for entry, where in seen]

    def _in_scope(self, scope: Scope, entries: Iterable[Entry]) -> dict[int, tuple[Entry, Bank]]:
        """The live entries of the banks in scope, with their banks, by key."""
        banks = {bank.id: bank for bank in scope.banks}
        now = self._now()
        return {
            entry.key: (entry, banks[entry.bank_id]) for entry in entries if entry.bank_id in banks and entry.live(now)
        }


def _by_pdq(entry: int, hit: Hit, frames: Sequence[int]) -> Sighting:
    return Sighting(entry, SignalType.PDQ, Found(hit.value, hit.value, frames[hit.query]))


def _by_embedding(hit: EntryHit, queries: VectorQueries) -> Sighting:
    found = Found(hit.value, 1 - hit.cosine, queries.frames[hit.query], queries.regions[hit.query])
    return Sighting(hit.entry, SignalType.EMBEDDING, found)


def _by_local(entry: int, seen: Verified, query: LocalQuery, greys: Sequence[NDArray[np.uint8]]) -> Sighting:
    # Of an animation the frame is not known whose keypoints these are: the right one agrees most.
    score = seen.score
    if seen.score >= _WORTH_A_LOOK:
        looked = (stronger(seen.score, agreement(query.luma, one, seen.transform)) for one in greys)
        score = max((seen.score, *looked))
    return Sighting(entry, SignalType.LOCAL, Found(score, 0.0, query.frame, seen.box, seen.transform))
