"""Records of lists into a bank: what is new is added, what is there is brought up to date or left, what is gone goes.

A list's tombstones take away what the same source brought, and nothing else: two exchanges may name the same hash, and
each has its own entry of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select, update
from sqlalchemy import delete as sql_delete

from imagewarden_server.catalog import dimensions, feed, hashlines, named
from imagewarden_server.catalog.audit import Note, stamp
from imagewarden_server.catalog.entries import NewRow, insert_entries, insert_signals, kept_of
from imagewarden_server.catalog.export import local_of_entry, vectors_of_entry
from imagewarden_server.catalog.features import encode_features
from imagewarden_server.catalog.rows import micros, new_entry_ids, quarantine_columns, quarantine_of, vector_bytes
from imagewarden_server.catalog.tables import banks, entries, hashes, local_features, vectors
from imagewarden_server.catalog.transactions import Done
from imagewarden_server.matching.lists import Imported, ListRecord, RefusedRecord
from imagewarden_server.matching.types import EntryState, HashSignal, NewEntry, SignalType

_CHUNK = 500
_ACTIVE = EntryState.ACTIVE.value


@dataclasses.dataclass
class _Tally:
    """What was done so far.

    Attributes:
        detail: what it means for the index: whole ranges and single keys that come in, and what goes out.
        before: what entries were that were changed or removed, by their id.
        after: what changed of them.
        brought: the lines of the hashes that came in: see `hashlines`.
        taken: those of the hashes that went.
    """

    added: list[str] = dataclasses.field(default_factory=list)
    updated: int = 0
    unchanged: int = 0
    absent: int = 0
    ranges: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    keys: list[int] = dataclasses.field(default_factory=list)
    out: feed.Detail = dataclasses.field(default_factory=dict)
    before: dict[str, Any] = dataclasses.field(default_factory=dict)
    after: dict[str, Any] = dataclasses.field(default_factory=dict)
    brought: list[str] = dataclasses.field(default_factory=list)
    taken: list[str] = dataclasses.field(default_factory=list)
    removed: int = 0

    def take_out(self, detail: feed.Detail) -> None:
        """Add to what goes out."""
        for name, rows in detail.items():
            self.out.setdefault(name, []).extend(rows)


def bring_in(
    connection: Connection, bank: Any, records: Sequence[ListRecord], refused: Sequence[RefusedRecord], now: int
) -> Done[Imported]:
    """Bring records into a bank in their order, in a transaction that writes.

    Args:
        connection: the transaction's.
        bank: its row.
        records: that the bank takes, but for the number of dimensions of their vectors.
        refused: what was refused before, to be told with the rest.
        now: microseconds since 1970.
    """
    tally = _Tally()
    good, wrong = dimensions.of_the_same(connection, bank.key, records)
    for run in _runs(
        dataclasses.replace(one, entry=kept_of(bank, one.entry)) if one.entry.image else one for one in good
    ):
        if run[0].removed:
            _remove(connection, bank, run, tally)
        else:
            _put(connection, bank, run, now, tally)
    result = Imported(
        added=len(tally.added),
        updated=tally.updated,
        unchanged=tally.unchanged,
        removed=tally.removed,
        absent=tally.absent,
        refused=tuple(sorted((*refused, *wrong), key=lambda one: one.number)),
    )
    detail = feed.several(tally.ranges, tally.keys) | tally.out
    return result, detail, None, _note(bank, result, tally)


def _runs(records: Iterable[ListRecord]) -> Iterator[list[ListRecord]]:
    """Records in their order, those together that can be looked up at once.

    They are all tombstones, or none is; and none has an external_id by which one of them is known and the other, known
    by an id, would be found once it is there.
    """
    run: list[ListRecord] = []
    seen: dict[named.Key, bool] = {}
    for record in records:
        by_id, name = bool(record.id), ("external_id", record.entry.source, record.entry.external_id)
        if run and (record.removed != run[0].removed or (record.entry.external_id and seen.get(name, by_id) != by_id)):
            yield run
            run, seen = [], {}
        run.append(record)
        seen[name] = by_id
    if run:
        yield run


def _note(bank: Any, result: Imported, tally: _Tally) -> Note | None:
    if not (result.added or result.updated or result.removed):
        return None
    said: dict[str, Any] = {name: value for name, value in dataclasses.asdict(result).items() if name != "refused"}
    said["refused"] = len(result.refused)
    if tally.added:
        # Ids of new entries sort by the time they were made; those that a list brings with it do not.
        said |= {"first": min(tally.added), "last": max(tally.added)}
    if tally.after:
        said["changed"] = tally.after
    if tally.brought:
        said |= hashlines.told(sorted(tally.brought))
    before: dict[str, Any] = {"entries": tally.before} if tally.before else {}
    if tally.taken:
        before |= hashlines.told(sorted(tally.taken))
    return Note(f"banks/{bank.id}", before or None, said)


# ------------------------------------------------------------------------------------------------------------ additions


def _put(connection: Connection, bank: Any, records: Sequence[ListRecord], now: int, tally: _Tally) -> None:
    """Add the entries of records that are new, and bring those that are there up to date."""
    last: dict[named.Key, ListRecord] = {}
    for record in records:
        # What comes twice is as it came last, and where it came last.
        known_by = named.key_of(record)
        last.pop(known_by, None)
        last[known_by] = record
    tally.unchanged += len(records) - len(last)
    known = named.there(connection, bank.key, last)
    fresh = [record for key, record in last.items() if key not in known]
    there = [(known[key], record) for key, record in last.items() if key in known]
    # What is known by a hash alone is left as it is: people may have changed what they say of it.
    by_name = [(key, record) for key, record in there if record.id or record.entry.external_id]
    rows = _rows(connection, [key for key, _ in by_name])
    changed = 0
    for key, record in by_name:
        # Where another record named the same entry, by its id or by its external_id, the row is another one by now.
        row = rows.pop(key, None) or _rows(connection, [key])[key]
        changed += _update(connection, row, record, now, tally)
    tally.updated += changed
    tally.unchanged += len(there) - changed
    if fresh:
        new = [_new_row(record, id_, now) for record, id_ in zip(fresh, new_entry_ids(len(fresh)), strict=True)]
        first = insert_entries(connection, bank.key, new, now)
        insert_signals(connection, bank.key, first, [row.entry for row in new])
        tally.added += [row.id for row in new]
        tally.brought += hashlines.lines_of_new(new)
        tally.ranges.append((first, first + len(new) - 1))


def _rows(connection: Connection, keys: Sequence[int]) -> dict[int, Any]:
    found: dict[int, Any] = {}
    for begin in range(0, len(keys), _CHUNK):
        rows = connection.execute(select(entries).where(entries.c.key.in_(keys[begin : begin + _CHUNK])))
        found |= {row.key: row for row in rows}
    return found


def _new_row(record: ListRecord, id_: str, now: int) -> NewRow:
    expire_time = record.entry.expire_time
    state = record.state or EntryState.ACTIVE
    if state is EntryState.ACTIVE and expire_time is not None and micros(expire_time) <= now:
        state = EntryState.EXPIRED
    made = None if record.create_time is None else micros(record.create_time)
    return NewRow(record.id or id_, record.entry, state, made, record.quarantine)


# -------------------------------------------------------------------------------------------------------------- updates


def _update(connection: Connection, row: Any, record: ListRecord, now: int, tally: _Tally) -> bool:
    """Bring an entry up to date; whether there was anything to change."""
    values = _facts(row, record)
    tables = _signals_that_differ(connection, row, record.entry)
    state = _state(row, values, record, now)
    if state.value != row.state:
        values["state"] = state.value
    if not (values or tables):
        return False
    was_active, is_active = row.state == _ACTIVE, state is EntryState.ACTIVE
    if was_active and (tables or not is_active):
        tally.take_out(feed.removed(connection, [row.key]))
    if is_active and (tables or not was_active):
        tally.keys.append(row.key)
    before, after = _told(row, values)
    if hashes in tables:
        there = _hashes(connection, row.key)
        before["signals"], after["signals"] = _written(there), _written(record.entry.hashes)
        tally.taken += hashlines.lines_of(row.id, there)
        tally.brought += hashlines.lines_of(row.id, record.entry.hashes)
    after |= {table.name: "replaced" for table in tables if table is not hashes}
    for table in tables:
        connection.execute(sql_delete(table).where(table.c.entry_key == row.key))
    entry = record.entry
    insert_signals(
        connection,
        row.bank_key,
        row.key,
        [
            NewEntry(
                hashes=entry.hashes if hashes in tables else (),
                vectors=entry.vectors if vectors in tables else (),
                local=entry.local if local_features in tables else (),
            )
        ],
    )
    connection.execute(update(entries).where(entries.c.key == row.key).values(**values, update_time=now))
    tally.before[row.id] = before | tally.before.get(row.id, {})
    tally.after[row.id] = tally.after.get(row.id, {}) | after
    return True


def _facts(row: Any, record: ListRecord) -> dict[str, Any]:
    """The columns that the record says otherwise; what it does not say stays."""
    entry = record.entry
    said: dict[str, Any] = {
        "external_id": entry.external_id,
        "source": entry.source,
        "brand": entry.brand,
        "note": entry.note,
        "labels": list(entry.labels),
        "metadata": dict(entry.metadata),
        "expire_time": None if entry.expire_time is None else micros(entry.expire_time),
        "create_time": None if record.create_time is None else micros(record.create_time),
        "thumbnail": entry.thumbnail,
        "image": entry.image,
    }
    facts = {name: value for name, value in said.items() if value and value != getattr(row, name)}
    held = record.quarantine
    return facts if held is None or held == quarantine_of(row) else facts | quarantine_columns(held)


def _signals_that_differ(connection: Connection, row: Any, entry: NewEntry) -> list[Any]:
    """The tables whose rows of the entry are not as the record says; kinds that it does not have stay."""
    found: list[Any] = []
    if entry.hashes and sorted(_written(entry.hashes)) != sorted(_written(_hashes(connection, row.key))):
        found.append(hashes)
    if entry.vectors:
        there = [
            (one.type, one.model, vector_bytes(one.vectors), one.mean, one.deviation)
            for one in vectors_of_entry(connection, row.key)
        ]
        said = [(one.type, one.model, vector_bytes(one.vectors), one.mean, one.deviation) for one in entry.vectors]
        if there != said:
            found.append(vectors)
    if entry.local:
        kept = [(one.extractor, encode_features(one.features)) for one in local_of_entry(connection, row.key)]
        if kept != [(one.extractor, encode_features(one.features)) for one in entry.local]:
            found.append(local_features)
    return found


def _state(row: Any, values: Mapping[str, Any], record: ListRecord, now: int) -> EntryState:
    state = record.state or EntryState(row.state)
    expire_time = values.get("expire_time", row.expire_time)
    passed = expire_time is not None and expire_time <= now
    if state is EntryState.DISABLED:
        return state
    return EntryState.EXPIRED if passed else EntryState.ACTIVE


def _told(row: Any, values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What changed, as an event has it: before and after."""

    def shown(name: str, value: Any) -> Any:
        if isinstance(value, bytes):
            return f"{len(value)} bytes"
        return stamp(value) if name.endswith("_time") and value is not None else value

    return (
        {name: shown(name, getattr(row, name)) for name in values},
        {name: shown(name, value) for name, value in values.items()},
    )


def _hashes(connection: Connection, key: int) -> list[HashSignal]:
    rows = connection.execute(select(hashes.c.type, hashes.c.value).where(hashes.c.entry_key == key))
    return [HashSignal(SignalType(row.type), row.value) for row in rows]


def _written(signals: Iterable[HashSignal]) -> list[str]:
    return [f"{signal.type.value} {signal.value.hex()}" for signal in signals]


# ------------------------------------------------------------------------------------------------------------- removals


def _remove(connection: Connection, bank: Any, records: Sequence[ListRecord], tally: _Tally) -> None:
    """Take out the entries that tombstones name."""
    found: dict[int, None] = {}
    for record in records:
        before = len(found)
        found |= dict.fromkeys(named.of_tombstone(connection, bank.key, record))
        if len(found) == before:
            tally.absent += 1
    if not found:
        return
    keys = list(found)
    tally.removed += len(keys)
    tally.take_out(feed.removed(connection, keys))
    for row in _rows(connection, keys).values():
        tally.before[row.id] = {"external_id": row.external_id, "source": row.source, "signals": []}
    for begin in range(0, len(keys), _CHUNK):
        some = keys[begin : begin + _CHUNK]
        of_entry = select(entries.c.id, hashes.c.type, hashes.c.value).join(
            hashes, hashes.c.entry_key == entries.c.key, isouter=True
        )
        for row in connection.execute(of_entry.where(entries.c.key.in_(some))):
            if row.value is not None:
                tally.before[row.id]["signals"].append(f"{row.type} {row.value.hex()}")
            tally.taken.append(hashlines.line(*row))
        connection.execute(sql_delete(entries).where(entries.c.key.in_(some)))
    connection.execute(update(banks).where(banks.c.key == bank.key).values(entry_count=banks.c.entry_count - len(keys)))
