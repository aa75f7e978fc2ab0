"""Words of the API: enums whose values are lower-case words."""

from __future__ import annotations

import enum


class BankKind(enum.StrEnum):
    """What a bank is for; `unknown` is a word of a newer server."""

    BANNED = "banned"
    BRAND = "brand"
    ALLOWED = "allowed"
    UNKNOWN = "unknown"


class Action(enum.StrEnum):
    """What to do with a picture; in a policy, what a match asks for."""

    ALLOW = "allow"
    NOTE = "note"
    REVIEW = "review"
    BLOCK = "block"


class SignalType(enum.StrEnum):
    """By what a picture can be recognised; `unknown` is a word of a newer server."""

    SHA256 = "sha256"
    SHA1 = "sha1"
    MD5 = "md5"
    PDQ = "pdq"
    EMBEDDING = "embedding"
    LOCAL = "local"
    SEMANTIC = "semantic"
    COMBINED = "combined"
    UNKNOWN = "unknown"


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
    """Whether an entry takes part in checks; `unknown` is a word of a newer server."""

    ACTIVE = "active"
    DISABLED = "disabled"
    EXPIRED = "expired"
    UNKNOWN = "unknown"


class Opinion(enum.StrEnum):
    """What a person found of a match; `unknown` is a word of a newer server."""

    CONFIRMED = "confirmed"
    FALSE_POSITIVE = "false_positive"
    DISPUTED = "disputed"
    UNKNOWN = "unknown"


class QuarantineReason(enum.StrEnum):
    """Why an entry is quarantined; `unknown` is a reason of a newer server."""

    FALSE_POSITIVES = "false_positives"
    FLOOD = "flood"
    BY_HAND = "by_hand"
    UNKNOWN = "unknown"


class Metric(enum.StrEnum):
    """How similarity search compares."""

    COSINE = "cosine"
    EUCLIDEAN = "euclidean"
