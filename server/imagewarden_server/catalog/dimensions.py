"""Which vectors of a list may stand beside those of their model that a bank has."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, func, select

from imagewarden_server.catalog.tables import vectors
from imagewarden_server.matching.lists import ListRecord, RefusedRecord
from imagewarden_server.matching.types import SignalType


def of_the_same(
    connection: Connection, bank_key: int, records: Sequence[ListRecord]
) -> tuple[list[ListRecord], list[RefusedRecord]]:
    """The records whose vectors have as many dimensions as those of their model in the bank; and the others.

    A model has vectors of one number of dimensions: those of another are never compared with them, and checks would be
    undecided for their sake. What a tombstone has is not asked: it brings nothing in.
    """
    known: dict[tuple[SignalType, str], int] = {}
    good: list[ListRecord] = []
    wrong: list[RefusedRecord] = []
    for record in records:
        # Of this record: they count for those after it once it is whole.
        own: dict[tuple[SignalType, str], int] = {}
        for signal in () if record.removed else record.entry.vectors:
            place, side = (signal.type, signal.model), signal.vectors.shape[1]
            if place not in known and place not in own:
                own[place] = _dimensions(connection, bank_key, *place) or side
            expected = known[place] if place in known else own[place]
            if side != expected:
                told = f"of model {signal.model} have {side} dimensions, and the bank's have {expected}"
                wrong.append(RefusedRecord(record.number, "vectors", told))
                break
        else:
            known |= own
            good.append(record)
    return good, wrong


def _dimensions(connection: Connection, bank_key: int, type_: SignalType, model: str) -> int:
    """How many dimensions the bank's vectors of a model have; 0: it has none."""
    of_model = select(func.length(vectors.c.data)).where(
        vectors.c.bank_key == bank_key, vectors.c.type == type_.value, vectors.c.model == model
    )
    return int(connection.execute(of_model.limit(1)).scalar() or 0) // 4
