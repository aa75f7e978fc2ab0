"""Between records of lists and the API's messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from imagewarden.v1 import bank_service_pb2 as pb
from imagewarden.v1 import types_pb2 as types
from imagewarden_server.api import convert, names
from imagewarden_server.catalog.errors import DamagedFeatures
from imagewarden_server.catalog.features import decode_features, encode_features
from imagewarden_server.matching.errors import InvalidField
from imagewarden_server.matching.lists import Exported, Imported, ListRecord, RefusedRecord, space_of
from imagewarden_server.matching.opinions import Quarantine
from imagewarden_server.matching.types import (
    BankKind,
    EntryState,
    HashSignal,
    LocalSignal,
    NewEntry,
    SignalType,
    VectorSignal,
)

_VECTORS = frozenset({SignalType.EMBEDDING, SignalType.SEMANTIC})


def read(kind: BankKind, messages: Iterable[pb.EntryRecord]) -> tuple[list[ListRecord], list[RefusedRecord]]:
    """The records of a message for a bank of a kind, and those that cannot be read."""
    records: list[ListRecord] = []
    refused: list[RefusedRecord] = []
    for message in messages:
        try:
            records.append(_record(kind, message))
        except InvalidField as error:
            refused.append(RefusedRecord(message.number, error.field, error.description))
    return records, refused


def next_number(messages: Sequence[pb.EntryRecord], last: int) -> int:
    """The number of the last record of a message.

    Raises:
        InvalidField: they are not in order, or not after those of the message before.
    """
    for place, message in enumerate(messages):
        if message.number <= last:
            raise InvalidField(
                f"records[{place}].number", f"is {message.number}, after {last}; number records from 1 in their order"
            )
        last = message.number
    return last


def answer(number: int, result: Imported, revision: str) -> pb.ImportEntriesResponse:
    """What became of records as a message."""
    return pb.ImportEntriesResponse(
        number=number,
        added=result.added,
        updated=result.updated,
        unchanged=result.unchanged,
        removed=result.removed,
        absent=result.absent,
        refused=[pb.RefusedRecord(number=one.number, field=one.field, message=one.message) for one in result.refused],
        revision=revision,
    )


def written(page: Exported, revision: str) -> pb.ExportEntriesResponse:
    """Entries of a bank as a message."""
    return pb.ExportEntriesResponse(
        records=[_message(one) for one in page.records], revision=revision, entry_count=page.entry_count
    )


def _record(kind: BankKind, message: pb.EntryRecord) -> ListRecord:
    record: dict[str, Any] = {}
    entry: dict[str, Any] = {}
    # What is set is read and nothing else: most records of most lists are one hash, and lists have millions.
    for field, _ in message.ListFields():
        name = field.name
        if name in _OF_ENTRY:
            said, reader = _OF_ENTRY[name]
            entry[said] = reader(kind, message)
        elif name in _OF_RECORD:
            record[name] = _OF_RECORD[name](message)
    return ListRecord(message.number, NewEntry(**entry), **record)


def _state(message: pb.EntryRecord) -> EntryState:
    state = convert.STATE_OF.get(message.state)
    if state is None:
        raise InvalidField("state", f"is {message.state}; send ACTIVE or DISABLED, or leave it out")
    return state


def _quarantine(message: types.Quarantine) -> Quarantine:
    reason = convert.REASON_OF.get(message.reason)
    if reason is None:
        raise InvalidField(
            "quarantine.reason", f"is {message.reason}; send FALSE_POSITIVES, FLOOD or BY_HAND, or leave quarantine out"
        )
    since = names.time_of("quarantine.time", message, "time")
    if since is None:
        raise InvalidField("quarantine.time", "is missing; say since when the entry is quarantined")
    return Quarantine(reason, names.text("quarantine.message", message.message, names.MAX_NOTE), since)


def _hash(message: pb.RecordHash) -> HashSignal:
    type_ = convert.SIGNAL_OF.get(message.type)
    if type_ is None:
        raise InvalidField("hashes", f"the type {message.type} is unknown; send SHA256, SHA1, MD5 or PDQ")
    return HashSignal(type_, message.value, message.quality if message.HasField("quality") else None)


def _vectors(kind: BankKind, message: pb.RecordVectors) -> VectorSignal:
    type_ = convert.SIGNAL_OF.get(message.type)
    if type_ not in _VECTORS:
        raise InvalidField("vectors", f"the type {message.type} has none; send EMBEDDING or SEMANTIC")
    side = message.dimensions
    if side < 1 or not message.data or len(message.data) % (4 * side):
        raise InvalidField("vectors", f"{len(message.data)} bytes are no views of {side} float32 each")
    data = np.frombuffer(message.data, "<f4").astype(np.float32).reshape(-1, side)
    space = space_of(kind, type_)
    return VectorSignal(type_, space, message.model_version, data, message.mean, message.deviation)


def _features(message: pb.RecordFeatures) -> LocalSignal:
    try:
        return LocalSignal(message.extractor, decode_features(message.data))
    except DamagedFeatures as error:
        raise InvalidField("features", f"of {message.extractor[:64]!r}: {error}") from error


_OF_RECORD: Mapping[str, Callable[[pb.EntryRecord], Any]] = {
    "id": lambda one: one.id,
    "removed": lambda one: one.removed,
    "state": _state,
    "create_time": lambda one: names.time_of("create_time", one, "create_time"),
    "quarantine": lambda one: _quarantine(one.quarantine),
}
"""How what a record says of itself is read, by its field's name."""
_OF_ENTRY: Mapping[str, tuple[str, Callable[[BankKind, pb.EntryRecord], Any]]] = {
    "hashes": ("hashes", lambda _, one: tuple([_hash(each) for each in one.hashes])),
    "vectors": ("vectors", lambda kind, one: tuple([_vectors(kind, each) for each in one.vectors])),
    "features": ("local", lambda _, one: tuple([_features(each) for each in one.features])),
    "external_id": ("external_id", lambda _, one: names.text("external_id", one.external_id)),
    "labels": ("labels", lambda _, one: names.labels("labels", one.labels)),
    "metadata": ("metadata", lambda _, one: names.pairs("metadata", one.metadata)),
    "source": ("source", lambda _, one: names.text("source", one.source)),
    "brand": ("brand", lambda _, one: names.text("brand", one.brand)),
    "note": ("note", lambda _, one: names.text("note", one.note, names.MAX_NOTE)),
    "expire_time": ("expire_time", lambda _, one: names.time_of("expire_time", one, "expire_time")),
    "thumbnail": ("thumbnail", lambda _, one: one.thumbnail),
    "image": ("image", lambda _, one: one.image),
}
"""Of which of an entry's attributes a field is, and how it is read."""


def _message(record: ListRecord) -> pb.EntryRecord:
    entry = record.entry
    return pb.EntryRecord(
        number=record.number,
        id=record.id,
        hashes=[_hash_message(one) for one in entry.hashes],
        vectors=[
            pb.RecordVectors(
                type=convert.SIGNAL[one.type],
                model_version=one.model,
                dimensions=one.vectors.shape[1],
                data=np.ascontiguousarray(one.vectors, "<f4").tobytes(),
                mean=one.mean,
                deviation=one.deviation,
            )
            for one in entry.vectors
        ],
        features=[
            pb.RecordFeatures(extractor=one.extractor, data=encode_features(one.features)) for one in entry.local
        ],
        external_id=entry.external_id,
        labels=entry.labels,
        metadata=entry.metadata,
        source=entry.source,
        brand=entry.brand,
        note=entry.note,
        state=convert.STATE[record.state] if record.state else types.ENTRY_STATE_UNSPECIFIED,
        expire_time=convert.stamp(entry.expire_time),
        create_time=convert.stamp(record.create_time),
        quarantine=convert.quarantine(record.quarantine),
        thumbnail=entry.thumbnail or b"",
        image=entry.image or b"",
    )


def _hash_message(signal: HashSignal) -> pb.RecordHash:
    said: dict[str, Any] = {} if signal.quality is None else {"quality": signal.quality}
    return pb.RecordHash(type=convert.SIGNAL[signal.type], value=signal.value, **said)
