"""Records of lists: entries with all that they are recognised by, as they come in and go out; which a bank may take."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from imagewarden_server import media
from imagewarden_server.matching import shapes
from imagewarden_server.matching.errors import InvalidField, WrongBankKind
from imagewarden_server.matching.hashes import check_hash
from imagewarden_server.matching.opinions import Quarantine
from imagewarden_server.matching.types import (
    Bank,
    BankKind,
    EntryState,
    LocalFeatures,
    LocalSignal,
    NewEntry,
    SignalType,
    VectorSpace,
)

MAX_RECORDS = 2_000
"""The most records of one message: one transaction, which others wait for."""

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NAME = re.compile(r"[\x21-\x7e]{1,64}")
_MOST_HASHES = 64
_MOST_VIEWS = 1_024
_MOST_DIMENSIONS = 8_192
_MOST_FEATURES = 256
_MOST_KEYPOINTS = 4 * media.KEYPOINTS
"""Each check that meets a set compares all of its keypoints with all of its own."""
_UNIT_TOLERANCE = 5e-3
_MOST_THUMBNAIL = 2**18
_PNG = b"\x89PNG\r\n\x1a\n"
_STATES = frozenset({None, EntryState.ACTIVE, EntryState.DISABLED})


@dataclass(frozen=True, slots=True)
class ListRecord:
    """One record of a list: an entry, or the word that it is gone.

    Attributes:
        number: the caller's, for what is said of it.
        entry: what the owner says of it, and its signals.
        id: the {entry} of its name; empty: it is known by its external_id and source, or else by its source and its
            first hash.
        removed: what it names is to go.
        state: None: a new entry takes part in checks, one that is there stays as it is.
        create_time: None: now.
        quarantine: None: a new entry is not quarantined, one that is there stays as it is.
    """

    number: int
    entry: NewEntry
    id: str = ""
    removed: bool = False
    state: EntryState | None = None
    create_time: datetime | None = None
    quarantine: Quarantine | None = None


@dataclass(frozen=True, slots=True)
class RefusedRecord:
    """A record that was refused: its number, which field is wrong, and what is wrong with it."""

    number: int
    field: str
    message: str


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of records: see `ImportEntriesResponse`."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0
    absent: int = 0
    refused: tuple[RefusedRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class Exported:
    """Some entries of a bank, of one state of the catalogue.

    Attributes:
        records: in the order they were made, their numbers the catalogue's keys.
        next_after: where the next ones begin; None: these were the last.
        revision: of that state.
        entry_count: how many entries the bank has.
    """

    records: tuple[ListRecord, ...]
    next_after: int | None
    revision: int
    entry_count: int


def check_record(bank: Bank, record: ListRecord) -> None:
    """Refuse a record that the bank does not take, or that would poison an index or a check.

    Raises:
        InvalidField: which field, and why.
    """
    if record.id and not _ID.fullmatch(record.id):
        raise InvalidField("id", f"{record.id[:80]!r} is none: 1 to 64 of a-z, A-Z, 0-9, '-' and '_'")
    _check_hashes(bank, record.entry)
    if record.removed:
        if not (record.id or record.entry.external_id or record.entry.hashes):
            raise InvalidField("removed", "names nothing: give an id, an external_id or a hash")
        return
    if record.state not in _STATES:
        raise InvalidField("state", "may be ACTIVE or DISABLED; an expire_time makes it EXPIRED")
    _check_kind(bank, record.entry)
    _check_vectors(bank, record.entry)
    _check_features(record.entry.local)
    thumbnail = record.entry.thumbnail
    if thumbnail and (len(thumbnail) > _MOST_THUMBNAIL or not thumbnail.startswith(_PNG)):
        raise InvalidField("thumbnail", f"is no PNG of at most {_MOST_THUMBNAIL:,} bytes; leave it out")


def _check_hashes(bank: Bank, entry: NewEntry) -> None:
    if len(entry.hashes) > _MOST_HASHES:
        raise InvalidField("hashes", f"has {len(entry.hashes)}; at most {_MOST_HASHES}")
    for signal in entry.hashes:
        try:
            check_hash(bank, "hashes", signal)
        except WrongBankKind as error:
            raise InvalidField("hashes", error.message) from error


def _check_kind(bank: Bank, entry: NewEntry) -> None:
    if bank.kind is BankKind.BRAND:
        if not entry.brand:
            raise InvalidField("brand", f"is empty; name the brand, as entries of {bank.name} do")
        if not (entry.vectors or entry.local):
            raise InvalidField("vectors", f"is empty; {bank.name} is a BRAND bank, whose logos are not known by hashes")
    elif not (entry.hashes or entry.vectors):
        raise InvalidField("hashes", "is empty, and there are no vectors: nothing would be recognised by it")


def space_of(kind: BankKind, type_: SignalType) -> VectorSpace:
    """In which space the vectors of a bank's signal are."""
    if type_ is SignalType.SEMANTIC:
        return VectorSpace.SEMANTIC
    return VectorSpace.LOGO if kind is BankKind.BRAND else VectorSpace.COPY


def _check_vectors(bank: Bank, entry: NewEntry) -> None:
    if sum(len(signal.vectors) for signal in entry.vectors) > _MOST_VIEWS:
        raise InvalidField("vectors", f"has more than {_MOST_VIEWS:,} views")
    dimensions: dict[tuple[VectorSpace, str], int] = {}
    for signal in entry.vectors:
        if not _NAME.fullmatch(signal.model):
            raise InvalidField(
                "vectors", f"{signal.model[:80]!r} is no model's fingerprint: 1 to 64 printed characters"
            )
        if signal.space is not space_of(bank.kind, signal.type):
            raise InvalidField("vectors", f"are of another kind of bank than {bank.name}")
        side = signal.vectors.shape[1]
        if side > _MOST_DIMENSIONS or dimensions.setdefault((signal.space, signal.model), side) != side:
            raise InvalidField("vectors", f"of model {signal.model} have {side} dimensions, and other numbers of them")
        norms = np.linalg.norm(signal.vectors, axis=1)
        # A NaN compares False, and is refused with the rest.
        if not (np.abs(norms - 1.0) <= _UNIT_TOLERANCE).all():
            raise InvalidField("vectors", "one is not of norm 1")
        # As the index has them: what it refuses must never be in the catalogue, which would lead it nowhere.
        with np.errstate(over="ignore", under="ignore"):
            mean, deviation = np.float32(signal.mean), np.float32(signal.deviation)
        if not (np.isfinite(mean) and np.isfinite(deviation) and deviation > 0):
            raise InvalidField(
                "vectors", f"a scale of mean {signal.mean} and deviation {signal.deviation} scores nothing"
            )


def _check_features(signals: tuple[LocalSignal, ...]) -> None:
    if len(signals) > _MOST_FEATURES:
        raise InvalidField("features", f"has {len(signals)} sets; at most {_MOST_FEATURES}")
    for signal in signals:
        if not _NAME.fullmatch(signal.extractor):
            raise InvalidField("features", f"{signal.extractor[:80]!r} is no extractor: 1 to 64 printed characters")
        read = _READ.get(signal.extractor)
        if read is None:
            continue
        try:
            read(signal.features)
        except (ValueError, IndexError, OverflowError, MemoryError) as error:
            raise InvalidField("features", f"are no {signal.extractor}: {error}") from error


def _read_keypoints(features: LocalFeatures) -> None:
    if not 1 <= len(features.points) <= _MOST_KEYPOINTS:
        raise ValueError(
            f"there are {len(features.points):,} keypoints: {media.KEYPOINTS} are stored of a picture, and 1 to "
            f"{_MOST_KEYPOINTS:,} are taken"
        )


def _read_shape(features: LocalFeatures) -> None:
    if not 1 / _MOST_ASPECT <= features.aspect <= _MOST_ASPECT or not len(features.points):
        raise ValueError(f"an aspect of {features.aspect:g}, and {len(features.points)} rows")
    if shapes.unpack(features).deviation <= 0:
        raise ValueError("the deviation is not positive")


def _read_grey(features: LocalFeatures) -> None:
    if not 1 / _MOST_ASPECT <= features.aspect <= _MOST_ASPECT:
        raise ValueError(f"an aspect of {features.aspect:g}")
    media.unpacked(features)


_MOST_ASPECT = 1e6

# What a check does with a stored set before it compares it: what cannot be read so would end the checks that meet it.
_READ: Mapping[str, Callable[[LocalFeatures], object]] = {
    media.EXTRACTOR: _read_keypoints,
    media.GREYS: _read_grey,
    media.DRAWINGS: media.undrawn,
    media.SHAPES: _read_shape,
}
