"""Saying what was found of a match."""

from __future__ import annotations

from imagewarden import _convert as convert
from imagewarden import _enums as e
from imagewarden import _types as t
from imagewarden._calls import Call
from imagewarden._changes import change, entry_change
from imagewarden._names import entry_name
from imagewarden.v1 import moderation_service_pb2 as pb

_SERVICE = "/imagewarden.v1.ModerationService/"


def report_match(
    entry: str,
    sha256: str,
    opinion: e.Opinion | str,
    note: str = "",
    *,
    request_id: str | None = None,
    timeout: float | None = None,
) -> Call[t.EntryChange]:
    """Say what was found of a match; answers the entry with its reports counted.

    One report is kept for an entry, a picture and a reporter: a later one takes the place of the earlier.

    Args:
        entry: the one that matched, as `x/y` or `banks/x/entries/y`.
        sha256: of the checked picture: `result.image.sha256`.
        opinion: CONFIRMED: the picture is what the entry stands for; FALSE_POSITIVE: it is not; DISPUTED: somebody says
            that it is not, and that is not settled.
        note: why, for people: at most 1,000 characters.
        request_id: a UUID4 of an earlier try whose answer was lost; None: a new one.
        timeout: seconds, retries included; None: the client's.
    """
    return change(
        "ReportMatch",
        lambda chosen: pb.ReportMatchRequest(
            entry=entry_name(entry, field="entry"),
            sha256=sha256,
            opinion=convert.opinion_number(opinion),
            note=note,
            request_id=chosen,
        ),
        pb.ReportMatchResponse,
        entry_change,
        request_id,
        timeout,
        service=_SERVICE,
    )
