"""AuditService: what auditors call."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from imagewarden.v1 import audit_service_pb2 as pb
from imagewarden.v1 import audit_service_pb2_grpc as pb_grpc
from imagewarden_server import access
from imagewarden_server.api import names, paging
from imagewarden_server.matching.audit import AuditEvent, AuditLog, AuditQuery
from imagewarden_server.matching.errors import InvalidField
from imagewarden_server.matching.pictures import Workers
from imagewarden_server.matching.visible import Banks


class AuditServicer(pb_grpc.AuditServiceServicer):
    """Tells what was done and refused."""

    def __init__(self, log: AuditLog, workers: Workers) -> None:
        self._log = log
        self._workers = workers

    async def ListAuditEvents(  # noqa: N802 -- the API's name
        self, request: pb.ListAuditEventsRequest, context: Any
    ) -> pb.ListAuditEventsResponse:
        """List events."""
        del context
        banks = access.current().caller.banks
        if request.bank:
            banks = Banks((names.bank_id("bank", request.bank),))
        query = AuditQuery(
            banks=banks,
            actor=names.text("actor", request.actor),
            method=names.text("method", request.method),
            outcome=names.text("outcome", request.outcome),
            since=names.time_of("start_time", request, "start_time"),
            until=names.time_of("end_time", request, "end_time"),
            newest_first=request.newest_first,
            after=paging.after_of(request, request.page_token),
            limit=names.page_size(request.page_size),
        )
        page = await self._workers.run(self._log.events, query)
        return pb.ListAuditEventsResponse(
            events=[_event(one) for one in page.items],
            next_page_token=paging.next_token(request, page.next_after),
        )

    async def ReadAuditEvent(  # noqa: N802 -- the API's name
        self, request: pb.ReadAuditEventRequest, context: Any
    ) -> pb.ReadAuditEventResponse:
        """Answer a part of what one event says."""
        del context
        begin = paging.after_of(request, request.page_token)
        part = await self._workers.run(self._log.part, request.sequence, begin, access.current().caller.banks)
        if part is None:
            raise InvalidField(
                "sequence", f"is {request.sequence}: there is no such event of banks that you may see; list them"
            )
        return pb.ReadAuditEventResponse(
            before=part.before, after=part.after, next_page_token=paging.next_token(request, part.next_begin)
        )


def _event(one: AuditEvent) -> pb.AuditEvent:
    event = pb.AuditEvent(
        sequence=one.sequence,
        actor=one.actor,
        method=one.method,
        resource=one.resource,
        outcome=one.outcome,
        before=one.before,
        after=one.after,
        revision=one.revision,
        request_id=one.request_id,
        count=one.count,
        previous_hash=one.previous_hash,
        hash=one.hash,
        before_bytes=one.before_bytes,
        after_bytes=one.after_bytes,
    )
    event.time.FromDatetime(one.time.astimezone(UTC).replace(tzinfo=None))
    return event
