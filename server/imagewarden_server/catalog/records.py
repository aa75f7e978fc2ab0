"""Keys and audit events over SQL, beside the catalogue's own tables and in its transactions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from imagewarden_server.access.keys import Key, NewKey
from imagewarden_server.access.roles import Role
from imagewarden_server.catalog import audit
from imagewarden_server.catalog.errors import CatalogError, KeyNotFound
from imagewarden_server.catalog.rows import micros, moment
from imagewarden_server.catalog.tables import access_keys
from imagewarden_server.catalog.transactions import Ledger
from imagewarden_server.matching.actor import Actor
from imagewarden_server.matching.audit import AuditEvent, AuditPart, AuditQuery
from imagewarden_server.matching.ports import Page
from imagewarden_server.matching.visible import Banks


class SqlAuditLog:
    """Implements `ports.AuditLog`."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def refused(self, refusals: Sequence[tuple[Actor, str, str, int]]) -> None:
        """Add events of refusals, in one transaction."""
        with self._ledger.writing() as (connection, now):
            for who, resource, reason, count in refusals:
                note = audit.Note(resource)
                audit.append(
                    connection,
                    self._ledger.catalog_id,
                    note,
                    method=who.method,
                    now=now,
                    outcome=reason,
                    by=who,
                    count=count,
                )

    def restored(self, before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> None:
        """Add the event that a copy took the catalogue's place: what was there, as far as it is known, and the copy."""
        with self._ledger.writing() as (connection, now):
            audit.append(connection, self._ledger.catalog_id, audit.Note("", before, after), method="Restore", now=now)

    def events(self, query: AuditQuery) -> Page[AuditEvent]:
        """A page of events."""
        with self._ledger.reading() as connection:
            return audit.events(connection, self._ledger.catalog_id, query)

    def part(self, sequence: int, begin: int, banks: Banks) -> AuditPart | None:
        """A part of an event's `before` and then of its `after`."""
        with self._ledger.reading() as connection:
            return audit.part(connection, sequence, begin, banks)

    def head(self) -> tuple[int, str]:
        """The last event's number and its hash."""
        with self._ledger.reading() as connection:
            return audit.head(connection)


class SqlKeys:
    """Keys, of which only digests are kept; making and revoking them are events."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def all_keys(self) -> list[Key]:
        """All keys in the order they were made."""
        with self._ledger.reading() as connection:
            rows = connection.execute(select(access_keys).order_by(access_keys.c.create_time, access_keys.c.id))
            return [_key(row) for row in rows]

    def add_key(self, id_: str, new: NewKey, digest: bytes) -> Key:
        """Keep a new key; `digest` is empty for a certificate.

        Raises:
            CatalogError: a good key has that certificate.
        """
        with self._ledger.writing() as (connection, now):
            if new.certificate is not None:
                _refuse_second(connection, new.certificate, now)
            connection.execute(
                insert(access_keys).values(
                    id=id_,
                    name=new.name,
                    role=new.role.value,
                    banks=list(new.banks.patterns),
                    digest=digest,
                    certificate=new.certificate,
                    calls_per_second=new.calls_per_second,
                    concurrent_calls=new.concurrent_calls,
                    create_time=now,
                    expire_time=_micros(new.expire_time),
                )
            )
            note = audit.Note(f"keys/{id_}", None, _said(new))
            audit.append(connection, self._ledger.catalog_id, note, method="CreateKey", now=now)
            return _key(connection.execute(select(access_keys).where(access_keys.c.id == id_)).one())

    def revoke_key(self, id_: str) -> Key:
        """Revoke a key; one that is revoked already stays so.

        Raises:
            KeyNotFound: no such key.
        """
        with self._ledger.writing() as (connection, now):
            query = select(access_keys).where(access_keys.c.id == id_)
            row = connection.execute(query).one_or_none()
            if row is None:
                raise KeyNotFound(id_)
            if row.revoke_time is not None:
                return _key(row)
            connection.execute(update(access_keys).where(access_keys.c.id == id_).values(revoke_time=now))
            key = _key(connection.execute(query).one())
            note = audit.Note(f"keys/{id_}", _said(key.new), None)
            audit.append(connection, self._ledger.catalog_id, note, method="RevokeKey", now=now)
            return key


def _refuse_second(connection: Connection, certificate: str, now: int) -> None:
    """A certificate stands for one key: or the older would be in force again when the newer one ends."""
    good = (access_keys.c.revoke_time.is_(None)) & (
        access_keys.c.expire_time.is_(None) | (access_keys.c.expire_time > now)
    )
    row = connection.execute(select(access_keys.c.id).where(access_keys.c.certificate == certificate, good)).first()
    if row is not None:
        raise CatalogError(f"{certificate!r} stands for key {row.id} already; revoke that first")


def _key(row: Any) -> Key:
    new = NewKey(
        name=row.name,
        role=Role(row.role),
        banks=Banks(tuple(row.banks)),
        certificate=row.certificate,
        calls_per_second=row.calls_per_second,
        concurrent_calls=row.concurrent_calls,
        expire_time=_moment(row.expire_time),
    )
    return Key(row.id, new, row.digest, moment(row.create_time), _moment(row.revoke_time))


def _said(new: NewKey) -> dict[str, Any]:
    """A key, for an event: what it may, and nothing of the secret."""
    said = dataclasses.asdict(new)
    expires = None if new.expire_time is None else audit.stamp(micros(new.expire_time))
    return said | {"banks": list(new.banks.patterns), "expire_time": expires}


def _micros(time: datetime | None) -> int | None:
    return None if time is None else micros(time)


def _moment(time: int | None) -> datetime | None:
    return None if time is None else moment(time)
