"""Banks and entries: made, listed, changed, deleted; each change in force for the next check."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from tests.support.api import MATCH, NO_MATCH, PDQ, SHA256, Api
from tests.support.errors import fails
from tests.support.processes import Server

from imagewarden.v1 import bank_service_pb2 as banks_pb
from imagewarden.v1 import types_pb2 as types


@pytest.fixture
def api(server_without_model: Server) -> Iterator[Api]:
    with Api(server_without_model.address) as api:
        for bank in api.banks.ListBanks(banks_pb.ListBanksRequest()).banks:
            api.banks.DeleteBank(banks_pb.DeleteBankRequest(name=bank.name, force=True))
        yield api


def digest(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def hashes(*numbers: int) -> list[banks_pb.HashToAdd]:
    return [banks_pb.HashToAdd(type=SHA256, hex=digest(number)) for number in numbers]


def test_a_bank_answers_complete(api: Api) -> None:
    said = types.Bank(name="banks/abuse", kind=types.BANK_KIND_BANNED, display_name="Abuse", labels={"team": "ts"})
    made = api.banks.CreateBank(banks_pb.CreateBankRequest(bank=said)).bank
    assert made.enabled
    assert made.policy.action == types.ACTION_BLOCK
    thresholds = {one.signal: one.threshold for one in made.policy.thresholds}
    assert thresholds[PDQ] == 31
    assert set(thresholds) == set(types.SignalType.values()) - {0, types.SIGNAL_TYPE_SEMANTIC}
    assert made == api.banks.GetBank(banks_pb.GetBankRequest(name="banks/abuse")).bank
    assert made.create_time.seconds > 0


def test_pages_of_banks_and_entries(api: Api) -> None:
    names = [api.create_bank(f"b{number}") for number in range(5)]
    found: list[str] = []
    token = ""
    while True:
        page = api.banks.ListBanks(banks_pb.ListBanksRequest(page_size=2, page_token=token))
        assert len(page.banks) <= 2
        found += [bank.name for bank in page.banks]
        token = page.next_page_token
        if not token:
            break
    assert found == names
    api.banks.AddHashes(banks_pb.AddHashesRequest(bank=names[0], hashes=hashes(*range(5))))
    first = api.banks.ListEntries(banks_pb.ListEntriesRequest(bank=names[0], page_size=3))
    rest = api.banks.ListEntries(
        banks_pb.ListEntriesRequest(bank=names[0], page_size=3, page_token=first.next_page_token)
    )
    assert [entry.signals[0].hex for entry in (*first.entries, *rest.entries)] == [digest(one) for one in range(5)]
    assert not rest.next_page_token
    with fails() as failure:
        api.banks.ListEntries(banks_pb.ListEntriesRequest(bank=names[1], page_token=first.next_page_token))
    assert failure.metadata == {"field": "page_token"}


def test_listings_filter(api: Api) -> None:
    bank = api.create_bank("abuse")
    api.banks.AddHashes(
        banks_pb.AddHashesRequest(
            bank=bank,
            hashes=[
                banks_pb.HashToAdd(type=SHA256, hex=digest(1), external_id="one", labels=["red", "blue"]),
                banks_pb.HashToAdd(type=SHA256, hex=digest(2), external_id="two", labels=["reddish"]),
            ],
        )
    )
    for filters, expected in (
        ({"external_id": "two"}, ["two"]),
        ({"label": "red"}, ["one"]),
        ({"label": "green"}, []),
        ({"state": types.ENTRY_STATE_DISABLED}, []),
        ({"state": types.ENTRY_STATE_ACTIVE}, ["one", "two"]),
    ):
        request = banks_pb.ListEntriesRequest(bank=bank, **filters)
        assert [entry.external_id for entry in api.banks.ListEntries(request).entries] == expected


def test_each_change_of_an_entry_is_in_force_for_the_next_check(api: Api) -> None:
    bank = api.create_bank("abuse")
    data = b"not a picture, and banned all the same"
    name = api.add_hash(bank, SHA256, hashlib.sha256(data).hexdigest()).results[0].entry

    def update(state: types.EntryState.ValueType) -> None:
        request = banks_pb.UpdateEntryRequest(entry=types.Entry(name=name, state=state))
        request.update_mask.paths.append("state")
        assert api.banks.UpdateEntry(request).entry.state == state

    assert api.check(data).verdict == MATCH
    update(types.ENTRY_STATE_DISABLED)
    assert api.check(data).verdict != MATCH
    update(types.ENTRY_STATE_ACTIVE)
    assert api.check(data).verdict == MATCH
    api.banks.DeleteEntry(banks_pb.DeleteEntryRequest(name=name))
    assert api.check(data).verdict != MATCH
    with fails() as failure:
        api.banks.DeleteEntry(banks_pb.DeleteEntryRequest(name=name))
    assert failure.reason == "ENTRY_NOT_FOUND"


def test_entries_expire(api: Api) -> None:
    bank = api.create_bank("abuse")
    data = b"banned for a second"
    soon = datetime.now(UTC) + timedelta(seconds=1)
    one = banks_pb.HashToAdd(type=SHA256, hex=hashlib.sha256(data).hexdigest())
    one.expire_time.FromDatetime(soon)
    name = api.banks.AddHashes(banks_pb.AddHashesRequest(bank=bank, hashes=[one])).results[0].entry
    assert api.check(data).verdict == MATCH
    time.sleep(1.1)
    assert api.check(data).verdict != MATCH, "at once, whether or not it has been marked yet"
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        entry = api.banks.GetEntry(banks_pb.GetEntryRequest(name=name)).entry
        if entry.state == types.ENTRY_STATE_EXPIRED:
            break
        time.sleep(0.2)
    assert entry.state == types.ENTRY_STATE_EXPIRED
    request = banks_pb.UpdateEntryRequest(entry=types.Entry(name=name))
    request.update_mask.paths.append("expire_time")
    assert api.banks.UpdateEntry(request).entry.state == types.ENTRY_STATE_ACTIVE
    assert api.check(data).verdict == MATCH


def test_ten_thousand_hashes_in_one_call_and_the_last_of_them_found_at_once(api: Api) -> None:
    bank = api.create_bank("hashes")
    data = b"the last of ten thousand"
    batch = hashes(*range(9_999))
    batch.append(banks_pb.HashToAdd(type=SHA256, hex=hashlib.sha256(data).hexdigest()))
    answer = api.banks.AddHashes(banks_pb.AddHashesRequest(bank=bank, hashes=batch), timeout=60)
    assert (answer.added, answer.duplicates) == (10_000, 0)
    found = api.check(data, at_least_revision=answer.revision)
    assert found.verdict == MATCH
    assert found.matches[0].entry == answer.results[-1].entry
    again = api.banks.AddHashes(banks_pb.AddHashesRequest(bank=bank, hashes=batch), timeout=60)
    assert (again.added, again.duplicates) == (0, 10_000)
    assert [one.entry for one in again.results] == [one.entry for one in answer.results]


def test_a_bank_with_entries_is_deleted_with_force_alone(api: Api) -> None:
    bank = api.create_bank("abuse")
    data = b"gone with its bank"
    api.add_hash(bank, SHA256, hashlib.sha256(data).hexdigest())
    with fails() as failure:
        api.banks.DeleteBank(banks_pb.DeleteBankRequest(name=bank))
    assert (failure.reason, failure.metadata["entries"]) == ("BANK_NOT_EMPTY", "1")
    assert api.check(data).verdict == MATCH
    assert api.banks.DeleteBank(banks_pb.DeleteBankRequest(name=bank, force=True)).deleted_entries == 1
    assert api.check(data).verdict != MATCH
    made_again = api.create_bank("abuse")
    assert api.check(data, banks=[made_again]).verdict != MATCH, "a bank of the same name is another bank"


def test_a_ban_needs_no_model_where_a_digest_says_it(api: Api) -> None:
    bank = api.create_bank("abuse")
    with fails() as failure:
        api.add_image(bank, bytes(10))
    assert failure.reason == "IMAGE_UNDECODABLE"
    assert api.check(b"anything").verdict != NO_MATCH
