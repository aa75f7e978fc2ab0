"""ImageWarden's own lists: what is written is read as it was, byte for byte, and a list that was cut off is seen."""

from __future__ import annotations

import gzip
import io
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagewarden import (
    EntryRecord,
    EntryState,
    Quarantine,
    QuarantineReason,
    RecordFeatures,
    RecordHash,
    RecordVectors,
    SignalType,
)
from imagewarden.lists import Item, ListError, Refused, Writer, open_list

NOON = datetime(2026, 11, 30, 12, 0, 0, 250_000, tzinfo=UTC)
HEADER = '{"imagewarden":1,"bank":"banks/x","kind":"banned","revision":"r1","exported":"2026-11-30T12:00:00.250000Z"}'

REASONS = [reason for reason in QuarantineReason if reason is not QuarantineReason.UNKNOWN]
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_TIMES = st.none() | st.datetimes(timezones=st.just(UTC))
_HASHES = st.one_of(
    st.builds(RecordHash, st.just(SignalType.SHA256), st.binary(min_size=32, max_size=32)),
    st.builds(RecordHash, st.just(SignalType.SHA1), st.binary(min_size=20, max_size=20)),
    st.builds(RecordHash, st.just(SignalType.MD5), st.binary(min_size=16, max_size=16)),
    st.builds(
        RecordHash, st.just(SignalType.PDQ), st.binary(min_size=32, max_size=32), st.none() | st.integers(0, 100)
    ),
)
_NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
_VECTORS = st.builds(
    lambda kind, model, data, mean, deviation: RecordVectors(kind, model, 2, data, mean, deviation),
    st.sampled_from([SignalType.EMBEDDING, SignalType.SEMANTIC]),
    _TEXT,
    st.sampled_from([b"12345678", b"1234567812345678"]),
    _NUMBERS,
    _NUMBERS,
)
RECORDS = st.builds(
    EntryRecord,
    hashes=st.lists(_HASHES, max_size=4).map(tuple),
    external_id=_TEXT,
    source=_TEXT,
    labels=st.lists(_TEXT.filter(bool), max_size=3).map(tuple),
    metadata=st.dictionaries(_TEXT, _TEXT, max_size=3),
    removed=st.booleans(),
    id=_TEXT,
    brand=_TEXT,
    note=_TEXT,
    state=st.sampled_from([None, EntryState.ACTIVE, EntryState.DISABLED]),
    expire_time=_TIMES,
    create_time=_TIMES,
    vectors=st.lists(_VECTORS, max_size=2).map(tuple),
    features=st.lists(st.builds(RecordFeatures, _TEXT, st.binary(max_size=50)), max_size=2).map(tuple),
    thumbnail=st.binary(max_size=20),
    image=st.binary(max_size=20),
    quarantine=st.none() | st.builds(Quarantine, st.sampled_from(REASONS), _TEXT, st.datetimes(timezones=st.just(UTC))),
)


def written(records: list[EntryRecord]) -> bytes:
    out = io.BytesIO()
    writer = Writer(out, bank="banks/x", kind="banned", revision="r1", exported=NOON)
    for record in records:
        writer.write(record)
    writer.end()
    return out.getvalue()


def read(data: bytes | str, **options: Any) -> list[Item]:
    return list(open_list(io.BytesIO(data if isinstance(data, bytes) else data.encode()), **options))


@given(st.lists(RECORDS, max_size=4))
def test_what_is_written_is_read_as_it_was_and_written_the_same(records: list[EntryRecord]) -> None:
    data = written(records)
    items = read(data)
    assert items == [(number, record) for number, record in enumerate(records, 2)]
    assert written([item[1] for item in items if not isinstance(item, Refused)]) == data
    assert read(gzip.compress(data)) == items


@given(st.lists(RECORDS, min_size=1, max_size=3), st.data())
def test_a_list_that_was_cut_off_anywhere_is_seen(records: list[EntryRecord], data: st.DataObject) -> None:
    whole = written(records)
    # Without its last line break it is whole; without the last digit of its count, too, it is not.
    end = data.draw(st.integers(len(HEADER) + 1, len(whole) - 2))
    with pytest.raises(ListError, match=r"cut off|and it has"):
        read(whole[:end])


def test_the_format_is_what_the_documentation_says() -> None:
    record = EntryRecord(
        hashes=(RecordHash(SignalType.SHA256, bytes(32)), RecordHash(SignalType.PDQ, bytes(32), 0)),
        external_id="case-1",
        source="ncmec",
        labels=("ä",),
        metadata={"k": "v"},
        id="e1",
        brand="Acme",
        note="ask Kim",
        state=EntryState.DISABLED,
        expire_time=NOON,
        create_time=datetime(2026, 11, 30, 14, tzinfo=timezone(timedelta(hours=2))),
        vectors=(RecordVectors(SignalType.EMBEDDING, "m1", 1, b"\0\0\x80?", 0.1, 1.0),),
        features=(RecordFeatures("x1", b"IWLF"),),
        thumbnail=b"png",
        image=b"jpg",
        quarantine=Quarantine(QuarantineReason.BY_HAND, "under appeal", NOON),
    )
    zeros = "0" * 64
    line = (
        '{"id":"e1","external_id":"case-1","source":"ncmec","labels":["ä"],"metadata":{"k":"v"},"brand":"Acme",'
        '"note":"ask Kim","state":"disabled","expire_time":"2026-11-30T12:00:00.250000Z",'
        '"create_time":"2026-11-30T12:00:00Z",'
        '"quarantine":{"reason":"by_hand","message":"under appeal","time":"2026-11-30T12:00:00.250000Z"},'
        f'"hashes":[{{"type":"sha256","hex":"{zeros}"}},{{"type":"pdq","hex":"{zeros}","quality":0}}],'
        '"vectors":[{"type":"embedding","model_version":"m1","dimensions":1,"mean":0.1,"deviation":1.0,"data":"AACAPw=="}],'
        '"features":[{"extractor":"x1","data":"SVdMRg=="}],"thumbnail":"cG5n","image":"anBn"}'
    )
    assert written([record]).decode().splitlines() == [HEADER, line, '{"count":1}']


def test_what_the_caller_says_stands_above_the_list() -> None:
    data = written([EntryRecord(id="1", source="a", labels=("x",)), EntryRecord(id="2", removed=True)])
    assert read(data, source="b", labels=("y",)) == [
        (2, EntryRecord(id="1", source="b", labels=("y", "x"))),
        (3, EntryRecord(id="2", source="b", removed=True)),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "no JSON"),
        ("[]", "no JSON object"),
        ('{"id": 1}', "id is no text"),
        ('{"colour": "red"}', "'colour', which this client does not know"),
        ('{"labels": "x"}', "labels is no array"),
        ('{"labels": [1]}', "array of texts"),
        ('{"metadata": {"a": 1}}', "object of texts"),
        ('{"removed": 1}', "true or false"),
        ('{"state": "expired"}', "active or disabled"),
        ('{"hashes": {}}', "hashes is no array"),
        ('{"hashes": [1]}', "no object"),
        ('{"hashes": [{"type": "embedding", "hex": ""}]}', "no type of hash"),
        (f'{{"hashes": [{{"type": "md5", "hex": "{"a" * 32}", "quality": 5}}]}}', "of pdq only"),
        (f'{{"hashes": [{{"type": "pdq", "hex": "{"a" * 64}", "quality": 101}}]}}', "0 to 100"),
        (f'{{"hashes": [{{"type": "pdq", "hex": "{"a" * 64}", "quality": -1}}]}}', "whole number"),
        (f'{{"hashes": [{{"type": "pdq", "hex": "{"a" * 64}", "quality": 1.5}}]}}', "whole number"),
        (f'{{"hashes": [{{"type": "pdq", "hex": "{"a" * 64}", "quality": true}}]}}', "whole number"),
        ('{"vectors": [{"type": "local"}]}', "embedding or semantic"),
        ('{"vectors": [{"type": "embedding", "dimensions": 2, "data": "AACAPw=="}]}', "no views of 2 dimensions"),
        ('{"vectors": [{"type": "embedding", "dimensions": 0, "data": ""}]}', "no views"),
        (
            '{"vectors": [{"type": "embedding", "dimensions": 1, "data": "AACAPw==", "mean": 1e999}]}',
            "a number was expected",
        ),
        (
            '{"vectors": [{"type": "embedding", "dimensions": 1, "data": "AACAPw==", "mean": 1' + "0" * 400 + "}]}",
            "a number was expected",
        ),
        ('{"vectors": [{"type": "embedding", "dimensions": 1, "data": "AACAPw==", "mean": NaN}]}', "no number of JSON"),
        ('{"image": "%%"}', "no base64"),
        ('{"thumbnail": "ä"}', "no base64"),
        ('{"expire_time": "soon"}', "a time such as"),
        ('{"expire_time": "2026-11-30T12:00:00"}', "no time zone"),
        ('{"create_time": "0001-01-01T00:00:00+23:00"}', "before or after all time"),
        ('{"count": "x"}', "whole number"),
        ('{"note": 1}', "note is no text"),
        ('{"quarantine": null}', "object of reason, message and time"),
        ('{"quarantine": {"reason": "flood", "time": "2026-11-30T12:00:00Z", "colour": 1}}', "object of reason"),
        (
            '{"quarantine": {"reason": "unknown", "time": "2026-11-30T12:00:00Z"}}',
            "it is by_hand, false_positives, flood",
        ),
        ('{"quarantine": {"reason": "flood", "time": "2026-11-30T12:00:00"}}', "no time zone"),
        ('{"quarantine": {"reason": "flood"}}', "say since when"),
        ('{"quarantine": {"reason": "flood", "message": 1, "time": "2026-11-30T12:00:00Z"}}', "message is no text"),
    ],
)
def test_a_line_that_says_something_else_is_refused_and_the_next_one_is_read(line: str, reason: str) -> None:
    items = read(f'{HEADER}\n{line}\n{{"id":"good"}}\n{{"count":2}}\n')
    assert isinstance(items[0], Refused)
    assert reason in items[0].reason
    assert items[0].number == 2
    assert items[1] == (3, EntryRecord(id="good"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"imagewarden": 2}\n{"count": 0}', "version 2"),
        ('{"imagewarden": true}\n{"count": 0}', "version True"),
        (f'{HEADER}\n{{"id":"1"}}\n{{"count":2}}', "says that it has 2 entries, and it has 1"),
        (f'{HEADER}\n{{"count":0}}\n{HEADER}', "line 3: the list says that it ends"),
        (f'{HEADER}\n{{"id":"1"}}\n', "cut off: no line after line 2"),
        (HEADER, "cut off"),
    ],
)
def test_a_list_that_is_not_what_it_says_is_no_list(text: str, reason: str) -> None:
    with pytest.raises(ListError, match=reason):
        read(text)
    with pytest.raises(ListError, match="first line is"):
        read('{"id": "1"}', format="jsonl")


def test_blank_lines_are_none(tmp_path: Any) -> None:
    del tmp_path
    assert read(f'{HEADER}\n\n{json.dumps({"id": "1"})}\r\n\n{{"count":1}}\n\n') == [(3, EntryRecord(id="1"))]
