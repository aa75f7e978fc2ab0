"""One verdict from many matches: what clears, what counts, which action stands."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

import pytest

from imagewarden_server.matching.opinions import Quarantine, QuarantineReason
from imagewarden_server.matching.policy import blocks, complete, decide, default_policy
from imagewarden_server.matching.types import (
    Action,
    Bank,
    BankKind,
    Box,
    Entry,
    EntryState,
    Match,
    SignalType,
    Threshold,
    Undecided,
    UndecidedCode,
    Verdict,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BEHIND = Undecided(UndecidedCode.EMBEDDING_UNAVAILABLE, "down", (SignalType.EMBEDDING,))


def match(
    kind: BankKind = BankKind.BANNED,
    signal: SignalType = SignalType.SHA256,
    action: Action | None = None,
    score: float = 1.0,
    key: int = 1,
) -> Match:
    policy = complete(kind, action, {})
    bank = Bank(
        key=key,
        id=f"{kind.value}-{key}",
        kind=kind,
        display_name="",
        policy=policy,
        enabled=True,
        labels={},
        keep_images=False,
        create_time=NOW,
        update_time=NOW,
    )
    entry = Entry(
        key=key,
        id=f"e{key}",
        bank_id=bank.id,
        external_id="",
        labels=(),
        metadata={},
        source="",
        brand="",
        state=EntryState.ACTIVE,
        expire_time=None,
        create_time=NOW,
        update_time=NOW,
    )
    return Match(entry, bank, signal, score, 1 - score, 0.9, policy.action)


def test_nothing_found_and_all_ran_is_no_match() -> None:
    assert decide([], [], Action.BLOCK) == (Verdict.NO_MATCH, Action.ALLOW, [])


def test_nothing_found_and_a_stage_missing_is_undecided_with_the_callers_action() -> None:
    verdict, action, _ = decide([], [BEHIND], Action.BLOCK)
    assert (verdict, action) == (Verdict.UNDECIDED, Action.BLOCK)
    assert decide([], [BEHIND], Action.ALLOW)[:2] == (Verdict.UNDECIDED, Action.ALLOW)


def test_undecided_never_hides_a_match() -> None:
    verdict, action, matches = decide([match(BankKind.BRAND)], [BEHIND], Action.BLOCK)
    assert verdict is Verdict.MATCH
    assert action is Action.BLOCK, "the stricter of the match's action and that of what did not run"
    assert len(matches) == 1
    assert decide([match()], [BEHIND], Action.ALLOW)[1] is Action.BLOCK


def test_the_strictest_action_stands_and_comes_first() -> None:
    found = [match(BankKind.BRAND, key=1), match(BankKind.BANNED, SignalType.EMBEDDING, score=0.8, key=2)]
    verdict, action, matches = decide(found, [], Action.REVIEW)
    assert (verdict, action) == (Verdict.MATCH, Action.BLOCK)
    assert [one.bank.kind for one in matches] == [BankKind.BANNED, BankKind.BRAND]


def test_a_note_is_a_match_that_is_published() -> None:
    assert decide([match(action=Action.NOTE)], [], Action.BLOCK)[:2] == (Verdict.MATCH, Action.ALLOW)


def test_an_allowed_picture_is_cleared_and_says_by_what() -> None:
    found = [match(BankKind.ALLOWED, key=1), match(key=2), match(signal=SignalType.PDQ, key=3)]
    verdict, action, matches = decide(found, [], Action.REVIEW)
    assert (verdict, action) == (Verdict.NO_MATCH, Action.ALLOW)
    assert [one.cleared_by for one in matches if one.bank.kind is BankKind.BANNED] == ["banks/allowed-1/entries/e1"] * 2


@pytest.mark.parametrize("banned", [SignalType.SHA256, SignalType.SHA1, SignalType.MD5])
def test_a_cleared_likeness_never_clears_a_banned_digest(banned: SignalType) -> None:
    found = [match(BankKind.ALLOWED, SignalType.PDQ, key=1), match(signal=banned, key=2)]
    assert decide(found, [], Action.REVIEW)[:2] == (Verdict.MATCH, Action.BLOCK)
    assert blocks(found)


def test_a_cleared_pdq_clears_likenesses() -> None:
    found = [match(BankKind.ALLOWED, SignalType.PDQ, key=1), match(signal=SignalType.EMBEDDING, score=0.9, key=2)]
    assert decide(found, [], Action.REVIEW)[0] is Verdict.NO_MATCH
    assert not blocks(found)


def test_the_very_bytes_being_allowed_leaves_nothing_undecided() -> None:
    assert decide([match(BankKind.ALLOWED)], [BEHIND], Action.BLOCK)[:2] == (Verdict.NO_MATCH, Action.ALLOW)
    likeness = match(BankKind.ALLOWED, SignalType.PDQ)
    assert decide([likeness], [BEHIND], Action.BLOCK)[:2] == (Verdict.UNDECIDED, Action.BLOCK)


def test_only_blocking_matches_end_the_road() -> None:
    assert not blocks([match(BankKind.BRAND)])
    assert not blocks([match(BankKind.ALLOWED)])
    assert blocks([match(BankKind.BRAND, key=1), match(key=2)])


def test_a_policy_keeps_the_defaults_that_are_not_named() -> None:
    policy = complete(BankKind.BANNED, Action.REVIEW, {SignalType.PDQ: Threshold(20)})
    assert policy.action is Action.REVIEW
    assert policy.thresholds[SignalType.PDQ].value == 20
    assert policy.thresholds[SignalType.EMBEDDING] == default_policy(BankKind.BANNED).thresholds[SignalType.EMBEDDING]


@pytest.mark.parametrize("kind", BankKind)
def test_every_compared_signal_has_a_default(kind: BankKind) -> None:
    assert set(default_policy(kind).thresholds) == set(SignalType) - {SignalType.SEMANTIC}


def test_what_clears_a_picture_is_near_exact_unless_the_owner_says_otherwise() -> None:
    thresholds = default_policy(BankKind.ALLOWED).thresholds
    off = {signal for signal, threshold in thresholds.items() if threshold.disabled}
    assert off == {SignalType.EMBEDDING, SignalType.LOCAL, SignalType.COMBINED}
    assert not any(threshold.disabled for threshold in default_policy(BankKind.BANNED).thresholds.values())


@pytest.mark.parametrize("likeness", [SignalType.EMBEDDING, SignalType.LOCAL, SignalType.COMBINED])
def test_all_likenesses_of_content_weigh_the_same(likeness: SignalType) -> None:
    found = [match(BankKind.ALLOWED, likeness, key=1), match(signal=SignalType.PDQ, key=2)]
    assert decide(found, [], Action.REVIEW)[0] is Verdict.MATCH, "a likeness never clears a banned PDQ"
    found = [match(BankKind.ALLOWED, SignalType.EMBEDDING, key=1), match(signal=likeness, key=2)]
    assert decide(found, [], Action.REVIEW)[0] is Verdict.NO_MATCH
    found = [match(signal=likeness, key=1), match(signal=SignalType.PDQ, key=2), match(key=3)]
    ordered = decide(found, [], Action.REVIEW)[2]
    assert [one.signal for one in ordered] == [SignalType.SHA256, SignalType.PDQ, likeness]


def test_a_quarantined_entry_clears_nothing() -> None:
    held = Quarantine(QuarantineReason.BY_HAND, "", NOW)
    allowed = match(BankKind.ALLOWED, key=1)
    doubted = dataclasses.replace(allowed, entry=dataclasses.replace(allowed.entry, quarantine=held))
    assert decide([doubted, match(key=2)], [], Action.REVIEW)[:2] == (Verdict.MATCH, Action.BLOCK)
    assert blocks([doubted, match(key=2)])
    assert decide([doubted], [BEHIND], Action.REVIEW)[0] is Verdict.UNDECIDED, "nor what did not run"
    another = match(BankKind.ALLOWED, SignalType.SHA256, key=3)
    assert decide([doubted, another, match(key=2)], [], Action.REVIEW)[0] is Verdict.NO_MATCH


def test_a_match_of_some_frames_alone_clears_nothing() -> None:
    partly = dataclasses.replace(match(BankKind.ALLOWED, SignalType.PDQ, key=1), clears=False)
    assert decide([partly, match(signal=SignalType.PDQ, key=2)], [], Action.REVIEW)[0] is Verdict.MATCH


@pytest.mark.parametrize(
    ("allowed", "banned", "cleared"),
    [
        (None, None, True),
        (None, Box(0.1, 0.1, 0.9, 0.9), True),
        (Box(0.7, 0.7, 1.0, 1.0), None, False),
        (Box(0.7, 0.7, 1.0, 1.0), Box(0.0, 0.0, 0.6, 0.6), False),
        (Box(0.7, 0.7, 1.0, 1.0), Box(0.5, 0.5, 1.0, 1.0), False),
        (Box(0.0, 0.0, 0.6, 0.6), Box(0.1, 0.1, 0.5, 0.5), True),
        (Box(0.02, 0.03, 0.99, 0.98), None, True),
    ],
)
def test_a_part_that_is_allowed_clears_what_is_in_it_and_nothing_beside_it(
    allowed: Box | None, banned: Box | None, cleared: bool
) -> None:
    """An owner may turn LOCAL on: an allowed picture in a corner must not clear the picture around it."""
    one = dataclasses.replace(match(BankKind.ALLOWED, SignalType.LOCAL, key=1), region=allowed)
    other = dataclasses.replace(match(signal=SignalType.LOCAL, key=2), region=banned)
    assert (decide([one, other], [], Action.REVIEW)[0] is Verdict.NO_MATCH) == cleared
