"""What was done and refused, and by whom: the port of the log of it, and asking it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from imagewarden_server.matching.actor import Actor
from imagewarden_server.matching.ports import Page
from imagewarden_server.matching.visible import ALL_BANKS, Banks


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """What was done, or was refused, by whom.

    Attributes:
        sequence: its number, from 1, without gaps.
        actor: who did it.
        method: by which call, or which work of the server.
        resource: the name of what was changed; empty: nothing of a name.
        outcome: OK, or why it was refused, as the API names it.
        before: what the resource was, as JSON; empty: it was not there, or is not told.
        after: what it became, as JSON; empty: it is gone, or is not told.
        revision: the token of the revision that has it; empty: none.
        request_id: of the call; empty: none.
        count: of how many refusals like this one it tells; 1 otherwise.
        previous_hash: the hash of the event before it, 32 bytes.
        hash: SHA-256 of that and of all the fields above.
        before_bytes: bytes of `before`, where it and `after` are left out for their length; 0: nothing is left out.
        after_bytes: of `after`, likewise.
    """

    sequence: int
    time: datetime
    actor: str
    method: str
    resource: str
    outcome: str
    before: str
    after: str
    revision: str
    request_id: str
    count: int
    previous_hash: bytes
    hash: bytes
    before_bytes: int = 0
    after_bytes: int = 0


@dataclass(frozen=True, slots=True)
class AuditPart:
    """A part of what an event says of its resource.

    Attributes:
        before: the next part of the event's `before`.
        after: the next part of its `after`.
        next_begin: where the part behind it begins; None: this was the last.
    """

    before: str
    after: str
    next_begin: int | None


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """Which events: those that all of it holds for.

    Attributes:
        banks: of these banks and their entries; of all banks: what is of no bank, too.
        actor: whose name has this in it.
        since: not before.
        until: before.
        after: a Page's next_after.
    """

    banks: Banks = ALL_BANKS
    actor: str = ""
    method: str = ""
    outcome: str = ""
    since: datetime | None = None
    until: datetime | None = None
    newest_first: bool = False
    after: int = 0
    limit: int = 100


class AuditLog(Protocol):
    """What was done and refused; blocking. Changes add their events by themselves."""

    def refused(self, refusals: Sequence[tuple[Actor, str, str, int]]) -> None:
        """Add events of refusals: who, of which resource, why, how many times."""

    def events(self, query: AuditQuery) -> Page[AuditEvent]:
        """A page of events. Those whose `before` and `after` are long are without them: `part` has them."""

    def part(self, sequence: int, begin: int, banks: Banks) -> AuditPart | None:
        """A part of an event's `before` and then of its `after`; None: there is no such event of these banks."""

    def head(self) -> tuple[int, str]:
        """The last event's number and its hash as hexadecimal digits; 0 and nothing where there is none."""
