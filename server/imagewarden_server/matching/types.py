"""The domain's words as types: banks, policies, entries, signals, matches, verdicts. No gRPC, no SQL.

Enum values are stable: the catalogue stores them.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imagewarden_server.matching.opinions import NO_FEEDBACK, Feedback, Quarantine, Report
from imagewarden_server.media.types import LocalFeatures as LocalFeatures  # noqa: PLC0414 - a word of the domain too

Vectors = NDArray[np.float32]
"""Unit vectors, float32, one a row: [n, dimensions]."""


class BankKind(enum.StrEnum):
    """What a bank is for."""

    BANNED = "banned"
    BRAND = "brand"
    ALLOWED = "allowed"


class Action(enum.IntEnum):
    """What a match asks for, or what the caller should do; a greater value is stricter."""

    ALLOW = 1
    NOTE = 2
    REVIEW = 3
    BLOCK = 4


class SignalType(enum.StrEnum):
    """By what a picture can be recognised."""

    SHA256 = "sha256"
    SHA1 = "sha1"
    MD5 = "md5"
    PDQ = "pdq"
    EMBEDDING = "embedding"
    LOCAL = "local"
    SEMANTIC = "semantic"
    COMBINED = "combined"


DIGEST_BYTES: Mapping[SignalType, int] = {SignalType.SHA256: 32, SignalType.SHA1: 20, SignalType.MD5: 16}
"""The digests, with their lengths in bytes."""

HASH_BYTES: Mapping[SignalType, int] = {**DIGEST_BYTES, SignalType.PDQ: 32}
"""What AddHashes takes, with the lengths in bytes."""


class VectorSpace(enum.StrEnum):
    """Which vectors are comparable with each other, beside being of one model.

    COPY vectors recognise a picture (signal EMBEDDING of BANNED and ALLOWED banks), LOGO vectors a logo inside one
    (signal EMBEDDING of BRAND banks), SEMANTIC vectors rank by meaning (signal SEMANTIC).
    """

    COPY = "copy"
    LOGO = "logo"
    SEMANTIC = "semantic"


class Verdict(enum.StrEnum):
    """What a check found."""

    MATCH = "match"
    NO_MATCH = "no_match"
    UNDECIDED = "undecided"


class UndecidedCode(enum.StrEnum):
    """Why a check could not decide."""

    UNDECODABLE = "undecodable"
    TOO_PLAIN = "too_plain"
    OVER_LIMITS = "over_limits"
    EMBEDDING_UNAVAILABLE = "embedding_unavailable"
    DEADLINE = "deadline"
    REVISION_BEHIND = "revision_behind"


class EntryState(enum.StrEnum):
    """Whether an entry takes part in checks."""

    ACTIVE = "active"
    DISABLED = "disabled"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Threshold:
    """From where on a signal of a bank matches.

    Attributes:
        value: PDQ: the largest Hamming distance that matches; EMBEDDING: the smallest score (see `VectorSignal`);
            LOCAL: the fewest inliers, weighed as `geometry.Verified.score` is, of logos with their shape; COMBINED: the
            smallest fused score; digests: 0.
        disabled: the signal is not compared for the bank.
    """

    value: float
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """What a bank does with its matches; always complete, see `policy.default_policy`.

    Attributes:
        enabled_ratio: of which part of all pictures the bank says something, 0 to 1: see `rollout`.
        quarantine_false_positives: at how many more false positives than confirmations an entry is quarantined.
            0: never.
        quarantine_flood: from how many pictures in ten minutes on an entry may be quarantined, see `flood`; 0: never.
    """

    action: Action
    thresholds: Mapping[SignalType, Threshold]
    enabled_ratio: float = 1.0
    quarantine_false_positives: int = 3
    quarantine_flood: int = 100


@dataclass(frozen=True, slots=True)
class Bank:
    """A set of entries under one owner and one policy.

    Attributes:
        key: the catalogue's number of it.
        id: the {bank} of its resource name.
        entry_count: how many entries it has; 0 where the caller did not ask the catalogue to count.
        feedback: what people reported of its entries' matches; nothing where the catalogue was not asked to count.
    """

    key: int
    id: str
    kind: BankKind
    display_name: str
    policy: Policy
    enabled: bool
    labels: Mapping[str, str]
    keep_images: bool
    create_time: datetime
    update_time: datetime
    entry_count: int = 0
    feedback: Feedback = NO_FEEDBACK

    @property
    def name(self) -> str:
        """The resource name."""
        return f"banks/{self.id}"


@dataclass(frozen=True, slots=True)
class HashSignal:
    """A digest or a PDQ hash: `value` are its bytes; `quality` is PDQ's, or None where it is not known."""

    type: SignalType
    value: bytes
    quality: int | None = None


class VectorModel(NamedTuple):
    """What made vectors: only those that are alike in both are comparable."""

    fingerprint: str
    dimensions: int


@dataclass(frozen=True, slots=True)
class VectorSignal:
    """Unit vectors of one model: the views of one picture.

    A query's score against them is (cosine similarity - mean) / deviation, the best over the views.

    Attributes:
        type: EMBEDDING or SEMANTIC.
        space: with what they are comparable.
        model: the fingerprint of the model that made them.
        vectors: float32 [views, dimensions], unit norm.
        mean: of the best cosine similarities that pictures without the entry reach; 0 where scores are not normalised.
        deviation: the standard deviation of the same; 1 where scores are not normalised.
    """

    type: SignalType
    space: VectorSpace
    model: str
    vectors: Vectors
    mean: float = 0.0
    deviation: float = 1.0


@dataclass(frozen=True, slots=True)
class LocalSignal:
    """Local features of one view of an entry; `extractor` names how they were made: others are never compared."""

    extractor: str
    features: LocalFeatures


@dataclass(frozen=True, slots=True)
class NewEntry:
    """An entry to be made: what the owner says of it and its signals.

    Attributes:
        image: the file's bytes, only where the bank keeps them.
        thumbnail: a small PNG, BRAND entries only.
    """

    hashes: tuple[HashSignal, ...] = ()
    vectors: tuple[VectorSignal, ...] = ()
    local: tuple[LocalSignal, ...] = ()
    external_id: str = ""
    labels: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    brand: str = ""
    note: str = ""
    expire_time: datetime | None = None
    thumbnail: bytes | None = None
    image: bytes | None = None


@dataclass(frozen=True, slots=True)
class SignalSummary:
    """A stored signal in short: what an answer says of it."""

    type: SignalType
    hex: str = ""
    quality: int | None = None
    model: str = ""
    views: int = 0
    dimensions: int = 0
    keypoints: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored entry.

    Attributes:
        key: the catalogue's number of it.
        id: the {entry} of its resource name.
        feedback: what people reported of its matches; nothing where the catalogue was not asked to count.
        reports: the newest of them, the newest first; `get_entry` alone reads them.
        quarantine: None: it is not quarantined.
        note: what its keepers say of it to each other.
        forgiven: how many more false positives than confirmations there were when it was released from quarantine.
    """

    key: int
    id: str
    bank_id: str
    external_id: str
    labels: tuple[str, ...]
    metadata: Mapping[str, str]
    source: str
    brand: str
    state: EntryState
    expire_time: datetime | None
    create_time: datetime
    update_time: datetime
    signals: tuple[SignalSummary, ...] = ()
    thumbnail: bytes | None = None
    feedback: Feedback = NO_FEEDBACK
    reports: tuple[Report, ...] = ()
    quarantine: Quarantine | None = None
    forgiven: int = 0
    note: str = ""

    @property
    def name(self) -> str:
        """The resource name."""
        return f"banks/{self.bank_id}/entries/{self.id}"

    def live(self, now: datetime) -> bool:
        """Whether it takes part in a check made at `now`."""
        return self.state is EntryState.ACTIVE and (self.expire_time is None or self.expire_time > now)


@dataclass(frozen=True, slots=True)
class Box:
    """A box in a picture, as fractions of its displayed width and height."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True)
class Transform:
    """How an entry's picture lies in the checked one.

    x' = a x + b y + c and y' = d x + e y + f, from fractions of the entry's width and height to fractions of the
    picture's; `coefficients` are a to f.
    """

    coefficients: tuple[float, float, float, float, float, float]
    mirrored: bool = False


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one signal says of an entry, in the unit of its threshold, and whether the bank's threshold is reached."""

    signal: SignalType
    value: float
    reached: bool


@dataclass(frozen=True, slots=True)
class Match:
    """One entry that recognises the picture, by one signal; score, distance and threshold as the API states them.

    Attributes:
        clears: of an ALLOWED bank: whether all of the picture is what its banks allow, so that it may clear it.
    """

    entry: Entry
    bank: Bank
    signal: SignalType
    score: float
    distance: float
    threshold: float
    action: Action
    region: Box | None = None
    frame: int = 0
    cleared_by: str = ""
    evidence: tuple[Evidence, ...] = ()
    transform: Transform | None = None
    clears: bool = True


@dataclass(frozen=True, slots=True)
class Undecided:
    """One reason why a check could not decide, with the signals that were not compared for it."""

    code: UndecidedCode
    message: str
    signals: tuple[SignalType, ...] = ()
