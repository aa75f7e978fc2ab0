"""Between the API's messages and the records of a list: by the hundred thousand, so each line here is paid as often."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from imagewarden import _convert as convert
from imagewarden._enums import EntryState, QuarantineReason, SignalType
from imagewarden._opinions import Quarantine
from imagewarden._records import (
    EntryRecord,
    ImportAnswer,
    RecordFeatures,
    RecordHash,
    RecordVectors,
    RefusedRecord,
)
from imagewarden.v1 import bank_service_pb2 as pb
from imagewarden.v1 import types_pb2 as types

W = TypeVar("W")

_SIGNALS: dict[SignalType, Any] = {
    signal: convert.signal_number(signal) for signal in SignalType if signal is not SignalType.UNKNOWN
}
_SIGNAL_OF: dict[int, SignalType] = {number: signal for signal, number in _SIGNALS.items()}
_STATE_OF: dict[int, EntryState] = {
    convert.state_number(state): state for state in EntryState if state is not EntryState.UNKNOWN
}
# A message's frame, its number and its flags; a hash; the frame of another part.
_RECORD_BYTES, _HASH_BYTES, _PART_BYTES = 48, 48, 96
# UTF-8 has at most so many bytes a character.
_CHARACTER_BYTES = 4


def add_record(records: Any, number: int, value: EntryRecord) -> None:
    """Append a record to the `records` of a request. Where it cannot be said, nothing is appended.

    Raises:
        ValueError: a value has no place in a message: a text that is no text, a number that is too large.
    """
    # Fields that are set one by one cost less than a message that is made and copied; most records have few.
    message = records.add()
    try:
        message.number = number
        _set(message, value)
    except Exception:  # whatever it was, half a record must not be sent; raised again
        del records[-1]
        raise


def _set(message: pb.EntryRecord, value: EntryRecord) -> None:
    for one in value.hashes:
        part = message.hashes.add()
        part.type = _signal_number(one.type)
        part.value = one.value
        if one.quality is not None:
            part.quality = one.quality
    if value.source:
        message.source = value.source
    if value.external_id:
        message.external_id = value.external_id
    if value.labels:
        message.labels.extend(value.labels)
    if value.metadata:
        message.metadata.update(value.metadata)
    if value.removed:
        message.removed = True
    _set_what_few_have(message, value)


def _set_what_few_have(message: pb.EntryRecord, value: EntryRecord) -> None:
    for name in ("id", "brand", "note", "thumbnail", "image"):
        if said := getattr(value, name):
            setattr(message, name, said)
    if (why := value.quarantine) is not None:
        message.quarantine.CopyFrom(
            types.Quarantine(
                reason=convert.quarantine_number(why.reason), message=why.message, time=convert.timestamp(why.time)
            )
        )
    if value.state is not None:
        message.state = convert.state_number(value.state)
    if (made := convert.timestamp(value.create_time)) is not None:
        message.create_time.CopyFrom(made)
    if (expires := convert.timestamp(value.expire_time)) is not None:
        message.expire_time.CopyFrom(expires)
    for vectors in value.vectors:
        message.vectors.add(
            type=_signal_number(vectors.type),
            model_version=vectors.model_version,
            dimensions=vectors.dimensions,
            data=vectors.data,
            mean=vectors.mean,
            deviation=vectors.deviation,
        )
    for features in value.features:
        message.features.add(extractor=features.extractor, data=features.data)


def _signal_number(word: SignalType) -> Any:
    try:
        return _SIGNALS[word]
    except KeyError:
        raise ValueError(f"'{word}' is no signal's type; it is one of {', '.join(_SIGNALS)}") from None


def most_bytes(value: EntryRecord) -> int:
    """So many bytes a record has at most as a part of a message: counted quickly, and so generously."""
    size = _RECORD_BYTES + _HASH_BYTES * len(value.hashes)
    characters = len(value.external_id) + len(value.source) + len(value.brand) + len(value.id) + len(value.note)
    if value.labels:
        characters += sum(map(len, value.labels))
        size += _PART_BYTES * len(value.labels)
    if value.metadata:
        characters += sum(len(key) + len(text) for key, text in value.metadata.items())
        size += _PART_BYTES * len(value.metadata)
    for vectors in value.vectors:
        characters += len(vectors.model_version)
        size += _PART_BYTES + len(vectors.data)
    for features in value.features:
        characters += len(features.extractor)
        size += _PART_BYTES + len(features.data)
    if value.quarantine is not None:
        characters += len(value.quarantine.message)
        size += _PART_BYTES
    size += sum(len(one.value) for one in value.hashes)
    return size + _CHARACTER_BYTES * characters + len(value.thumbnail) + len(value.image)


def record(message: pb.EntryRecord) -> EntryRecord:
    """A record of an export.

    Raises:
        ValueError: a newer server says what this client has no word for, and would lose.
    """
    return EntryRecord(
        hashes=tuple(
            RecordHash(
                _known(_SIGNAL_OF, one.type),
                one.value,
                one.quality if one.HasField("quality") else None,
            )
            for one in message.hashes
        ),
        external_id=message.external_id,
        source=message.source,
        labels=tuple(message.labels),
        metadata=dict(message.metadata),
        removed=message.removed,
        id=message.id,
        brand=message.brand,
        note=message.note,
        state=_known(_STATE_OF, message.state) if message.state else None,
        expire_time=convert.time_of(message, "expire_time"),
        create_time=convert.time_of(message, "create_time"),
        vectors=tuple(
            RecordVectors(
                _known(_SIGNAL_OF, one.type),
                one.model_version,
                one.dimensions,
                one.data,
                one.mean,
                one.deviation,
            )
            for one in message.vectors
        ),
        features=tuple(RecordFeatures(one.extractor, one.data) for one in message.features),
        thumbnail=message.thumbnail,
        image=message.image,
        quarantine=_quarantine(message),
    )


def _quarantine(message: pb.EntryRecord) -> Quarantine | None:
    found = convert.quarantine(message)
    if found is not None and found.reason is QuarantineReason.UNKNOWN:
        raise ValueError(f"{message.quarantine.reason} is no reason of quarantine that this client knows; upgrade it")
    return found


def _known(words: Mapping[int, W], number: int) -> W:
    try:
        return words[number]
    except KeyError:
        raise ValueError(f"{number} is no type or state that this client knows; upgrade it") from None


def import_answer(message: pb.ImportEntriesResponse) -> ImportAnswer:
    """What became of the records of one message."""
    return ImportAnswer(
        number=message.number,
        added=message.added,
        updated=message.updated,
        unchanged=message.unchanged,
        removed=message.removed,
        absent=message.absent,
        refused=tuple(RefusedRecord(one.number, one.field, one.message) for one in message.refused),
        revision=message.revision,
    )
