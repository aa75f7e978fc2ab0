"""The roles, and the one table of what each may call. What does not stand in it nobody may call."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


class Role(enum.StrEnum):
    """What a caller is there for; each role holds within the banks that its key names."""

    CHECKER = "checker"
    """An upload hook: checks pictures."""
    MODERATOR = "moderator"
    """A trust-and-safety team: checks, says what it found of matches, and keeps banks of any kind, but deletes none."""
    BRAND = "brand"
    """A brand's team: keeps its logos and the banks they are in, tries pictures, and says what it found of matches."""
    AUDITOR = "auditor"
    """Reads banks, entries and what was done; changes nothing, checks nothing."""
    ADMIN = "admin"
    """Everything."""


@dataclass(frozen=True, slots=True)
class Method:
    """Who may call a method.

    Attributes:
        roles: these.
        by_item: a call counts as many calls as it has pictures, or messages of a list, and is counted one by one.
    """

    roles: frozenset[Role]
    by_item: bool = False


_CHECK = frozenset({Role.CHECKER, Role.MODERATOR, Role.BRAND, Role.ADMIN})
_READ = frozenset({Role.MODERATOR, Role.BRAND, Role.AUDITOR, Role.ADMIN})
_BAN = frozenset({Role.MODERATOR, Role.ADMIN})
_KEEP = frozenset({Role.MODERATOR, Role.BRAND, Role.ADMIN})
_AUDIT = frozenset({Role.AUDITOR, Role.ADMIN})
_ADMIN = frozenset({Role.ADMIN})

METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "imagewarden.v1.ModerationService/CheckImage": Method(_CHECK),
        "imagewarden.v1.ModerationService/BatchCheckImages": Method(_CHECK, by_item=True),
        "imagewarden.v1.ModerationService/StreamCheckImages": Method(_CHECK, by_item=True),
        "imagewarden.v1.ModerationService/SearchSimilarImages": Method(_CHECK),
        "imagewarden.v1.ModerationService/ReportMatch": Method(_KEEP),
        "imagewarden.v1.BankService/CreateBank": Method(_BAN),
        "imagewarden.v1.BankService/GetBank": Method(_READ),
        "imagewarden.v1.BankService/ListBanks": Method(_READ),
        "imagewarden.v1.BankService/UpdateBank": Method(_KEEP),
        "imagewarden.v1.BankService/DeleteBank": Method(_ADMIN),
        "imagewarden.v1.BankService/AddHashes": Method(_BAN),
        "imagewarden.v1.BankService/AddImage": Method(_BAN),
        "imagewarden.v1.BankService/RegisterLogo": Method(_KEEP),
        "imagewarden.v1.BankService/GetEntry": Method(_READ),
        "imagewarden.v1.BankService/ListEntries": Method(_READ),
        "imagewarden.v1.BankService/UpdateEntry": Method(_KEEP),
        "imagewarden.v1.BankService/DeleteEntry": Method(_KEEP),
        "imagewarden.v1.BankService/ImportEntries": Method(_KEEP, by_item=True),
        # More than reading entries: all that is needed to find pictures that are not found.
        "imagewarden.v1.BankService/ExportEntries": Method(_KEEP),
        "imagewarden.v1.BankService/PreviewPolicy": Method(_KEEP),
        "imagewarden.v1.AuditService/ListAuditEvents": Method(_AUDIT),
        "imagewarden.v1.AuditService/ReadAuditEvent": Method(_AUDIT),
        # What the API is stands in public; but who may call nothing need not be told it either.
        "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Method(frozenset(Role)),
        "grpc.reflection.v1.ServerReflection/ServerReflectionInfo": Method(frozenset(Role)),
    }
)
"""By the full name, as a path has it behind its first stroke."""

OPEN_METHODS = frozenset({"grpc.health.v1.Health/Check", "grpc.health.v1.Health/Watch"})
"""Answered to anybody: what balances load has no key."""
