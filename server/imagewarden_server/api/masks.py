"""Update masks (AIP-134): which fields of a bank or an entry a request changes."""

from __future__ import annotations

from google.protobuf.field_mask_pb2 import FieldMask

from imagewarden.v1 import types_pb2 as types
from imagewarden_server.api import convert, names
from imagewarden_server.matching import policy
from imagewarden_server.matching.errors import InvalidField
from imagewarden_server.matching.ports import BankPatch, EntryPatch
from imagewarden_server.matching.types import Bank, EntryState

_BANK_FIELDS = frozenset(
    {"display_name", "policy", "policy.action", "policy.thresholds", "enabled", "labels", "keep_images"}
)
_ENTRY_FIELDS = frozenset({"external_id", "labels", "metadata", "source", "brand", "state", "expire_time"})


def _paths(mask: FieldMask, known: frozenset[str]) -> frozenset[str]:
    paths = frozenset(mask.paths)
    if not paths:
        raise InvalidField("update_mask", f"is empty; name the fields to change, of: {', '.join(sorted(known))}")
    unknown = sorted(paths - known)
    if unknown:
        raise InvalidField(
            "update_mask", f"names {unknown[0][:80]!r}, which cannot be changed; of: {', '.join(sorted(known))}"
        )
    return paths


def bank_patch(current: Bank, said: types.Bank, mask: FieldMask) -> BankPatch:
    """What a request changes of a bank; thresholds that are not named fall back to the kind's default."""
    paths = _paths(mask, _BANK_FIELDS)
    new_policy = None
    if "policy" in paths:
        new_policy = convert.policy_of("bank.policy", current.kind, said.policy)
    elif paths & {"policy.action", "policy.thresholds"}:
        action = current.policy.action
        thresholds = dict(current.policy.thresholds)
        if "policy.action" in paths:
            action = convert.policy_action("bank.policy.action", current.kind, said.policy.action)
        if "policy.thresholds" in paths:
            thresholds = convert.thresholds_of("bank.policy.thresholds", current.kind, said.policy.thresholds)
        new_policy = policy.complete(current.kind, action, thresholds)
    return BankPatch(
        display_name=names.text("bank.display_name", said.display_name) if "display_name" in paths else None,
        policy=new_policy,
        enabled=said.enabled if "enabled" in paths else None,
        labels=names.pairs("bank.labels", said.labels) if "labels" in paths else None,
        keep_images=said.keep_images if "keep_images" in paths else None,
    )


def entry_patch(said: types.Entry, mask: FieldMask) -> EntryPatch:
    """What a request changes of an entry."""
    paths = _paths(mask, _ENTRY_FIELDS)
    state = None
    if "state" in paths:
        state = convert.STATE_OF.get(said.state)
        if state not in {EntryState.ACTIVE, EntryState.DISABLED}:
            raise InvalidField("entry.state", "may be set to ACTIVE or DISABLED")
    expire_time = names.time_of("entry.expire_time", said, "expire_time") if "expire_time" in paths else None
    return EntryPatch(
        external_id=names.text("entry.external_id", said.external_id) if "external_id" in paths else None,
        labels=names.labels("entry.labels", said.labels) if "labels" in paths else None,
        metadata=names.pairs("entry.metadata", said.metadata) if "metadata" in paths else None,
        source=names.text("entry.source", said.source) if "source" in paths else None,
        brand=names.text("entry.brand", said.brand) if "brand" in paths else None,
        state=state,
        expire_time=expire_time,
        clear_expire_time="expire_time" in paths and expire_time is None,
    )
