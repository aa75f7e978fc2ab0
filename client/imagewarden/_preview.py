"""Trying a policy on the pictures that were checked lately: the call, and its answer as frozen dataclasses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from imagewarden import _convert as convert
from imagewarden import _types as t
from imagewarden._calls import Call
from imagewarden._changes import SERVICE
from imagewarden._enums import SignalType
from imagewarden._errors import InvalidRequest
from imagewarden._names import bank_name, entry_name
from imagewarden._sources import ImageSource, needs_reading, read_image
from imagewarden.v1 import bank_service_pb2 as pb


@dataclass(frozen=True, slots=True)
class NearPicture:
    """One picture that was checked; `entry` is what it is nearest to, empty for a candidate that is not there yet."""

    sha256: str
    value: float
    entry: str
    time: datetime


@dataclass(frozen=True, slots=True)
class HistogramBar:
    """So many pictures have a value from `begin` on, to `end`."""

    begin: float
    end: float
    pictures: int


@dataclass(frozen=True, slots=True)
class SignalPreview:
    """What one signal would have matched.

    Attributes:
        threshold: the one that was tried.
        threshold_in_force: the bank's own.
        compared: how many pictures something was kept of for it.
        matching: how many of them match at the threshold that was tried.
        matching_in_force: how many at the bank's own.
        nearest: the nearest to matching first.
        histogram: by growing values; what was found nowhere near is in the furthest bar.
    """

    signal: SignalType
    threshold: float
    threshold_in_force: float
    compared: int
    matching: int
    matching_in_force: int
    nearest: tuple[NearPicture, ...]
    histogram: tuple[HistogramBar, ...]


@dataclass(frozen=True, slots=True)
class PolicyPreview:
    """What a policy would have matched among the pictures that were checked lately.

    Attributes:
        pictures: how many different ones the server has kept something of.
        compared: of how many it was compared: all, unless the call's time was up; the newest first.
        oldest_time: of the compared ones; None: there are none.
        matching: how many match with the thresholds that were tried, by any signal.
        matching_in_force: how many with the bank's own.
        without_digests: how many may be known by SHA-1 or MD5, which no check has computed of them.
    """

    pictures: int
    compared: int
    oldest_time: datetime | None
    newest_time: datetime | None
    matching: int
    matching_in_force: int
    signals: tuple[SignalPreview, ...]
    without_digests: int = 0


def preview_policy(
    bank: str,
    thresholds: Sequence[t.Threshold] = (),
    *,
    entry: str | None = None,
    hash: t.Hash | str | None = None,  # noqa: A002 -- the API's word
    image: ImageSource | None = None,
    max_nearest: int = 0,
    timeout: float | None = None,
) -> Call[PolicyPreview]:
    """Try thresholds, or an entry that is not there yet, on the pictures that were checked lately. It changes nothing.

    Args:
        bank: `x` or `banks/x`.
        thresholds: those to try, of PDQ, EMBEDDING, LOCAL or COMBINED; the others are the bank's.
        entry: an entry of the bank, alone, in the place of all.
        hash: a hash that is not there yet, alone.
        image: a picture that is not there yet, alone: bytes, a path, or a file opened for reading bytes.
        max_nearest: how many of the nearest pictures to answer for each signal, 1 to 100; 0: 10.
        timeout: seconds, retries included; None: the client's.
    """
    if sum(one is not None for one in (entry, hash, image)) > 1:
        raise InvalidRequest("candidate: give one of entry, hash and image", field="candidate")

    def build() -> pb.PreviewPolicyRequest:
        request = pb.PreviewPolicyRequest(
            bank=bank_name(bank, field="bank"),
            thresholds=convert.policy(t.Policy(None, tuple(thresholds))).thresholds,
            max_nearest=max_nearest,
        )
        if entry is not None:
            request.entry = entry_name(entry, field="entry")
        elif hash is not None:
            request.hash.CopyFrom(convert.hash_to_add(hash, "hash"))
        elif image is not None:
            request.image = read_image(image)
        return request

    blocking = image is not None and needs_reading(image)
    return Call(f"{SERVICE}PreviewPolicy", build, pb.PreviewPolicyResponse, _preview, timeout, blocking)


def _preview(message: pb.PreviewPolicyResponse) -> PolicyPreview:
    return PolicyPreview(
        pictures=message.pictures,
        compared=message.compared,
        oldest_time=message.oldest_time.ToDatetime(tzinfo=UTC) if message.HasField("oldest_time") else None,
        newest_time=message.newest_time.ToDatetime(tzinfo=UTC) if message.HasField("newest_time") else None,
        matching=message.matching,
        matching_in_force=message.matching_in_force,
        signals=tuple(_signal(one) for one in message.signals),
        without_digests=message.without_digests,
    )


def _signal(message: pb.SignalPreview) -> SignalPreview:
    return SignalPreview(
        signal=convert.signal_type(message.signal),
        threshold=message.threshold,
        threshold_in_force=message.threshold_in_force,
        compared=message.compared,
        matching=message.matching,
        matching_in_force=message.matching_in_force,
        nearest=tuple(
            NearPicture(one.sha256, one.value, one.entry, one.time.ToDatetime(tzinfo=UTC)) for one in message.nearest
        ),
        histogram=tuple(HistogramBar(one.begin, one.end, one.pictures) for one in message.histogram),
    )
