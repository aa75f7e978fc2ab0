"""Keys, sessions and limits by themselves."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from imagewarden_server.access import Authority, Caller, Key, NewKey, Refusal, Refusals, Role, Session, new_key
from imagewarden_server.access.keys import digest, id_of
from imagewarden_server.access.meter import Meter
from imagewarden_server.access.refusals import Refusals as Gathering
from imagewarden_server.matching.actor import Actor
from imagewarden_server.matching.audit import AuditEvent, AuditPart, AuditQuery
from imagewarden_server.matching.errors import PermissionDenied, RateLimited, Unauthenticated
from imagewarden_server.matching.patches import PolicyPatch
from imagewarden_server.matching.policy import default_policy
from imagewarden_server.matching.ports import Page
from imagewarden_server.matching.types import Action, BankKind
from imagewarden_server.matching.visible import ALL_BANKS, Banks

NOW = datetime(2026, 5, 1, tzinfo=UTC)
NEW = NewKey("the forum's hook", Role.CHECKER, ALL_BANKS)


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Store:
    """Keys in memory: the authority is what is tested."""

    def __init__(self, *keys: Key) -> None:
        self.keys = list(keys)

    def all_keys(self) -> list[Key]:
        return self.keys


def kept(new: NewKey = NEW) -> tuple[Key, str]:
    id_, text, kept_digest = new_key()
    return Key(id_, new, kept_digest, NOW), text


def authority_of(store: Store, noted: list[Refusal] | None = None, now: datetime = NOW) -> Authority:
    made = Authority(store, (noted if noted is not None else []).append, clock=lambda: now)
    made.refresh()
    return made


def identify(authority: Authority, authorization: str = "", *certificate: str) -> Session:
    return authority.identify(authorization, certificate, method="CheckImage", peer="ipv4:1.2.3.4:5", request_id="r")


@pytest.mark.parametrize(
    ("patterns", "inside", "outside"),
    [
        (("*",), ["a", "abuse-2"], []),
        (("abuse",), ["abuse"], ["abuse-2", "abus", "x"]),
        (("abuse*",), ["abuse", "abuse-2"], ["abus", "x-abuse"]),
        (("a", "b-*"), ["a", "b-1"], ["b", "a1"]),
        ((), [], ["a"]),
    ],
)
def test_banks_are_named_wholly_or_by_how_they_begin(
    patterns: tuple[str, ...], inside: list[str], outside: list[str]
) -> None:
    banks = Banks(patterns)
    assert all(banks.has(one) for one in inside)
    assert not any(banks.has(one) for one in outside)
    assert banks.all == (patterns == ("*",))


@pytest.mark.parametrize("pattern", ["", "A", "a*b", "**", "-a", "a_b", "banks/a", "a" * 64])
def test_what_names_no_bank_is_no_pattern(pattern: str) -> None:
    with pytest.raises(ValueError, match="no bank's name"):
        Banks((pattern,))


def test_a_key_is_long_and_of_its_id_and_only_a_digest_is_kept() -> None:
    id_, text, kept_digest = new_key()
    assert text.startswith(f"iw_{id_}_")
    assert len(text) == 57
    assert id_of(text) == id_
    assert kept_digest == digest(text)
    assert new_key()[1] != text
    for other in ("", "iw_", text[:-1], f"{text}x", text.replace("iw_", "xx_")):
        assert id_of(other) is None


def test_who_shows_a_good_key_is_known_and_who_does_not_is_noted() -> None:
    key, text = kept()
    noted: list[Refusal] = []
    authority = authority_of(Store(key), noted)
    session = identify(authority, f"Bearer {text}")
    assert session.caller == Caller(f"{key.id} (the forum's hook)", Role.CHECKER, ALL_BANKS)
    assert identify(authority, f"bearer {text}").caller == session.caller
    other = kept()[1]
    swapped = text[:-43] + other[-43:]
    for wrong in ("", text, f"Basic {text}", f"Bearer {other}", f"Bearer {swapped}", "Bearer", f"Bearer {text} x"):
        with pytest.raises(Unauthenticated, match="imagewarden key create"):
            identify(authority, wrong)
    assert {one.reason for one in noted} == {"UNAUTHENTICATED"}
    assert {one.actor for one in noted} == {"unknown at ipv4:1.2.3.4"}, "whatever port its connections have"
    assert len(noted) == 7
    assert all(text not in str(one) for one in noted)


@pytest.mark.parametrize(
    ("changed", "good"),
    [
        ({}, True),
        ({"revoke_time": NOW}, False),
        ({"new": dataclasses.replace(NEW, expire_time=NOW)}, False),
        ({"new": dataclasses.replace(NEW, expire_time=NOW + timedelta(seconds=1))}, True),
    ],
)
def test_a_revoked_or_expired_key_is_good_for_nothing(changed: dict[str, object], good: bool) -> None:
    key, text = kept()
    store = Store(key)
    authority = authority_of(store)
    store.keys[0] = dataclasses.replace(key, **changed)  # type: ignore[arg-type]  # by name
    assert identify(authority, f"Bearer {text}").caller.role is Role.CHECKER, "as it was until the keys are read again"
    authority.refresh()
    assert authority.good_keys == int(good)
    if good:
        identify(authority, f"Bearer {text}")
    else:
        with pytest.raises(Unauthenticated):
            identify(authority, f"Bearer {text}")


def test_a_certificate_stands_for_a_key_and_a_key_that_is_shown_goes_before() -> None:
    certified = Key("abc", dataclasses.replace(NEW, certificate="hook.example"), b"", NOW)
    key, text = kept(dataclasses.replace(NEW, name="other"))
    authority = authority_of(Store(certified, key))
    assert identify(authority, "", "spiffe://x", "hook.example").caller.name == "abc (the forum's hook)"
    assert identify(authority, f"Bearer {text}", "hook.example").caller.name == f"{key.id} (other)"
    for authorization, names in (("", ("elsewhere",)), ("Bearer iw_abc_", ("hook.example",)), ("Bearer ", ())):
        with pytest.raises(Unauthenticated):
            identify(authority, authorization, *names)


def test_a_role_may_call_what_the_table_says_and_nobody_what_is_not_in_it() -> None:
    noted: list[Refusal] = []
    session = Session(Caller("k (x)", Role.CHECKER, ALL_BANKS), "AddHashes", note=noted.append, request_id="r")
    session.permit("imagewarden.v1.ModerationService/CheckImage")
    with pytest.raises(PermissionDenied, match="is a checker and may not call AddHashes"):
        session.permit("imagewarden.v1.BankService/AddHashes")
    admin = Session(Caller("k (x)", Role.ADMIN, ALL_BANKS))
    for unknown in ("imagewarden.v1.BankService/DropAll", "other.v1.Service/Call", "", "AddHashes"):
        with pytest.raises(PermissionDenied):
            admin.permit(unknown)
    assert noted == [Refusal("k (x)", "AddHashes", "", "PERMISSION_DENIED", "r")]


def test_banks_that_a_key_does_not_name_are_refused_whether_or_not_they_exist() -> None:
    noted: list[Refusal] = []
    session = Session(Caller("k (x)", Role.BRAND, Banks(("acme-*",))), "GetBank", note=noted.append)
    session.permit_bank("acme-logos")
    with pytest.raises(PermissionDenied) as caught:
        session.permit_bank("other")
    assert caught.value.metadata == {"bank": "banks/other"}
    assert noted == [Refusal("k (x)", "GetBank", "banks/other", "PERMISSION_DENIED", "")]


def test_calls_a_second_are_a_bucket_that_fills() -> None:
    clock = Clock()
    meter = Meter(2.0, None, clock)
    assert [meter.spend(1) for _ in range(2)] == [0.0, 0.0]
    assert meter.spend(1) == pytest.approx(0.5)
    clock.now += 0.49
    assert meter.spend(1) > 0
    clock.now += 0.02
    assert meter.spend(1) == 0.0
    clock.now += 60
    assert [meter.spend(1) == 0.0 for _ in range(3)] == [True, True, False], "it holds what a second lets through"


def test_a_batch_is_let_through_and_its_debt_is_waited_for() -> None:
    clock = Clock()
    meter = Meter(1.0, None, clock)
    assert meter.spend(64) == 0.0
    assert meter.spend(1) == pytest.approx(64.0)
    clock.now += 64.0
    assert meter.spend(1) == 0.0


def test_a_slow_rate_lets_one_call_through() -> None:
    clock = Clock()
    meter = Meter(0.1, None, clock)
    assert meter.spend(1) == 0.0
    assert meter.spend(1) == pytest.approx(10.0)


def test_calls_at_once_are_bounded_and_given_back() -> None:
    noted: list[Refusal] = []
    caller = Caller("k (x)", Role.CHECKER, ALL_BANKS)
    session = Session(caller, "CheckImage", meter=Meter(None, 2), note=noted.append, request_id="r")
    session.enter()
    session.enter()
    with pytest.raises(RateLimited, match="2 at once") as caught:
        session.enter()
    assert caught.value.retry_after == 1.0
    assert noted == [Refusal("k (x)", "CheckImage", "", "RATE_LIMITED", "r")]
    session.leave()
    session.enter()
    session.spend(1_000)


def test_the_sessions_of_one_key_share_its_limits_and_those_of_others_do_not() -> None:
    first, text = kept(dataclasses.replace(NEW, calls_per_second=1.0))
    second, other = kept(dataclasses.replace(NEW, calls_per_second=1.0))
    noted: list[Refusal] = []
    authority = authority_of(Store(first, second), noted)
    identify(authority, f"Bearer {text}").spend()
    assert not noted
    with pytest.raises(RateLimited, match="has used up its calls") as caught:
        identify(authority, f"Bearer {text}").spend()
    assert 0 < caught.value.retry_after <= 1
    assert noted == [Refusal(f"{first.id} (the forum's hook)", "CheckImage", "", "RATE_LIMITED", "r")]
    identify(authority, f"Bearer {other}").spend()


class Log:
    """An audit log that remembers."""

    def __init__(self) -> None:
        self.written: list[list[tuple[Actor, str, str, int]]] = []

    def refused(self, refusals: Sequence[tuple[Actor, str, str, int]]) -> None:
        self.written.append(list(refusals))

    def events(self, query: AuditQuery) -> Page[AuditEvent]:
        raise AssertionError(query)

    def part(self, sequence: int, begin: int, banks: Banks) -> AuditPart | None:
        raise AssertionError((sequence, begin, banks))

    def head(self) -> tuple[int, str]:
        return 0, ""


def test_refusals_of_a_kind_are_one_event_with_their_number() -> None:
    log = Log()
    gathering = Gathering(log)
    gathering.write()
    assert not log.written, "nothing to write is no transaction"
    for number in range(5):
        gathering.note(Refusal("k", "AddHashes", "", "PERMISSION_DENIED", f"r{number}"))
    gathering.note(Refusal("k", "GetBank", "banks/a", "PERMISSION_DENIED", "r9"))
    gathering.write()
    gathering.write()
    assert log.written == [
        [
            (Actor("k", "AddHashes", "r0"), "", "PERMISSION_DENIED", 5),
            (Actor("k", "GetBank", "r9"), "banks/a", "PERMISSION_DENIED", 1),
        ]
    ]


def test_a_crowd_of_strangers_can_not_fill_the_log() -> None:
    log = Log()
    gathering = Refusals(log)
    for number in range(5_000):
        gathering.note(Refusal(f"unknown at {number}", "CheckImage", "", "UNAUTHENTICATED", ""))
    gathering.write()
    gathering.note(Refusal("k (mine)", "GetBank", "banks/a", "PERMISSION_DENIED", "r"))
    gathering.write()
    strangers, others = log.written
    assert len(strangers) == 21
    assert strangers[-1] == (Actor("unknown others"), "", "UNAUTHENTICATED", 4_980)
    assert others == [(Actor("k (mine)", "GetBank", "r"), "banks/a", "PERMISSION_DENIED", 1)]


def test_a_crowd_of_strangers_hides_nothing_that_others_were_refused() -> None:
    log = Log()
    gathering = Refusals(log)
    for number in range(5_000):
        gathering.note(Refusal(f"unknown at {number}", "CheckImage", "", "UNAUTHENTICATED", ""))
        gathering.note(Refusal("k", "GetBank", f"banks/b{number % 1_000}", "PERMISSION_DENIED", ""))
    gathering.write()
    (written,) = log.written
    assert sum(who.name == "k" for who, *_ in written) == 1_000
    assert len(written) == 1_021


def test_refusals_that_could_not_be_written_are_kept() -> None:
    class Full(Log):
        full = True

        def refused(self, refusals: Sequence[tuple[Actor, str, str, int]]) -> None:
            if self.full:
                raise OSError("no space left")
            super().refused(refusals)

    log = Full()
    gathering = Refusals(log)
    for _ in range(2):
        gathering.note(Refusal("k", "GetBank", "", "PERMISSION_DENIED", "r"))
        with pytest.raises(OSError, match="no space left"):
            gathering.write()
    log.full = False
    gathering.write()
    assert log.written == [[(Actor("k", "GetBank", "r"), "", "PERMISSION_DENIED", 2)]]


def test_a_session_ends_with_its_key() -> None:
    key, text = kept()
    store = Store(key)
    authority = authority_of(store)
    session = identify(authority, f"Bearer {text}")
    session.spend()
    session.go_on()
    store.keys[0] = dataclasses.replace(key, revoke_time=NOW)
    authority.refresh()
    for ask in (session.spend, session.go_on):
        with pytest.raises(Unauthenticated, match="no longer good"):
            ask()


def test_to_go_on_with_a_stream_costs_no_call() -> None:
    session = Session(Caller("k (x)", Role.BRAND, ALL_BANKS), meter=Meter(1.0, None, Clock()))
    session.spend()
    for _ in range(3):
        session.go_on()
    with pytest.raises(RateLimited):
        session.spend()


def test_a_brand_changes_banks_of_brands_alone() -> None:
    brand = Session(Caller("k (x)", Role.BRAND, ALL_BANKS))
    brand.permit_kind("acme", BankKind.BRAND)
    for kind in (BankKind.BANNED, BankKind.ALLOWED):
        with pytest.raises(PermissionDenied, match="use a key of a moderator"):
            brand.permit_kind("abuse", kind)
        Session(Caller("k (x)", Role.MODERATOR, ALL_BANKS)).permit_kind("abuse", kind)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ({}, {"action": Action.BLOCK}, "policy.action to BLOCK in banks/acme"),
        ({"action": Action.NOTE}, {"action": Action.BLOCK}, "policy.action to BLOCK in banks/acme"),
        ({}, {"quarantine_false_positives": 0}, r"policy.quarantine_false_positives to 0 \(never\) in banks/acme"),
        ({}, {"quarantine_flood": 0}, r"policy.quarantine_flood to 0 \(never\) in banks/acme"),
        ({"action": Action.BLOCK}, {"quarantine_flood": 0}, r"set policy.quarantine_flood to 0 \(never\) in"),
        ({}, {"action": Action.BLOCK, "quarantine_flood": 0}, r"BLOCK and policy.quarantine_flood to 0 \(never\) in"),
    ],
)
def test_a_brand_has_its_bank_neither_block_nor_be_without_quarantine(
    before: dict[str, Any], after: dict[str, Any], said: str
) -> None:
    noted: list[Refusal] = []
    old = dataclasses.replace(default_policy(BankKind.BRAND), **before)
    asked = PolicyPatch(**after)
    brand = Session(Caller("k (x)", Role.BRAND, ALL_BANKS), "UpdateBank", note=noted.append, request_id="r")
    with pytest.raises(PermissionDenied, match=f"{said}.*moderator or an admin") as caught:
        brand.permit_policy("acme", old, asked)
    assert caught.value.metadata == {"bank": "banks/acme"}
    assert noted == [Refusal("k (x)", "UpdateBank", "banks/acme", "PERMISSION_DENIED", "r")]
    for role in (Role.MODERATOR, Role.ADMIN):
        Session(Caller("k (x)", role, ALL_BANKS)).permit_policy("acme", old, asked)


def test_what_others_made_block_stays_so_while_a_brand_changes_the_rest() -> None:
    brand = Session(Caller("k (x)", Role.BRAND, ALL_BANKS))
    usual = default_policy(BankKind.BRAND)
    strict = dataclasses.replace(usual, action=Action.BLOCK, quarantine_false_positives=0, quarantine_flood=0)
    brand.permit_policy("acme", strict, None)
    brand.permit_policy("acme", strict, PolicyPatch(enabled_ratio=0.5))
    brand.permit_policy("acme", strict, PolicyPatch(action=Action.BLOCK, quarantine_flood=0))
    brand.permit_policy("acme", usual, PolicyPatch(action=Action.NOTE, quarantine_flood=1))
