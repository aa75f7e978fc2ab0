"""An event of the audit log, and the hash that it must have: see audit_service.proto."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """What was done, or was refused, by whom: bound to all events before it.

    Attributes:
        sequence: its number, from 1, without gaps.
        actor: who: a key's id and name; `local` where the server asks for no keys; `server`; `command line`.
        method: by which call, or which work of the server.
        resource: the name of what was changed; may be empty.
        outcome: OK, or the reason of a refusal.
        before: what the resource was, as JSON; empty: it was not there.
        after: what it became, as JSON; empty: it is gone.
        revision: the token of the revision that has it; empty: none.
        count: of how many refusals like this one it tells.
        previous_hash: of the event before it, as 64 hexadecimal digits.
        hash: its own.
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
    previous_hash: str
    hash: str

    @property
    def genuine(self) -> bool:
        """Whether the hash is that of the event's fields and of the hash before it: see audit_service.proto."""
        return self.hash == event_hash(self)


def event_hash(event: AuditEvent) -> str:
    """The hash that an event must have: SHA-256 over the hash before it and the JSON array of its fields."""
    fields = [
        event.sequence,
        event.time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        event.actor,
        event.method,
        event.resource,
        event.outcome,
        event.before,
        event.after,
        event.revision,
        event.request_id,
        event.count,
    ]
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(bytes.fromhex(event.previous_hash) + text.encode("ascii")).hexdigest()
