"""What was done and what was refused, by whom: events that are only added, each bound to all those before it.

An event's hash is SHA-256 of the hash before it and of the event's fields as JSON (`linked`); the first one's
predecessor is the hash of the catalogue's id. Whoever has an event's hash can tell whether anything up to that event
was changed, left out or put in (Schneier, Kelsey: Secure Audit Logs to Support Computer Forensics, 1999); who can write
the file can begin a chain of his own, so a hash has to be kept elsewhere: the log has one with each start.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, LargeBinary, case, cast, false, func, insert, or_, select

from imagewarden_server.catalog.entries import named_so
from imagewarden_server.catalog.rows import micros, moment
from imagewarden_server.catalog.tables import audit_events
from imagewarden_server.matching import actor
from imagewarden_server.matching.audit import AuditEvent, AuditPart, AuditQuery
from imagewarden_server.matching.ports import Page
from imagewarden_server.matching.types import Bank, Entry
from imagewarden_server.matching.visible import Banks

DONE = "OK"
_MOST_BYTES = 4 * 2**20
"""Of what a page's events say of their resources; an event that says more alone is answered without."""
_PART_CHARACTERS = 2**20
_SAID = ("before", "after")
_HASHED = (
    "sequence",
    "time",
    "actor",
    "method",
    "resource",
    "outcome",
    "before",
    "after",
    "revision",
    "request_id",
    "count",
)


class Note(NamedTuple):
    """What a change did, for its event.

    Attributes:
        resource: the name of what was changed.
        before: what it was; None: it was not there.
        after: what it is; None: it is gone.
    """

    resource: str
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None


def genesis(catalog_id: str) -> bytes:
    """The hash before the first event of a catalogue."""
    return hashlib.sha256(f"imagewarden audit {catalog_id}".encode()).digest()


def linked(previous: bytes, fields: Mapping[str, Any]) -> bytes:
    """An event's hash: SHA-256 over the hash before it and the JSON array of its fields, without spaces, in ASCII.

    Args:
        previous: 32 bytes.
        fields: sequence, time (RFC 3339, microseconds, UTC), actor, method, resource, outcome, before, after (JSON
            texts; empty: nothing), revision, request_id, count.
    """
    text = json.dumps([fields[name] for name in _HASHED], separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(previous + text.encode("ascii")).digest()


def append(
    connection: Connection,
    catalog_id: str,
    note: Note,
    *,
    method: str,
    now: int,
    revision: str = "",
    outcome: str = DONE,
    by: actor.Actor | None = None,
    count: int = 1,
) -> None:
    """Add an event in a transaction that writes.

    Args:
        connection: the transaction's.
        catalog_id: of the catalogue.
        note: what was done.
        method: what did it, where the actor does not say.
        now: microseconds since 1970.
        revision: the token of the revision that has it; empty: none.
        outcome: OK, or why it was refused.
        by: who did it; None: who acts now.
        count: of how many refusals like this one it tells.
    """
    acting = by or actor.current()
    last = connection.execute(
        select(audit_events.c.sequence, audit_events.c.hash).order_by(audit_events.c.sequence.desc()).limit(1)
    ).one_or_none()
    values = {
        "sequence": 1 if last is None else last.sequence + 1,
        "time": now,
        "actor": acting.name,
        "method": acting.method or method,
        "resource": note.resource,
        "outcome": outcome,
        "before": _json(note.before),
        "after": _json(note.after),
        "revision": revision,
        "request_id": acting.request_id,
        "count": count,
    }
    previous = genesis(catalog_id) if last is None else last.hash
    connection.execute(insert(audit_events).values(**values, hash=linked(previous, values | {"time": stamp(now)})))


def events(connection: Connection, catalog_id: str, query: AuditQuery) -> Page[AuditEvent]:
    """A page of events, in the order they were added or the other way; shorter than asked where they are long."""
    table = audit_events.c
    place = table.sequence
    before = audit_events.alias("before")
    previous = select(before.c.hash).where(before.c.sequence == place - 1).scalar_subquery()
    said = [table[name] for name in _SAID]
    sizes = [func.length(cast(column, LargeBinary)) for column in said]
    short = sizes[0] + sizes[1] <= _MOST_BYTES
    chosen = select(
        *(column for column in table if column.name not in _SAID),
        # A list's event tells of many entries. One alone must not keep those behind it from being answered.
        *(case((short, column), else_="").label(column.name) for column in said),
        *(case((short, 0), else_=size).label(f"{name}_bytes") for name, size in zip(_SAID, sizes, strict=True)),
        case((short, sizes[0] + sizes[1]), else_=0).label("answered"),
        previous.label("previous"),
    ).where(*_conditions(query))
    ordered = chosen.order_by(place.desc() if query.newest_first else place).limit(query.limit + 1)
    found: list[AuditEvent] = []
    room = _MOST_BYTES
    # Row by row: a thousand that are long are not all read for the few that a page has room for.
    with connection.execute(ordered) as rows:
        for row in rows:
            room -= row.answered
            if len(found) == query.limit or room < 0:
                return Page(tuple(found), found[-1].sequence)
            found.append(_event(row, row.previous or genesis(catalog_id)))
    return Page(tuple(found), None)


def part(connection: Connection, sequence: int, begin: int, banks: Banks) -> AuditPart | None:
    """A part of what an event says of its resource: characters of `before` and then of `after`; None: no such event."""
    table = audit_events.c
    here = [table.sequence == sequence, *_conditions(AuditQuery(banks=banks))]
    lengths = connection.execute(select(func.length(table.before), func.length(table.after)).where(*here)).one_or_none()
    if lengths is None:
        return None
    if begin >= sum(lengths):
        return AuditPart("", "", None)
    end = begin + _PART_CHARACTERS
    begin_after, end_after = max(begin - lengths[0], 0), max(end - lengths[0], 0)
    before = func.substr(table.before, begin + 1, _PART_CHARACTERS)
    after = func.substr(table.after, begin_after + 1, end_after - begin_after)
    said = connection.execute(select(before, after).where(*here)).one()
    return AuditPart(said[0], said[1], end if end < sum(lengths) else None)


def head(connection: Connection) -> tuple[int, str]:
    """The last event's number, and its hash as hexadecimal digits; 0 and nothing where there is none."""
    row = connection.execute(
        select(audit_events.c.sequence, audit_events.c.hash).order_by(audit_events.c.sequence.desc()).limit(1)
    ).one_or_none()
    return (0, "") if row is None else (row.sequence, row.hash.hex())


def stamp(time: int) -> str:
    """A time as it is hashed: RFC 3339 in UTC with six decimals."""
    return moment(time).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def bank_said(bank: Bank) -> dict[str, Any]:
    """A bank, for an event."""
    return {
        "kind": bank.kind.value,
        "display_name": bank.display_name,
        "action": bank.policy.action.name,
        "thresholds": {
            signal.value: None if one.disabled else one.value for signal, one in bank.policy.thresholds.items()
        },
        "enabled": bank.enabled,
        "enabled_ratio": bank.policy.enabled_ratio,
        "quarantine_false_positives": bank.policy.quarantine_false_positives,
        "quarantine_flood": bank.policy.quarantine_flood,
        "labels": dict(bank.labels),
        "keep_images": bank.keep_images,
        "entries": bank.entry_count,
    }


def entry_said(entry: Entry) -> dict[str, Any]:
    """An entry, for an event: its hashes, and of its other signals that there are some."""
    return {
        "external_id": entry.external_id,
        "labels": list(entry.labels),
        "metadata": dict(entry.metadata),
        "source": entry.source,
        "brand": entry.brand,
        "note": entry.note,
        "state": entry.state.value,
        "expire_time": None if entry.expire_time is None else stamp(micros(entry.expire_time)),
        "quarantine": None if (why := entry.quarantine) is None else f"{why.reason.value}: {why.message}",
        "signals": [f"{signal.type.value} {signal.hex}".strip() for signal in entry.signals],
    }


def _conditions(query: AuditQuery) -> list[Any]:
    table = audit_events.c
    conditions: list[Any] = []
    if query.after:
        conditions.append(table.sequence < query.after if query.newest_first else table.sequence > query.after)
    if query.actor:
        conditions.append(table.actor.contains(query.actor, autoescape=True))
    if query.method:
        conditions.append(table.method == query.method)
    if query.outcome:
        conditions.append(table.outcome == query.outcome)
    if query.since is not None:
        conditions.append(table.time >= micros(query.since))
    if query.until is not None:
        conditions.append(table.time < micros(query.until))
    if not query.banks.all:
        conditions.append(or_(false(), *(_of_bank(pattern) for pattern in query.banks.patterns)))
    return conditions


def _of_bank(pattern: str) -> Any:
    """Whether an event is of a bank, or of an entry of it."""
    resource = audit_events.c.resource
    name = f"banks/{pattern}"
    if pattern.endswith("*"):
        return named_so(resource, name)
    return or_(resource == name, resource.startswith(f"{name}/", autoescape=True))


def _event(row: Any, previous: bytes) -> AuditEvent:
    return AuditEvent(
        sequence=row.sequence,
        time=moment(row.time),
        actor=row.actor,
        method=row.method,
        resource=row.resource,
        outcome=row.outcome,
        before=row.before,
        after=row.after,
        revision=row.revision,
        request_id=row.request_id,
        count=row.count,
        previous_hash=previous,
        hash=row.hash,
        before_bytes=row.before_bytes,
        after_bytes=row.after_bytes,
    )


def _json(said: Mapping[str, Any] | None) -> str:
    return "" if said is None else json.dumps(said, separators=(",", ":"), ensure_ascii=False, sort_keys=True)
