"""What people say of matches, and what keeps an entry from blocking: frozen dataclasses."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from imagewarden._enums import Opinion, QuarantineReason


@dataclass(frozen=True, slots=True)
class Feedback:
    """How many pictures people reported with each opinion: each once for an opinion, however many people have it."""

    confirmed: int = 0
    false_positives: int = 0
    disputed: int = 0


NO_FEEDBACK = Feedback()


@dataclass(frozen=True, slots=True)
class MatchReport:
    """What one person found of one picture that an entry matched; `reporter` is a key's id and name, or `local`."""

    sha256: str
    opinion: Opinion
    note: str
    reporter: str
    time: datetime


@dataclass(frozen=True, slots=True)
class Quarantine:
    """What keeps an entry from blocking, and an ALLOWED one from clearing; `message` is for people."""

    reason: QuarantineReason
    message: str
    time: datetime
