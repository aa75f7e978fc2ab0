"""The banks that a check compares with, and which of them compare a signal."""

from __future__ import annotations

from typing import Any, cast

import pytest
from tests.unit.matching.things import bank

from imagewarden_server.matching.errors import BankNotFound
from imagewarden_server.matching.lookup import Scope
from imagewarden_server.matching.ports import Catalog
from imagewarden_server.matching.types import Bank, BankKind, SignalType, Threshold


class Banks:
    """A catalogue of banks alone."""

    def __init__(self, *banks: Bank) -> None:
        self._banks = banks

    def all_banks(self) -> tuple[Bank, ...]:
        return self._banks


def scope_of(*banks: Bank, names: Any = ()) -> Scope:
    return Scope.of(cast("Catalog", Banks(*banks)), names)


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
