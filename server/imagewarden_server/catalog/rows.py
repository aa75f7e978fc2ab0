"""Between the catalogue's rows and the domain's types."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from imagewarden_server.catalog.errors import DamagedFeatures
from imagewarden_server.catalog.features import decode_features
from imagewarden_server.matching.opinions import NO_FEEDBACK, Feedback, Quarantine, QuarantineReason
from imagewarden_server.matching.patches import PolicyPatch
from imagewarden_server.matching.policy import complete
from imagewarden_server.matching.ports import StoredHash, StoredLocal, StoredVector
from imagewarden_server.matching.types import (
    Action,
    Bank,
    BankKind,
    Entry,
    EntryState,
    Policy,
    SignalSummary,
    SignalType,
    Threshold,
    Vectors,
    VectorSpace,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_ID_RANDOM_BITS = 52
_ID_RANDOM_BYTES = 7
_ID_RANDOM_SPARE = 8 * _ID_RANDOM_BYTES - _ID_RANDOM_BITS
_ID_PAIRS = tuple(first + second for first in _ALPHABET for second in _ALPHABET)
_ID_SHIFTS = range(90, -1, -10)
"""The 48 bits of the time and the 52 of chance are ten times ten bits, and two digits each."""
_SIGNAL_TYPES = {one.value: one for one in SignalType}

Row = Any


def micros(value: datetime) -> int:
    """A time as whole microseconds since 1970: sorts as itself, on every database alike."""
    return (value - _EPOCH) // _MICROSECOND


def moment(value: int) -> datetime:
    """The time of whole microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=value)


def new_entry_ids(count: int) -> list[str]:
    """Ids of new entries: 20 characters of Crockford's base 32, milliseconds and then chance.

    So those of one time sort after those of the times before it.
    """
    now = (time.time_ns() // 1_000_000) << _ID_RANDOM_BITS
    # The system's chance is asked for once: for each id it would take most of the time.
    chance = secrets.token_bytes(_ID_RANDOM_BYTES * count)
    return [
        _base32(now | int.from_bytes(chance[begin : begin + _ID_RANDOM_BYTES], "big") >> _ID_RANDOM_SPARE)
        for begin in range(0, len(chance), _ID_RANDOM_BYTES)
    ]


def _base32(number: int) -> str:
    return "".join([_ID_PAIRS[number >> shift & 1023] for shift in _ID_SHIFTS])


def policy_columns(policy: Policy | PolicyPatch) -> dict[str, Any]:
    """A policy as it is stored in a bank's row; of a patch the columns that it changes."""
    columns = {
        "action": None if policy.action is None else int(policy.action),
        "thresholds": None
        if policy.thresholds is None
        else {signal.value: [one.value, one.disabled] for signal, one in policy.thresholds.items()},
        "enabled_ratio": policy.enabled_ratio,
        "quarantine_false_positives": policy.quarantine_false_positives,
        "quarantine_flood": policy.quarantine_flood,
    }
    return {name: value for name, value in columns.items() if value is not None}


def bank_of(row: Row, feedback: Feedback = NO_FEEDBACK) -> Bank:
    """A bank from its row."""
    thresholds = {
        SignalType(signal): Threshold(float(value), bool(disabled))
        for signal, (value, disabled) in row.thresholds.items()
    }
    kind = BankKind(row.kind)
    return Bank(
        key=row.key,
        id=row.id,
        kind=kind,
        display_name=row.display_name,
        # A bank that was made before a signal was known begins with the signal's default.
        policy=complete(
            kind,
            Action(row.action),
            thresholds,
            enabled_ratio=row.enabled_ratio,
            quarantine_false_positives=row.quarantine_false_positives,
            quarantine_flood=row.quarantine_flood,
        ),
        enabled=row.enabled,
        labels=row.labels,
        keep_images=row.keep_images,
        create_time=moment(row.create_time),
        update_time=moment(row.update_time),
        entry_count=row.entry_count,
        feedback=feedback,
    )


def entry_of(
    row: Row,
    bank_id: str,
    signals: Sequence[SignalSummary] = (),
    thumbnail: bytes | None = None,
    feedback: Feedback = NO_FEEDBACK,
) -> Entry:
    """An entry from its row."""
    return Entry(
        key=row.key,
        id=row.id,
        bank_id=bank_id,
        external_id=row.external_id,
        labels=tuple(row.labels),
        metadata=row.metadata,
        source=row.source,
        brand=row.brand,
        state=EntryState(row.state),
        expire_time=None if row.expire_time is None else moment(row.expire_time),
        create_time=moment(row.create_time),
        update_time=moment(row.update_time),
        signals=tuple(signals),
        thumbnail=thumbnail,
        feedback=feedback,
        quarantine=quarantine_of(row),
        forgiven=row.forgiven,
        note=row.note,
    )


def quarantine_of(row: Row) -> Quarantine | None:
    """An entry's quarantine from its row."""
    if row.quarantine_reason is None:
        return None
    reason = QuarantineReason(row.quarantine_reason)
    return Quarantine(reason, row.quarantine_message, moment(row.quarantine_time))


def quarantine_columns(why: Quarantine | None) -> dict[str, Any]:
    """Quarantine as it is stored in an entry's row."""
    return {
        "quarantine_reason": None if why is None else why.reason.value,
        "quarantine_message": None if why is None else why.message,
        "quarantine_time": None if why is None else micros(why.time),
    }


def hashes_of(rows: Iterable[Row]) -> list[StoredHash]:
    """Hashes as the index needs them, of whole rows of their table."""
    # By place: a row's columns by their names take longer than all else, and lists have millions of rows.
    return [
        StoredHash(key, bank_key, _SIGNAL_TYPES[type_], value, entry_key)
        for key, entry_key, bank_key, type_, value, _quality in rows
    ]


def vector_bytes(vector: Vectors) -> bytes:
    """A vector as it is stored: float32, little-endian."""
    return np.ascontiguousarray(vector, dtype="<f4").tobytes()


def vector_of(row: Row) -> StoredVector:
    """A vector as the index needs it."""
    data = np.frombuffer(row.data, dtype="<f4").astype(np.float32, copy=False)
    space = VectorSpace(row.space)
    return StoredVector(row.key, row.bank_key, space, row.model, data, row.entry_key, row.mean, row.deviation)


def local_of(row: Row) -> StoredLocal:
    """Local features as the index needs them.

    Raises:
        DamagedFeatures: they are not what was written.
    """
    try:
        features = decode_features(row.data)
    except DamagedFeatures as error:
        raise DamagedFeatures(
            f"row {row.key} of local_features is damaged ({error}); restore the newest copy of the catalogue, or "
            f"delete the entry of key {row.entry_key}"
        ) from error
    return StoredLocal(row.key, row.bank_key, row.entry_key, row.extractor, features)


def summaries(
    hash_rows: Iterable[Row], vector_rows: Iterable[Row], local_rows: Iterable[Row]
) -> dict[int, list[SignalSummary]]:
    """The signals of entries in short, by the entry's key.

    Args:
        hash_rows: entry_key, type, value, quality.
        vector_rows: entry_key, type, model, views, bytes; one a type and model.
        local_rows: entry_key, extractor, views, keypoints; one an extractor.
    """
    found: dict[int, list[SignalSummary]] = {}
    for row in hash_rows:
        summary = SignalSummary(SignalType(row.type), row.value.hex(), row.quality)
        found.setdefault(row.entry_key, []).append(summary)
    for row in vector_rows:
        summary = SignalSummary(SignalType(row.type), model=row.model, views=row.views, dimensions=row.bytes // 4)
        found.setdefault(row.entry_key, []).append(summary)
    for row in local_rows:
        summary = SignalSummary(SignalType.LOCAL, model=row.extractor, views=row.views, keypoints=row.keypoints)
        found.setdefault(row.entry_key, []).append(summary)
    return found
