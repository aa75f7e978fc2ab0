"""From matches to one verdict: thresholds, what an ALLOWED bank clears, which action stands. Pure functions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TypedDict, Unpack

from imagewarden_server.matching.types import (
    Action,
    Bank,
    BankKind,
    Box,
    Entry,
    Match,
    Policy,
    SignalType,
    Threshold,
    Undecided,
    Verdict,
)

PDQ_MIN_QUALITY = 50
"""Under this a PDQ hash says too little (Meta's PDQ paper, 2019: discard quality under 50)."""

MIN_DEVIATION = 4.0
"""Standard deviation of luma, 0 to 255, under which a picture is too plain for an embedding to mean something."""

# PDQ: Meta recommends a distance of 31 or less for a match; near-exact for what clears a picture. The others are
# measured, see docs/thresholds.md.
_DEFAULTS: Mapping[BankKind, Policy] = {
    BankKind.BANNED: Policy(
        Action.BLOCK,
        {
            SignalType.PDQ: Threshold(31),
            SignalType.EMBEDDING: Threshold(0.55),
            SignalType.LOCAL: Threshold(40),
            SignalType.COMBINED: Threshold(0.999999),
        },
    ),
    BankKind.BRAND: Policy(
        Action.REVIEW,
        {
            SignalType.PDQ: Threshold(31),
            SignalType.EMBEDDING: Threshold(9.0),
            SignalType.LOCAL: Threshold(12),
            SignalType.COMBINED: Threshold(0.9975),
        },
    ),
    BankKind.ALLOWED: Policy(
        Action.ALLOW,
        {
            SignalType.PDQ: Threshold(8),
            SignalType.EMBEDDING: Threshold(0.6, disabled=True),
            SignalType.LOCAL: Threshold(100, disabled=True),
            SignalType.COMBINED: Threshold(0.999999, disabled=True),
        },
    ),
}

# How far a box may be beside what it is of: of a copy of all of a picture keypoints say its edges so well.
_MARGIN = 0.05

_DIGESTS = (SignalType.SHA256, SignalType.SHA1, SignalType.MD5)

# How exactly a signal says "the same picture". MD5 and SHA-1 stand below SHA-256: collisions can be made for them.
_EXACTNESS: Mapping[SignalType, int] = {
    SignalType.SHA256: 3,
    SignalType.SHA1: 2,
    SignalType.MD5: 2,
    SignalType.PDQ: 1,
    SignalType.LOCAL: 0,
    SignalType.EMBEDDING: 0,
    SignalType.COMBINED: 0,
}


class Rest(TypedDict, total=False):
    """What a policy has beside its action and its thresholds; see `types.Policy`."""

    enabled_ratio: float
    quarantine_false_positives: int
    quarantine_flood: int


def default_policy(kind: BankKind) -> Policy:
    """The complete policy that a bank of this kind begins with."""
    base = _DEFAULTS[kind]
    return Policy(base.action, {**{digest: Threshold(0) for digest in _DIGESTS}, **base.thresholds})


def complete(
    kind: BankKind, action: Action | None, thresholds: Mapping[SignalType, Threshold], **rest: Unpack[Rest]
) -> Policy:
    """A policy with what the owner set, and the defaults of the kind for the rest."""
    base = default_policy(kind)
    return Policy(base.action if action is None else action, {**base.thresholds, **thresholds}, **rest)


def action_of(entry: Entry, bank: Bank) -> Action:
    """What a match of an entry asks for: what its bank does, but that a quarantined entry blocks nothing."""
    return bank.policy.action if entry.quarantine is None else min(bank.policy.action, Action.REVIEW)


def clear(matches: Iterable[Match]) -> list[Match]:
    """Mark the matches that an ALLOWED bank clears.

    An ALLOWED match clears a match of another bank only where it is at least as exact: a cleared digest clears all that
    the same bytes match, a cleared PDQ never clears a banned digest. And only where it is of all that the other is of:
    of every frame, and of the same part of the picture or more. A quarantined entry clears nothing.
    """
    found = list(matches)
    allowed = sorted(
        (match for match in found if match.bank.kind is BankKind.ALLOWED and may_clear(match)),
        key=lambda match: -_EXACTNESS[match.signal],
    )
    if not allowed:
        return found
    marked = []
    for match in found:
        by = next((one for one in allowed if _clears(one, match)), None)
        marked.append(match if by is None else dataclasses.replace(match, cleared_by=by.entry.name))
    return marked


def may_clear(match: Match) -> bool:
    """Whether a match of an ALLOWED bank may clear anything."""
    return match.clears and match.entry.quarantine is None


def _clears(by: Match, match: Match) -> bool:
    return (
        match.bank.kind is not BankKind.ALLOWED
        and _EXACTNESS[by.signal] >= _EXACTNESS[match.signal]
        and _covers(by.region, match.region)
    )


def _covers(box: Box | None, other: Box | None) -> bool:
    """Whether a part of the picture has another one in it, but for a narrow margin; None is the whole picture."""
    if box is None:
        return True
    inner = other or Box(0.0, 0.0, 1.0, 1.0)
    return (
        inner.left >= box.left - _MARGIN
        and inner.top >= box.top - _MARGIN
        and inner.right <= box.right + _MARGIN
        and inner.bottom <= box.bottom + _MARGIN
    )


def standing(matches: Iterable[Match]) -> list[Match]:
    """The matches that count: of banks that are not ALLOWED, and not cleared."""
    return [match for match in matches if match.bank.kind is not BankKind.ALLOWED and not match.cleared_by]


def blocks(matches: Iterable[Match]) -> bool:
    """Whether a standing match already asks for the strictest action: no later signal can change the answer."""
    return any(match.action is Action.BLOCK for match in standing(clear(matches)))


def decide(
    matches: Sequence[Match], undecided: Sequence[Undecided], on_undecided: Action
) -> tuple[Verdict, Action, list[Match]]:
    """One verdict and one action from all that was found and all that did not run.

    Returns:
        The verdict; the action, ALLOW, REVIEW or BLOCK; the matches, cleared ones marked, best first. Where something
        did not run the action is never milder than `on_undecided`.
    """
    marked = sorted(clear(matches), key=_order)
    counted = standing(marked)
    action = max((match.action for match in counted), default=Action.ALLOW)
    if action is Action.NOTE:
        action = Action.ALLOW
    if undecided and not _everything_cleared(marked, counted):
        action = max(action, on_undecided)
        return (Verdict.MATCH if counted else Verdict.UNDECIDED), action, marked
    return (Verdict.MATCH if counted else Verdict.NO_MATCH), action, marked


def _everything_cleared(marked: Sequence[Match], counted: Sequence[Match]) -> bool:
    """Whether the very bytes are allowed: then nothing that did not run could have counted."""
    return not counted and any(
        match.bank.kind is BankKind.ALLOWED and match.signal is SignalType.SHA256 and may_clear(match)
        for match in marked
    )


def _order(match: Match) -> tuple[bool, int, int, float, int]:
    return (
        bool(match.cleared_by) or match.bank.kind is BankKind.ALLOWED,
        -int(match.action),
        -_EXACTNESS[match.signal],
        -match.score,
        match.entry.key,
    )
