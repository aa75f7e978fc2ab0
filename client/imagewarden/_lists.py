"""Lists in and out as streams of BankService: what is sent and what is answered, whatever carries it.

`_lists_sync` and `_lists_aio` carry it. An import is cut into messages; a few of them at a time are under way, so that
neither side waits for the other and what is not answered yet is little.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from operator import attrgetter

from imagewarden import _convert_records as convert
from imagewarden._calls import understood
from imagewarden._channel import MAX_MESSAGE_BYTES
from imagewarden._errors import InvalidRequest, ServerError
from imagewarden._names import bank_name
from imagewarden._records import EntryRecord, ImportAnswer, RefusedRecord
from imagewarden.v1 import bank_service_pb2 as pb

IMPORT = "/imagewarden.v1.BankService/ImportEntries"
EXPORT = "/imagewarden.v1.BankService/ExportEntries"

MAX_RECORDS = 2_000
"""Records a message, at most."""
MESSAGE_BYTES = 4 * 2**20
"""Bytes a message, unless one record alone has more."""
MAX_UNANSWERED = 4
"""Messages that are under way at once."""
# Room in a message for the frames around a record.
_MARGIN = 64 * 2**10
MAX_RECORD_BYTES = MAX_MESSAGE_BYTES - _MARGIN

Records = Iterable[tuple[int, EntryRecord]]
AnyRecords = Records | AsyncIterable[tuple[int, EntryRecord]]


@dataclass(slots=True)
class Chunk:
    """One message, and what of its stretch of the list could not be sent.

    Attributes:
        last: the number of the last record of the stretch.
        count: how many records the stretch has, refused ones too.
        size: bytes, at most.
    """

    message: pb.ImportEntriesRequest
    last: int = 0
    count: int = 0
    size: int = 0
    refused: list[RefusedRecord] = field(default_factory=list)

    @property
    def sent(self) -> bool:
        """Whether there is anything to send."""
        return bool(self.message.records)


class Import:
    """One import's messages and answers.

    What goes wrong on this side must not look like the server's failure: a record that cannot be sent is among the
    refused of its stretch, and the others go their way.

    Raises:
        InvalidRequest: the bank has no name.
    """

    def __init__(self, bank: str, request_id: str, *, validate_only: bool) -> None:
        self._bank = bank_name(bank, field="bank")
        self._request_id = request_id
        self._validate_only = validate_only
        self._revision = ""
        self._number = 0
        self._open = self._new()

    def _new(self) -> Chunk:
        return Chunk(pb.ImportEntriesRequest(bank=self._bank, validate_only=self._validate_only))

    def chunks(self, records: Records) -> Iterator[Chunk]:
        """The messages of all records; what `records` raises comes after the message of those before it."""
        failure: Exception | None = None
        try:
            for number, record in records:
                full = self._add(number, record)
                if full is not None:
                    yield full
        except Exception as error:  # noqa: BLE001 -- the caller's own: raised below
            failure = error
        if self._open.last:
            yield self._open
        if failure is not None:
            raise failure

    async def chunks_of(self, records: AnyRecords) -> AsyncIterator[Chunk]:
        """The same of an iterator of either kind."""
        if not isinstance(records, AsyncIterable):
            for chunk in self.chunks(records):
                yield chunk
            return
        failure: Exception | None = None
        try:
            async for number, record in records:
                full = self._add(number, record)
                if full is not None:
                    yield full
        except Exception as error:  # noqa: BLE001 -- the caller's own: raised below
            failure = error
        if self._open.last:
            yield self._open
        if failure is not None:
            raise failure

    def _add(self, number: int, record: EntryRecord) -> Chunk | None:
        """Put a record into the open message; the message before it, where that is full."""
        if number <= self._number:
            raise InvalidRequest(f"record {number} comes after record {self._number}: numbers grow", field="number")
        size = convert.most_bytes(record)
        full = None
        if self._open.last and (self._open.count == MAX_RECORDS or self._open.size + size > MESSAGE_BYTES):
            full, self._open = self._open, self._new()
        chunk = self._open
        self._number = chunk.last = number
        chunk.count += 1
        if size > MAX_RECORD_BYTES:
            problem = f"the record has some {size:,} bytes, and {MAX_RECORD_BYTES:,} can be sent"
            chunk.refused.append(RefusedRecord(number, "", problem))
            return full
        try:
            convert.add_record(chunk.message.records, number, record)
        except (ValueError, InvalidRequest) as error:
            chunk.refused.append(RefusedRecord(number, "", f"the record cannot be sent: {error}"))
            return full
        chunk.size += size
        return full

    def answer(self, chunk: Chunk, message: pb.ImportEntriesResponse | None) -> ImportAnswer:
        """What became of a stretch: of its message, if one was sent, and of what could not be."""
        if message is None and chunk.sent:
            raise ServerError(
                f"the server ended the import and did not answer the records up to {chunk.last}",
                request_id=self._request_id,
            )
        if message is None:
            found = ImportAnswer(chunk.last, 0, 0, 0, 0, 0, (), self._revision)
        else:
            if message.number != chunk.message.records[-1].number:
                raise ServerError(
                    f"the server answered up to record {message.number}, and was asked up to {chunk.last}",
                    request_id=self._request_id,
                )
            found = understood(convert.import_answer, message, self._request_id)
            self._revision = found.revision
        refused = sorted((*found.refused, *chunk.refused), key=attrgetter("number"))
        return replace(found, number=chunk.last, refused=tuple(refused))


class Exported:
    """One export's answers.

    Attributes:
        entry_count: how many entries the bank has: 0 until the first ones are here.
        revision: the state of the catalogue that those have which came last.
    """

    def __init__(self, request_id: str) -> None:
        self.entry_count = 0
        self.revision = ""
        self._request_id = request_id

    def records(self, message: pb.ExportEntriesResponse) -> Iterator[EntryRecord]:
        """The records of one message."""
        self.entry_count = message.entry_count
        self.revision = message.revision
        for one in message.records:
            yield understood(convert.record, one, self._request_id)


def export_request(bank: str) -> pb.ExportEntriesRequest:
    """What an export asks."""
    return pb.ExportEntriesRequest(bank=bank_name(bank, field="bank"))
