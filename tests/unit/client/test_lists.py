"""Reading the hash lists that teams exchange: what becomes of each field, and what is refused and why."""

from __future__ import annotations

import gzip
import io
import json
from datetime import UTC, datetime

import pytest
from tests.support.hash_lists import CHANGED, COUNT, GONE, MAKERS, Made

from imagewarden import EntryRecord, RecordHash, SignalType
from imagewarden.lists import Format, Item, ListError, Refused, open_list

PDQ = "f8" * 32
MD5 = "900150983cd24fb0d6963f7d28e17f72"
SHA1 = "a9993e364706816aba3e25717850c26c9cd0d89d"
PDQ_HASH = RecordHash(SignalType.PDQ, bytes.fromhex(PDQ))


def read(data: bytes | str, name: str = "", **options: object) -> list[Item]:
    file = io.BytesIO(data if isinstance(data, bytes) else data.encode())
    file.name = name
    return list(open_list(file, **options))  # type: ignore[arg-type]  # short cut


def one(items: list[Item]) -> EntryRecord:
    (item,) = items
    assert not isinstance(item, Refused), item
    return item[1]


def refusal(items: list[Item]) -> Refused:
    (item,) = items
    assert isinstance(item, Refused), item
    return item


@pytest.mark.parametrize("later", [False, True], ids=["at first", "later"])
@pytest.mark.parametrize("format_", MAKERS)
def test_a_real_shaped_list_is_read_record_by_record(format_: Format, later: bool) -> None:
    made: Made = MAKERS[format_](later=later)
    file = io.BytesIO(made.data)
    file.name = made.name
    found = open_list(file, type=made.type)
    assert found.format is format_
    items = list(found)
    refused = {item.number: item.reason for item in items if isinstance(item, Refused)}
    assert refused.keys() == made.refused.keys()
    assert all(part in refused[number] for number, part in made.refused.items())
    records = [item for item in items if not isinstance(item, Refused)]
    assert len(records) == made.records >= 1_000
    assert sum(record.removed for _, record in records) == made.removed
    numbers = [item.number if isinstance(item, Refused) else item[0] for item in items]
    assert numbers == sorted(set(numbers))
    there = {f"{part.type}:{part.hex}" for _, record in records if not record.removed for part in record.hashes}
    assert there == made.hashes
    names = [(record.external_id, record.source) for _, record in records]
    if format_ is not Format.HASHES:
        assert all(external_id and source for external_id, source in names)
        assert len(set(names)) == COUNT
    assert made.removed == (len(GONE) if later and format_ is not Format.HASHES else 0)
    labels = [label for _, record in records for label in record.labels]
    if format_ is not Format.HASHES:
        assert labels.count("B2") == (len(CHANGED) if later else 0)
    assert found.read_bytes == len(made.data)


@pytest.mark.parametrize("format_", MAKERS)
def test_gzip_is_taken_off_and_a_damaged_one_is_seen(format_: Format) -> None:
    made = MAKERS[format_](later=True)
    packed = gzip.compress(made.data)
    assert read(packed, made.name, type=made.type) == read(made.data, made.name, type=made.type)
    with pytest.raises(ListError, match="damaged or cut off"):
        read(packed[:-100], made.name, type=made.type)
    with pytest.raises(ListError):  # what comes of a damaged stream before that is seen may be damaged, too
        read(packed[: len(packed) // 2] + bytes(200) + packed[len(packed) // 2 :], made.name, type=made.type)


def test_plain_hashes() -> None:
    text = f"\ufeff# comment\n\n{MD5}\nsha-1 {SHA1.upper()}\n  pdq:{PDQ}  \r\n{PDQ}\npdq {PDQ[:-1]}\nmd5 {MD5} more"
    items = read(text, source="case 7", labels=("urgent",))
    common = {"source": "case 7", "labels": ("urgent",)}
    assert items[:3] == [
        (3, EntryRecord((RecordHash(SignalType.MD5, bytes.fromhex(MD5)),), **common)),  # type: ignore[arg-type]  # both
        (4, EntryRecord((RecordHash(SignalType.SHA1, bytes.fromhex(SHA1)),), **common)),  # type: ignore[arg-type]  # both
        (5, EntryRecord((PDQ_HASH,), **common)),  # type: ignore[arg-type]  # both
    ]
    assert [(item.number, item.excerpt) for item in items[3:] if isinstance(item, Refused)] == [
        (6, PDQ[:80]),
        (7, f"pdq {PDQ[:-1]}"),
        (8, f"md5 {MD5} more"),
    ]
    assert one(read(PDQ, type=SignalType.PDQ)).hashes == (PDQ_HASH,)
    assert "blanks" not in refusal(read(f"{PDQ[:62]}  ", format="hashes", type=SignalType.PDQ)).reason


def test_a_blank_between_digits_is_no_digit() -> None:
    text = PDQ[:32] + "  " + PDQ[32:62]
    assert len(text) == 64
    assert "not all of it is hexadecimal" in refusal(read(text, format="hashes", type=SignalType.PDQ)).reason


def test_a_line_without_end_is_refused_and_the_next_one_is_read() -> None:
    items = read(f"pdq {PDQ}\n{'a' * 3_000_000}\nmd5 {MD5}\n")
    assert [item.number if isinstance(item, Refused) else item[0] for item in items] == [1, 2, 3]
    assert isinstance(items[1], Refused)
    assert "more than 4,096 bytes" in items[1].reason
    assert len(items[1].excerpt) < 100


def test_an_excerpt_has_nothing_that_a_terminal_would_obey() -> None:
    item = refusal(read(b"md5 \x1b]0;owned\x07\xff\xe2\x80\xae", format="hashes"))
    assert item.excerpt.isprintable()
    assert item.excerpt.isascii()
    assert item.reason.isprintable()


def test_a_dataset_takes_its_columns_by_name() -> None:
    text = f"tags,signal_str,extra,signal_type\nx y,{PDQ},?,pdq\n"
    assert one(read(text)) == EntryRecord((PDQ_HASH,), PDQ, "", ("x", "y"))
    assert one(read(text, source="mine")).source == "mine"
    with pytest.raises(ListError, match="no header"):
        read(f"pdq,{PDQ}", format="tx-csv")


def test_an_opinion_that_a_hash_is_none_of_these_removes_it() -> None:
    header = "signal_type,signal_str,collab,category,tags\n"
    assert one(read(f"{header}pdq,{PDQ},C,NEGATIVE_CLASS,x\n")) == EntryRecord((PDQ_HASH,), PDQ, "C", removed=True)
    disputed = one(read(f"{header}pdq,{PDQ},C,DISPUTED,x\n"))
    assert (disputed.removed, disputed.labels) == (False, ("x", "DISPUTED"))
    row = f"{PDQ},7,mine,x false_positive\n"
    assert one(read(row, type=SignalType.PDQ)) == EntryRecord((PDQ_HASH,), PDQ, "threatexchange", removed=True)


def test_a_cache_has_its_type_from_its_name_or_from_the_caller() -> None:
    row = f"{MD5},7,2026-01-01T00:00:00+0000,x y\n"
    expected = EntryRecord(
        (RecordHash(SignalType.MD5, bytes.fromhex(MD5)),),
        MD5,
        "threatexchange",
        ("x", "y"),
        {"descriptor": "7", "added_on": "2026-01-01T00:00:00+0000"},
    )
    assert one(read(row, "/state/simple.HASH_MD5.te")) == expected
    assert one(read(row, "cache.csv", type=SignalType.MD5)) == expected
    with pytest.raises(ListError, match="give --type"):
        read(row, "cache.csv")


def ncmec(inner: str, head: str = "") -> str:
    return f'<?xml version="1.0"?>{head}<queryResult xmlns="https://x/v2"><images>{inner}</images></queryResult>'


def image(prints: str, about: str = '<member id="42">M</member><id>i1</id>') -> str:
    return ncmec(f"<image>{about}<classification>A1</classification><fingerprints>{prints}</fingerprints></image>")


def test_an_entry_of_ncmec_has_all_its_hashes_and_its_members_name_for_it() -> None:
    assert one(
        read(image(f"<md5>{MD5}</md5><pdq> {PDQ} </pdq><pdna>a1</pdna><ssvh_pdna>b</ssvh_pdna>"))
    ) == EntryRecord(
        (RecordHash(SignalType.MD5, bytes.fromhex(MD5)), PDQ_HASH),
        "42-i1",
        "ncmec",
        ("A1",),
        {"member": "M", "not_compared": "pdna ssvh_pdna"},
    )
    gone = ncmec('<deletedImage><member id="42"/><id>i1</id></deletedImage>')
    assert one(read(gone, source="police")) == EntryRecord((), "42-i1", "police", removed=True)
    prefixed = '<n:queryResult xmlns:n="u"><n:images><n:deletedImage><n:member id="1"/><n:id>2</n:id></n:deletedImage>'
    assert one(read(f"{prefixed}</n:images></n:queryResult>")).external_id == "1-2"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (image("<pdna>a1</pdna>"), "pdna cannot be compared"),
        (image(""), "nothing else"),
        (image(f"<md5>{MD5}0</md5>"), "<md5>: it has 33 characters"),
        (image(f"<md5>{MD5}</md5><md5>{MD5[::-1]}</md5>"), "two different <md5>"),
        (image(f"<md5>{'a' * 5_000}</md5>"), "more than 1,024 characters"),
        (image(f"<md5>{MD5}</md5>", "<id>i1</id>"), "no <member id>"),
        (image(f"<md5>{MD5}</md5>", '<member id="4"/>'), "no <member id>"),
        (image(f"<md5>{MD5}</md5>", f'<member id="4"/><id>{"i" * 300}</id>'), "302 characters"),
        (ncmec("<video/>"), "<video> is no picture"),
        (ncmec("<deletedVideo/>"), "<deletedVideo> is no picture"),
        (ncmec("<other/>"), "<other> is not known"),
    ],
)
def test_what_of_ncmec_is_refused(text: str, reason: str) -> None:
    item = refusal(read(text))
    assert reason in item.reason
    assert (item.number, item.line) == (1, 1)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (ncmec("", '<!DOCTYPE queryResult [<!ENTITY a "aaaa">]>'), "document type"),
        (ncmec("", '<!DOCTYPE queryResult SYSTEM "file:///etc/passwd">'), "document type"),
        (ncmec("<image>") + "", "line 1: the XML is broken"),
        (ncmec("")[:-5], "cut off"),
        (ncmec("<a>" * 40 + "</a>" * 40), "more than 32 deep"),
        ("<queryResult " + " " * 3_000_000 + "/>", "a tag has more than"),
        ("<feed/>", "root is <feed>"),
        (ncmec("&unknown;"), "undefined entity"),
    ],
)
def test_what_is_no_xml_of_ncmec_ends_the_reading(text: str, reason: str) -> None:
    with pytest.raises(ListError, match=reason):
        read(text)


def test_a_hash_twice_in_one_entry_is_one() -> None:
    assert len(one(read(image(f"<md5>{MD5}</md5><md5>{MD5}</md5>"))).hashes) == 1


def stopncii(**said: object) -> str:
    record = {"signalType": "ImagePDQ", "hashValue": PDQ.upper(), "hashStatus": "Active", "caseNumbers": [], **said}
    return json.dumps({"count": 1, "hashRecords": [record]})


def test_a_record_of_stopncii() -> None:
    text = stopncii(
        lastModtimestamp=1_625_167_804,
        caseNumbers={"c1": "Active", "c2": "Received"},
        CSPFeedbacks=[
            {"source": "F", "feedbackValue": "Blocked", "tags": ["Nude", "x"]},
            {"feedbackValue": "None", "tags": None},
        ],
    )
    assert one(read(text, labels=("own",))) == EntryRecord(
        (PDQ_HASH,),
        PDQ,
        "stopncii",
        ("own", "Nude", "x"),
        {
            "status": "Active",
            "modified": "2021-07-01T19:30:04Z",
            "case c1": "Active",
            "case c2": "Received",
            "feedback F": "Blocked",
            "feedback provider 2": "None",
        },
    )
    for status in ("Withdrawn", "Deleted"):
        assert one(read(stopncii(hashStatus=status))) == EntryRecord((PDQ_HASH,), PDQ, "stopncii", removed=True)


def test_what_does_not_fit_the_api_is_cut_and_what_has_no_room_is_counted() -> None:
    tags = [f"tag {place} {'x' * 300}" for place in range(80)]
    cases = {f"{place} {'y' * 300}": "Active" for place in range(90)}
    feedback = [{"source": "F", "feedbackValue": "Blocked", "tags": tags}]
    record = one(read(stopncii(caseNumbers=cases, CSPFeedbacks=feedback), labels=("own",)))
    assert len(record.labels) == 64
    assert record.labels[0] == "own"
    assert max(map(len, record.labels)) == 256
    assert len(record.metadata) == 64
    assert max(map(len, [*record.metadata, *record.metadata.values()])) <= 256
    assert record.metadata["labels_left_out"] == "17"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"signalType": "VideoMD5"}, "no hash of a picture"),
        ({"signalType": None}, "no hash of a picture"),
        ({"hashValue": PDQ[:-2]}, "62 characters"),
        ({"hashStatus": "Unknown"}, "'Unknown' is not known"),
        ({"hashStatus": 3}, "hashStatus is int"),
        ({"caseNumbers": "c"}, "caseNumbers is no object"),
        ({"CSPFeedbacks": {"a": 1}}, "CSPFeedbacks is no array"),
        ({"CSPFeedbacks": [{"tags": "x"}]}, "no array"),
    ],
)
def test_what_of_stopncii_is_refused(said: dict[str, object], reason: str) -> None:
    assert reason in refusal(read(stopncii(**said))).reason


def test_pages_may_follow_one_another_and_a_list_may_be_bare() -> None:
    bare = json.dumps(json.loads(stopncii())["hashRecords"])
    items = read(stopncii() + "\n" + stopncii(hashValue="0" * 64) + bare)
    assert [item[0] for item in items if not isinstance(item, Refused)] == [1, 2, 3]


def test_a_record_that_is_broken_or_too_large_or_too_deep_harms_nobody_else() -> None:
    good = json.loads(stopncii())["hashRecords"][0]
    large = good | {"note": "x" * 2_000_000}
    parts = ['{"hashValue": 12x}', json.dumps(large), '{"a": ' + "[" * 50_000 + "]" * 50_000 + "}", '{"a": NaN}', "7"]
    text = f'{{"hashRecords": [{json.dumps(good)}, {", ".join(parts)}, {json.dumps(good)}]}}'
    items = read(text)
    assert [type(item) for item in items] == [tuple, *[Refused] * 5, tuple]
    reasons = [item.reason for item in items if isinstance(item, Refused)]
    for reason, part in zip(
        reasons, ("no JSON", "more than 1,048,576 bytes", "too deep", "NaN", "no JSON object"), strict=True
    ):
        assert part in reason
    for end in (-1, -2, -30, 300):
        with pytest.raises(ListError, match="cut off"):
            read(text[:end])
    with pytest.raises(ListError, match="JSON is broken"):
        read('{"hashRecords": [{} {}]}')
    with pytest.raises(ListError, match="has no array 'hashRecords'"):
        read('{"count": 0}', format="stopncii")


def tat(**said: object) -> str:
    record = {
        "hash_digest": MD5,
        "algorithm": "MD5",
        "ideology": "Far-Right",
        "file_type": "jpg",
        "deleted": False,
        "updated_on": 1704901040.5,
        "created_on": "2024-01-10",
        "id": 2819,
        **said,
    }
    return json.dumps({"count": 1, "next": None, "checkpoint": "1,2", "results": [record]})


def test_a_record_of_tech_against_terrorism() -> None:
    md5 = RecordHash(SignalType.MD5, bytes.fromhex(MD5))
    assert one(read(tat())) == EntryRecord(
        (md5,),
        "2819",
        "tat",
        ("Far-Right",),
        {"created": "2024-01-10", "updated": "2024-01-10T15:37:20.500000Z", "file_type": "jpg"},
    )
    assert one(read(tat(deleted=True))) == EntryRecord((md5,), "2819", "tat", removed=True)
    assert one(read(tat(algorithm="SHA-1", hash_digest=SHA1))).hashes[0].type is SignalType.SHA1
    assert one(read(tat(algorithm="PDQ", hash_digest=PDQ, file_type=""))).hashes == (PDQ_HASH,)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"file_type": "mp4"}, "'mp4' is no picture"),
        ({"algorithm": "TMK"}, "no type of hash"),
        ({"hash_digest": "123abc"}, "6 characters"),
        ({"id": 1.5}, "id is neither"),
        ({"id": "x" * 300}, "300 characters"),
        ({"deleted": "no"}, "true or false"),
    ],
)
def test_what_of_tech_against_terrorism_is_refused(said: dict[str, object], reason: str) -> None:
    assert reason in refusal(read(tat(**said))).reason


def test_times_that_are_none_are_left_out() -> None:
    odds: list[object] = [1e300, -1e300, 10**400, True, [], "x" * 300]
    for odd in odds:
        metadata = one(read(tat(updated_on=odd))).metadata
        assert "updated" not in metadata or len(metadata["updated"]) <= 256
    assert datetime.fromisoformat(one(read(tat())).metadata["updated"]).tzinfo == UTC


def test_a_source_or_labels_that_the_api_would_refuse_are_refused_at_once() -> None:
    for wrong in ({"source": "x" * 257}, {"labels": ("x" * 257,)}, {"labels": ("",)}, {"labels": ("x",) * 65}):
        with pytest.raises(ValueError, match=r"label|source"):
            read(MD5, **wrong)
    with pytest.raises(TypeError, match="mode 'rb'"):
        open_list(io.StringIO(MD5))  # type: ignore[arg-type]  # the mistake
