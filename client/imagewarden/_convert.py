"""Between the API's messages and the client's types."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from imagewarden import _enums as e
from imagewarden import _opinions as o
from imagewarden import _types as t
from imagewarden._errors import InvalidRequest
from imagewarden.v1 import bank_service_pb2 as banks_pb
from imagewarden.v1 import moderation_service_pb2 as pb
from imagewarden.v1 import types_pb2 as types

E = TypeVar("E", bound=enum.StrEnum)


def _word(enumeration: type[E], wrapper: Any, prefix: str, value: int, unknown: E | None = None) -> E:
    """The client's word for an enum's number; a newer server's number is `unknown`, where there is such a word."""
    try:
        return enumeration(wrapper.Name(value).removeprefix(prefix).lower())
    except ValueError:
        if unknown is None:
            raise ValueError(f"{value} is no {enumeration.__name__} that this client knows; upgrade it") from None
        return unknown


def _number(enumeration: type[E], wrapper: Any, prefix: str, word: str) -> Any:
    """The number of a word of a request.

    Raises:
        InvalidRequest: there is no such word.
    """
    words = [one.value for one in enumeration if one.value != "unknown"]
    if word not in words:
        raise InvalidRequest(
            f"{word!r} is no {enumeration.__name__}; it is one of {', '.join(words)}", field=enumeration.__name__
        )
    return wrapper.Value(prefix + str(word).upper())


def action_number(word: e.Action | str) -> Any:
    """An action's number."""
    return _number(e.Action, types.Action, "ACTION_", word)


def kind_number(word: e.BankKind | str) -> Any:
    """A bank kind's number."""
    return _number(e.BankKind, types.BankKind, "BANK_KIND_", word)


def signal_number(word: e.SignalType | str) -> Any:
    """A signal's number."""
    return _number(e.SignalType, types.SignalType, "SIGNAL_TYPE_", word)


def state_number(word: e.EntryState | str) -> Any:
    """An entry state's number."""
    return _number(e.EntryState, types.EntryState, "ENTRY_STATE_", word)


def quarantine_number(word: e.QuarantineReason | str) -> Any:
    """The number of a reason for quarantine."""
    return _number(e.QuarantineReason, types.QuarantineReason, "QUARANTINE_REASON_", word)


def opinion_number(word: e.Opinion | str) -> Any:
    """An opinion's number."""
    return _number(e.Opinion, types.Opinion, "OPINION_", word)


def metric_number(word: e.Metric | str) -> Any:
    """A metric's number."""
    return _number(e.Metric, pb.DistanceMetric, "DISTANCE_METRIC_", word)


def _action(value: int) -> e.Action:
    # What to do is not a word to guess: an unknown action is an error of the answer.
    return _word(e.Action, types.Action, "ACTION_", value)


def signal_type(value: int) -> e.SignalType:
    """A signal of an answer."""
    return _word(e.SignalType, types.SignalType, "SIGNAL_TYPE_", value, e.SignalType.UNKNOWN)


def _kind(value: int) -> e.BankKind:
    return _word(e.BankKind, types.BankKind, "BANK_KIND_", value, e.BankKind.UNKNOWN)


def timestamp(value: datetime | None) -> Timestamp | None:
    """A time as a message; one without a zone is the machine's own."""
    if value is None:
        return None
    message = Timestamp()
    message.FromDatetime(value.astimezone(UTC))
    return message


def time_of(message: Any, name: str) -> datetime | None:
    """A time of a message; None: it is not set."""
    return getattr(message, name).ToDatetime(tzinfo=UTC) if message.HasField(name) else None


def _match(message: types.Match) -> t.Match:
    box = message.region
    region = t.BoundingBox(box.left, box.top, box.right, box.bottom) if message.HasField("region") else None
    transform = None
    if message.HasField("transform"):
        transform = t.Transform(tuple(message.transform.coefficients), message.transform.mirrored)
    return t.Match(
        entry=message.entry,
        bank=message.bank,
        bank_kind=_kind(message.bank_kind),
        signal=signal_type(message.signal),
        score=message.score,
        distance=message.distance,
        threshold=message.threshold,
        action=_action(message.action),
        region=region,
        frame=message.frame,
        cleared_by=message.cleared_by,
        external_id=message.external_id,
        brand=message.brand,
        labels=tuple(message.labels),
        evidence=tuple(t.Evidence(signal_type(one.signal), one.value, one.reached) for one in message.evidence),
        transform=transform,
        quarantined=_quarantined(message.quarantined) if message.quarantined else None,
    )


def _image(message: pb.ImageInfo) -> t.ImageInfo:
    return t.ImageInfo(
        format=message.format,
        width=message.width,
        height=message.height,
        frames=message.frames,
        sha256=message.sha256,
        pdq=message.pdq,
        pdq_quality=message.pdq_quality,
    )


def check_result(message: pb.CheckImageResponse) -> t.CheckResult:
    """A verdict."""
    return t.CheckResult(
        verdict=_word(e.Verdict, types.Verdict, "VERDICT_", message.verdict),
        action=_action(message.action),
        matches=tuple(_match(one) for one in message.matches),
        undecided_reasons=tuple(
            t.UndecidedReason(
                _word(e.UndecidedCode, types.UndecidedCode, "UNDECIDED_CODE_", one.code, e.UndecidedCode.UNKNOWN),
                one.message,
                tuple(signal_type(signal) for signal in one.signals),
            )
            for one in message.undecided_reasons
        ),
        revision=message.revision,
        model_version=message.model_version,
        image=_image(message.image),
        timings=tuple(t.StageTiming(one.stage, one.duration.ToTimedelta()) for one in message.timings),
    )


def _policy(message: types.Policy) -> t.Policy:
    thresholds = tuple(t.Threshold(signal_type(one.signal), one.threshold, one.disabled) for one in message.thresholds)
    # A server that does not know these yet asks all pictures, and quarantines nothing.
    return t.Policy(
        _action(message.action),
        thresholds,
        message.enabled_ratio if message.HasField("enabled_ratio") else 1.0,
        message.quarantine_false_positives,
        message.quarantine_flood,
    )


def bank(message: types.Bank) -> t.Bank:
    """A bank."""
    return t.Bank(
        name=message.name,
        kind=_kind(message.kind),
        display_name=message.display_name,
        policy=_policy(message.policy),
        enabled=message.enabled,
        labels=dict(message.labels),
        keep_images=message.keep_images,
        entry_count=message.entry_count,
        create_time=message.create_time.ToDatetime(tzinfo=UTC),
        update_time=message.update_time.ToDatetime(tzinfo=UTC),
        feedback=_feedback(message.feedback),
    )


def _feedback(message: types.Feedback) -> o.Feedback:
    return o.Feedback(message.confirmed, message.false_positives, message.disputed)


def _report(message: types.MatchReport) -> o.MatchReport:
    opinion = _word(e.Opinion, types.Opinion, "OPINION_", message.opinion, e.Opinion.UNKNOWN)
    time = message.time.ToDatetime(tzinfo=UTC)
    return o.MatchReport(message.sha256, opinion, message.note, message.reporter, time)


def _quarantined(value: int) -> e.QuarantineReason:
    return _word(e.QuarantineReason, types.QuarantineReason, "QUARANTINE_REASON_", value, e.QuarantineReason.UNKNOWN)


def quarantine(message: types.Entry | banks_pb.EntryRecord) -> o.Quarantine | None:
    """Why an entry is quarantined, or None."""
    if not message.HasField("quarantine"):
        return None
    said = message.quarantine
    return o.Quarantine(_quarantined(said.reason), said.message, said.time.ToDatetime(tzinfo=UTC))


def entry(message: types.Entry) -> t.Entry:
    """An entry."""
    signals = tuple(
        t.Signal(
            signal_type(one.type),
            one.hex,
            one.quality if one.type == types.SIGNAL_TYPE_PDQ and one.quality >= 0 else None,
            one.model_version,
            one.views,
            one.dimensions,
            one.keypoints,
        )
        for one in message.signals
    )
    state = None
    if message.state != types.ENTRY_STATE_UNSPECIFIED:
        state = _word(e.EntryState, types.EntryState, "ENTRY_STATE_", message.state, e.EntryState.UNKNOWN)
    return t.Entry(
        name=message.name,
        external_id=message.external_id,
        labels=tuple(message.labels),
        metadata=dict(message.metadata),
        source=message.source,
        brand=message.brand,
        state=state,
        expire_time=time_of(message, "expire_time"),
        signals=signals,
        thumbnail=message.thumbnail,
        create_time=time_of(message, "create_time"),
        update_time=time_of(message, "update_time"),
        feedback=_feedback(message.feedback),
        reports=tuple(_report(one) for one in message.reports),
        quarantine=quarantine(message),
        note=message.note,
    )


def search_result(message: pb.SearchSimilarImagesResponse) -> t.SearchResult:
    """Ranked entries."""
    return t.SearchResult(
        tuple(
            t.SimilarImage(one.rank, entry(one.entry), one.bank, one.distance, one.similarity)
            for one in message.results
        ),
        message.revision,
        message.model_version,
        _image(message.image),
    )


def hashes_added(message: banks_pb.AddHashesResponse) -> t.HashesAdded:
    """What became of hashes."""
    results = tuple(t.AddedHash(one.entry, one.duplicate) for one in message.results)
    return t.HashesAdded(results, message.added, message.duplicates, message.revision)


def policy(value: t.Policy) -> types.Policy:
    """A policy as a message."""
    message = types.Policy()
    if value.action is not None:
        message.action = action_number(value.action)
    for one in value.thresholds:
        message.thresholds.add(signal=signal_number(one.signal), threshold=one.value, disabled=one.disabled)
    for name in ("enabled_ratio", "quarantine_false_positives", "quarantine_flood"):
        if getattr(value, name) is not None:
            setattr(message, name, getattr(value, name))
    return message


def hash_to_add(value: t.Hash | str, field: str) -> banks_pb.HashToAdd:
    """A hash as a message.

    Raises:
        InvalidRequest: the text is no hash; the error names the field.
    """
    try:
        one = t.Hash.parse(value) if isinstance(value, str) else value
    except ValueError as error:
        raise InvalidRequest(f"{field}: {error}", field=field) from None
    return banks_pb.HashToAdd(
        type=signal_number(one.type),
        hex=one.hex,
        quality=one.quality,
        external_id=one.external_id,
        labels=one.labels,
        metadata=one.metadata,
        source=one.source,
        expire_time=timestamp(one.expire_time),
        note=one.note,
    )


def said(
    external_id: str,
    labels: Sequence[str],
    metadata: Mapping[str, str] | None,
    source: str,
    expire_time: datetime | None,
    note: str,
) -> types.Entry:
    """What an owner says of an entry."""
    return types.Entry(
        external_id=external_id,
        labels=labels,
        metadata=metadata or {},
        source=source,
        expire_time=timestamp(expire_time),
        note=note,
    )
