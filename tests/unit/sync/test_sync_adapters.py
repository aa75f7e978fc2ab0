"""What each exchange's fetcher gives, as records: over HTTP on loopback, without the service."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.exchanges import Exchange, FbThreatExchange, Ncmec, StopNcii, Tat, served
from tests.support.syncing import CREDENTIALS, KINDS, digits
from threatexchange.exchanges.impl.ncmec_api import NCMECCheckpoint, _NCMECPagingInfo

from imagewarden import EntryRecord
from imagewarden_sync import config, fetching
from imagewarden_sync.errors import FetchError
from imagewarden_sync.exchanges import open_exchange
from imagewarden_sync.exchanges.base import Adapter, Delta

THEN = 1_700_000_000
SETTINGS: dict[str, dict[str, Any]] = {"ncmec": {"environment": "NGO"}, "fb_threatexchange": {"privacy_group": 550}}


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for key, value in CREDENTIALS.items():
        monkeypatch.setenv(key, value)
    # As the command does.
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def adapter(exchange: Exchange, **settings: Any) -> Adapter:
    kind = KINDS[type(exchange)]
    said = {"name": "theirs", "kind": kind, "bank": "b", "url": exchange.url, **SETTINGS.get(kind, {}), **settings}
    return open_exchange(config.exchange(said, "test"))


def deltas(of: Adapter, checkpoint: Any = None) -> list[Delta]:
    return [of.delta(page) for page in fetching.pages(of, checkpoint)]


def records(found: list[Delta]) -> dict[str, EntryRecord]:
    return {record.external_id: record for delta in found for record in delta.records}


@pytest.mark.parametrize("make", [Ncmec, StopNcii, Tat, FbThreatExchange])
def test_a_checkpoint_is_the_same_after_json(make: type[Exchange]) -> None:
    with served(make(2)) as exchange:
        if isinstance(exchange, Ncmec):
            for number in range(5):
                exchange.change(str(number), THEN, prints={"pdq": digits(number)})
        elif isinstance(exchange, Tat):
            for number in range(5):
                exchange.change(number, THEN, hash_digest=digits(number))
        elif isinstance(exchange, StopNcii | FbThreatExchange):
            for number in range(5):
                exchange.change(digits(number), THEN)
        of = adapter(exchange)
        found = deltas(of)
        assert len(records(found)) == 5
        checkpoints = [delta.checkpoint for delta in found if delta.checkpoint is not None]
        assert checkpoints
        for checkpoint in checkpoints:
            assert of.from_json(of.to_json(checkpoint)) == checkpoint
        with pytest.raises(ValueError, match="has no such checkpoint"):
            of.from_json({key: ["something else"] for key in of.to_json(checkpoints[-1])})
        assert not records(deltas(of, checkpoints[-1])) or isinstance(exchange, StopNcii | FbThreatExchange)


def test_ncmec_goes_on_within_a_range() -> None:
    """A second with several pages: each page's checkpoint has the address of the next."""
    with served(Ncmec(10)) as exchange:
        for number in range(35):
            exchange.change(f"n{number:02}", THEN, prints={"pdq": digits(number)})
        of = adapter(exchange)
        found = deltas(of)
        within = [delta for delta in found if delta.checkpoint.paging_info is not None]
        assert len(within) == 3
        before = set(records(found[: found.index(within[0]) + 1]))
        rest = records(deltas(of, of.from_json(of.to_json(within[0].checkpoint))))
        assert before.isdisjoint(rest)
        assert len(before | set(rest)) == 35


def test_ncmec_after_a_kill_within_the_second() -> None:
    """The fetcher asserts that a range that it goes on in has ended before it began: such a one begins again."""
    with served(Ncmec(10)) as exchange:
        exchange.change("a", THEN, prints={"pdq": digits("a")})
        ahead = NCMECCheckpoint(THEN - 1, _NCMECPagingInfo("/v2/entries?nowhere", int(time.time())))
        assert set(records(deltas(adapter(exchange), ahead))) == {"42-a"}


def test_stopncii_tells_a_checkpoint_at_the_end_alone() -> None:
    """The first page's time is later than records of the pages after it."""
    with served(StopNcii(10)) as exchange:
        for number in range(25):
            exchange.change(digits(number), THEN + number)
        found = deltas(adapter(exchange))
        assert [len(delta.records) for delta in found] == [10, 10, 5]
        assert [delta.checkpoint is None for delta in found] == [True, True, False]
        assert found[-1].checkpoint.update_time == THEN + 24


def test_stopncii_takes_back() -> None:
    with served(StopNcii()) as exchange:
        for number, status in enumerate(("Active", "Received", "Withdrawn", "Deleted")):
            exchange.change(digits(number), THEN + number, status)
        found = records(deltas(adapter(exchange)))
        assert [found[digits(number)].removed for number in range(4)] == [False, False, True, True]
        assert found[digits(0)].metadata["case 27664732"] == "Active"


def test_tat_misses_nothing_that_moves_while_it_is_read() -> None:
    """A record of a page that was read is changed and moves to the end: those behind it move up by one."""
    with served(Tat(10)) as exchange:
        for number in range(30):
            exchange.change(number, THEN + number, hash_digest=digits(number))
        of = adapter(exchange)
        seen: set[str] = set()
        for page in fetching.pages(of, None):
            seen |= set(records([of.delta(page)]))
            if len(seen) == 10:
                exchange.change(0, THEN + 1_000, hash_digest=digits("moved"))
        assert seen == {str(number) for number in range(30)}


def test_tat_that_says_there_is_more_and_not_where(monkeypatch: pytest.MonkeyPatch) -> None:
    with served(Tat(1)) as exchange:
        for number in range(3):
            exchange.change(number, THEN, hash_digest=digits(number))
        spoken = exchange.spoken

        def without(asked: Any) -> Any:
            status, kind, data = spoken(asked)
            return (
                status,
                kind,
                data.replace(f'"checkpoint": "{THEN},2"'.encode(), f'"checkpoint": "{THEN},1"'.encode()),
            )

        monkeypatch.setattr(exchange, "spoken", without)
        exchange.change(3, THEN, hash_digest=digits(3))
        with pytest.raises(FetchError, match="cannot read"):
            deltas(adapter(exchange))


def test_fb_of_what_all_hold_harmless() -> None:
    with served(FbThreatExchange()) as exchange:
        exchange.change(digits(0), THEN)
        exchange.change(digits(1), THEN, status="NON_MALICIOUS")
        exchange.change(digits(2), THEN, should_delete=True)
        exchange.change(digits(3, 32), THEN, type_="HASH_MD5")
        tags = {"data": [{"id": "77", "owner": {"id": "9"}, "status": "MALICIOUS", "tags": ["media_type_video"]}]}
        exchange.change(digits(4, 32), THEN, type_="HASH_MD5", descriptors=tags)
        exchange.change(digits(5), THEN, descriptors={"data": [{"id": "not a number"}]})
        exchange.change("example.org", THEN, type_="DOMAIN")
        (found,) = deltas(adapter(exchange))
        assert {record.external_id: record.removed for record in found.records} == {
            f"HASH_PDQ:{digits(0)}": False,
            f"HASH_PDQ:{digits(1)}": True,
            f"HASH_PDQ:{digits(2)}": True,
            f"HASH_MD5:{digits(3, 32)}": False,
        }
        assert found.skipped == 2
        assert [one.reason for one in found.refused] == ["its descriptors are not as they should be: ValueError"]


def test_fb_goes_on_a_second_before_its_checkpoint() -> None:
    with served(FbThreatExchange()) as exchange:
        of = adapter(exchange)
        exchange.change(digits(0), THEN)
        (first,) = deltas(of)
        exchange.change(digits(1), THEN)  # of the same second, and later
        (second,) = deltas(of, first.checkpoint)
        assert set(records([second])) == {f"HASH_PDQ:{digits(0)}", f"HASH_PDQ:{digits(1)}"}


def test_fb_with_nothing_new() -> None:
    with served(FbThreatExchange()) as exchange:
        (found,) = deltas(adapter(exchange))
        assert (found.records, found.fetched) == ([], 0)


def test_what_a_page_that_is_none_is_told_as(monkeypatch: pytest.MonkeyPatch) -> None:
    """And never in its own words: they may be of a list, or have a token in them."""
    with served(Ncmec()) as exchange:
        of = adapter(exchange)

        def broken(_: Any) -> Any:
            return 200, "application/xml", b"<queryResult><secret-record></queryResult>"

        monkeypatch.setattr(exchange, "spoken", broken)
        with pytest.raises(FetchError) as raised:
            deltas(of)
    assert "cannot read (ParseError)" in raised.value.message
    assert "secret-record" not in raised.value.message
    assert raised.value.passing


def test_nobody_answers() -> None:
    with served(Tat()) as exchange:
        of = adapter(exchange)
    with pytest.raises(FetchError, match=r"127.0.0.1 cannot be reached, or broke off \(ConnectionError\)") as raised:
        deltas(of)
    assert raised.value.passing


def test_a_delta_counts_all() -> None:
    found = Delta(skipped=2, unreadable=3)
    found.records.append(EntryRecord(external_id="a"))
    found.records.append(dataclasses.replace(found.records[0], external_id="b", removed=True))
    assert found.fetched == 7
    assert found.names == ["a"]
