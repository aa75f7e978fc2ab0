"""What a change says of a bank or an entry that is there: it carries nothing of what it leaves as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from imagewarden_server.matching.types import Action, EntryState, SignalType, Threshold


@dataclass(frozen=True, slots=True)
class PolicyPatch:
    """What to change of a policy: None leaves a field as it is, and `thresholds` are all of them."""

    action: Action | None = None
    thresholds: Mapping[SignalType, Threshold] | None = None
    enabled_ratio: float | None = None
    quarantine_false_positives: int | None = None
    quarantine_flood: int | None = None


@dataclass(frozen=True, slots=True)
class BankPatch:
    """What to change of a bank: None leaves a field as it is."""

    display_name: str | None = None
    policy: PolicyPatch | None = None
    enabled: bool | None = None
    labels: Mapping[str, str] | None = None
    keep_images: bool | None = None


@dataclass(frozen=True, slots=True)
class EntryPatch:
    """What to change of an entry: None leaves a field as it is; `clear_expire_time` takes the time away.

    Attributes:
        quarantine: put under quarantine by hand, and why; `release` lifts it.
    """

    external_id: str | None = None
    labels: tuple[str, ...] | None = None
    metadata: Mapping[str, str] | None = None
    source: str | None = None
    brand: str | None = None
    note: str | None = None
    state: EntryState | None = None
    expire_time: datetime | None = None
    clear_expire_time: bool = False
    quarantine: str | None = None
    release: bool = False
