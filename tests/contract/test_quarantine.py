"""Quarantine over the real catalogue and index: an entry that is doubted goes on to match, and blocks nothing."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.support.checking import Service, sha256

from imagewarden_server.catalog import SqlCatalog
from imagewarden_server.matching import flood
from imagewarden_server.matching.actor import Actor, acting
from imagewarden_server.matching.audit import AuditEvent, AuditQuery
from imagewarden_server.matching.errors import EntryNotFound
from imagewarden_server.matching.feedback import Reporter
from imagewarden_server.matching.flood import Floods
from imagewarden_server.matching.listing import EntryFilter
from imagewarden_server.matching.opinions import Opinion, Quarantine, QuarantineReason
from imagewarden_server.matching.patches import BankPatch, EntryPatch
from imagewarden_server.matching.ports import Idempotency
from imagewarden_server.matching.quarantine import Quarantiner
from imagewarden_server.matching.revisions import Follower
from imagewarden_server.matching.types import Action, BankKind, Entry, SignalType, Verdict

FILE, OTHER = b"no picture at all", b"another"
SHA256, MD5 = SignalType.SHA256, SignalType.MD5


class Counts:
    """What was counted."""

    def __init__(self) -> None:
        self.reports: list[tuple[str, Opinion]] = []
        self.quarantines: list[tuple[str, QuarantineReason]] = []
        self.left: list[str] = []

    def reported(self, bank_id: str, opinion: Opinion) -> None:
        self.reports.append((bank_id, opinion))

    def quarantined(self, bank_id: str, reason: QuarantineReason) -> None:
        self.quarantines.append((bank_id, reason))

    def left_flooded(self, bank_id: str) -> None:
        self.left.append(bank_id)


class Desk:
    """A service with people who report what they find."""

    def __init__(self, service: Service) -> None:
        self.service, self.catalog, self.counts = service, service.catalog, Counts()
        follower = Follower(service.catalog, service.index)
        self.quarantiner = Quarantiner(service.catalog, service.catalog.reports, follower, service.workers, self.counts)
        self.reporter = Reporter(
            service.catalog, service.catalog.reports, self.quarantiner, service.workers, self.counts
        )

    def ban(self, bank: str, data: bytes = FILE) -> str:
        return self.service.ban(bank, SHA256, sha256(data))

    def report(
        self, bank: str, entry: str, opinion: Opinion = Opinion.FALSE_POSITIVE, number: int = 1, **said: Any
    ) -> Entry:
        async def work() -> Entry:
            acting(Actor(said.pop("who", "k1 (anna)"), "ReportMatch", "request-1"))
            sha = number.to_bytes(32, "big")
            written = await self.reporter.report(bank, entry, sha, opinion, "", once=said.get("once"))
            return written.value

        return asyncio.run(work())

    def put(self, bank: str, entry: str, reason: QuarantineReason = QuarantineReason.FLOOD) -> None:
        asyncio.run(self.quarantiner.put(bank, entry, reason, "as the test says"))

    def release(self, bank: str, entry: str) -> Entry:
        changed = self.catalog.update_entry(bank, entry, EntryPatch(release=True)).value
        self.service.follow()
        return changed

    def last_event(self) -> AuditEvent:
        return self.catalog.audit.events(AuditQuery(newest_first=True)).items[0]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    yield made
    made.workers.close()
    made.decoder.close()
    made.catalog.close()


@pytest.fixture
def desk(service: Service) -> Desk:
    return Desk(service)


# ------------------------------------------------------------------------------------------------- what it does


@pytest.mark.parametrize(
    ("action", "then"),
    [(Action.BLOCK, Action.REVIEW), (Action.REVIEW, Action.REVIEW), (Action.NOTE, Action.NOTE)],
)
def test_a_quarantined_entry_goes_on_to_match_and_blocks_nothing(desk: Desk, action: Action, then: Action) -> None:
    desk.service.bank("a", action)
    entry = desk.ban("a")
    for _ in range(2):  # a worker looks first, and then the event loop
        assert desk.service.check(FILE).matches[0].action is action
    desk.put("a", entry)
    for _ in range(2):
        answer = desk.service.check(FILE)
        (match,) = answer.matches
        assert (match.action, match.bank.policy.action) == (then, action)
        assert match.entry.quarantine is not None
        assert match.entry.quarantine.reason is QuarantineReason.FLOOD
        assert answer.verdict is Verdict.MATCH
        # No model is there, so what is no picture is reviewed in any case: what counts is that it is not blocked.
        assert answer.action is Action.REVIEW
    desk.release("a", entry)
    assert desk.service.check(FILE).matches[0].action is action


def test_it_does_not_end_the_road(desk: Desk) -> None:
    """A match that blocks ends the road; one that is quarantined must not hide what comes after it."""
    desk.service.bank("a")
    desk.service.bank("b")
    entry = desk.ban("a")
    desk.service.ban("b", MD5, hashlib.md5(FILE, usedforsecurity=False).digest())
    assert [match.bank.id for match in desk.service.check(FILE).matches] == ["a"]
    desk.put("a", entry)
    for _ in range(2):
        answer = desk.service.check(FILE)
        assert [(match.bank.id, match.action) for match in answer.matches] == [
            ("b", Action.BLOCK),
            ("a", Action.REVIEW),
        ]
        assert answer.action is Action.BLOCK, "another entry's block stands"


def test_a_quarantined_entry_of_an_allowed_bank_clears_nothing(desk: Desk) -> None:
    desk.service.bank("banned")
    desk.service.bank("cleared", kind=BankKind.ALLOWED)
    desk.ban("banned")
    entry = desk.ban("cleared")
    assert desk.service.check(FILE).verdict is Verdict.NO_MATCH
    desk.put("cleared", entry)
    answer = desk.service.check(FILE, exhaustive=True)
    assert (answer.verdict, answer.action) == (Verdict.MATCH, Action.BLOCK)
    assert {(match.bank.id, match.cleared_by) for match in answer.matches} == {("banned", ""), ("cleared", "")}
    desk.release("cleared", entry)
    assert desk.service.check(FILE).verdict is Verdict.NO_MATCH


def test_what_is_allowed_and_quarantined_leaves_undecided_what_did_not_run(desk: Desk) -> None:
    """The very bytes being allowed settles what did not run: not where that is suspended."""
    desk.service.bank("cleared", kind=BankKind.ALLOWED)
    desk.service.bank("pictures")
    desk.service.ban("pictures", SignalType.PDQ, bytes(32))
    entry = desk.ban("cleared")
    assert desk.service.check(FILE).verdict is Verdict.NO_MATCH
    desk.put("cleared", entry)
    assert desk.service.check(FILE).verdict is Verdict.UNDECIDED


# ------------------------------------------------------------------------------------------------- false positives


def test_false_positives_quarantine_an_entry_at_its_banks_number(desk: Desk) -> None:
    desk.service.bank("a")
    entry = desk.ban("a")
    desk.report("a", entry, number=1)
    assert desk.report("a", entry, number=2).quarantine is None
    desk.report("a", entry, Opinion.CONFIRMED, number=3)
    assert desk.report("a", entry, number=4).quarantine is None, "three false positives, one confirmation"
    for _ in range(5):
        assert desk.report("a", entry, Opinion.DISPUTED, number=5).quarantine is None, "a dispute is no finding"
    before = desk.catalog.revision()
    answered = desk.report("a", entry, number=6)
    assert answered.quarantine is not None
    assert answered.quarantine.reason is QuarantineReason.FALSE_POSITIVES
    assert "4 pictures were reported as false positives and 1 as confirmed" in answered.quarantine.message
    assert desk.catalog.revision() == before + 1, "checks see it: it is a change"
    assert desk.service.check(FILE).action is Action.REVIEW
    assert desk.counts.quarantines == [("a", QuarantineReason.FALSE_POSITIVES)]
    desk.report("a", entry, number=7)
    assert len(desk.counts.quarantines) == 1, "it is quarantined once"
    assert desk.counts.reports.count(("a", Opinion.FALSE_POSITIVE)) == 5


def test_the_event_is_the_servers_own_with_the_numbers(desk: Desk) -> None:
    desk.service.bank("a", quarantine_false_positives=1)
    entry = desk.ban("a")
    desk.report("a", entry)
    event = desk.last_event()
    assert (event.actor, event.method, event.resource) == ("server", "QuarantineEntry", f"banks/a/entries/{entry}")
    assert event.revision
    assert json.loads(event.before)["quarantine"] is None
    said = json.loads(event.after)["quarantine"]
    assert said.startswith("false_positives: 1 pictures were reported as false positives and 0 as confirmed")
    report = desk.catalog.audit.events(AuditQuery(newest_first=True)).items[1]
    assert (report.actor, report.method) == ("k1 (anna)", "ReportMatch")


def test_what_was_reported_until_its_release_is_forgiven(desk: Desk) -> None:
    desk.service.bank("a", quarantine_false_positives=2)
    entry = desk.ban("a")
    for number in (1, 2):
        desk.report("a", entry, number=number)
    assert desk.service.check(FILE).action is Action.REVIEW
    desk.release("a", entry)
    assert desk.service.check(FILE).action is Action.BLOCK
    assert desk.report("a", entry, number=3).quarantine is None, "one new one, not three"
    again = desk.report("a", entry, number=4).quarantine
    assert again is not None
    assert "of which 2 were forgiven" in again.message


def test_colleagues_who_report_one_picture_are_one_false_positive(desk: Desk) -> None:
    desk.service.bank("a", quarantine_false_positives=2)
    entry = desk.ban("a")
    for who in ("k1 (anna)", "k2 (ben)", "k3 (cleo)"):
        assert desk.report("a", entry, number=1, who=who).quarantine is None
    held = desk.report("a", entry, number=2, who="k2 (ben)").quarantine
    assert held is not None
    assert held.message.startswith("2 pictures were reported as false positives and 0 as confirmed")
    assert desk.release("a", entry).forgiven == 2


def test_a_bank_may_never_quarantine(desk: Desk) -> None:
    desk.service.bank("a", quarantine_false_positives=0)
    entry = desk.ban("a")
    for number in range(20):
        assert desk.report("a", entry, number=number).quarantine is None


def test_a_repeat_finishes_what_the_first_call_was_kept_from(desk: Desk) -> None:
    """The report is on the disk, and the server was killed before the quarantine was."""
    desk.service.bank("a", quarantine_false_positives=1)
    entry = desk.ban("a")
    once = Idempotency("6e1f2a34-0000-4000-8000-000000000001", b"content")
    desk.catalog.reports.report("a", entry, bytes(32), Opinion.FALSE_POSITIVE, "", once=once)
    assert desk.catalog.get_entry("a", entry).quarantine is None
    assert desk.report("a", entry, number=0, once=once).quarantine is not None
    assert desk.counts.reports == [], "a repeat counts once"


def meanwhile(desk: Desk, monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """Something happens once a report was taken, and before the entry is quarantined for it."""
    quarantine = desk.catalog.reports.quarantine

    def late(*arguments: Any) -> Any:
        monkeypatch.undo()
        happens()
        return quarantine(*arguments)

    monkeypatch.setattr(desk.catalog.reports, "quarantine", late)


def test_who_changed_his_mind_meanwhile_is_not_overridden(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.service.bank("a", quarantine_false_positives=1)
    entry, sha = desk.ban("a"), (1).to_bytes(32, "big")
    meanwhile(desk, monkeypatch, lambda: desk.catalog.reports.report("a", entry, sha, Opinion.CONFIRMED, "", once=None))
    answered = desk.report("a", entry)
    assert (answered.quarantine, answered.feedback.confirmed) == (None, 1)
    assert desk.catalog.get_entry("a", entry).quarantine is None
    assert desk.last_event().method == "ReportMatch"
    assert desk.counts.quarantines == []


def test_who_released_it_meanwhile_is_not_overridden(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.service.bank("a", quarantine_false_positives=1)
    entry = desk.ban("a")
    why = Quarantine(QuarantineReason.FALSE_POSITIVES, "another call", datetime.now(UTC))

    def happens() -> None:
        desk.catalog.reports.quarantine("a", entry, why)
        desk.catalog.update_entry("a", entry, EntryPatch(release=True))

    meanwhile(desk, monkeypatch, happens)
    answered = desk.report("a", entry)
    assert (answered.quarantine, answered.forgiven) == (None, 1)
    assert desk.catalog.get_entry("a", entry).quarantine is None
    assert desk.service.check(FILE).action is Action.BLOCK


@pytest.mark.parametrize("before", [True, False], ids=["before the report", "after it"])
def test_what_another_call_quarantined_is_in_force_when_a_report_is_answered(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    desk.service.bank("a", quarantine_false_positives=1)
    entry = desk.ban("a")
    desk.service.check(FILE)
    why = Quarantine(QuarantineReason.FALSE_POSITIVES, "another call", datetime.now(UTC))
    if before:
        desk.catalog.reports.quarantine("a", entry, why)
    else:
        meanwhile(desk, monkeypatch, lambda: desk.catalog.reports.quarantine("a", entry, why))
    found = desk.report("a", entry).quarantine
    assert found is not None
    assert found.message == "another call"
    assert desk.service.index.revision == desk.catalog.revision()
    assert desk.service.check(FILE).action is Action.REVIEW


# ------------------------------------------------------------------------------------------------- floods


def test_a_flooded_entry_is_quarantined_and_the_rest_is_not(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A digest is of one file: so the bank asks for one picture alone, and the test turns the clock."""
    now = [1_000_000.0]
    floods = Floods(lambda: now[0])
    monkeypatch.setattr(desk.service.checker, "_floods", floods)
    desk.service.bank("a", quarantine_flood=1)
    desk.service.bank("b", quarantine_flood=2)
    entry = desk.ban("a")
    desk.ban("b", OTHER)
    now[0] += 12 * flood.SLOT_SECONDS
    assert desk.service.check(FILE).action is Action.BLOCK, "the check that tells is answered as ever"
    assert desk.service.check(OTHER).action is Action.BLOCK
    asyncio.run(desk.quarantiner.put_flooded(floods))
    found = desk.service.check(FILE).matches[0].entry.quarantine
    assert found is not None
    assert (found.reason, found.message[:28]) == (QuarantineReason.FLOOD, "matched 1 different pictures")
    assert desk.service.check(OTHER).action is Action.BLOCK
    assert desk.counts.quarantines == [("a", QuarantineReason.FLOOD)]
    assert (desk.last_event().actor, desk.last_event().method) == ("server", "QuarantineEntry")
    desk.release("a", entry)
    desk.service.check(FILE)
    asyncio.run(desk.quarantiner.put_flooded(floods))
    assert desk.catalog.get_entry("a", entry).quarantine is None, "not for the same picture"


def test_an_entry_that_a_person_vouched_for_is_left_as_it_is(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Banned minutes ago and confirmed, it goes on to block however many copies come; not after a false positive."""
    now = [1_000_000.0]
    floods = Floods(lambda: now[0])
    monkeypatch.setattr(desk.service.checker, "_floods", floods)
    desk.service.bank("a", quarantine_flood=1)
    now[0] += 12 * flood.SLOT_SECONDS
    right, doubted = desk.ban("a"), desk.ban("a", OTHER)
    for entry in (right, doubted):
        desk.report("a", entry, Opinion.CONFIRMED, number=1)
    desk.report("a", doubted, Opinion.FALSE_POSITIVE, number=2)
    for file in (FILE, OTHER):
        assert desk.service.check(file).action is Action.BLOCK
    asyncio.run(desk.quarantiner.put_flooded(floods))
    assert desk.service.check(FILE).action is Action.BLOCK
    assert desk.service.check(OTHER).action is Action.REVIEW
    assert (desk.counts.left, desk.counts.quarantines) == (["a"], [("a", QuarantineReason.FLOOD)])


def test_an_entry_that_is_gone_meanwhile_is_left(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_000_000.0]
    floods = Floods(lambda: now[0])
    monkeypatch.setattr(desk.service.checker, "_floods", floods)
    desk.service.bank("a", quarantine_flood=1)
    entry = desk.ban("a")
    now[0] += 12 * flood.SLOT_SECONDS
    desk.service.check(FILE)
    desk.catalog.delete_entry("a", entry)
    asyncio.run(desk.quarantiner.put_flooded(floods))
    assert desk.counts.quarantines == []


def test_flooded_entries_that_could_not_be_written_are_tried_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_000_000.0]
    floods = Floods(lambda: now[0])
    monkeypatch.setattr(desk.service.checker, "_floods", floods)
    desk.service.bank("a", quarantine_flood=1)
    files = [FILE, OTHER, b"a third"]
    for file in files:
        desk.ban("a", file)
    now[0] += 12 * flood.SLOT_SECONDS
    for file in files:
        desk.service.check(file)
    quarantine, tries = desk.catalog.reports.quarantine, iter(range(10))

    def full(*arguments: Any) -> Any:
        if next(tries) == 1:
            raise OSError("the disk is full")
        return quarantine(*arguments)

    monkeypatch.setattr(desk.catalog.reports, "quarantine", full)
    with pytest.raises(OSError, match="the disk is full"):
        asyncio.run(desk.quarantiner.put_flooded(floods))
    assert len(desk.counts.quarantines) == 1
    asyncio.run(desk.quarantiner.put_flooded(floods))
    assert len(desk.counts.quarantines) == 3
    assert floods.take() == {}


# ------------------------------------------------------------------------------------------------- kept and listed


def test_people_put_it_there_and_lift_it(desk: Desk) -> None:
    desk.service.bank("a")
    entry, other = desk.ban("a"), desk.ban("a", OTHER)
    before = datetime.now(UTC)
    put = desk.catalog.update_entry("a", entry, EntryPatch(quarantine="under appeal")).value
    assert put.quarantine is not None
    assert (put.quarantine.reason, put.quarantine.message) == (QuarantineReason.BY_HAND, "under appeal")
    assert before <= put.quarantine.time <= datetime.now(UTC)
    assert json.loads(desk.last_event().after)["quarantine"] == "by_hand: under appeal"
    listed = desk.catalog.list_entries("a", only=EntryFilter(quarantined=True)).items
    assert [one.id for one in listed] == [entry]
    assert desk.catalog.reports.quarantined() == {"a": 1}
    assert desk.release("a", entry).quarantine is None
    assert desk.catalog.reports.quarantined() == {}
    assert desk.release("a", other).forgiven == 0


def test_it_outlives_a_restart(desk: Desk, tmp_path: Path) -> None:
    desk.service.bank("a")
    entry = desk.ban("a")
    desk.put("a", entry)
    desk.service.catalog.close()
    again = SqlCatalog.open(tmp_path / "catalog.sqlite3")
    found = again.get_entry("a", entry)
    assert found.quarantine is not None
    assert (found.quarantine.reason, found.quarantine.message) == (QuarantineReason.FLOOD, "as the test says")
    assert again.entries_by_key([found.key])[found.key].quarantine == found.quarantine, "as checks read it"
    again.close()


def test_the_server_puts_it_once(desk: Desk) -> None:
    desk.service.bank("a")
    entry = desk.ban("a")
    why = Quarantine(QuarantineReason.FLOOD, "first", datetime.now(UTC))
    assert desk.catalog.reports.quarantine("a", entry, why) is not None
    revision, events = desk.catalog.revision(), desk.last_event().sequence
    assert desk.catalog.reports.quarantine("a", entry, why) is None
    assert (desk.catalog.revision(), desk.last_event().sequence) == (revision, events), "nothing was written"
    with pytest.raises(EntryNotFound):
        desk.catalog.reports.quarantine("a", "nobody", why)


def test_the_policys_numbers_are_kept(desk: Desk) -> None:
    desk.service.bank("a", quarantine_false_positives=7, quarantine_flood=0)
    policy = desk.catalog.get_bank("a").policy
    assert (policy.quarantine_false_positives, policy.quarantine_flood) == (7, 0)
    desk.catalog.update_bank("a", BankPatch(enabled=False))
    assert desk.catalog.get_bank("a").policy == policy
