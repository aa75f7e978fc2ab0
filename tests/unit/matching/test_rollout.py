"""A slow roll-out: the same pictures each time, and only ever more of them."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.matching.things import bank

from imagewarden_server.matching.directory import Scope
from imagewarden_server.matching.rollout import takes
from imagewarden_server.matching.types import BankKind

DIGESTS = st.binary(min_size=32, max_size=32)
RATIOS = st.floats(0, 1)


def digest(number: int) -> bytes:
    return hashlib.sha256(number.to_bytes(8, "big")).digest()


def test_the_rule_is_the_one_that_the_api_states() -> None:
    """As anybody may compute it: a fraction of 2^64 of the first 8 bytes of a SHA-256."""
    for number in range(200):
        place = hashlib.sha256(b"banks/abuse" + digest(number)).digest()
        fraction = int(place.hex()[:16], 16) / 2**64
        assert takes("banks/abuse", 0.3, digest(number)) == (fraction < 0.3)


@given(sha256=DIGESTS, first=RATIOS, second=RATIOS)
def test_a_greater_ratio_only_adds_pictures(sha256: bytes, first: float, second: float) -> None:
    less, more = sorted((first, second))
    assert takes("banks/abuse", more, sha256) or not takes("banks/abuse", less, sha256)


@given(sha256=DIGESTS)
def test_none_and_all(sha256: bytes) -> None:
    assert not takes("banks/abuse", 0.0, sha256)
    assert takes("banks/abuse", 1.0, sha256)


def test_about_as_many_pictures_as_the_ratio_says() -> None:
    for ratio in (0.01, 0.25, 0.9):
        taken = sum(takes("banks/abuse", ratio, digest(number)) for number in range(20_000))
        # Five standard deviations of a binomial count.
        assert abs(taken - 20_000 * ratio) < 5 * (20_000 * ratio * (1 - ratio)) ** 0.5


def test_two_banks_leave_different_pictures_out() -> None:
    both = [[takes(f"banks/{name}", 0.5, digest(number)) for name in ("a", "b")] for number in range(400)]
    assert {tuple(one) for one in both} == {(False, False), (False, True), (True, False), (True, True)}


def test_a_scope_keeps_the_banks_that_take_the_picture() -> None:
    everything, half = bank(key=1), bank(BankKind.ALLOWED, key=2, enabled_ratio=0.5)
    scope = Scope((everything, half))
    kept = [len(scope.taking(digest(number)).banks) for number in range(100)]
    assert set(kept) == {1, 2}
    for number, count in enumerate(kept):
        assert scope.taking(digest(number)).banks[0] is everything
        assert (count == 2) == takes(half.name, 0.5, digest(number))
    whole = Scope((everything,))
    assert whole.taking(digest(1)) is whole
