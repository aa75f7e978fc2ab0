"""Between previews of policies and the API's messages."""

from __future__ import annotations

from collections.abc import Sequence

from imagewarden.v1 import bank_service_pb2 as pb
from imagewarden_server.api import convert, names, policies
from imagewarden_server.matching.errors import InvalidField
from imagewarden_server.matching.hashes import check_hash
from imagewarden_server.matching.preview import NearPicture, Preview, SignalPreview, Tried
from imagewarden_server.matching.types import Bank, NewEntry

_MAX_NEAREST = 100


def tried(bank: Bank, request: pb.PreviewPolicyRequest, *, everything: bool, deadline: float) -> Tried:
    """What a request tries."""
    kind = request.WhichOneof("candidate")
    entry = None
    if kind == "entry":
        of, entry = names.entry_ids("entry", request.entry)
        if of != bank.id:
            raise InvalidField("entry", f"{request.entry[:120]!r} is none of {bank.name}")
    if not 0 <= request.max_nearest <= _MAX_NEAREST:
        raise InvalidField("max_nearest", f"is {request.max_nearest}; send 1 to {_MAX_NEAREST}, or 0 for 10")
    return Tried(
        thresholds=policies.thresholds_of("thresholds", bank.kind, request.thresholds),
        entry=entry,
        new=_new(bank, request.hash) if kind == "hash" else None,
        image=request.image if kind == "image" else None,
        nearest=request.max_nearest or 10,
        everything=everything,
        deadline=deadline,
    )


def _new(bank: Bank, message: pb.HashToAdd) -> NewEntry:
    entry = convert.hash_entry("hash", message)
    check_hash(bank, "hash", entry.hashes[0])
    return entry


def response(value: Preview) -> pb.PreviewPolicyResponse:
    """What a policy would have matched, as a message."""
    oldest, newest = value.span or (None, None)
    return pb.PreviewPolicyResponse(
        pictures=value.pictures,
        compared=value.compared,
        oldest_time=convert.stamp(oldest),
        newest_time=convert.stamp(newest),
        matching=value.matching,
        matching_in_force=value.matching_in_force,
        without_digests=value.without_digests,
        signals=[_signal(one) for one in value.signals],
    )


def _signal(value: SignalPreview) -> pb.SignalPreview:
    return pb.SignalPreview(
        signal=convert.SIGNAL[value.signal],
        threshold=value.threshold.value,
        threshold_in_force=value.in_force.value,
        compared=value.compared,
        matching=value.matching,
        matching_in_force=value.matching_in_force,
        nearest=_nearest(value.nearest),
        histogram=[pb.HistogramBar(begin=begin, end=end, pictures=count) for begin, end, count in value.bars],
    )


def _nearest(pictures: Sequence[NearPicture]) -> list[pb.NearPicture]:
    return [
        pb.NearPicture(sha256=one.sha256.hex(), value=one.value, entry=one.entry, time=convert.stamp(one.time))
        for one in pictures
    ]
