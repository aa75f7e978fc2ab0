"""Counting and reading reports of matches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, func, select

from imagewarden_server.catalog.rows import moment
from imagewarden_server.catalog.tables import match_reports
from imagewarden_server.matching.opinions import Feedback, Opinion, Report

REPORTS_SHOWN = 20
_FIELDS = {
    Opinion.CONFIRMED: "confirmed",
    Opinion.FALSE_POSITIVE: "false_positives",
    Opinion.DISPUTED: "disputed",
}


def feedback_by(connection: Connection, column: Any, keys: Sequence[int]) -> dict[int, Feedback]:
    """How many pictures people reported with each opinion, by a column of reports; keys without any are left out.

    A picture of an entry counts once for an opinion, whoever and however many have it; where they disagree, once for
    each of theirs.
    """
    of = match_reports.c
    pictures = select(column.label("key"), of.opinion, func.count(of.sha256.distinct()).label("pictures"))
    each = pictures.where(column.in_(keys)).group_by(column, of.opinion, of.entry_key).subquery()
    total = func.sum(each.c.pictures).label("pictures")
    counted = select(each.c.key, each.c.opinion, total).group_by(each.c.key, each.c.opinion)
    found: dict[int, dict[str, int]] = {}
    for row in connection.execute(counted):
        found.setdefault(row.key, {})[_FIELDS[Opinion(row.opinion)]] = row.pictures
    return {key: Feedback(**counts) for key, counts in found.items()}


def newest_reports(connection: Connection, entry_key: int) -> tuple[Report, ...]:
    """The newest reports of an entry's matches, the newest first."""
    query = select(match_reports).where(match_reports.c.entry_key == entry_key)
    newest = query.order_by(match_reports.c.time.desc(), match_reports.c.key.desc()).limit(REPORTS_SHOWN)
    return tuple(
        Report(row.sha256, Opinion(row.opinion), row.note, row.reporter, moment(row.time))
        for row in connection.execute(newest)
    )
