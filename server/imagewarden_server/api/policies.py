"""Between banks with their policies and the API's messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from imagewarden.v1 import types_pb2 as types
from imagewarden_server.api.convert import ACTION, ACTION_OF, KIND, SIGNAL, SIGNAL_OF, feedback, stamp
from imagewarden_server.matching import policy
from imagewarden_server.matching.errors import InvalidField
from imagewarden_server.matching.types import Action, Bank, BankKind, Policy, SignalType, Threshold

_POLICY_ACTIONS = {
    BankKind.BANNED: frozenset({Action.NOTE, Action.REVIEW, Action.BLOCK}),
    BankKind.BRAND: frozenset({Action.NOTE, Action.REVIEW, Action.BLOCK}),
    BankKind.ALLOWED: frozenset({Action.ALLOW}),
}
# What a threshold may be, by signal; digests are equal or not. An embedding's score is how much greater a similarity is
# than another one, or for logos a number of standard deviations.
_DIGEST_RANGE = (0.0, 0.0)
_RANGES: Mapping[SignalType, tuple[float, float]] = {
    SignalType.SHA256: _DIGEST_RANGE,
    SignalType.SHA1: _DIGEST_RANGE,
    SignalType.MD5: _DIGEST_RANGE,
    SignalType.PDQ: (0.0, 256.0),
    SignalType.EMBEDDING: (-2.0, 2.0),
    SignalType.LOCAL: (0.0, 1_000.0),
    SignalType.COMBINED: (0.0, 1.0),
}
_LOGO_SCORES = (-100.0, 100.0)


def policy_of(field: str, bank_kind: BankKind, message: types.Policy) -> Policy:
    """A complete policy from what the owner set."""
    action = None
    if message.action != types.ACTION_UNSPECIFIED:
        action = policy_action(f"{field}.action", bank_kind, message.action)
    thresholds = thresholds_of(f"{field}.thresholds", bank_kind, message.thresholds)
    return policy.complete(bank_kind, action, thresholds, **rest_of(field, message))


REST = frozenset(policy.Rest.__annotations__)
"""What a policy has beside its action and its thresholds."""


def rest_of(field: str, message: types.Policy, wanted: frozenset[str] = REST) -> policy.Rest:
    """What is set of that, each checked for its range."""
    found = policy.Rest()
    if "enabled_ratio" in wanted and message.HasField("enabled_ratio"):
        # Nothing is between two numbers that are none: NaN is refused too.
        if not 0 <= message.enabled_ratio <= 1:
            raise InvalidField(
                f"{field}.enabled_ratio",
                f"is {message.enabled_ratio:g}; send 0 to 1, or leave it out for all pictures",
            )
        found["enabled_ratio"] = message.enabled_ratio
    if "quarantine_false_positives" in wanted and message.HasField("quarantine_false_positives"):
        found["quarantine_false_positives"] = _count(
            f"{field}.quarantine_false_positives", message.quarantine_false_positives, 1_000
        )
    if "quarantine_flood" in wanted and message.HasField("quarantine_flood"):
        found["quarantine_flood"] = _count(f"{field}.quarantine_flood", message.quarantine_flood, 100_000)
    return found


def _count(field: str, value: int, most: int) -> int:
    if not 0 <= value <= most:
        raise InvalidField(field, f"is {value}; send 1 to {most:,}, or 0 for never")
    return value


def policy_action(field: str, bank_kind: BankKind, value: types.Action.ValueType) -> Action:
    """An action that a bank of this kind may have."""
    action = ACTION_OF.get(value)
    allowed = _POLICY_ACTIONS[bank_kind]
    if action is None or action not in allowed:
        names_ = ", ".join(sorted(one.name for one in allowed))
        raise InvalidField(field, f"is {value}; a bank of kind {bank_kind.value.upper()} takes {names_}")
    return action


def thresholds_of(
    field: str, bank_kind: BankKind, messages: Iterable[types.SignalThreshold]
) -> dict[SignalType, Threshold]:
    """The thresholds that are named, each checked for its range."""
    found: dict[SignalType, Threshold] = {}
    for place, message in enumerate(messages):
        where = f"{field}[{place}]"
        signal = SIGNAL_OF.get(message.signal)
        if signal is None or signal not in _RANGES:
            known = ", ".join(one.value.upper() for one in _RANGES)
            raise InvalidField(f"{where}.signal", f"is {message.signal}; send one of {known}")
        if signal in found:
            raise InvalidField(f"{where}.signal", f"names {signal.value.upper()} twice")
        logo = bank_kind is BankKind.BRAND and signal is SignalType.EMBEDDING
        low, high = _LOGO_SCORES if logo else _RANGES[signal]
        if not low <= message.threshold <= high:
            raise InvalidField(
                f"{where}.threshold",
                f"is {message.threshold:g}; {signal.value.upper()} takes {low:g} to {high:g} in a bank of kind "
                f"{bank_kind.value.upper()}",
            )
        found[signal] = Threshold(message.threshold, message.disabled)
    return found


def bank(value: Bank) -> types.Bank:
    """A bank as a message."""
    thresholds = [
        types.SignalThreshold(signal=SIGNAL[signal], threshold=threshold.value, disabled=threshold.disabled)
        for signal, threshold in value.policy.thresholds.items()
    ]
    return types.Bank(
        name=value.name,
        kind=KIND[value.kind],
        display_name=value.display_name,
        policy=types.Policy(
            action=ACTION[value.policy.action],
            thresholds=thresholds,
            enabled_ratio=value.policy.enabled_ratio,
            quarantine_false_positives=value.policy.quarantine_false_positives,
            quarantine_flood=value.policy.quarantine_flood,
        ),
        enabled=value.enabled,
        labels=value.labels,
        keep_images=value.keep_images,
        entry_count=value.entry_count,
        create_time=stamp(value.create_time),
        update_time=stamp(value.update_time),
        feedback=feedback(value.feedback),
    )
