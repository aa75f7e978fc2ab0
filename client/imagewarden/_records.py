"""The records of a list that is brought into a bank, or that a bank gives: entries with all that they are known by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from imagewarden._enums import EntryState, SignalType
from imagewarden._opinions import Quarantine


@dataclass(frozen=True, slots=True)
class RecordHash:
    """A digest or a PDQ hash.

    Attributes:
        type: SHA256, SHA1, MD5 or PDQ.
        value: its 32, 20, 16 or 32 bytes.
        quality: PDQ only: of the picture it was computed from, 0 to 100; None: not known.
    """

    type: SignalType
    value: bytes
    quality: int | None = None

    @property
    def hex(self) -> str:
        """The hash as hexadecimal digits."""
        return self.value.hex()


@dataclass(frozen=True, slots=True)
class RecordVectors:
    """Vectors of one model: the views of one picture.

    Attributes:
        type: EMBEDDING or SEMANTIC.
        model_version: the fingerprint of the model that made them: elsewhere they are only of use with the same one.
        dimensions: how many a view has.
        data: the views one after the other, each of float32, little-endian, with a Euclidean norm of 1.
        mean: scores are (cosine similarity - mean) / deviation.
        deviation: as `mean`.
    """

    type: SignalType
    model_version: str
    dimensions: int
    data: bytes
    mean: float = 0.0
    deviation: float = 1.0


@dataclass(frozen=True, slots=True)
class RecordFeatures:
    """Local features of one view: how they were made, and their bytes as docs/lists.md describes them."""

    extractor: str
    data: bytes


@dataclass(frozen=True, slots=True)
class EntryRecord:
    """One entry of a list with all that it is recognised by, or the word that it is gone.

    A record with an `id` is that entry of the bank. One without, but with an `external_id`, is the bank's entry of that
    external_id and the same source; one with neither is the entry of the same source that has its first hash.

    Attributes:
        id: the {entry} of its name; empty: a new entry gets a new one.
        removed: what the record names is removed; without an `id` only an entry of the same source is.
        image: the picture's file, of banks that keep pictures.
        thumbnail: of a logo, a small PNG.
        state: ACTIVE or DISABLED; None: a new entry is ACTIVE, one that is there stays as it is.
        create_time: when it was made elsewhere; None: now.
        quarantine: None: a new entry is not quarantined, one that is there stays as it is.
    """

    hashes: tuple[RecordHash, ...] = ()
    external_id: str = ""
    source: str = ""
    labels: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    removed: bool = False
    id: str = ""
    brand: str = ""
    note: str = ""
    state: EntryState | None = None
    expire_time: datetime | None = None
    create_time: datetime | None = None
    vectors: tuple[RecordVectors, ...] = ()
    features: tuple[RecordFeatures, ...] = ()
    thumbnail: bytes = b""
    image: bytes = b""
    quarantine: Quarantine | None = None


@dataclass(frozen=True, slots=True)
class RefusedRecord:
    """A record that was refused: its number, the field that is wrong, and what is wrong, for people."""

    number: int
    field: str
    message: str


@dataclass(frozen=True, slots=True)
class ImportAnswer:
    """What became of some records of an import.

    Attributes:
        number: all records up to this one are dealt with, and what they changed is in force.
        added: how many entries are new.
        updated: how many entries there were, and are as their records say now.
        unchanged: how many were as their records say already.
        removed: how many entries were removed.
        absent: how many records say that something is removed that the bank did not have.
        refused: those that were refused; the others are dealt with all the same.
        revision: the revision that has the changes; empty where nothing was to be changed.
    """

    number: int
    added: int
    updated: int
    unchanged: int
    removed: int
    absent: int
    refused: tuple[RefusedRecord, ...]
    revision: str
