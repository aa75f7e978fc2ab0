"""ImportEntries and ExportEntries over gRPC: each message is answered once it is in force; what is wrong is told."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from tests.support.api import BRAND, MATCH, NO_MATCH, PDQ, SHA256, Api
from tests.support.errors import fails
from tests.support.processes import Server

from imagewarden.v1 import audit_service_pb2, audit_service_pb2_grpc
from imagewarden.v1 import bank_service_pb2 as pb
from imagewarden.v1 import types_pb2 as types

NOON = Timestamp(seconds=1_796_040_000)


@pytest.fixture
def api(server_without_model: Server) -> Iterator[Api]:
    with Api(server_without_model.address) as api:
        for bank in api.banks.ListBanks(pb.ListBanksRequest()).banks:
            api.banks.DeleteBank(pb.DeleteBankRequest(name=bank.name, force=True))
        yield api


def record(number: int, data: bytes | None = None, **said: object) -> pb.EntryRecord:
    """A record of the digest of a file, or of a number."""
    value = hashlib.sha256(str(number).encode() if data is None else data).digest()
    return pb.EntryRecord(number=number, hashes=[pb.RecordHash(type=SHA256, value=value)], **said)  # type: ignore[arg-type]  # short cut


def bring(
    api: Api, bank: str, *messages: Sequence[pb.EntryRecord], validate_only: bool = False
) -> list[pb.ImportEntriesResponse]:
    requests = [
        pb.ImportEntriesRequest(bank="" if place else bank, records=one, validate_only=validate_only)
        for place, one in enumerate(messages)
    ]
    return list(api.banks.ImportEntries(iter(requests), timeout=60))


def counts(answer: pb.ImportEntriesResponse) -> tuple[int, ...]:
    return answer.added, answer.updated, answer.unchanged, answer.removed, answer.absent


def export(api: Api, bank: str) -> list[pb.EntryRecord]:
    pages = api.banks.ExportEntries(pb.ExportEntriesRequest(bank=bank), timeout=60)
    return [one for page in pages for one in page.records]


def test_each_message_is_in_force_when_it_is_answered(api: Api) -> None:
    bank = api.create_bank("lists")
    files = [f"file {number}".encode() for number in range(6)]

    def requests() -> Iterator[pb.ImportEntriesRequest]:
        yield pb.ImportEntriesRequest(bank=bank, records=[record(1, files[1]), record(2, files[2])])
        yield pb.ImportEntriesRequest(records=[record(3, files[3]), record(4, files[1], removed=True)])

    answers = api.banks.ImportEntries(requests(), timeout=60)
    first = next(answers)
    assert (first.number, *counts(first)) == (2, 2, 0, 0, 0, 0)
    assert api.check(files[2], at_least_revision=first.revision).verdict == MATCH
    second = next(answers)
    assert (second.number, *counts(second)) == (4, 1, 0, 0, 1, 0)
    assert second.revision != first.revision
    assert api.check(files[1]).verdict != MATCH
    assert api.check(files[3]).verdict == MATCH
    assert not list(answers)


def test_refused_records_leave_the_others_alone(api: Api) -> None:
    bank = api.create_bank("lists")
    short = pb.EntryRecord(number=2, hashes=[pb.RecordHash(type=PDQ, value=b"short")])
    vectors = pb.RecordVectors(type=types.SIGNAL_TYPE_EMBEDDING, model_version="m", dimensions=8, data=bytes(31))
    damaged = pb.RecordFeatures(extractor="sift-1", data=b"junk")
    many = ["label"] * 65
    records = [
        record(1), short, record(3, vectors=[vectors]), record(4, features=[damaged]),
        record(5, labels=many), record(6, state=99), pb.EntryRecord(number=7), record(8),
        record(9, quarantine=types.Quarantine(message="why?", time=NOON)),
        record(10, quarantine=types.Quarantine(reason=types.QUARANTINE_REASON_FLOOD)),
        record(11, quarantine=types.Quarantine(reason=types.QUARANTINE_REASON_FLOOD, time=NOON, message="x" * 1_001)),
    ]  # fmt: skip
    (answer,) = bring(api, bank, records)
    assert counts(answer) == (2, 0, 0, 0, 0)
    assert [(one.number, one.field) for one in answer.refused] == [
        (2, "hashes.hex"), (3, "vectors"), (4, "features"), (5, "labels"), (6, "state"), (7, "hashes"),
        (9, "quarantine.reason"), (10, "quarantine.time"), (11, "quarantine.message"),
    ]  # fmt: skip
    assert all(one.message for one in answer.refused)
    assert len(export(api, bank)) == 2


def test_a_rehearsal_says_what_would_be_and_changes_nothing(api: Api) -> None:
    bank = api.create_bank("lists")
    bring(api, bank, [record(1), record(2, external_id="two", source="s")])
    before = export(api, bank)
    records = [record(1), record(3), record(4, external_id="two", source="s"), record(5, removed=True)]
    (answer,) = bring(api, bank, records, validate_only=True)
    assert counts(answer) == (1, 1, 1, 0, 1)
    assert not answer.revision
    assert export(api, bank) == before


def test_what_is_wrong_with_a_stream_ends_it_and_keeps_what_was_answered(api: Api) -> None:
    bank = api.create_bank("lists")
    other = [
        pb.ImportEntriesRequest(bank=one, records=[record(8 + place)]) for place, one in enumerate((bank, "banks/b"))
    ]
    wrongs: list[tuple[Callable[[], object], str]] = [
        (lambda: bring(api, bank, [record(1), record(2)], [record(2)]), "records[0].number"),
        (lambda: list(api.banks.ImportEntries(iter(other), timeout=60)), "bank"),
        (lambda: bring(api, bank, []), "records"),
        (lambda: bring(api, bank, [record(number) for number in range(1, 2_002)]), "records"),
    ]
    for wrong, field in wrongs:
        with fails() as failure:
            wrong()
        assert (failure.code, failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
        assert failure.metadata["field"] == field
    with fails() as failure:
        bring(api, "banks/nowhere", [record(1)])
    assert failure.reason == "BANK_NOT_FOUND"
    with fails() as failure:
        export(api, "banks/nowhere")
    assert failure.reason == "BANK_NOT_FOUND"
    assert len(export(api, bank)) == 3


def test_a_stream_ends_with_its_bank_though_another_one_has_its_name(api: Api) -> None:
    bank = api.create_bank("lists")
    answered = threading.Event()

    def requests() -> Iterator[pb.ImportEntriesRequest]:
        yield pb.ImportEntriesRequest(bank=bank, records=[record(1)])
        # gRPC asks for the next message as soon as this one is sent, not once it is answered.
        assert answered.wait(30)
        api.banks.DeleteBank(pb.DeleteBankRequest(name=bank, force=True), timeout=30)
        api.create_bank("lists", BRAND)
        yield pb.ImportEntriesRequest(records=[record(2)])

    answers = api.banks.ImportEntries(requests(), timeout=60)
    assert next(answers).added == 1
    answered.set()
    with fails() as failure:
        next(answers)
    assert failure.reason == "BANK_NOT_FOUND"
    assert not export(api, bank)


@pytest.mark.model
def test_vectors_that_cannot_be_the_served_models_are_refused(server: Server, photographs: dict[str, bytes]) -> None:
    first, second = list(photographs.values())[:2]
    with Api(server.address) as api:
        bank, other = api.create_bank("lists"), api.create_bank("other")
        api.add_image(other, first)
        (added,) = export(api, other)
        vectors = next(one for one in added.vectors if one.type == types.SIGNAL_TYPE_EMBEDDING)
        four = b"\0\0\x80?" + bytes(12)
        unit = pb.RecordVectors(
            type=vectors.type, model_version=vectors.model_version, dimensions=4, data=four, deviation=1.0
        )
        (answer,) = bring(api, bank, [record(1, vectors=[unit]), record(2)])
        assert counts(answer) == (1, 0, 0, 0, 0)
        ((number, field),) = [(one.number, one.field) for one in answer.refused]
        assert (number, field) == (1, "vectors")
        assert "4 dimensions" in answer.refused[0].message
        assert api.check(second, banks=[bank]).verdict == NO_MATCH
        api.add_image(bank, second)
        assert api.check(second, banks=[bank]).verdict == MATCH


def test_an_empty_list_and_an_empty_bank(api: Api) -> None:
    bank = api.create_bank("lists")
    assert not list(api.banks.ImportEntries(iter([]), timeout=60))
    (page,) = api.banks.ExportEntries(pb.ExportEntriesRequest(bank=bank), timeout=60)
    assert (len(page.records), page.entry_count) == (0, 0)


def test_many_records_come_in_and_go_out(api: Api) -> None:
    bank, copy = api.create_bank("lists"), api.create_bank("copy")
    numbers = range(1, 5_001)
    messages = [[record(one) for one in numbers[begin : begin + 2_000]] for begin in range(0, 5_000, 2_000)]
    assert [answer.added for answer in bring(api, bank, *messages)] == [2_000, 2_000, 1_000]
    assert [answer.unchanged for answer in bring(api, bank, *messages)] == [2_000, 2_000, 1_000]
    out = export(api, bank)
    assert [one.hashes[0].value for one in out] == [record(one).hashes[0].value for one in numbers]
    pages = [out[begin : begin + 2_000] for begin in range(0, 5_000, 2_000)]
    assert sum(answer.added for answer in bring(api, copy, *pages)) == 5_000

    def said(one: pb.EntryRecord) -> pb.EntryRecord:
        one.number = 0
        return one

    assert list(map(said, export(api, copy))) == list(map(said, out))


def test_a_list_is_an_event(api: Api) -> None:
    bank = api.create_bank("lists")
    bring(api, bank, [record(1), record(2)])
    audit = audit_service_pb2_grpc.AuditServiceStub(api.channel)
    request = audit_service_pb2.ListAuditEventsRequest(method="ImportEntries", newest_first=True, page_size=1)
    (event,) = audit.ListAuditEvents(request, timeout=10).events
    assert event.resource == bank
    assert '"added":2' in event.after
    assert event.request_id


def test_a_brand_bank_takes_no_hashes_alone(api: Api) -> None:
    bank = api.create_bank("brand", BRAND)
    (answer,) = bring(api, bank, [record(1, brand="Acme"), record(2)])
    assert [(one.number, one.field) for one in answer.refused] == [(1, "vectors"), (2, "brand")]
    assert api.check(b"1").verdict in {NO_MATCH, types.VERDICT_UNDECIDED}


def test_a_quarantined_entry_blocks_nothing_in_the_copy_either(api: Api) -> None:
    bank, copy = api.create_bank("lists"), api.create_bank("copy")
    bring(api, bank, [record(1, b"a file", external_id="x", note="ask Kim")])
    (entry,) = api.banks.ListEntries(pb.ListEntriesRequest(bank=bank)).entries
    held = types.Entry(name=entry.name, quarantine=types.Quarantine(message="under appeal"))
    api.banks.UpdateEntry(pb.UpdateEntryRequest(entry=held, update_mask=FieldMask(paths=["quarantine"])))
    (out,) = export(api, bank)
    assert (out.note, out.quarantine.message) == ("ask Kim", "under appeal")
    bring(api, copy, [out])
    assert export(api, copy)[0].quarantine == out.quarantine
    for one in (bank, copy):
        (match,) = api.check(b"a file", banks=[one]).matches
        assert (match.action, match.quarantined) == (types.ACTION_REVIEW, types.QUARANTINE_REASON_BY_HAND)
