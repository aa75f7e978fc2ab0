"""Between the domain's types and the API's messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from imagewarden.v1 import bank_service_pb2 as bank_pb
from imagewarden.v1 import moderation_service_pb2 as pb
from imagewarden.v1 import types_pb2 as types
from imagewarden_server.api import names
from imagewarden_server.matching import policy
from imagewarden_server.matching.check import CheckResult
from imagewarden_server.matching.errors import InvalidField
from imagewarden_server.matching.types import (
    Action,
    Bank,
    BankKind,
    Box,
    Entry,
    EntryState,
    HashSignal,
    Match,
    NewEntry,
    Policy,
    SignalSummary,
    SignalType,
    Threshold,
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
KIND_OF = _reverse(KIND)
ACTION_OF = _reverse(ACTION)
SIGNAL_OF = _reverse(SIGNAL)
STATE_OF = _reverse(STATE)

_POLICY_ACTIONS = {
    BankKind.BANNED: frozenset({Action.NOTE, Action.REVIEW, Action.BLOCK}),
    BankKind.BRAND: frozenset({Action.NOTE, Action.REVIEW, Action.BLOCK}),
    BankKind.ALLOWED: frozenset({Action.ALLOW}),
}
_UNDECIDED_ACTIONS = frozenset({Action.ALLOW, Action.REVIEW, Action.BLOCK})
# What a threshold may be, by signal; digests are equal or not. An embedding's score is a similarity, or for logos a
# number of standard deviations.
_DIGEST_RANGE = (0.0, 0.0)
_RANGES: Mapping[SignalType, tuple[float, float]] = {
    SignalType.SHA256: _DIGEST_RANGE,
    SignalType.SHA1: _DIGEST_RANGE,
    SignalType.MD5: _DIGEST_RANGE,
    SignalType.PDQ: (0.0, 256.0),
    SignalType.EMBEDDING: (-1.0, 1.0),
    SignalType.LOCAL: (0.0, 1_000.0),
    SignalType.COMBINED: (0.0, 1.0),
}
_LOGO_SCORES = (-100.0, 100.0)


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


def policy_of(field: str, bank_kind: BankKind, message: types.Policy) -> Policy:
    """A complete policy from what the owner set."""
    action = None
    if message.action != types.ACTION_UNSPECIFIED:
        action = policy_action(f"{field}.action", bank_kind, message.action)
    return policy.complete(bank_kind, action, thresholds_of(f"{field}.thresholds", bank_kind, message.thresholds))


def policy_action(field: str, bank_kind: BankKind, value: types.Action.ValueType) -> Action:
    """An action that a bank of this kind may have."""
    action = ACTION_OF.get(value)
    allowed = _POLICY_ACTIONS[bank_kind]
    if action is None or action not in allowed:
        names_ = ", ".join(sorted(one.name for one in allowed))
        raise InvalidField(field, f"is {value}; a bank of kind {bank_kind.value.upper()} takes {names_}")
    return action


def thresholds_of(
    field: str, bank_kind: BankKind, messages: Iterable[types.SignalThreshold]
) -> dict[SignalType, Threshold]:
    """The thresholds that are named, each checked for its range."""
    found: dict[SignalType, Threshold] = {}
    for place, message in enumerate(messages):
        where = f"{field}[{place}]"
        signal = SIGNAL_OF.get(message.signal)
        if signal is None or signal not in _RANGES:
            known = ", ".join(one.value.upper() for one in _RANGES)
            raise InvalidField(f"{where}.signal", f"is {message.signal}; send one of {known}")
        if signal in found:
            raise InvalidField(f"{where}.signal", f"names {signal.value.upper()} twice")
        logo = bank_kind is BankKind.BRAND and signal is SignalType.EMBEDDING
        low, high = _LOGO_SCORES if logo else _RANGES[signal]
        if not low <= message.threshold <= high:
            raise InvalidField(
                f"{where}.threshold",
                f"is {message.threshold:g}; {signal.value.upper()} takes {low:g} to {high:g} in a bank of kind "
                f"{bank_kind.value.upper()}",
            )
        found[signal] = Threshold(message.threshold, message.disabled)
    return found


def bank(value: Bank) -> types.Bank:
    """A bank as a message."""
    thresholds = [
        types.SignalThreshold(signal=SIGNAL[signal], threshold=threshold.value, disabled=threshold.disabled)
        for signal, threshold in value.policy.thresholds.items()
    ]
    return types.Bank(
        name=value.name,
        kind=KIND[value.kind],
        display_name=value.display_name,
        policy=types.Policy(action=ACTION[value.policy.action], thresholds=thresholds),
        enabled=value.enabled,
        labels=value.labels,
        keep_images=value.keep_images,
        entry_count=value.entry_count,
        create_time=stamp(value.create_time),
        update_time=stamp(value.update_time),
    )


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
    )


def said(message: types.Entry, *, brand: str = "") -> NewEntry:
    """What an owner says of an entry to be made."""
    return NewEntry(
        external_id=names.text("entry.external_id", message.external_id),
        labels=names.labels("entry.labels", message.labels),
        metadata=names.pairs("entry.metadata", message.metadata),
        source=names.text("entry.source", message.source),
        brand=names.text("brand", brand),
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
