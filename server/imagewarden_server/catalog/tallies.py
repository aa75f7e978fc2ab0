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
    """How many reports there are of each opinion, by a column of theirs; keys without any are left out."""
    counted = select(column.label("key"), match_reports.c.opinion, func.count().label("reports"))
    rows = connection.execute(counted.where(column.in_(keys)).group_by(column, match_reports.c.opinion))
    found: dict[int, dict[str, int]] = {}
    for row in rows:
        found.setdefault(row.key, {})[_FIELDS[Opinion(row.opinion)]] = row.reports
    return {key: Feedback(**counts) for key, counts in found.items()}


def newest_reports(connection: Connection, entry_key: int) -> tuple[Report, ...]:
    """The newest reports of an entry's matches, the newest first."""
    query = select(match_reports).where(match_reports.c.entry_key == entry_key)
    newest = query.order_by(match_reports.c.time.desc(), match_reports.c.key.desc()).limit(REPORTS_SHOWN)
    return tuple(
        Report(row.sha256, Opinion(row.opinion), row.note, row.reporter, moment(row.time))
        for row in connection.execute(newest)
    )
