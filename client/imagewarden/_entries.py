"""The calls of BankService that are of entries that are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask

from imagewarden import _convert as convert
from imagewarden import _enums as e
from imagewarden import _types as t
from imagewarden._calls import Call, Pages
from imagewarden._changes import SERVICE, change, entry_change
from imagewarden._names import bank_name, entry_name
from imagewarden.v1 import bank_service_pb2 as pb
from imagewarden.v1 import types_pb2 as types


def get_entry(name: str, *, timeout: float | None = None) -> Call[t.Entry]:
    """One entry with its signals and thumbnail, by `x/y` or `banks/x/entries/y`."""
    return Call(
        f"{SERVICE}GetEntry",
        lambda: pb.GetEntryRequest(name=entry_name(name)),
        pb.GetEntryResponse,
        lambda answer: convert.entry(answer.entry),
        timeout,
    )


def list_entries(
    bank: str,
    *,
    external_id: str = "",
    label: str = "",
    state: e.EntryState | str | None = None,
    quarantined: bool = False,
    note: str = "",
    source: str = "",
    page_size: int = 0,
    timeout: float | None = None,
) -> Pages[t.Entry]:
    """The entries of a bank, in the order they were made; pages are fetched as they are needed.

    Args:
        bank: `x` or `banks/x`.
        external_id: only entries of this one.
        label: only entries with this one.
        state: only entries in this one.
        quarantined: only entries that are quarantined.
        note: only entries whose note has this in it, whatever its case.
        source: only entries of this one.
        page_size: how many are fetched at once, 1 to 1,000; 0: 100.
        timeout: seconds that each page has; None: the client's.
    """
    return Pages(
        lambda token: Call(
            f"{SERVICE}ListEntries",
            lambda: pb.ListEntriesRequest(
                bank=bank_name(bank, field="bank"),
                page_size=page_size,
                page_token=token,
                external_id=external_id,
                label=label,
                state=types.ENTRY_STATE_UNSPECIFIED if state is None else convert.state_number(state),
                quarantined=quarantined,
                note=note,
                source=source,
            ),
            pb.ListEntriesResponse,
            lambda answer: ([convert.entry(one) for one in answer.entries], answer.next_page_token),
            timeout,
        )
    )


def update_entry(
    name: str,
    *,
    external_id: str | None = None,
    labels: Sequence[str] | None = None,
    metadata: Mapping[str, str] | None = None,
    source: str | None = None,
    brand: str | None = None,
    note: str | None = None,
    state: e.EntryState | str | None = None,
    expire_time: datetime | None = None,
    never_expires: bool = False,
    quarantine: str | None = None,
    release: bool = False,
    request_id: str | None = None,
    timeout: float | None = None,
) -> Call[t.EntryChange]:
    """Change an entry, named `x/y` or `banks/x/entries/y`: what is not None is changed.

    `state` may become ACTIVE or DISABLED; `never_expires` takes the expire_time away; `quarantine` puts it under
    quarantine, and says why, and `release` lifts that.
    """

    def build(chosen: str) -> pb.UpdateEntryRequest:
        fields: dict[str, Any] = {
            "external_id": external_id,
            "labels": labels,
            "metadata": metadata,
            "source": source,
            "brand": brand,
            "note": note,
            "state": None if state is None else convert.state_number(state),
            "expire_time": convert.timestamp(expire_time),
            "quarantine": None if quarantine is None else types.Quarantine(message=quarantine),
        }
        cleared = [path for path, gone in (("expire_time", never_expires), ("quarantine", release)) if gone]
        said = {path: value for path, value in fields.items() if value is not None and path not in cleared}
        return pb.UpdateEntryRequest(
            entry=types.Entry(name=entry_name(name), **said),
            update_mask=FieldMask(paths=[*said, *cleared]),
            request_id=chosen,
        )

    return change("UpdateEntry", build, pb.UpdateEntryResponse, entry_change, request_id, timeout)


def delete_entry(name: str, *, request_id: str | None = None, timeout: float | None = None) -> Call[t.Deletion]:
    """Delete an entry, named `x/y` or `banks/x/entries/y`: from the answer on, no check finds it."""
    return change(
        "DeleteEntry",
        lambda chosen: pb.DeleteEntryRequest(name=entry_name(name), request_id=chosen),
        pb.DeleteEntryResponse,
        lambda answer: t.Deletion(answer.revision),
        request_id,
        timeout,
    )
