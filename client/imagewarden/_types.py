"""What the client answers: frozen dataclasses, and enums whose values are lower-case words."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta


class BankKind(enum.StrEnum):
    """What a bank is for."""

    BANNED = "banned"
    BRAND = "brand"
    ALLOWED = "allowed"


class Action(enum.StrEnum):
    """What to do with a picture; in a policy, what a match asks for."""

    ALLOW = "allow"
    NOTE = "note"
    REVIEW = "review"
    BLOCK = "block"


class SignalType(enum.StrEnum):
    """By what a picture can be recognised."""

    SHA256 = "sha256"
    SHA1 = "sha1"
    MD5 = "md5"
    PDQ = "pdq"
    EMBEDDING = "embedding"
    LOCAL = "local"
    SEMANTIC = "semantic"


class Verdict(enum.StrEnum):
    """What a check found."""

    MATCH = "match"
    NO_MATCH = "no_match"
    UNDECIDED = "undecided"


class UndecidedCode(enum.StrEnum):
    """Why a check could not decide; `unknown` is a reason of a newer server."""

    UNDECODABLE = "undecodable"
    TOO_PLAIN = "too_plain"
    OVER_LIMITS = "over_limits"
    EMBEDDING_UNAVAILABLE = "embedding_unavailable"
    DEADLINE = "deadline"
    REVISION_BEHIND = "revision_behind"
    UNKNOWN = "unknown"


class EntryState(enum.StrEnum):
    """Whether an entry takes part in checks."""

    ACTIVE = "active"
    DISABLED = "disabled"
    EXPIRED = "expired"


class Metric(enum.StrEnum):
    """How similarity search compares."""

    COSINE = "cosine"
    EUCLIDEAN = "euclidean"


@dataclass(frozen=True, slots=True)
class BoundingBox:
    """A box in a picture, as fractions of its displayed width and height."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True)
class Match:
    """One entry that recognises the picture, by one signal.

    Attributes:
        entry: `banks/{bank}/entries/{entry}`.
        score: how alike, 0 to 1.
        distance: in the signal's own unit: bits for PDQ, 1 - cosine similarity for EMBEDDING.
        threshold: the bank's, a distance for PDQ and a similarity for EMBEDDING.
        region: where in the picture; None: the whole.
        frame: which frame of an animation, from 0.
        cleared_by: the ALLOWED entry that cleared the picture of this match; empty: none.
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
    """From where on a signal of a bank matches: a distance for PDQ, a cosine similarity for EMBEDDING."""

    signal: SignalType
    value: float = 0.0
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """What a bank does with its matches; what is not given keeps the default of the bank's kind."""

    action: Action | None = None
    thresholds: tuple[Threshold, ...] = ()


@dataclass(frozen=True, slots=True)
class Bank:
    """A set of entries under one owner and one policy; `name` is `banks/{bank}`."""

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


@dataclass(frozen=True, slots=True)
class Signal:
    """A stored signal in short.

    Attributes:
        hex: the digest or hash; empty for vectors.
        quality: PDQ's, where it is known.
        model_version: the fingerprint of the model that made the vectors.
        views: how many vectors.
    """

    type: SignalType
    hex: str = ""
    quality: int | None = None
    model_version: str = ""
    views: int = 0
    dimensions: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One banned or allowed picture, one hash, or one logo; `name` is `banks/{bank}/entries/{entry}`.

    Attributes:
        thumbnail: a small PNG of a logo; `get_entry` alone answers it.
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


@dataclass(frozen=True, slots=True)
class Hash:
    """A digest or a PDQ hash to add, with what its owner says of it."""

    type: SignalType
    hex: str
    quality: int | None = None
    external_id: str = ""
    labels: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    expire_time: datetime | None = None

    @classmethod
    def parse(cls, text: str) -> Hash:
        """Read `type:hex`, `type hex`, or digits alone where their number says the type (32 MD5, 40 SHA-1).

        Raises:
            ValueError: it is none; 64 digits alone are ambiguous, since SHA-256 and PDQ both have as many.
        """
        kind, separator, digits = text.strip().replace(" ", ":", 1).partition(":")
        if not separator:
            kind, digits = "", kind
        digits = digits.strip().lower()
        if not kind:
            by_length = {32: "md5", 40: "sha1"}
            if len(digits) == 64:
                raise ValueError(f"{text.strip()[:80]!r} may be SHA-256 or PDQ; write sha256:... or pdq:...")
            kind = by_length.get(len(digits), "")
        try:
            type_ = SignalType(kind.lower().replace("-", ""))
            bytes.fromhex(digits)
        except ValueError:
            raise ValueError(
                f"{text.strip()[:80]!r} is no hash; write sha256:, sha1:, md5: or pdq: and its digits"
            ) from None
        return cls(type_, digits)


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
