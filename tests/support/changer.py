"""Callers that change a catalogue by every kind of change, and what it must have after what was acknowledged."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import random
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import grpc
import numpy as np
from google.protobuf.field_mask_pb2 import FieldMask

from imagewarden.v1 import bank_service_pb2 as banks_pb
from imagewarden.v1 import types_pb2 as types
from imagewarden.v1.moderation_service_pb2 import ReportMatchRequest
from tests.support.api import BANNED, EMBEDDING, PDQ, SHA256, Api
from tests.support.records import vectors

BATCH = 20
BANK = "banks/abuse"
DIMENSIONS = 16
LISTS, REPORTS, POLICIES = "of them messages of lists", "of them reports of matches", "of them policies of banks"
CHANGES = ("changes acknowledged", LISTS, REPORTS, POLICIES)
"""What is counted of them."""

Counts = tuple[int, int, int]
"""Reports of one entry: confirmed, false positives, disputed."""
NONE: Counts = (0, 0, 0)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class Expected:
    """What the catalogue must have.

    Attributes:
        names: the entry of each acknowledged content; None: it was deleted, and that was acknowledged.
        open: contents whose last change got no answer, in groups of which all or none are there.
        views: of how many views each content has a vector, where its record has one.
        reports: what was reported of each content's entry.
        reporting: as `reports`, with one more that got no answer.
        policies: by caller, the number of the policy that its own bank has.
        setting: the number of one that got no answer.
    """

    names: dict[bytes, str | None] = field(default_factory=dict)
    open: list[list[bytes]] = field(default_factory=list)
    views: dict[bytes, int] = field(default_factory=dict)
    reports: dict[bytes, Counts] = field(default_factory=dict)
    reporting: dict[bytes, Counts] = field(default_factory=dict)
    policies: dict[int, int] = field(default_factory=dict)
    setting: dict[int, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Changer:
    """One caller that makes changes until its server is gone."""

    def __init__(
        self, api: Api, expected: Expected, chance: random.Random, tally: Counter[str], turn: int, caller: int
    ) -> None:
        self._api, self._expected, self._chance, self._tally = api, expected, chance, tally
        self._turn, self._caller = f"{turn}.{caller}", caller
        self._number = 0

    def run(self) -> None:
        steps = {
            self._add: 4,
            self._delete: 2,
            self._toggle: 1,
            self._import: 2,
            self._report: 2,
            self._set_policy: 1,
            self._check: 3,
        }
        with contextlib.suppress(grpc.RpcError):
            while True:
                self._chance.choices(tuple(steps), tuple(steps.values()))[0]()

    def _new(self, count: int) -> list[bytes]:
        self._number += count
        return [f"{self._turn}-{self._number - one}".encode() for one in range(count)]

    def _add(self) -> None:
        contents = self._new(self._chance.choice((1, BATCH)))
        hashes = [banks_pb.HashToAdd(type=SHA256, hex=digest(one)) for one in contents]
        with self._open(contents):
            answer = self._api.banks.AddHashes(banks_pb.AddHashesRequest(bank=BANK, hashes=hashes), timeout=30)
            with self._expected.lock:
                self._expected.names |= {
                    content: one.entry for content, one in zip(contents, answer.results, strict=True)
                }

    def _delete(self) -> None:
        if (chosen := self._mine()) is not None:
            content, name = chosen
            with self._open([content]):
                self._api.banks.DeleteEntry(banks_pb.DeleteEntryRequest(name=name), timeout=30)
                with self._expected.lock:
                    self._expected.names[content] = None

    def _toggle(self) -> None:
        """Disabled and enabled again: two changes that must leave it as it was."""
        if (chosen := self._mine()) is not None:
            content, name = chosen
            with self._open([content]):
                for state in (types.ENTRY_STATE_DISABLED, types.ENTRY_STATE_ACTIVE):
                    set_state(self._api, name, state)
                    with self._expected.lock:
                        self._tally["changes acknowledged"] += state == types.ENTRY_STATE_DISABLED

    def _import(self) -> None:
        """A list of some messages, the last one of tombstones: each message is a change of its own."""
        groups = [self._new(self._chance.choice((1, BATCH))) for _ in range(self._chance.randint(1, 3))]
        gone = sorted({chosen[0] for chosen in (self._mine() for _ in range(3)) if chosen is not None})
        messages = [[(content, False) for content in group] for group in groups]
        if gone:
            groups.append(gone)
            messages.append([(content, True) for content in gone])
        numbers = itertools.count(1)
        requests = [
            banks_pb.ImportEntriesRequest(bank=BANK, records=[self._record(next(numbers), *one) for one in message])
            for message in messages
        ]
        with self._expected.lock:
            self._expected.open += groups
        answers = self._api.banks.ImportEntries(iter(requests), timeout=30)
        for group, message, _ in zip(groups, messages, answers, strict=True):
            with self._expected.lock:
                self._expected.names |= {
                    content: None if removed else self._name(content) for content, removed in message
                }
                self._expected.open.remove(group)
                self._acknowledged(LISTS)

    def _record(self, number: int, content: bytes, removed: bool) -> banks_pb.EntryRecord:
        with self._expected.lock:
            name = self._expected.names.get(content) or self._name(content)
        value = banks_pb.RecordHash(type=SHA256, value=bytes.fromhex(digest(content)))
        record = banks_pb.EntryRecord(number=number, id=name.rpartition("/")[2], hashes=[value], removed=removed)
        if not removed and (views := self._chance.randrange(4)):
            chance = np.random.default_rng(self._chance.getrandbits(32))
            record.vectors.append(vectors(EMBEDDING, views, DIMENSIONS, chance))
            with self._expected.lock:
                self._expected.views[content] = views
        return record

    @staticmethod
    def _name(content: bytes) -> str:
        """What an imported entry is called: its record says so."""
        return f"{BANK}/entries/{digest(content)[:20]}"

    def _report(self) -> None:
        """What somebody found of another picture that an entry matched."""
        if (chosen := self._mine()) is not None:
            content, name = chosen
            opinion = self._chance.randrange(len(NONE))
            with self._expected.lock:
                confirmed, false, disputed = self._expected.reports.get(content, NONE)
                one = opinion == 0, opinion == 1, opinion == 2
                self._expected.reporting[content] = (confirmed + one[0], false + one[1], disputed + one[2])
            request = ReportMatchRequest(
                entry=name, sha256=self._chance.randbytes(32).hex(), opinion=types.Opinion.values()[opinion + 1]
            )
            self._api.moderation.ReportMatch(request, timeout=30)
            with self._expected.lock:
                self._expected.reports[content] = self._expected.reporting.pop(content)
                self._acknowledged(REPORTS)

    def _set_policy(self) -> None:
        """A name, thresholds and a ratio in one change, of a bank that no other caller changes."""
        with self._expected.lock:
            number = self._expected.policies.get(self._caller, 0) + 1
            self._expected.setting[self._caller] = number
        request = banks_pb.UpdateBankRequest(
            bank=policy_bank(self._caller, number),
            update_mask=FieldMask(paths=["display_name", "policy.thresholds", "policy.enabled_ratio"]),
        )
        self._api.banks.UpdateBank(request, timeout=30)
        with self._expected.lock:
            self._expected.policies[self._caller] = self._expected.setting.pop(self._caller)
            self._acknowledged(POLICIES)

    def _check(self) -> None:
        if (chosen := self._mine()) is not None:
            assert self._api.check(chosen[0]).matches[0].entry == chosen[1]
            with self._expected.lock:
                self._tally["checks answered beside"] += 1

    def _acknowledged(self, what: str) -> None:
        self._tally["changes acknowledged"] += 1
        self._tally[what] += 1

    def _mine(self) -> tuple[bytes, str] | None:
        """An entry of this caller's own, which no other one changes."""
        with self._expected.lock:
            own = [
                (content, name)
                for content, name in self._expected.names.items()
                if name is not None and content.startswith(self._turn.encode() + b"-")
            ]
        return self._chance.choice(own) if own else None

    @contextlib.contextmanager
    def _open(self, contents: list[bytes]) -> Iterator[None]:
        with self._expected.lock:
            self._expected.open.append(contents)
        yield
        with self._expected.lock:
            self._expected.open.remove(contents)
            self._tally["changes acknowledged"] += 1


def policy_bank(caller: int, number: int) -> types.Bank:
    """The bank of a caller as its change of a number makes it."""
    thresholds = [types.SignalThreshold(signal=PDQ, threshold=number % 32)]
    policy = types.Policy(thresholds=thresholds, enabled_ratio=number % 101 / 100)
    return types.Bank(name=f"banks/policies-{caller}", kind=BANNED, display_name=f"change {number}", policy=policy)


def set_state(api: Api, name: str, state: types.EntryState.ValueType) -> None:
    request = banks_pb.UpdateEntryRequest(entry=types.Entry(name=name, state=state))
    request.update_mask.paths.append("state")
    api.banks.UpdateEntry(request, timeout=30)
