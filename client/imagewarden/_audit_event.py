"""An event of the audit log, and the hash that it must have: see audit_service.proto."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
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
        before_bytes: bytes of `before`, where it and `after` are left out for their length: see `filled`.
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
    previous_hash: str
    hash: str
    before_bytes: int = 0
    after_bytes: int = 0

    @property
    def left_out(self) -> int:
        """Bytes of `before` and `after` that are left out, for a listing has no room for them; 0: it has both."""
        return self.before_bytes + self.after_bytes

    def filled(self, parts: Iterable[tuple[str, str]]) -> AuditEvent:
        """This event with what was left out, of which `read_audit_event` has the parts."""
        before, after = map("".join, zip(*parts, strict=True))
        return replace(self, before=before, after=after, before_bytes=0, after_bytes=0)

    @property
    def genuine(self) -> bool:
        """Whether the hash is that of the event's fields and of the hash before it: see audit_service.proto.

        Raises:
            ValueError: something is left out, which the hash is over, too.
        """
        if self.left_out:
            raise ValueError(
                f"event {self.sequence} leaves out {self.left_out:,} bytes, which its hash is over: read them by "
                "read_audit_event, and ask its `filled`"
            )
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
