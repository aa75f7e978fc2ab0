"""Banks and entries for tests of the domain."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Unpack

from imagewarden_server.matching.policy import Rest, complete
from imagewarden_server.matching.types import (
    Action,
    Bank,
    BankKind,
    Entry,
    EntryState,
    SignalType,
    Threshold,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def bank(
    kind: BankKind = BankKind.BANNED,
    thresholds: Mapping[SignalType, Threshold] | None = None,
    *,
    key: int = 1,
    action: Action | None = None,
    enabled: bool = True,
    **policy: Unpack[Rest],
) -> Bank:
    return Bank(
        key=key,
        id=f"{kind.value}-{key}",
        kind=kind,
        display_name="",
        policy=complete(kind, action, thresholds or {}, **policy),
        enabled=enabled,
        labels={},
        keep_images=False,
        create_time=NOW,
        update_time=NOW,
    )


def entry(of: Bank, key: int = 1, **said: object) -> Entry:
    made = {
        "key": key,
        "id": f"e{key}",
        "bank_id": of.id,
        "external_id": "",
        "labels": (),
        "metadata": {},
        "source": "",
        "brand": "",
        "state": EntryState.ACTIVE,
        "expire_time": None,
        "create_time": NOW,
        "update_time": NOW,
    }
    return Entry(**(made | said))  # type: ignore[arg-type]  # short cut
