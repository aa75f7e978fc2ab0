"""ModerationService: what an upload hook calls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from imagewarden.v1 import moderation_service_pb2 as pb
from imagewarden.v1 import moderation_service_pb2_grpc as pb_grpc
from imagewarden.v1 import types_pb2 as types
from imagewarden_server import access, logs
from imagewarden_server.api import convert, names
from imagewarden_server.api.errors import internal_error, to_status
from imagewarden_server.api.repeats import once
from imagewarden_server.matching.check import Checker
from imagewarden_server.matching.errors import DeadlinePassed, DomainError, InvalidField
from imagewarden_server.matching.feedback import Reporter
from imagewarden_server.matching.load import Room
from imagewarden_server.matching.revisions import decode_revision, encode_revision
from imagewarden_server.matching.similar import Metric, Similarity
from imagewarden_server.matching.walk import CheckRequest
from imagewarden_server.telemetry import Metrics

MAX_BATCH = 64
_STREAM_WINDOW = 32
_MAX_ANSWERS = 100

_METRICS = {
    pb.DISTANCE_METRIC_UNSPECIFIED: Metric.COSINE,
    pb.DISTANCE_METRIC_COSINE: Metric.COSINE,
    pb.DISTANCE_METRIC_EUCLIDEAN: Metric.EUCLIDEAN,
}


class ModerationServicer(pb_grpc.ModerationServiceServicer):
    """Checks pictures.

    Args:
        room: for the pictures of streams; those of other calls have found theirs.
        at_once: so many pictures of one batch or stream are checked at once: it waits for its own, and is not refused
            for them.
        default_deadline: seconds of a call that states none.
    """

    def __init__(
        self,
        checker: Checker,
        similarity: Similarity,
        reporter: Reporter,
        *,
        catalog_id: str,
        metrics: Metrics,
        room: Room,
        at_once: int,
        default_deadline: float,
    ) -> None:
        self._checker = checker
        self._similarity = similarity
        self._reporter = reporter
        self._catalog_id = catalog_id
        self._metrics = metrics
        self._room = room
        self._at_once = at_once
        self._default_deadline = default_deadline

    def _deadline(self, context: Any) -> float:
        remaining = context.time_remaining()
        left = self._default_deadline if remaining is None else min(float(remaining), 600.0)
        if left <= 0:
            raise DeadlinePassed("the call's deadline had passed when it arrived; give it more time")
        return time.monotonic() + left

    async def CheckImage(  # noqa: N802 -- the API's name
        self, request: pb.CheckImageRequest, context: Any
    ) -> pb.CheckImageResponse:
        """Check one picture."""
        response = await self._check(request, self._deadline(context))
        logs.annotate(
            verdict=types.Verdict.Name(response.verdict).removeprefix("VERDICT_").lower(),
            action=types.Action.Name(response.action).removeprefix("ACTION_").lower(),
            sha256=response.image.sha256,
            matches=[f"{one.entry} {convert.SIGNAL_OF[one.signal].value} {one.score:.4f}" for one in response.matches],
            undecided=[types.UndecidedCode.Name(one.code) for one in response.undecided_reasons],
            revision=response.revision,
            model=response.model_version,
            context=dict(request.context),
        )
        return response

    async def BatchCheckImages(  # noqa: N802 -- the API's name
        self, request: pb.BatchCheckImagesRequest, context: Any
    ) -> pb.BatchCheckImagesResponse:
        """Check several pictures side by side."""
        if not 1 <= len(request.requests) <= MAX_BATCH:
            raise InvalidField("requests", f"has {len(request.requests)} pictures; send 1 to {MAX_BATCH}")
        deadline = self._deadline(context)
        places = asyncio.Semaphore(self._at_once)

        async def one(item: pb.CheckImageRequest) -> pb.BatchCheckImagesResult:
            try:
                access.current().spend()
                async with places:
                    return pb.BatchCheckImagesResult(response=await self._check(item, deadline))
            except DomainError as error:
                return pb.BatchCheckImagesResult(error=to_status(error))
            except Exception:  # noqa: BLE001 -- a bug in one picture's way must not take the others' answers
                logs.logger().exception("bug", method="BatchCheckImages")
                return pb.BatchCheckImagesResult(error=internal_error(logs.current_request_id()))

        results = await asyncio.gather(*(one(item) for item in request.requests))
        logs.annotate(pictures=len(results))
        return pb.BatchCheckImagesResponse(results=results)

    async def StreamCheckImages(  # noqa: N802 -- the API's name
        self, request_iterator: AsyncIterator[pb.StreamCheckImagesRequest], context: Any
    ) -> AsyncIterator[pb.StreamCheckImagesResponse]:
        """Check pictures as they come, a bounded number at once; answer in the order they are ready."""
        answers: asyncio.Queue[pb.StreamCheckImagesResponse | None] = asyncio.Queue()
        window = asyncio.Semaphore(_STREAM_WINDOW - 1)  # one place is the first picture's
        places = asyncio.Semaphore(self._at_once)
        pending: set[str] = set()
        running: set[asyncio.Task[None]] = set()

        async def one(item: pb.StreamCheckImagesRequest) -> None:
            answer = pb.StreamCheckImagesResponse(correlation_id=item.correlation_id)
            try:
                # A stream may be open for long: each picture has a deadline of its own, and no more than the stream.
                deadline = min(self._deadline(context), time.monotonic() + self._default_deadline)
                access.current().spend()
                with self._room.hold(item.ByteSize()):
                    async with places:
                        answer.response.CopyFrom(await self._check(item.request, deadline))
            except DomainError as error:
                answer.error.CopyFrom(to_status(error))
            except Exception:  # noqa: BLE001 -- a bug in one picture's way must not end the others' stream
                logs.logger().exception("bug", method="StreamCheckImages")
                answer.error.CopyFrom(internal_error(logs.current_request_id()))
            pending.discard(item.correlation_id)
            answers.put_nowait(answer)

        async def read() -> None:
            try:
                async for item in request_iterator:
                    names.text("correlation_id", item.correlation_id, 128)
                    if not item.correlation_id or item.correlation_id in pending:
                        raise InvalidField(
                            "correlation_id",
                            f"{item.correlation_id!r} is empty or not answered yet; send a new one for each picture",
                        )
                    pending.add(item.correlation_id)
                    task = asyncio.create_task(one(item))
                    running.add(task)
                    task.add_done_callback(running.discard)
                    # Whoever waits here, for a place or for the next picture, may wait for long, and holds none.
                    del item
                    await window.acquire()
                while running:
                    await asyncio.wait(set(running))
            finally:
                answers.put_nowait(None)

        reader = asyncio.create_task(read())
        count = 0
        try:
            while (answer := await answers.get()) is not None:
                count += 1
                # The place is given back once the answer is on its way: a caller that does not read holds its own
                # pictures back, and no memory of ours.
                yield answer
                window.release()
            await reader
        finally:
            for task in (reader, *running):
                task.cancel()
            logs.annotate(pictures=count)

    async def SearchSimilarImages(  # noqa: N802 -- the API's name
        self, request: pb.SearchSimilarImagesRequest, context: Any
    ) -> pb.SearchSimilarImagesResponse:
        """Rank the entries by likeness in meaning."""
        if request.metric not in _METRICS:
            raise InvalidField("metric", f"is {request.metric}; send COSINE or EUCLIDEAN")
        result = await self._similarity.search(
            request.image,
            names.bank_ids("banks", request.banks),
            _count("k", request.k),
            _METRICS[request.metric],
            visible=access.current().caller.banks,
            at_least_revision=self._revision(request.at_least_revision),
            deadline=self._deadline(context),
        )
        logs.annotate(sha256=result.sha256.hex(), results=len(result.results))
        return pb.SearchSimilarImagesResponse(
            results=[
                pb.SimilarImage(
                    rank=rank,
                    entry=convert.entry(one.entry),
                    bank=one.bank.name,
                    distance=one.distance,
                    similarity=one.similarity,
                )
                for rank, one in enumerate(result.results, 1)
            ],
            revision=encode_revision(self._catalog_id, result.revision),
            model_version=result.model,
            image=convert.image_info(result.sha256, result.picture.header, result.picture.frames[0].pdq),
        )

    async def ReportMatch(  # noqa: N802 -- the API's name
        self, request: pb.ReportMatchRequest, context: Any
    ) -> pb.ReportMatchResponse:
        """Take what a person found of a match."""
        del context
        bank_id, entry_id = names.entry_ids("entry", request.entry)
        access.current().permit_kind(bank_id, (await self._reporter.bank(bank_id)).kind)
        opinion = convert.opinion(request.opinion)
        written = await self._reporter.report(
            bank_id,
            entry_id,
            names.sha256("sha256", request.sha256),
            opinion,
            names.text("note", request.note, names.MAX_NOTE),
            once=once(request),
        )
        logs.annotate(entry=request.entry, sha256=request.sha256.lower(), opinion=opinion.value)
        return pb.ReportMatchResponse(
            entry=convert.entry(written.value), revision=encode_revision(self._catalog_id, written.revision)
        )

    def _revision(self, token: str) -> int | None:
        return decode_revision(self._catalog_id, token) if token else None

    async def _check(self, request: pb.CheckImageRequest, deadline: float) -> pb.CheckImageResponse:
        names.context(request.context)
        result = await self._checker.check(
            CheckRequest(
                image=request.image,
                banks=names.bank_ids("banks", request.banks),
                visible=access.current().caller.banks,
                max_matches=_count("max_matches", request.max_matches),
                exhaustive=request.exhaustive,
                thorough=request.thorough,
                on_undecided=convert.on_undecided(request.on_undecided),
                at_least_revision=self._revision(request.at_least_revision),
                deadline=deadline,
            )
        )
        self._metrics.checked(result)
        return convert.check_response(result, encode_revision(self._catalog_id, result.revision))


def _count(field: str, value: int) -> int:
    """How many to answer: 10 unless asked, at most 100."""
    if not 0 <= value <= _MAX_ANSWERS:
        raise InvalidField(field, f"is {value}; send 1 to {_MAX_ANSWERS}, or 0 for 10")
    return value or 10
