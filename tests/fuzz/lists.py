"""Targets: the reader of each import format, by the package's own list of formats; and how a format is told."""

from __future__ import annotations

import functools
import gzip
import io
import random
import zlib
from datetime import UTC, datetime

from tests.fuzz import wounds
from tests.fuzz.target import Flip, Mutate, Target, said

from imagewarden import EntryRecord, SignalType
from imagewarden._convert_records import add_record
from imagewarden.lists import Format, ListError, Refused, Writer, open_list
from imagewarden.v1 import bank_service_pb2 as pb

_BYTES = {SignalType.SHA256: 32, SignalType.SHA1: 20, SignalType.MD5: 16, SignalType.PDQ: 32}
_GZIP = b"\x1f\x8b"
_WORDS = (
    *(b"sha256", b"sha1:", b"md5", b"pdq ", b"HASH_PDQ", b"#", b'"', b",", b"NEGATIVE_CLASS", b"false_positive"),
    *(b"<image>", b"<deletedImage>", b"<fingerprints>", b"<member id=", b"<!DOCTYPE x>", b"<![CDATA[", b"]]>", b"&#0;"),
    *(b"<?xml version='1.0' encoding='utf-7'?>", b"encoding='none'", b"utf-16", b"xmlns:x=", b"\xef\xbb\xbf"),
    *(b"hashRecords", b"results", b"caseNumbers", b"\\ud800", b"\\u0000", b"NaN", b"1e999", b"[[[[", b"{}"),
    *(b'"count":', b'"imagewarden":1', b"2026-11-30T12:00:00Z", b"0001-01-01T00:00:00+23:59"),
)
_LINES = frozenset({Format.HASHES, Format.TX_CSV, Format.THREATEXCHANGE})
_JSON = frozenset({Format.STOPNCII, Format.TAT})


def run_list(data: bytes, format_: Format | None) -> None:
    """A list to its end: records that the API takes, lines that are refused, or a list that cannot be read."""
    type_ = SignalType.PDQ if format_ is Format.THREATEXCHANGE else None
    records: list[EntryRecord] = []
    before = 0
    try:
        with open_list(io.BytesIO(data), format=format_, type=type_) as found:
            for item in found:
                if isinstance(item, Refused):
                    number = item.number
                    said(item.reason)
                    assert item.excerpt.isprintable()
                    # What is not printable is written out, in at most ten characters each.
                    assert len(item.excerpt) <= 803
                else:
                    number, record = item
                    assert_record(record)
                    records.append(record)
                assert number > before, "records are numbered one after the other"
                before = number
    except ListError as error:
        said(str(error), 2_000)
    _assert_kept(records)


def assert_record(record: EntryRecord) -> None:
    """What every record of a reader is: something that an import takes or refuses by name."""
    for one in record.hashes:
        assert len(one.value) == _BYTES[one.type]
        assert one.quality is None or 0 <= one.quality <= 100
    for vectors in record.vectors:
        assert vectors.dimensions >= 1
        assert len(vectors.data) % (4 * vectors.dimensions) == 0
    request = pb.ImportEntriesRequest()
    try:
        add_record(request.records, 1, record)
    except ValueError:
        # As it documents: a text that is no text has no place in a message.
        assert not request.records
        return
    request.SerializeToString()


def _assert_kept(records: list[EntryRecord]) -> None:
    """What was read is written as our own list and read again as it was."""
    out = io.BytesIO()
    writer = Writer(out, bank="banks/fuzz", kind="banned", revision="", exported=datetime(2026, 1, 1, tzinfo=UTC))
    kept = []
    for record in records:
        try:
            writer.write(record)
        except UnicodeEncodeError:
            continue
        kept.append(record)
    writer.end()
    with open_list(io.BytesIO(out.getvalue()), format=Format.JSONL) as again:
        assert [item if isinstance(item, Refused) else item[1] for item in again] == kept


def _packed(change: Mutate) -> Mutate:
    """Of a list that is gzip what is in it is changed; and now and then one that is not is packed."""

    def mutate(data: bytes, chance: random.Random, flip: Flip) -> bytes:
        if data[:2] == _GZIP:
            try:
                return gzip.compress(change(gzip.decompress(data), chance, flip), 1, mtime=0)
            except (OSError, EOFError, zlib.error):
                return flip(data)
        changed = change(data, chance, flip)
        return gzip.compress(changed, 1, mtime=0) if chance.random() < 0.02 else changed

    return mutate


def _mutate(format_: Format | None) -> Mutate:
    if format_ in _JSON:
        change: Mutate = wounds.json_text
    elif format_ is Format.JSONL:
        change = wounds.one_line(wounds.json_text)
    elif format_ in _LINES:
        change = wounds.one_line(wounds.blind)
    else:
        change = wounds.blind
    return _packed(wounds.several(change))


def targets() -> list[Target]:
    """One a format, those that are added later too, and one where the format is to be told."""
    return [
        Target(
            f"list-{format_ or 'any'}",
            functools.partial(run_list, format_=format_),
            _mutate(format_),
            _WORDS,
            most_bytes=8_192,
        )
        for format_ in (*Format, None)
    ]
