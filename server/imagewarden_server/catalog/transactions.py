"""Transactions of the catalogue: one state for a reader; for each change one revision, and one answer to repeats."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import Connection, func, insert, select
from sqlalchemy import delete as sql_delete

from imagewarden_server.catalog import audit
from imagewarden_server.catalog.engine import Database
from imagewarden_server.catalog.feed import Detail
from imagewarden_server.catalog.rows import micros
from imagewarden_server.catalog.tables import changes, meta, requests
from imagewarden_server.matching.errors import RequestIdReused
from imagewarden_server.matching.ports import Idempotency, Written
from imagewarden_server.matching.revisions import encode_revision

T = TypeVar("T")

Done = tuple[T, Detail | None, Any, audit.Note | None]
"""What a change did: the value to answer; what it means for the index (None: nothing that a check or a listing sees, so
it is no revision); from what a repeat of it is answered; and what is recorded of it (None: nothing was changed)."""

Work = Callable[[Connection, int], Done[T]]
"""A change's work, of the connection and the time."""

_REQUESTS_KEPT = timedelta(hours=24) // timedelta(microseconds=1)


class Ledger:
    """The database's transactions.

    Attributes:
        catalog_id: the catalogue's own identifier, 32 hexadecimal digits.
    """

    def __init__(self, database: Database) -> None:
        self._engine, self._guard = database.engine, database.guard
        with self.reading() as connection:
            self.catalog_id = str(connection.execute(select(meta.c.value).where(meta.c.name == "id")).scalar_one())

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database."""
        with self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[tuple[Connection, int]]:
        """A transaction that writes, and its time in microseconds since 1970; writers come one after the other."""
        with (
            self._guard.changing(),
            self._engine.connect().execution_options(writes=True) as connection,
            connection.begin(),
        ):
            yield connection, micros(datetime.now(UTC))

    def change(
        self, kind: str, once: Idempotency | None, recall: Callable[[Connection, Any], T], work: Work[T]
    ) -> Written[T]:
        """One change: the work, its revision, its event and its record under the request id, all in one transaction.

        Raises:
            RequestIdReused: the request id stands for other content.
        """
        with self.writing() as (connection, now):
            if once is not None:
                row = connection.execute(select(requests).where(requests.c.id == once.request_id)).one_or_none()
                if row is not None and row.content != once.content:
                    raise RequestIdReused(once.request_id)
                if row is not None:
                    return Written(recall(connection, row.result), row.revision, replayed=True)
            value, detail, result, note = work(connection, now)
            revision = last_revision(connection)
            if note is None:
                return Written(value, revision)
            token = ""
            if detail is not None:
                revision += 1
                connection.execute(insert(changes).values(revision=revision, kind=kind, time=now, detail=detail))
                token = encode_revision(self.catalog_id, revision)
            audit.append(connection, self.catalog_id, note, method=kind, now=now, revision=token)
            if once is not None:
                connection.execute(sql_delete(requests).where(requests.c.time < now - _REQUESTS_KEPT))
                connection.execute(
                    insert(requests).values(
                        id=once.request_id, content=once.content, revision=revision, result=result, time=now
                    )
                )
        return Written(value, revision)

    def rehearse(self, work: Work[T]) -> T:
        """What a change would answer: the work is done, and undone."""
        with (
            self._guard.changing(),
            self._engine.connect().execution_options(writes=True) as connection,
            connection.begin() as transaction,
        ):
            value = work(connection, micros(datetime.now(UTC)))[0]
            transaction.rollback()
        return value


def last_revision(connection: Connection) -> int:
    """The number of the last change; 0 for a new catalogue."""
    return int(connection.execute(select(func.coalesce(func.max(changes.c.revision), 0))).scalar_one())
