"""Between the domain's types and the API's messages."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from imagewarden.v1 import bank_service_pb2 as bank_pb
from imagewarden.v1 import moderation_service_pb2 as pb
from imagewarden.v1 import types_pb2 as types
from imagewarden_server.api import names
from imagewarden_server.matching.check import CheckResult
from imagewarden_server.matching.errors import InvalidField
from imagewarden_server.matching.opinions import Feedback, Opinion, Quarantine, QuarantineReason, Report
from imagewarden_server.matching.types import (
    Action,
    BankKind,
    Box,
    Entry,
    EntryState,
    HashSignal,
    Match,
    NewEntry,
    SignalSummary,
    SignalType,
    Transform,
    Undecided,
    UndecidedCode,
    Verdict,
)
from imagewarden_server.media import Header, PdqHash

K = TypeVar("K")
V = TypeVar("V")


def _reverse(table: Mapping[K, V]) -> dict[V, K]:
    return {value: key for key, value in table.items()}


KIND = {
    BankKind.BANNED: types.BANK_KIND_BANNED,
    BankKind.BRAND: types.BANK_KIND_BRAND,
    BankKind.ALLOWED: types.BANK_KIND_ALLOWED,
}
ACTION = {
    Action.ALLOW: types.ACTION_ALLOW,
    Action.NOTE: types.ACTION_NOTE,
    Action.REVIEW: types.ACTION_REVIEW,
    Action.BLOCK: types.ACTION_BLOCK,
}
SIGNAL = {
    SignalType.SHA256: types.SIGNAL_TYPE_SHA256,
    SignalType.SHA1: types.SIGNAL_TYPE_SHA1,
    SignalType.MD5: types.SIGNAL_TYPE_MD5,
    SignalType.PDQ: types.SIGNAL_TYPE_PDQ,
    SignalType.EMBEDDING: types.SIGNAL_TYPE_EMBEDDING,
    SignalType.LOCAL: types.SIGNAL_TYPE_LOCAL,
    SignalType.SEMANTIC: types.SIGNAL_TYPE_SEMANTIC,
    SignalType.COMBINED: types.SIGNAL_TYPE_COMBINED,
}
STATE = {
    EntryState.ACTIVE: types.ENTRY_STATE_ACTIVE,
    EntryState.DISABLED: types.ENTRY_STATE_DISABLED,
    EntryState.EXPIRED: types.ENTRY_STATE_EXPIRED,
}
VERDICT = {
    Verdict.MATCH: types.VERDICT_MATCH,
    Verdict.NO_MATCH: types.VERDICT_NO_MATCH,
    Verdict.UNDECIDED: types.VERDICT_UNDECIDED,
}
CODE = {
    UndecidedCode.UNDECODABLE: types.UNDECIDED_CODE_UNDECODABLE,
    UndecidedCode.TOO_PLAIN: types.UNDECIDED_CODE_TOO_PLAIN,
    UndecidedCode.OVER_LIMITS: types.UNDECIDED_CODE_OVER_LIMITS,
    UndecidedCode.EMBEDDING_UNAVAILABLE: types.UNDECIDED_CODE_EMBEDDING_UNAVAILABLE,
    UndecidedCode.DEADLINE: types.UNDECIDED_CODE_DEADLINE,
    UndecidedCode.REVISION_BEHIND: types.UNDECIDED_CODE_REVISION_BEHIND,
}
OPINION = {
    Opinion.CONFIRMED: types.OPINION_CONFIRMED,
    Opinion.FALSE_POSITIVE: types.OPINION_FALSE_POSITIVE,
    Opinion.DISPUTED: types.OPINION_DISPUTED,
}
QUARANTINE = {
    QuarantineReason.FALSE_POSITIVES: types.QUARANTINE_REASON_FALSE_POSITIVES,
    QuarantineReason.FLOOD: types.QUARANTINE_REASON_FLOOD,
    QuarantineReason.BY_HAND: types.QUARANTINE_REASON_BY_HAND,
}
KIND_OF = _reverse(KIND)
ACTION_OF = _reverse(ACTION)
SIGNAL_OF = _reverse(SIGNAL)
STATE_OF = _reverse(STATE)
OPINION_OF = _reverse(OPINION)
REASON_OF = _reverse(QUARANTINE)

_UNDECIDED_ACTIONS = frozenset({Action.ALLOW, Action.REVIEW, Action.BLOCK})


def stamp(value: datetime | None) -> Timestamp | None:
    """A time as a message, or None."""
    if value is None:
        return None
    message = Timestamp()
    message.FromDatetime(value)
    return message


def duration(seconds: float) -> Duration:
    """Seconds as a message."""
    nanoseconds = round(seconds * 1e9)
    return Duration(seconds=nanoseconds // 1_000_000_000, nanos=nanoseconds % 1_000_000_000)


def on_undecided(value: types.Action.ValueType) -> Action | None:
    """The caller's action for UNDECIDED; None where it is left to the server."""
    if value == types.ACTION_UNSPECIFIED:
        return None
    action = ACTION_OF.get(value)
    if action not in _UNDECIDED_ACTIONS:
        raise InvalidField("on_undecided", f"is {value}; send ALLOW, REVIEW or BLOCK, or leave it out")
    return action


def kind(field: str, value: types.BankKind.ValueType) -> BankKind:
    """A bank's kind, required."""
    if value not in KIND_OF:
        raise InvalidField(field, f"is {value}; send BANNED, BRAND or ALLOWED")
    return KIND_OF[value]


def signal(value: SignalSummary) -> types.Signal:
    """A signal's summary as a message."""
    return types.Signal(
        type=SIGNAL[value.type],
        hex=value.hex,
        quality=-1 if value.quality is None else value.quality,
        model_version=value.model,
        views=value.views,
        dimensions=value.dimensions,
        keypoints=value.keypoints,
    )


def entry(value: Entry) -> types.Entry:
    """An entry as a message."""
    return types.Entry(
        name=value.name,
        external_id=value.external_id,
        labels=value.labels,
        metadata=value.metadata,
        source=value.source,
        brand=value.brand,
        state=STATE[value.state],
        expire_time=stamp(value.expire_time),
        signals=[signal(one) for one in value.signals],
        thumbnail=value.thumbnail or b"",
        create_time=stamp(value.create_time),
        update_time=stamp(value.update_time),
        feedback=feedback(value.feedback),
        reports=[_report(one) for one in value.reports],
        quarantine=quarantine(value.quarantine),
        note=value.note,
    )


def _quarantined(value: Quarantine | None) -> types.QuarantineReason.ValueType:
    return types.QUARANTINE_REASON_UNSPECIFIED if value is None else QUARANTINE[value.reason]


def quarantine(value: Quarantine | None) -> types.Quarantine | None:
    """Why an entry is quarantined as a message, or None."""
    if value is None:
        return None
    return types.Quarantine(reason=QUARANTINE[value.reason], message=value.message, time=stamp(value.time))


def feedback(value: Feedback) -> types.Feedback:
    """How many reports there are, as a message."""
    return types.Feedback(confirmed=value.confirmed, false_positives=value.false_positives, disputed=value.disputed)


def _report(value: Report) -> types.MatchReport:
    return types.MatchReport(
        sha256=value.sha256.hex(),
        opinion=OPINION[value.opinion],
        note=value.note,
        reporter=value.reporter,
        time=stamp(value.time),
    )


def opinion(value: types.Opinion.ValueType) -> Opinion:
    """What a person found, required."""
    if value not in OPINION_OF:
        raise InvalidField("opinion", f"is {value}; send CONFIRMED, FALSE_POSITIVE or DISPUTED")
    return OPINION_OF[value]


def said(message: types.Entry, *, brand: str = "") -> NewEntry:
    """What an owner says of an entry to be made."""
    return NewEntry(
        external_id=names.text("entry.external_id", message.external_id),
        labels=names.labels("entry.labels", message.labels),
        metadata=names.pairs("entry.metadata", message.metadata),
        source=names.text("entry.source", message.source),
        brand=names.text("brand", brand),
        note=names.text("entry.note", message.note, names.MAX_NOTE),
        expire_time=names.time_of("entry.expire_time", message, "expire_time"),
    )


def hash_entry(field: str, message: bank_pb.HashToAdd) -> NewEntry:
    """One hash to add, with what the owner says of it."""
    signal_type = SIGNAL_OF.get(message.type)
    if signal_type is None:
        raise InvalidField(f"{field}.type", f"is {message.type}; send SHA256, SHA1, MD5 or PDQ")
    try:
        value = bytes.fromhex(message.hex)
    except ValueError:
        raise InvalidField(f"{field}.hex", f"{message.hex[:80]!r} is not hexadecimal") from None
    quality = message.quality if message.HasField("quality") else None
    return NewEntry(
        hashes=(HashSignal(signal_type, value, quality),),
        external_id=names.text(f"{field}.external_id", message.external_id),
        labels=names.labels(f"{field}.labels", message.labels),
        metadata=names.pairs(f"{field}.metadata", message.metadata),
        source=names.text(f"{field}.source", message.source),
        note=names.text(f"{field}.note", message.note, names.MAX_NOTE),
        expire_time=names.time_of(f"{field}.expire_time", message, "expire_time"),
    )


def _box(value: Box | None) -> types.BoundingBox | None:
    return (
        None
        if value is None
        else types.BoundingBox(left=value.left, top=value.top, right=value.right, bottom=value.bottom)
    )


def match(value: Match) -> types.Match:
    """A match as a message."""
    return types.Match(
        entry=value.entry.name,
        bank=value.bank.name,
        bank_kind=KIND[value.bank.kind],
        signal=SIGNAL[value.signal],
        score=value.score,
        distance=value.distance,
        threshold=value.threshold,
        region=_box(value.region),
        frame=value.frame,
        action=ACTION[value.action],
        cleared_by=value.cleared_by,
        external_id=value.entry.external_id,
        brand=value.entry.brand,
        labels=value.entry.labels,
        evidence=[
            types.Evidence(signal=SIGNAL[one.signal], value=one.value, reached=one.reached) for one in value.evidence
        ],
        transform=_transform(value.transform),
        quarantined=_quarantined(value.entry.quarantine),
    )


def _transform(value: Transform | None) -> types.Transform | None:
    return None if value is None else types.Transform(coefficients=value.coefficients, mirrored=value.mirrored)


def _undecided(value: Undecided) -> types.UndecidedReason:
    return types.UndecidedReason(
        code=CODE[value.code], message=value.message, signals=[SIGNAL[one] for one in value.signals]
    )


def image_info(sha256: bytes, header: Header | None, pdq: PdqHash | None) -> pb.ImageInfo:
    """What was read of the picture."""
    info = pb.ImageInfo(sha256=sha256.hex())
    if header is not None:
        info.format = header.format.value
        info.width, info.height, info.frames = header.width, header.height, header.frames
    if pdq is not None:
        info.pdq, info.pdq_quality = pdq.hex(), pdq.quality
    return info


def check_response(result: CheckResult, revision: str) -> pb.CheckImageResponse:
    """A verdict as a message."""
    return pb.CheckImageResponse(
        verdict=VERDICT[result.verdict],
        action=ACTION[result.action],
        matches=[match(one) for one in result.matches],
        undecided_reasons=[_undecided(one) for one in result.undecided],
        revision=revision,
        model_version=result.model,
        image=image_info(result.sha256, result.header, result.pdq),
        timings=[pb.StageTiming(stage=stage, duration=duration(time)) for stage, time in result.timings.items()],
    )
