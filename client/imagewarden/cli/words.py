"""The words that options take: of the API's words those that may be said, so that help lists no others."""

from __future__ import annotations

import enum


class Kind(enum.StrEnum):
    """What a bank is for."""

    BANNED = "banned"
    BRAND = "brand"
    ALLOWED = "allowed"


class HashType(enum.StrEnum):
    """What a hash may be."""

    SHA256 = "sha256"
    SHA1 = "sha1"
    MD5 = "md5"
    PDQ = "pdq"


class State(enum.StrEnum):
    """Whether an entry takes part in checks."""

    ACTIVE = "active"
    DISABLED = "disabled"
    EXPIRED = "expired"


class Opinion(enum.StrEnum):
    """What was found of a match."""

    CONFIRMED = "confirmed"
    FALSE_POSITIVE = "false-positive"
    DISPUTED = "disputed"


class OnUndecided(enum.StrEnum):
    """What to do with what cannot be decided."""

    ALLOW = "allow"
    REVIEW = "review"
    BLOCK = "block"
