"""Whatever bytes a list has: its reader ends, answers records or refusals, and raises nothing but its own error."""

from __future__ import annotations

import io
from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.support.hash_lists import MAKERS

from imagewarden import EntryRecord, SignalType
from imagewarden._lists import Import
from imagewarden.lists import Format, ListError, Refused, detect, open_list

MOST = 10_000
# The beginnings of good lists, for damage to begin with something that a reader takes for its own.
SEEDS = {format_: MAKERS[format_](later=True).data[:4_000] for format_ in Format}
_PIECES = st.sampled_from(
    [b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"\n", b"\0", b"<", b">", b"&", b"\xff", b"#", b"1e999", b"null"]
)


def drain(data: bytes, format_: Format) -> None:
    """Read a list to its end, and make messages of what it gives."""
    numbers = []
    work = Import("x", "id", validate_only=True)

    def records(items: list[tuple[int, EntryRecord]]) -> None:
        for chunk in work.chunks(items):
            assert chunk.message.ByteSize() <= chunk.size + 64

    good = []
    with suppress(ListError):
        for item in open_list(io.BytesIO(data), format=format_, type=SignalType.PDQ):
            numbers.append(item.number if isinstance(item, Refused) else item[0])
            if isinstance(item, Refused):
                assert item.reason
                assert item.excerpt.isprintable()
                assert len(item.excerpt) < 1_000
            else:
                good.append(item)
            assert len(numbers) < MOST
    assert numbers == sorted(set(numbers))
    records(good)


@pytest.mark.parametrize("format_", Format)
@given(data=st.binary(max_size=500))
@example(data=b"\x1f\x8b")
@example(data=b"\x1f\x8b\x08\x00\x00\x00\x00\x00")
@example(data=b"\xef\xbb\xbf")
@example(data=b"[[[[[[[[")
@example(data=b'{"hashRecords":[{"\\')
@example(data=b'{"hashRecords":')
@example(data=b'{"":[')
def test_any_bytes(format_: Format, data: bytes) -> None:
    drain(data, format_)


@pytest.mark.parametrize("format_", Format)
@settings(deadline=None)
@given(data=st.data())
def test_good_lists_that_were_damaged(format_: Format, data: st.DataObject) -> None:
    seed = bytearray(SEEDS[format_])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(seed)))
        length = data.draw(st.integers(0, 20))
        seed[at : at + length] = data.draw(_PIECES | st.binary(max_size=8))
    drain(bytes(seed), format_)


@pytest.mark.parametrize("format_", Format)
def test_good_lists_that_were_cut_off(format_: Format) -> None:
    for end in range(0, 1_500, 7):
        drain(SEEDS[format_][:end], format_)


@given(st.binary(max_size=300))
def test_detection_answers_or_says_what_it_could_not(data: bytes) -> None:
    with suppress(ListError):
        assert detect(data).why
