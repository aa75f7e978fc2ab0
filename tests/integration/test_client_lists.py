"""Both clients' streams of lists against a real server of this process: what is sent, when, and what an end says."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from tests.support.fake_service import FakeService, fake_service

import imagewarden as iw
from imagewarden import EntryRecord, ImportAnswer, RecordFeatures, RecordHash, RecordVectors, RefusedRecord, SignalType
from imagewarden._lists import MAX_RECORDS, MAX_UNANSWERED, MESSAGE_BYTES
from imagewarden.v1 import bank_service_pb2 as pb
from imagewarden.v1 import types_pb2 as types

Import = Callable[..., Iterator[ImportAnswer]]

NOON = datetime(2026, 11, 30, 12, 0, 0, 250_000, tzinfo=UTC)
FULL = EntryRecord(
    id="e1",
    hashes=(RecordHash(SignalType.SHA256, b"a" * 32), RecordHash(SignalType.PDQ, b"b" * 32, 0)),
    vectors=(RecordVectors(SignalType.EMBEDDING, "m1", 2, b"12345678", 0.25, 2.0),),
    features=(RecordFeatures("x1", b"IWLF"),),
    external_id="case-1",
    labels=("a", "ä"),
    metadata={"k": "v"},
    source="ncmec",
    brand="Acme",
    note="ask Kim",
    state=iw.EntryState.DISABLED,
    expire_time=NOON,
    create_time=NOON,
    thumbnail=b"png",
    image=b"jpg",
    quarantine=iw.Quarantine(iw.QuarantineReason.FLOOD, "too many at once", NOON),
)


@pytest.fixture
def service() -> Iterator[FakeService]:
    with fake_service() as running:
        yield running


@pytest.fixture
def client(service: FakeService) -> Iterator[iw.Client]:
    with iw.Client(service.address, metadata=[("authorization", "Bearer token")]) as made:
        yield made


def hashes(count: int, begin: int = 1) -> Iterator[tuple[int, EntryRecord]]:
    for number in range(begin, begin + count):
        yield number, EntryRecord((RecordHash(SignalType.PDQ, number.to_bytes(32, "big")),))


class Taker:
    """A server that takes all, and remembers it."""

    def __init__(self) -> None:
        self.messages: list[pb.ImportEntriesRequest] = []
        self.ended = threading.Event()

    def __call__(self, requests: Any, _: grpc.ServicerContext) -> Iterator[pb.ImportEntriesResponse]:
        for request in requests:
            self.messages.append(request)
            yield self.answer(request)
        self.ended.set()

    def answer(self, request: pb.ImportEntriesRequest) -> pb.ImportEntriesResponse:
        count = len(request.records)
        revision = "" if request.validate_only else f"r{len(self.messages)}"
        return pb.ImportEntriesResponse(number=request.records[-1].number, added=count, revision=revision)

    def numbers(self) -> list[int]:
        return [record.number for message in self.messages for record in message.records]


def test_a_record_goes_and_comes_back_as_it_is(service: FakeService, client: iw.Client) -> None:
    taker = Taker()
    service.answer("ImportEntries", taker)
    assert list(client.import_entries("abuse", [(7, FULL)])) == [ImportAnswer(7, 1, 0, 0, 0, 0, (), "r1")]
    moment = Timestamp()
    moment.FromDatetime(NOON)
    sent = pb.EntryRecord(
        number=7,
        id="e1",
        hashes=[
            pb.RecordHash(type=types.SIGNAL_TYPE_SHA256, value=b"a" * 32),
            pb.RecordHash(type=types.SIGNAL_TYPE_PDQ, value=b"b" * 32, quality=0),
        ],
        vectors=[
            pb.RecordVectors(
                type=types.SIGNAL_TYPE_EMBEDDING,
                model_version="m1",
                dimensions=2,
                data=b"12345678",
                mean=0.25,
                deviation=2,
            )
        ],
        features=[pb.RecordFeatures(extractor="x1", data=b"IWLF")],
        external_id="case-1",
        labels=["a", "ä"],
        metadata={"k": "v"},
        source="ncmec",
        brand="Acme",
        note="ask Kim",
        state=types.ENTRY_STATE_DISABLED,
        expire_time=moment,
        create_time=moment,
        thumbnail=b"png",
        image=b"jpg",
        quarantine=types.Quarantine(reason=types.QUARANTINE_REASON_FLOOD, message="too many at once", time=moment),
    )
    assert taker.messages == [pb.ImportEntriesRequest(bank="banks/abuse", records=[sent])]
    metadata = service.metadata["ImportEntries"][0]
    assert metadata["authorization"] == "Bearer token"
    assert metadata["x-request-id"]

    def give(request: pb.ExportEntriesRequest, _: Any) -> Iterator[pb.ExportEntriesResponse]:
        assert request.bank == "banks/abuse"
        yield pb.ExportEntriesResponse(records=[sent], revision="r8", entry_count=2)
        yield pb.ExportEntriesResponse(records=[pb.EntryRecord(id="e2")], revision="r9", entry_count=2)

    service.answer("ExportEntries", give)
    export = client.export_entries("banks/abuse")
    assert (export.entry_count, export.revision) == (0, "")
    assert next(export) == FULL
    assert (export.entry_count, export.revision) == (2, "r8")
    assert list(export) == [EntryRecord(id="e2")]
    assert export.revision == "r9"


def test_a_tombstone_goes_as_one(service: FakeService, client: iw.Client) -> None:
    taker = Taker()
    service.answer("ImportEntries", taker)
    list(client.import_entries("abuse", [(1, EntryRecord(external_id="x", source="s", removed=True))]))
    assert list(taker.messages[0].records) == [pb.EntryRecord(number=1, external_id="x", source="s", removed=True)]


def test_messages_are_bounded_in_records_and_in_bytes(service: FakeService, client: iw.Client) -> None:
    taker = Taker()
    service.answer("ImportEntries", taker)
    large = EntryRecord(features=(RecordFeatures("x", bytes(MESSAGE_BYTES // 3)),))
    lone = EntryRecord(image=bytes(2 * MESSAGE_BYTES))
    count = 2 * MAX_RECORDS + 1
    records = [*hashes(count), *((count + place, large) for place in range(1, 5)), (count + 5, lone), (count + 6, FULL)]
    answers = list(client.import_entries("abuse", records))
    assert [len(message.records) for message in taker.messages] == [MAX_RECORDS, MAX_RECORDS, 3, 2, 1, 1]
    assert all(
        message.ByteSize() <= MESSAGE_BYTES or (len(message.records) == 1 and message.ByteSize() < 2.1 * MESSAGE_BYTES)
        for message in taker.messages
    )
    assert taker.numbers() == [number for number, _ in records]
    assert [answer.number for answer in answers] == [message.records[-1].number for message in taker.messages]


def test_no_more_than_a_few_messages_are_unanswered_and_the_list_is_not_read_ahead(
    service: FakeService, client: iw.Client
) -> None:
    go, read = threading.Event(), []
    taker = Taker()

    def waits(requests: Any, context: grpc.ServicerContext) -> Iterator[pb.ImportEntriesResponse]:
        go.wait(10)
        yield from taker(requests, context)

    def counted() -> Iterator[tuple[int, EntryRecord]]:
        for number, record in hashes(10 * MAX_RECORDS):
            read.append(number)
            yield number, record

    service.answer("ImportEntries", waits)
    answers = client.import_entries("abuse", counted())
    found: list[ImportAnswer] = []
    thread = threading.Thread(target=lambda: found.extend(answers))
    thread.start()
    time.sleep(0.5)
    # A message is full once the record after it has been read.
    assert read[-1] == MAX_UNANSWERED * MAX_RECORDS + 1
    assert not found
    go.set()
    thread.join(20)
    assert [answer.number for answer in found] == [MAX_RECORDS * place for place in range(1, 11)]
    assert taker.numbers() == list(range(1, 10 * MAX_RECORDS + 1))


def test_what_cannot_be_sent_is_refused_here_and_the_others_go_their_way(
    service: FakeService, client: iw.Client
) -> None:
    taker = Taker()

    def answer(request: pb.ImportEntriesRequest) -> pb.ImportEntriesResponse:
        refused = [pb.RefusedRecord(number=2, field="records[1].hashes", message="no hash")]
        return pb.ImportEntriesResponse(number=request.records[-1].number, added=2, refused=refused, revision="r1")

    taker.answer = answer  # type: ignore[method-assign]  # another server's answer
    service.answer("ImportEntries", taker)
    records = [
        (1, EntryRecord(image=bytes(iw.MAX_MESSAGE_BYTES))),
        (2, EntryRecord()),
        (3, EntryRecord(labels=("\ud800",))),
        (4, EntryRecord((RecordHash(SignalType.UNKNOWN, b""),))),
        (5, EntryRecord(state=iw.EntryState.UNKNOWN)),
        (6, EntryRecord((RecordHash(SignalType.PDQ, b"", 2**40),))),
        (8, FULL),
        (9, EntryRecord(image=bytes(iw.MAX_MESSAGE_BYTES))),
    ]
    answers = list(client.import_entries("abuse", records))
    assert [record.number for record in taker.messages[0].records] == [2, 8]
    refused = {one.number: one for answer in answers for one in answer.refused}
    assert list(refused) == [1, 2, 3, 4, 5, 6, 9]
    assert refused[2] == RefusedRecord(2, "records[1].hashes", "no hash")
    assert "bytes" in refused[1].message
    assert "'unknown' is no signal's type" in refused[4].message
    assert answers[-1].number == 9
    assert sum(answer.added for answer in answers) == 2


def test_an_import_of_nothing_that_can_be_sent_asks_nobody(service: FakeService, client: iw.Client) -> None:
    assert list(client.import_entries("abuse", [])) == []
    answers = list(client.import_entries("abuse", [(4, EntryRecord(image=bytes(iw.MAX_MESSAGE_BYTES)))]))
    assert [(answer.number, len(answer.refused), answer.revision) for answer in answers] == [(4, 1, "")]
    assert not service.metadata["ImportEntries"]


def test_what_the_callers_iterator_raises_is_raised_after_the_answers(service: FakeService, client: iw.Client) -> None:
    taker = Taker()
    service.answer("ImportEntries", taker)

    def breaks() -> Iterator[tuple[int, EntryRecord]]:
        yield from hashes(MAX_RECORDS + 1)
        raise FileNotFoundError("the list is gone")

    answers = client.import_entries("abuse", breaks())
    assert next(answers).number == MAX_RECORDS
    assert next(answers).number == MAX_RECORDS + 1
    with pytest.raises(FileNotFoundError, match="the list is gone"):
        next(answers)
    assert taker.ended.wait(5)
    assert taker.numbers() == list(range(1, MAX_RECORDS + 2))


def test_numbers_that_do_not_grow_are_the_callers_mistake(service: FakeService, client: iw.Client) -> None:
    service.answer("ImportEntries", Taker())
    with pytest.raises(iw.InvalidRequest, match="record 2 comes after record 2"):
        list(client.import_entries("abuse", [(2, FULL), (2, FULL)]))
    with pytest.raises(iw.InvalidRequest, match="name a bank"):
        client.import_entries("", [])


def test_an_error_comes_after_the_answers_before_it(service: FakeService, client: iw.Client) -> None:
    def breaks(requests: Any, context: grpc.ServicerContext) -> Iterator[pb.ImportEntriesResponse]:
        yield pb.ImportEntriesResponse(number=next(requests).records[-1].number, added=MAX_RECORDS, revision="r1")
        context.abort(grpc.StatusCode.UNAVAILABLE, "stopping")

    service.answer("ImportEntries", breaks)
    answers = client.import_entries("abuse", hashes(20 * MAX_RECORDS))
    assert next(answers).number == MAX_RECORDS
    with pytest.raises(iw.Unavailable):
        list(answers)
    assert len(service.metadata["ImportEntries"]) == 1  # a stream is not tried again


def test_a_server_that_ends_early_or_answers_something_else_is_no_success(
    service: FakeService, client: iw.Client
) -> None:
    def ends(requests: Any, _: Any) -> Iterator[pb.ImportEntriesResponse]:
        yield pb.ImportEntriesResponse(number=next(requests).records[-1].number)

    service.answer("ImportEntries", ends)
    with pytest.raises(iw.ServerError, match=f"did not answer the records up to {2 * MAX_RECORDS}"):
        list(client.import_entries("abuse", hashes(2 * MAX_RECORDS)))

    def wrong(requests: Any, _: Any) -> Iterator[pb.ImportEntriesResponse]:
        for _request in requests:
            yield pb.ImportEntriesResponse(number=1)

    service.answer("ImportEntries", wrong)
    with pytest.raises(iw.ServerError, match="answered up to record 1"):
        list(client.import_entries("abuse", hashes(3)))


def test_validate_only_is_said_and_an_import_that_is_left_ends_the_call(
    service: FakeService, client: iw.Client
) -> None:
    taker = Taker()
    service.answer("ImportEntries", taker)
    answers = client.import_entries("abuse", hashes(20 * MAX_RECORDS), validate_only=True)
    assert next(answers).revision == ""
    answers.close()  # type: ignore[attr-defined]  # it is a generator
    assert all(message.validate_only for message in taker.messages)


def test_no_thread_waits_for_requests_when_an_import_is_over(service: FakeService, client: iw.Client) -> None:
    def breaks(_: Any, context: grpc.ServicerContext) -> Iterator[pb.ImportEntriesResponse]:
        if context.is_active():
            context.abort(grpc.StatusCode.UNAVAILABLE, "stopping")
        yield pb.ImportEntriesResponse()

    service.answer("ImportEntries", breaks)
    before = threading.active_count()
    for _ in range(60):
        with pytest.raises(iw.Unavailable):
            list(client.import_entries("abuse", hashes(3 * MAX_RECORDS)))
    deadline = time.monotonic() + 5
    while threading.active_count() > before + 20 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threading.active_count() <= before + 20


def test_an_export_that_breaks_or_that_this_client_cannot_read_is_a_typed_error(
    service: FakeService, client: iw.Client
) -> None:
    def breaks(_: Any, context: grpc.ServicerContext) -> Iterator[pb.ExportEntriesResponse]:
        yield pb.ExportEntriesResponse(records=[pb.EntryRecord(id="1")], entry_count=2)
        context.abort(grpc.StatusCode.NOT_FOUND, "no bank")

    service.answer("ExportEntries", breaks)
    export = client.export_entries("abuse")
    assert next(export).id == "1"
    with pytest.raises(iw.NotFound, match="no bank"):
        next(export)

    def newer(_: Any, __: Any) -> Iterator[pb.ExportEntriesResponse]:
        record = pb.EntryRecord(id="1")
        record.hashes.add(type=99, value=b"")  # of a newer server
        yield pb.ExportEntriesResponse(records=[record])

    service.answer("ExportEntries", newer)
    with pytest.raises(iw.ServerError, match="upgrade"):
        next(client.export_entries("abuse"))
    client.export_entries("abuse").close()  # of one that was not begun


async def test_the_asynchronous_client_does_the_same(service: FakeService) -> None:
    taker = Taker()
    service.answer("ImportEntries", taker)

    async def records() -> AsyncIterator[tuple[int, EntryRecord]]:
        for number, record in hashes(3 * MAX_RECORDS):
            yield number, record

    async with iw.AsyncClient(service.address) as client:
        found = [answer.number async for answer in client.import_entries("abuse", records())]
        assert found == [MAX_RECORDS, 2 * MAX_RECORDS, 3 * MAX_RECORDS]
        assert [one.number async for one in client.import_entries("abuse", hashes(2))] == [2]
        assert taker.numbers() == [*range(1, 3 * MAX_RECORDS + 1), 1, 2]

        async def breaks() -> AsyncIterator[tuple[int, EntryRecord]]:
            for number, record in hashes(MAX_RECORDS + 1):
                yield number, record
            raise FileNotFoundError("the list is gone")

        answers = client.import_entries("abuse", breaks())
        assert (await anext(answers)).number == MAX_RECORDS
        assert (await anext(answers)).number == MAX_RECORDS + 1
        with pytest.raises(FileNotFoundError):
            await anext(answers)

        def stops(requests: Any, context: grpc.ServicerContext) -> Iterator[pb.ImportEntriesResponse]:
            yield pb.ImportEntriesResponse(number=next(requests).records[-1].number)
            context.abort(grpc.StatusCode.UNAVAILABLE, "stopping")

        service.answer("ImportEntries", stops)
        found.clear()

        async def bring() -> None:
            async for answer in client.import_entries("abuse", hashes(20 * MAX_RECORDS)):
                found.append(answer.number)  # noqa: PERF401 -- those before the failure are kept

        with pytest.raises(iw.Unavailable):
            await bring()
        # Where the call ends while grpc.aio writes to it, it forgets the answer that was not read yet.
        assert found in ([MAX_RECORDS], [])

        def give(_: Any, __: Any) -> Iterator[pb.ExportEntriesResponse]:
            for place in range(3):
                yield pb.ExportEntriesResponse(records=[pb.EntryRecord(id=str(place))], revision="r1", entry_count=3)

        service.answer("ExportEntries", give)
        export = client.export_entries("abuse")
        assert [one.id async for one in export] == ["0", "1", "2"]
        assert (export.entry_count, export.revision) == (3, "r1")
        await client.export_entries("abuse").close()
