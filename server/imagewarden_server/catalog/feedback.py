"""What people reported of matches, rows beside the entries that are counted when somebody asks; and quarantine."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from imagewarden_server.catalog.audit import Note, entry_said
from imagewarden_server.catalog.entries import bank_row, entries_with_signals, entry_row, recall_entry
from imagewarden_server.catalog.rows import bank_of, moment, quarantine_columns
from imagewarden_server.catalog.tables import banks, entries, match_reports
from imagewarden_server.catalog.tallies import feedback_by
from imagewarden_server.catalog.transactions import Done, Ledger
from imagewarden_server.matching import actor
from imagewarden_server.matching.opinions import NO_FEEDBACK, Opinion, Quarantine, QuarantineReason
from imagewarden_server.matching.patches import EntryPatch
from imagewarden_server.matching.ports import Idempotency, Written
from imagewarden_server.matching.quarantine import Reason
from imagewarden_server.matching.types import Bank, Entry


class SqlReports:
    """Implements `feedback.ReportStore` and `quarantine.QuarantineStore`."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def report(
        self, bank_id: str, entry_id: str, sha256: bytes, opinion: Opinion, note: str, *, once: Idempotency | None
    ) -> Written[Entry]:
        """Keep what who acts now found of a picture, in the place of what they found of it before."""

        def work(connection: Connection, now: int) -> Done[Entry]:
            row = entry_row(connection, bank_row(connection, bank_id), entry_id)
            place = {"entry_key": row.key, "sha256": sha256, "reporter": actor.current().name}
            here = [match_reports.c[name] == value for name, value in place.items()]
            before = connection.execute(select(match_reports).where(*here)).one_or_none()
            said = {"opinion": opinion.value, "note": note, "time": now}
            if before is None:
                connection.execute(insert(match_reports).values(**place, bank_key=row.bank_key, **said))
            else:
                connection.execute(update(match_reports).where(*here).values(**said))
            (entry,) = entries_with_signals(connection, bank_id, [row])
            told = None if before is None else _said(sha256, before.opinion, before.note)
            event = Note(entry.name, told, _said(sha256, opinion.value, note))
            return entry, None, [bank_id, entry_id], event

        return self._ledger.change("ReportMatch", once, recall_entry, work)

    def quarantine(
        self, bank_id: str, entry_id: str, why: Quarantine, reason: Reason | None = None
    ) -> Written[Entry] | None:
        """Put an entry under quarantine, as a change of the server's own; None where it is already, or needs not."""

        def work(connection: Connection, now: int) -> Done[Entry]:
            bank = bank_row(connection, bank_id)
            row = entry_row(connection, bank, entry_id)
            if row.quarantine_reason is not None:
                raise _NothingToDo
            (before,) = entries_with_signals(connection, bank_id, [row])
            told = why
            if reason is not None:
                told = dataclasses.replace(why, message=reason(bank_of(bank).policy, before))
                if not told.message:
                    raise _NothingToDo
            values = {**quarantine_columns(told), "update_time": now}
            connection.execute(update(entries).where(entries.c.key == row.key).values(**values))
            (after,) = entries_with_signals(connection, bank_id, [entry_row(connection, bank, entry_id)])
            return after, {}, None, Note(after.name, entry_said(before), entry_said(after))

        with contextlib.suppress(_NothingToDo), actor.as_server():
            return self._ledger.change("QuarantineEntry", None, recall_entry, work)
        return None

    def quarantined(self) -> dict[str, int]:
        """How many entries are quarantined, by bank; banks without any are left out."""
        counted = select(banks.c.id, func.count().label("entries")).join(entries, entries.c.bank_key == banks.c.key)
        query = counted.where(entries.c.quarantine_reason.is_not(None)).group_by(banks.c.id)
        with self._ledger.reading() as connection:
            return {row.id: row.entries for row in connection.execute(query)}


class _NothingToDo(Exception):
    """Nothing is to be done, and nothing is written."""


def quarantine_patch(connection: Connection, row: Any, patch: EntryPatch, now: int) -> dict[str, Any]:
    """The columns that a patch of an entry changes of its quarantine.

    Who releases it forgives what was reported until then: else the next report would put it back.
    """
    if patch.quarantine is not None:
        return quarantine_columns(Quarantine(QuarantineReason.BY_HAND, patch.quarantine, moment(now)))
    if not patch.release or row.quarantine_reason is None:
        return {}
    said = feedback_by(connection, match_reports.c.entry_key, [row.key]).get(row.key, NO_FEEDBACK)
    return {**quarantine_columns(None), "forgiven": max(0, said.false_positives - said.confirmed)}


def banks_with_feedback(connection: Connection, rows: Sequence[Any]) -> list[Bank]:
    """Banks with what people reported of their entries' matches, in the order of the rows."""
    feedback = feedback_by(connection, match_reports.c.bank_key, [row.key for row in rows])
    return [bank_of(row, feedback.get(row.key, NO_FEEDBACK)) for row in rows]


def _said(sha256: bytes, opinion: str, note: str) -> dict[str, str]:
    return {"sha256": sha256.hex(), "opinion": opinion, "note": note}
