"""Update masks (AIP-134): which fields of a bank or an entry a request changes."""

from __future__ import annotations

from dataclasses import fields

from google.protobuf.field_mask_pb2 import FieldMask

from imagewarden.v1 import types_pb2 as types
from imagewarden_server.api import convert, names, policies
from imagewarden_server.matching import policy
from imagewarden_server.matching.errors import InvalidField
from imagewarden_server.matching.patches import BankPatch, EntryPatch, PolicyPatch
from imagewarden_server.matching.types import Bank, BankKind, EntryState

_POLICY_FIELDS = frozenset({"policy.action", "policy.thresholds", *(f"policy.{name}" for name in policies.REST)})
_BANK_FIELDS = _POLICY_FIELDS | {"display_name", "policy", "enabled", "labels", "keep_images"}
_ENTRY_FIELDS = frozenset(
    {"external_id", "labels", "metadata", "source", "brand", "state", "expire_time", "quarantine", "note"}
)


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
    """What a request changes of a bank; thresholds that are not named fall back to the kind's default.

    It has what the mask names and nothing else of the bank: another change may be made meanwhile.
    """
    paths = _paths(mask, _BANK_FIELDS)
    changes_policy = "policy" in paths or bool(paths & _POLICY_FIELDS)
    return BankPatch(
        display_name=names.text("bank.display_name", said.display_name) if "display_name" in paths else None,
        policy=_policy_patch(current.kind, said.policy, paths) if changes_policy else None,
        enabled=said.enabled if "enabled" in paths else None,
        labels=names.pairs("bank.labels", said.labels) if "labels" in paths else None,
        keep_images=said.keep_images if "keep_images" in paths else None,
    )


def _policy_patch(kind: BankKind, said: types.Policy, paths: frozenset[str]) -> PolicyPatch:
    """The fields of the policy that the mask names; what the request leaves out of them falls back to the default."""
    if "policy" in paths:
        whole = policies.policy_of("bank.policy", kind, said)
        return PolicyPatch(**{field.name: getattr(whole, field.name) for field in fields(whole)})
    action = thresholds = None
    if "policy.action" in paths:
        action = policies.policy_action("bank.policy.action", kind, said.action)
    if "policy.thresholds" in paths:
        named = policies.thresholds_of("bank.policy.thresholds", kind, said.thresholds)
        thresholds = policy.complete(kind, None, named).thresholds
    wanted = frozenset(name for name in policies.REST if f"policy.{name}" in paths)
    default = {name: getattr(policy.default_policy(kind), name) for name in wanted}
    return PolicyPatch(action, thresholds, **{**default, **policies.rest_of("bank.policy", said, wanted)})


def entry_patch(said: types.Entry, mask: FieldMask) -> EntryPatch:
    """What a request changes of an entry."""
    paths = _paths(mask, _ENTRY_FIELDS)
    state = None
    if "state" in paths:
        state = convert.STATE_OF.get(said.state)
        if state not in {EntryState.ACTIVE, EntryState.DISABLED}:
            raise InvalidField("entry.state", "may be set to ACTIVE or DISABLED")
    expire_time = names.time_of("entry.expire_time", said, "expire_time") if "expire_time" in paths else None
    by_hand = "quarantine" in paths and said.HasField("quarantine")
    return EntryPatch(
        external_id=names.text("entry.external_id", said.external_id) if "external_id" in paths else None,
        labels=names.labels("entry.labels", said.labels) if "labels" in paths else None,
        metadata=names.pairs("entry.metadata", said.metadata) if "metadata" in paths else None,
        source=names.text("entry.source", said.source) if "source" in paths else None,
        brand=names.text("entry.brand", said.brand) if "brand" in paths else None,
        note=names.text("entry.note", said.note, names.MAX_NOTE) if "note" in paths else None,
        state=state,
        expire_time=expire_time,
        clear_expire_time="expire_time" in paths and expire_time is None,
        quarantine=names.text("entry.quarantine.message", said.quarantine.message, names.MAX_NOTE) if by_hand else None,
        release="quarantine" in paths and not by_hand,
    )
