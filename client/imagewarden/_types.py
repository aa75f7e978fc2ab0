"""What the client answers: frozen dataclasses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Self

from imagewarden._enums import (
    Action,
    BankKind,
    EntryState,
    QuarantineReason,
    SignalType,
    UndecidedCode,
    Verdict,
)
from imagewarden._opinions import NO_FEEDBACK, Feedback, MatchReport, Quarantine


@dataclass(frozen=True, slots=True)
class BoundingBox:
    """A box in a picture, as fractions of its displayed width and height."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one signal says of an entry, in the unit of its threshold, and whether the bank's threshold is reached."""

    signal: SignalType
    value: float
    reached: bool


@dataclass(frozen=True, slots=True)
class Transform:
    """How an entry's picture lies in the checked one.

    x' = a x + b y + c and y' = d x + e y + f, from fractions of the entry's width and height to fractions of the
    picture's; `coefficients` are a to f.
    """

    coefficients: tuple[float, ...]
    mirrored: bool = False


@dataclass(frozen=True, slots=True)
class Match:
    """One entry that recognises the picture, by one signal.

    Attributes:
        entry: `banks/{bank}/entries/{entry}`.
        score: how alike: PDQ and COMBINED 0 to 1; EMBEDDING how much more alike than ordinary pictures are, for a logo
            in standard deviations; LOCAL inliers.
        distance: in the signal's own unit: bits for PDQ, 1 - cosine similarity for EMBEDDING.
        threshold: the bank's: a distance for PDQ, a score for the others.
        region: where in the picture; None: the whole.
        frame: which frame of an animation, from 0.
        cleared_by: the ALLOWED entry that cleared the picture of this match; empty: none.
        evidence: what every signal that was compared says of the entry.
        transform: how the entry's picture lies in this one, where local features say.
        quarantined: why the entry is quarantined, and so blocks nothing; None: it is not.
    """

    entry: str
    bank: str
    bank_kind: BankKind
    signal: SignalType
    score: float
    distance: float
    threshold: float
    action: Action
    region: BoundingBox | None = None
    frame: int = 0
    cleared_by: str = ""
    external_id: str = ""
    brand: str = ""
    labels: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    transform: Transform | None = None
    quarantined: QuarantineReason | None = None


@dataclass(frozen=True, slots=True)
class UndecidedReason:
    """One reason why a check could not decide, with the signals that were not compared for it."""

    code: UndecidedCode
    message: str
    signals: tuple[SignalType, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What the server read of the picture; 0 and empty where it could not."""

    format: str
    width: int
    height: int
    frames: int
    sha256: str
    pdq: str
    pdq_quality: int


@dataclass(frozen=True, slots=True)
class StageTiming:
    """How long one stage of a check took."""

    stage: str
    duration: timedelta


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One explained verdict.

    Attributes:
        verdict: what the check found.
        action: what to do: ALLOW, REVIEW or BLOCK.
        matches: the strictest first.
        undecided_reasons: why it could not decide, or what did not run beside a match.
        revision: the catalogue's state that the check saw.
        model_version: the model whose vectors were compared; empty: none was asked.
    """

    verdict: Verdict
    action: Action
    matches: tuple[Match, ...]
    undecided_reasons: tuple[UndecidedReason, ...]
    revision: str
    model_version: str
    image: ImageInfo
    timings: tuple[StageTiming, ...]


@dataclass(frozen=True, slots=True)
class Threshold:
    """From where on a signal of a bank matches: a distance for PDQ, a score for EMBEDDING, LOCAL and COMBINED."""

    signal: SignalType
    value: float = 0.0
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """What a bank does with its matches; what is not given keeps the default of the bank's kind.

    Attributes:
        enabled_ratio: of which part of all pictures the bank says something, 0 to 1: the same files each time.
        quarantine_false_positives: at how many more false positives than confirmations an entry is quarantined.
        quarantine_flood: from how many different pictures in ten minutes on it may be, for matching far more than it
            did. 0 of either: never.
    """

    action: Action | None = None
    thresholds: tuple[Threshold, ...] = ()
    enabled_ratio: float | None = None
    quarantine_false_positives: int | None = None
    quarantine_flood: int | None = None


@dataclass(frozen=True, slots=True)
class Bank:
    """A set of entries under one owner and one policy; `name` is `banks/{bank}`.

    Attributes:
        feedback: what people reported of its entries' matches.
    """

    name: str
    kind: BankKind
    display_name: str
    policy: Policy
    enabled: bool
    labels: Mapping[str, str]
    keep_images: bool
    entry_count: int
    create_time: datetime
    update_time: datetime
    feedback: Feedback = NO_FEEDBACK


@dataclass(frozen=True, slots=True)
class Signal:
    """A stored signal in short.

    Attributes:
        hex: the digest or hash; empty for vectors.
        quality: PDQ's, where it is known.
        model_version: the fingerprint of the model that made the vectors.
        views: how many vectors.
        keypoints: how many keypoints, over all views.
    """

    type: SignalType
    hex: str = ""
    quality: int | None = None
    model_version: str = ""
    views: int = 0
    dimensions: int = 0
    keypoints: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One banned or allowed picture, one hash, or one logo; `name` is `banks/{bank}/entries/{entry}`.

    Attributes:
        thumbnail: a small PNG of a logo; `get_entry` alone answers it.
        feedback: what people reported of its matches.
        reports: the newest 20 of them, the newest first; `get_entry` alone answers them.
        quarantine: None: it is not quarantined.
        note: what its keepers say of it to each other.
    """

    name: str
    external_id: str
    labels: tuple[str, ...]
    metadata: Mapping[str, str]
    source: str
    brand: str
    state: EntryState | None
    expire_time: datetime | None
    signals: tuple[Signal, ...]
    thumbnail: bytes
    create_time: datetime | None
    update_time: datetime | None
    feedback: Feedback = NO_FEEDBACK
    reports: tuple[MatchReport, ...] = ()
    quarantine: Quarantine | None = None
    note: str = ""


_HEX_DIGITS = {SignalType.SHA256: 64, SignalType.SHA1: 40, SignalType.MD5: 32, SignalType.PDQ: 64}
_HEX = re.compile(r"[0-9a-fA-F]+")
_PARTS = re.compile(r"(?:([A-Za-z0-9_-]+)(?:\s*:\s*|\s+))?(\S+)")


@dataclass(frozen=True, slots=True)
class Hash:
    """One hash to ban or to allow.

    Attributes:
        type: SHA256, SHA1, MD5 or PDQ.
        hex: the hash in hexadecimal: 64, 40, 32 or 64 digits.
        quality: PDQ only: the quality of the picture it was computed from, 0 to 100; None: not known.
        external_id: the owner's own identifier.
        labels: labels of the owner's own.
        metadata: facts of the owner's own.
        source: where it comes from.
        expire_time: from when on it is no longer compared, with a time zone; None: never.
        note: what its keepers say of it to each other, at most 1,000 characters.

    Raises:
        ValueError: the type is no hash, or the digits are not as many as the type has.
    """

    type: SignalType
    hex: str
    quality: int | None = None
    external_id: str = ""
    labels: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    expire_time: datetime | None = None
    note: str = ""

    def __post_init__(self) -> None:
        digits = _HEX_DIGITS.get(self.type)
        if digits is None:
            raise ValueError(f"{self.type!r} is no hash that can be added; it is one of {', '.join(_HEX_DIGITS)}")
        if len(self.hex) != digits or not _HEX.fullmatch(self.hex):
            raise ValueError(
                f"{self.hex[:80]!r} is no {self.type} hash, which has {digits} hexadecimal digits; "
                f"this has {len(self.hex)} characters"
            )

    @classmethod
    def parse(cls, text: str, *, type: SignalType | None = None) -> Self:  # noqa: A002 -- the field's name
        """Read `type:hex`, `type hex`, or bare digits.

        Args:
            text: such as `sha256:9f86...`, `pdq f8f8...` or `900150983cd24fb0d6963f7d28e17f72`.
            type: what bare digits are. Without it their number decides: 32 are MD5 and 40 are SHA1; 64 could be SHA256
                or PDQ, and are refused.

        Raises:
            ValueError: it cannot be read, or can be read in two ways.
        """
        parts = _PARTS.fullmatch(text.strip())
        if parts is None:
            raise ValueError(f"{text.strip()[:80]!r} is no hash; write it as sha256:... or pdq:...")
        word, digits = parts[1], parts[2].lower()
        if word is not None:
            try:
                return cls(SignalType(word.lower().replace("-", "").replace("_", "")), digits)
            except ValueError as error:
                if word.lower() in _HEX_DIGITS:
                    raise
                raise ValueError(f"{word[:40]!r} is no hash type; it is one of {', '.join(_HEX_DIGITS)}") from error
        if type is not None:
            return cls(type, digits)
        if not _HEX.fullmatch(digits):
            raise ValueError(f"{digits[:80]!r} is no hash; write it as sha256:... or pdq:...")
        fitting = [kind for kind, count in _HEX_DIGITS.items() if count == len(digits)]
        if len(fitting) != 1:
            both = " or ".join(fitting) or "no known hash"
            raise ValueError(f"{len(digits)} digits are {both}; say which, as in pdq:{digits[:8]}...")
        return cls(fitting[0], digits)


@dataclass(frozen=True, slots=True)
class AddedHash:
    """What became of one hash: its entry, and whether the bank had it already."""

    entry: str
    duplicate: bool


@dataclass(frozen=True, slots=True)
class HashesAdded:
    """What became of the hashes, in their order."""

    results: tuple[AddedHash, ...]
    added: int
    duplicates: int
    revision: str


@dataclass(frozen=True, slots=True)
class BankChange:
    """A bank as it is now, and the revision that has the change."""

    bank: Bank
    revision: str


@dataclass(frozen=True, slots=True)
class EntryChange:
    """An entry as it is now, the revision that has the change, and what is weaker than usual about it."""

    entry: Entry
    revision: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Deletion:
    """The revision that has the deletion, and how many entries went with a bank."""

    revision: str
    deleted_entries: int = 0


@dataclass(frozen=True, slots=True)
class SimilarImage:
    """One entry like the picture: its place from 1, the distance by the asked metric, the cosine similarity."""

    rank: int
    entry: Entry
    bank: str
    distance: float
    similarity: float


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The entries like the picture, the most alike first."""

    results: tuple[SimilarImage, ...]
    revision: str
    model_version: str
    image: ImageInfo
