"""Files known by their digests, over the real catalogue and index: what a worker does, and what the event loop does."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.checking import Service, sha256

from imagewarden_server.matching.types import Action, SignalType, Verdict
from imagewarden_server.matching.walk import CheckRequest

FILE, OTHER, LARGE = b"no picture at all", b"another", bytes(128 * 1024 + 1)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    yield made
    made.workers.close()
    made.decoder.close()
    made.catalog.close()


def test_a_banned_file_is_known_without_a_worker_once_its_entry_is_read(service: Service) -> None:
    service.bank("a")
    service.ban("a", SignalType.SHA256, sha256(FILE))
    for runs in (["_compare_digests"], []):
        answer = service.check(FILE)
        assert (answer.verdict, answer.action) == (Verdict.MATCH, Action.BLOCK)
        assert [match.signal for match in answer.matches] == [SignalType.SHA256]
        assert answer.sha256 == sha256(FILE)
        assert list(answer.timings) == ["digest", "digest_search", "policy"]
        assert service.workers.runs == runs


def test_a_ban_and_its_end_are_seen_at_once(service: Service) -> None:
    service.bank("a")
    service.ban("a", SignalType.SHA256, sha256(FILE))
    assert service.check(OTHER).verdict is not Verdict.MATCH
    service.check(FILE)
    service.ban("a", SignalType.SHA256, sha256(OTHER))
    assert service.check(OTHER).verdict is Verdict.MATCH
    entry = service.check(FILE).matches[0].entry
    service.check(FILE)
    assert service.workers.runs == []
    service.catalog.delete_entry("a", entry.id)
    service.follow()
    assert service.check(FILE).verdict is not Verdict.MATCH
    assert service.check(OTHER).verdict is Verdict.MATCH


def test_a_large_file_is_hashed_by_a_worker(service: Service) -> None:
    service.bank("a")
    service.ban("a", SignalType.SHA256, sha256(LARGE))
    for _ in range(2):
        assert service.check(LARGE).verdict is Verdict.MATCH
        assert service.workers.runs == ["_compare_digests"]


def test_while_a_change_is_made_nobody_waits_on_the_loop(service: Service) -> None:
    service.bank("a")
    service.ban("a", SignalType.SHA256, sha256(FILE))
    service.check(FILE)

    async def beside() -> list[str]:
        with service.index._lock.write():
            waiting = asyncio.create_task(service.checker.check(CheckRequest(FILE)))
            await asyncio.sleep(0.2)  # the loop goes on: the check waits on a thread
            assert not waiting.done()
        assert (await waiting).verdict is Verdict.MATCH
        return service.workers.runs

    service.workers.runs.clear()
    assert asyncio.run(beside()) == ["_compare_digests"]


@pytest.mark.parametrize("type_", [SignalType.SHA1, SignalType.MD5])
def test_weak_digests_are_compared_where_sha256_does_not_block(service: Service, type_: SignalType) -> None:
    weak = hashlib.new(type_.value, FILE).digest()
    service.bank("reviewed", Action.REVIEW)
    service.bank("weak")
    service.ban("reviewed", SignalType.SHA256, sha256(FILE))
    service.ban("weak", type_, weak)
    answer = service.check(FILE)
    assert answer.action is Action.BLOCK
    assert {match.signal for match in answer.matches} == {SignalType.SHA256, type_}
    only = service.check(FILE, banks=("reviewed",))
    assert (only.action, [match.signal for match in only.matches]) == (Action.REVIEW, [SignalType.SHA256])


def test_who_asks_for_all_is_told_of_every_digest(service: Service) -> None:
    service.bank("a")
    service.bank("b")
    service.ban("a", SignalType.SHA256, sha256(FILE))
    service.ban("b", SignalType.MD5, hashlib.md5(FILE, usedforsecurity=False).digest())
    assert len(service.check(FILE).matches) == 1, "what blocks ends the road"
    assert len(service.check(FILE, exhaustive=True).matches) == 2
