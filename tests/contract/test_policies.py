"""Policies over the real catalogue and index: what a bank says, and of which pictures."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.checking import Service, sha256

from imagewarden_server.matching.audit import AuditQuery
from imagewarden_server.matching.ports import BankPatch
from imagewarden_server.matching.rollout import takes
from imagewarden_server.matching.types import Action, BankKind, SignalType, Verdict

FILES = [f"file {number}".encode() for number in range(60)]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    yield made
    made.workers.close()
    made.decoder.close()
    made.catalog.close()


def set_ratio(service: Service, bank: str, ratio: float) -> None:
    policy = service.catalog.get_bank(bank).policy
    service.catalog.update_bank(bank, BankPatch(policy=dataclasses.replace(policy, enabled_ratio=ratio)))
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
