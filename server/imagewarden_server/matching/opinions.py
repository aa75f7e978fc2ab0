"""What people say of matches, and what keeps an entry from blocking."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime


class Opinion(enum.StrEnum):
    """What a person found of a match; the catalogue stores the values."""

    CONFIRMED = "confirmed"
    FALSE_POSITIVE = "false_positive"
    DISPUTED = "disputed"


class QuarantineReason(enum.StrEnum):
    """Why an entry is quarantined; the catalogue stores the values."""

    FALSE_POSITIVES = "false_positives"
    FLOOD = "flood"
    BY_HAND = "by_hand"


@dataclass(frozen=True, slots=True)
class Feedback:
    """How many pictures people reported with each opinion: each once for an opinion, however many people have it."""

    confirmed: int = 0
    false_positives: int = 0
    disputed: int = 0


NO_FEEDBACK = Feedback()


@dataclass(frozen=True, slots=True)
class Report:
    """What one person found of one picture that an entry matched.

    Attributes:
        sha256: of the picture's file, 32 bytes.
        reporter: who, as the audit log names them.
    """

    sha256: bytes
    opinion: Opinion
    note: str
    reporter: str
    time: datetime


@dataclass(frozen=True, slots=True)
class Quarantine:
    """What keeps an entry from blocking, and an ALLOWED one from clearing.

    Attributes:
        message: why, for people.
        time: since when.
    """

    reason: QuarantineReason
    message: str
    time: datetime
