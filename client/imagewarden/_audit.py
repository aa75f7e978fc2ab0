"""The calls of AuditService."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from imagewarden import _convert as convert
from imagewarden._audit_event import AuditEvent
from imagewarden._calls import Call, Pages
from imagewarden._names import bank_name
from imagewarden.v1 import audit_service_pb2 as pb


def list_audit_events(
    *,
    bank: str = "",
    actor: str = "",
    method: str = "",
    outcome: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
    newest_first: bool = False,
    page_size: int = 0,
    timeout: float | None = None,
) -> Pages[AuditEvent]:
    """What was done and refused, of the banks that the caller may see; pages are fetched as they are needed.

    An event of more than 4 MiB is without its `before` and `after`: see `AuditEvent.left_out`.

    Args:
        bank: only of this bank and its entries: `x` or `banks/x`.
        actor: only of actors whose name has this in it.
        method: only of this method, such as `AddHashes`.
        outcome: only with this outcome: OK, or the reason of a refusal.
        since: not before.
        until: before.
        newest_first: the other way round than they were added.
        page_size: how many a page; 0: 100.
        timeout: seconds a page, retries included; None: the client's.
    """

    def request(token: str) -> pb.ListAuditEventsRequest:
        made = pb.ListAuditEventsRequest(
            page_size=page_size,
            page_token=token,
            bank=bank_name(bank, field="bank") if bank else "",
            actor=actor,
            method=method,
            outcome=outcome,
            newest_first=newest_first,
        )
        for field, time in (("start_time", since), ("end_time", until)):
            if (stamp := convert.timestamp(time)) is not None:
                getattr(made, field).CopyFrom(stamp)
        return made

    return Pages(
        lambda token: Call(
            "/imagewarden.v1.AuditService/ListAuditEvents",
            lambda: request(token),
            pb.ListAuditEventsResponse,
            lambda answer: ([_event(one) for one in answer.events], answer.next_page_token),
            timeout,
        )
    )


def read_audit_event(sequence: int, *, timeout: float | None = None) -> Pages[tuple[str, str]]:
    """What one event says: parts of its `before` and `after`, for `AuditEvent.filled`.

    Args:
        sequence: its number.
        timeout: seconds a part, retries included; None: the client's.
    """
    return Pages(
        lambda token: Call(
            "/imagewarden.v1.AuditService/ReadAuditEvent",
            lambda: pb.ReadAuditEventRequest(sequence=sequence, page_token=token),
            pb.ReadAuditEventResponse,
            lambda answer: ([(answer.before, answer.after)], answer.next_page_token),
            timeout,
        )
    )


def _event(one: Any) -> AuditEvent:
    return AuditEvent(
        sequence=one.sequence,
        time=one.time.ToDatetime(tzinfo=UTC),
        actor=one.actor,
        method=one.method,
        resource=one.resource,
        outcome=one.outcome,
        before=one.before,
        after=one.after,
        revision=one.revision,
        request_id=one.request_id,
        count=one.count,
        previous_hash=one.previous_hash.hex(),
        hash=one.hash.hex(),
        before_bytes=one.before_bytes,
        after_bytes=one.after_bytes,
    )
