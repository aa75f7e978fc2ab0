"""The banks that a check compares with, which of them compare a signal, and what is read again when."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.unit.matching.things import bank, entry

from imagewarden_server.matching import directory
from imagewarden_server.matching.directory import Directory, Scope
from imagewarden_server.matching.errors import BankNotFound
from imagewarden_server.matching.ports import Catalog, SearchIndex, WouldWait
from imagewarden_server.matching.types import Bank, BankKind, Entry, SignalType, Threshold


class State:
    """A catalogue and an index of which a test says what they have; counts what is read."""

    def __init__(self) -> None:
        self.index = SimpleNamespace(revision=1)
        self.committed = 1
        self.banks: tuple[Bank, ...] = (BANNED,)
        self.entries = {key: entry(BANNED, key=key) for key in range(10)}
        self.read: list[object] = []
        self.now = 0.0
        self.directory = Directory(cast("Catalog", self), cast("SearchIndex", self.index), lambda: self.now)

    def revision(self) -> int:
        return self.committed

    def all_banks(self) -> tuple[Bank, ...]:
        self.read.append("banks")
        return self.banks

    def entries_by_key(self, keys: Sequence[int]) -> dict[int, Entry]:
        self.read += keys
        return {key: self.entries[key] for key in keys if key in self.entries}

    entries_by_hash_key = entries_by_key


def scope_of(*banks: Bank, names: Any = ()) -> Scope:
    return Scope.of(banks, names)


BANNED, BRAND, ALLOWED = (bank(kind, key=key) for key, kind in enumerate(BankKind, 1))


def test_without_names_all_enabled_banks_are_in_scope() -> None:
    sleeping = bank(key=7, enabled=False)
    assert scope_of(BANNED, sleeping, BRAND).banks == (BANNED, BRAND)


def test_named_banks_are_in_scope_each_once_and_those_that_are_off_are_left_out() -> None:
    sleeping = bank(key=7, enabled=False)
    found = scope_of(BANNED, sleeping, BRAND, names=(BRAND.id, sleeping.id, BRAND.id))
    assert found.banks == (BRAND,)
    assert found.by_key == {BRAND.key: BRAND}


def test_a_bank_that_is_not_there_is_said() -> None:
    with pytest.raises(BankNotFound, match="nobody"):
        scope_of(BANNED, names=(BANNED.id, "nobody"))


def test_only_banks_that_compare_a_signal_are_asked() -> None:
    without = bank(thresholds={SignalType.LOCAL: Threshold(12, disabled=True)}, key=5)
    scope = scope_of(BANNED, BRAND, ALLOWED, without)
    assert set(scope.comparing(SignalType.PDQ)) == {BANNED.key, BRAND.key, ALLOWED.key, 5}
    assert set(scope.comparing(SignalType.LOCAL)) == {BANNED.key, BRAND.key}, "ALLOWED banks compare it when told to"
    assert set(scope.comparing(SignalType.EMBEDDING, frozenset({BankKind.BRAND}))) == {BRAND.key}
    assert scope.comparing(SignalType.EMBEDDING)[BRAND.key] == BRAND.policy.thresholds[SignalType.EMBEDDING]


def test_what_is_read_holds_as_long_as_the_revision() -> None:
    state = State()
    for _ in range(3):
        assert state.directory.scope(()).banks == (BANNED,)
        assert set(state.directory.entries_by_key([3, 5])) == {3, 5}
    assert state.read == ["banks", 3, 5]
    assert set(state.directory.entries_by_key([5, 6])) == {5, 6}
    assert set(state.directory.entries_by_hash_key([6])) == {6}, "a hash's key is no entry's key"
    assert state.read == ["banks", 3, 5, 6, 6]


def test_a_change_is_read_at_the_next_check() -> None:
    state = State()
    state.directory.scope(())
    state.directory.entries_by_key([3])
    state.banks, state.index.revision = (BANNED, BRAND), 2
    del state.entries[3]
    assert state.directory.scope(()).banks == (BANNED, BRAND)
    assert state.directory.entries_by_key([3]) == {}


def test_what_the_index_was_not_told_is_read_a_second_later() -> None:
    state = State()
    state.directory.entries_by_key([3])
    del state.entries[3]
    state.committed = 2
    assert set(state.directory.entries_by_key([3])) == {3}
    state.now = 1.0
    assert state.directory.entries_by_key([3]) == {}


def test_while_the_catalogue_has_no_change_nothing_is_read_again() -> None:
    state = State()
    for second in range(5):
        state.now = float(second)
        assert set(state.directory.entries_by_key([3])) == {3}
        assert state.directory.scope(()).banks == (BANNED,)
    assert state.read == [3, "banks"]


def test_who_may_not_wait_is_told_what_is_known_and_no_more() -> None:
    state = State()
    with pytest.raises(WouldWait):
        state.directory.scope((), wait=False)
    state.directory.scope(())
    with pytest.raises(WouldWait):
        state.directory.entries_by_hash_key([3], wait=False)
    state.directory.entries_by_hash_key([3])
    read = list(state.read)
    assert state.directory.scope((), wait=False).banks == (BANNED,)
    assert set(state.directory.entries_by_hash_key([3], wait=False)) == {3}
    assert set(state.directory.entries_by_key([3])) == {3}, "what was found by a hash is known by its key"
    assert state.read == read
    state.now = 1.0
    with pytest.raises(WouldWait):
        state.directory.scope((), wait=False)


def test_what_is_gone_is_asked_for_each_time() -> None:
    state = State()
    assert state.directory.entries_by_key([77]) == {}
    assert state.directory.entries_by_key([77]) == {}
    assert state.read == [77, 77]


def test_no_more_is_held_than_a_page_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "_PAGE_ENTRIES", 4)
    state = State()
    for key in range(4):
        state.directory.entries_by_key([key])
    assert set(state.directory.entries_by_key([0, 9])) == {0, 9}
    assert set(state.directory.entries_by_key([0, 9])) == {0, 9}
    assert state.read == [0, 1, 2, 3, 0, 9, 0, 9]
