"""Policies over the real catalogue and index: what a bank says, and of which pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from tests.support import api
from tests.support.api import without
from tests.support.checking import Service, sha256

from imagewarden.v1 import types_pb2 as types
from imagewarden_server.api.masks import bank_patch
from imagewarden_server.matching.audit import AuditQuery
from imagewarden_server.matching.patches import BankPatch, PolicyPatch
from imagewarden_server.matching.policy import default_policy
from imagewarden_server.matching.rollout import takes
from imagewarden_server.matching.types import Action, BankKind, SignalType, Threshold, Verdict

FILES = [f"file {number}".encode() for number in range(60)]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    yield made
    made.workers.close()
    made.decoder.close()
    made.catalog.close()


def set_ratio(service: Service, bank: str, ratio: float) -> None:
    service.catalog.update_bank(bank, BankPatch(policy=PolicyPatch(enabled_ratio=ratio)))
    service.follow()


def blocked(service: Service) -> set[bytes]:
    return {file for file in FILES if service.check(file).action is Action.BLOCK}


def test_a_bank_says_something_of_its_part_of_the_pictures_alone(service: Service) -> None:
    """The same files each time, on a worker and on the event loop, and more of them as the ratio grows."""
    service.bank("a", enabled_ratio=0.4)
    for file in FILES:
        service.ban("a", SignalType.SHA256, sha256(file))
    part = {file for file in FILES if takes("banks/a", 0.4, sha256(file))}
    assert 0 < len(part) < len(FILES)
    assert blocked(service) == blocked(service) == part
    for file in set(FILES) - part:
        assert service.check(file).matches == ()
    set_ratio(service, "a", 0.8)
    more = blocked(service)
    assert part < more < set(FILES)
    set_ratio(service, "a", 0.0)
    assert blocked(service) == set()
    set_ratio(service, "a", 1.0)
    assert blocked(service) == set(FILES)


def test_an_allowed_bank_clears_its_part_of_the_pictures_alone(service: Service) -> None:
    service.bank("banned")
    service.bank("cleared", kind=BankKind.ALLOWED, enabled_ratio=0.5)
    for file in FILES:
        service.ban("banned", SignalType.SHA256, sha256(file))
        service.ban("cleared", SignalType.SHA256, sha256(file))
    cleared = {file for file in FILES if takes("banks/cleared", 0.5, sha256(file))}
    assert blocked(service) == set(FILES) - cleared
    assert {file for file in FILES if service.check(file).verdict is Verdict.NO_MATCH} == cleared


def test_the_ratio_is_kept_and_told_in_the_event(service: Service) -> None:
    service.bank("a", enabled_ratio=0.25)
    assert service.catalog.get_bank("a").policy.enabled_ratio == 0.25
    set_ratio(service, "a", 0.5)
    assert service.catalog.all_banks()[0].policy.enabled_ratio == 0.5
    last = service.catalog.audit.events(AuditQuery(newest_first=True)).items[0]
    assert [json.loads(said)["enabled_ratio"] for said in (last.before, last.after)] == [0.25, 0.5]


def test_changes_of_other_fields_that_were_read_at_once_are_both_kept(service: Service) -> None:
    """As of two calls that read the bank before either of them had its turn to write."""
    service.bank("a", Action.REVIEW, quarantine_flood=7)
    read = service.catalog.get_bank("a")
    said = [
        (types.Bank(policy=types.Policy(enabled_ratio=0.5)), "policy.enabled_ratio"),
        (types.Bank(policy=types.Policy(action=types.ACTION_BLOCK)), "policy.action"),
        (types.Bank(policy=without(api.LOCAL, PDQ=12)), "policy.thresholds"),
        (types.Bank(policy=types.Policy(quarantine_false_positives=9)), "policy.quarantine_false_positives"),
        (types.Bank(display_name="A"), "display_name"),
    ]
    for patch in [bank_patch(read, bank, FieldMask(paths=[path])) for bank, path in said]:
        service.catalog.update_bank("a", patch)
    after = service.catalog.get_bank("a")
    assert after.display_name == "A"
    assert (after.policy.action, after.policy.enabled_ratio) == (Action.BLOCK, 0.5)
    assert (after.policy.quarantine_false_positives, after.policy.quarantine_flood) == (9, 7)
    assert after.policy.thresholds[SignalType.PDQ] == Threshold(12)
    assert after.policy.thresholds[SignalType.LOCAL].disabled
    whole = bank_patch(read, types.Bank(), FieldMask(paths=["policy"]))
    assert service.catalog.update_bank("a", whole).value.policy == default_policy(BankKind.BANNED)
