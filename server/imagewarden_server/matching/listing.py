"""Which entries a listing has."""

from __future__ import annotations

from dataclasses import dataclass

from imagewarden_server.matching.types import EntryState


@dataclass(frozen=True, slots=True)
class EntryFilter:
    """Entries that all of it holds for; what is empty, unset or false holds for all.

    Attributes:
        label: one of its labels.
        quarantined: it is quarantined.
        note: its note has this in it, whatever its case.
    """

    external_id: str = ""
    label: str = ""
    state: EntryState | None = None
    quarantined: bool = False
    note: str = ""
    source: str = ""


ALL_ENTRIES = EntryFilter()
