"""Hash lists of every format that can be read, made by code in the shapes that their exchanges give.

Each is made twice: as it first comes, and as it comes later, when some of its entries are gone, some have changed, and
some of its lines are broken. Hashes are made of a seed: they are of no picture.
"""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from xml.sax.saxutils import escape

from imagewarden import EntryRecord, Quarantine, QuarantineReason, RecordHash, SignalType
from imagewarden.lists import Format, Writer

COUNT = 1_200
GONE = range(100, 160)
CHANGED = range(200, 240)
_START = datetime(2026, 3, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Made:
    """A list, and what must come of it.

    Attributes:
        name: of its file.
        records: how many of its records are good, those of what is gone counted.
        removed: how many of those say that something is gone.
        refused: by number, a part of the reason.
        type: of its hashes, where it does not say it.
        hashes: of all entries that are there when it has been brought in, as type:hex.
    """

    name: str
    data: bytes
    records: int
    removed: int
    refused: dict[int, str]
    hashes: set[str]
    type: SignalType | None = None


@dataclass
class _Facts:
    """What one entry of a list is about."""

    place: int
    pdq: str
    md5: str
    sha1: str
    sha256: str
    time: datetime


@dataclass
class _Lines:
    """Lines of a list as they come, with what must come of them."""

    lines: list[str] = field(default_factory=list)
    refused: dict[int, str] = field(default_factory=dict)
    records: int = 0

    def add(self, line: str) -> None:
        self.lines.append(line)
        self.records += 1

    def break_(self, line: str, reason: str) -> None:
        self.lines.append(line)
        self.refused[len(self.lines)] = reason


def _all() -> list[_Facts]:
    chance = random.Random(11)  # noqa: S311 -- repeatable, not secret
    return [
        _Facts(
            place,
            chance.randbytes(32).hex(),
            chance.randbytes(16).hex(),
            chance.randbytes(20).hex(),
            chance.randbytes(32).hex(),
            _START + timedelta(minutes=place),
        )
        for place in range(COUNT)
    ]


def _gone(one: _Facts, *, later: bool) -> bool:
    return later and one.place in GONE


def _version(one: _Facts, *, later: bool) -> str:
    return "B2" if later and one.place in CHANGED else "A1"


def _kept(later: bool, *types: str) -> set[str]:
    there = [one for one in _all() if not _gone(one, later=later)]
    return {f"{kind}:{getattr(one, kind)}" for one in there for kind in types}


def plain(*, later: bool) -> Made:
    """Hashes of all types with comments and blank lines; such a list cannot say that anything is gone."""
    made = _Lines(["# a list of hashes", ""])
    hashes = set()
    for one in _all():
        kind = ("pdq", "md5", "sha1", "sha256")[one.place % 4]
        digits = getattr(one, kind)
        hashes.add(f"{kind}:{digits}")
        form = (f"{kind} {digits}", f"{kind}:{digits.upper()}", f"  {kind}\t{digits}\r")[one.place % 3]
        bare = kind in {"md5", "sha1"} and one.place % 5 == 0
        made.add(digits if bare else form)
        if later and one.place % 100 == 50:
            made.break_(f"pdq {digits[:-3]}", "hexadecimal digits")
            made.break_(one.pdq, "sha256 or pdq")
            made.break_(f"photodna {digits}", "no hash type")
            made.break_("pdq " + "zz" * 32, "no pdq hash")
            made.lines.append("# a comment")
    return Made("list.txt", "\n".join(made.lines).encode(), made.records, 0, made.refused, hashes)


def tx_csv(*, later: bool) -> Made:
    """What `tx dataset --print-signals --csv` prints; of an exchange's opinion some are false."""
    made = _Lines([_row(("signal_type", "signal_str", "collab", "category", "tags"))])
    for one in _all():
        category = "NEGATIVE_CLASS" if _gone(one, later=later) else "POSITIVE_CLASS"
        made.add(_row(("pdq", one.pdq, 'A "trusted", group', category, f"tag {_version(one, later=later)}")))
        if later and one.place % 100 == 50:
            made.break_(_row(("video_md5", one.md5, "A", "POSITIVE_CLASS", "")), "no type of hash")
            made.break_(_row(("pdq", one.md5, "A", "POSITIVE_CLASS", "")), "64 hexadecimal digits")
            made.break_(_row(("pdq", one.pdq, "A")), "3 cells")
            made.break_(f'pdq,{one.pdq},"A,POSITIVE_CLASS,', "no line of CSV")
    removed = len(GONE) if later else 0
    data = "\r\n".join(made.lines).encode()
    return Made("dataset.csv", data, made.records, removed, made.refused, _kept(later, "pdq"))


def cache(*, later: bool) -> Made:
    """The cache of Meta's command line, which has no header and says its type in its name."""
    made = _Lines()
    for one in _all():
        labels = ["pwny", _version(one, later=later)] + ["false_positive"] * _gone(one, later=later)
        made.add(
            _row((one.pdq, str(3_058_061_737 + one.place), f"{one.time:%Y-%m-%dT%H:%M:%S+0000}", " ".join(labels)))
        )
        if later and one.place % 100 == 50:
            made.break_(_row((one.pdq[1:], "1", "today", "")), "63 characters")
            made.break_(_row((one.pdq, "1")), "2 cells")
    removed = len(GONE) if later else 0
    data = "\n".join(made.lines).encode() + b"\n"
    return Made("simple.HASH_PDQ.te", data, made.records, removed, made.refused, _kept(later, "pdq"))


def ncmec(*, later: bool) -> Made:
    """What `entries` of NCMEC's interface answers, in its name space; the last hashes are of videos."""
    head = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
    head += '<queryResult xmlns="https://hashsharing.ncmec.org/hashsharing/v2">\n'
    elements, refused = [], {}
    records = 0
    for one in _all():
        about = f'<member id="{one.place % 7 + 40}">Example &amp; Member</member>'
        about += f"<timestamp>{one.time:%Y-%m-%dT%H:%M:%SZ}</timestamp><id>image{one.place}</id>"
        records += 1
        if _gone(one, later=later):
            elements.append(f"<deletedImage>{about}</deletedImage>")
            continue
        prints = f"<md5>{one.md5}</md5><sha1>{one.sha1}</sha1><pdq>{one.pdq}</pdq><pdna>{'a1' * 144}</pdna><md5/>"
        grade = f"<classification>{_version(one, later=later)}</classification>"
        elements.append(f"<image>\n  {about}{grade}\n  <fingerprints>{prints}</fingerprints>\n</image>")
        if later and one.place % 100 == 50:
            for element, reason in (
                (f"<image>{about}<fingerprints><pdna>a1</pdna></fingerprints></image>", "pdna cannot be compared"),
                (f"<image>{about}<fingerprints><md5>{one.sha1}</md5></fingerprints></image>", "<md5>: it has 40"),
                (f"<image><id>x</id><fingerprints>{prints}</fingerprints></image>", "no <member id>"),
                (f"<video>{about}<fingerprints>{prints}</fingerprints></video>", "<video> is no picture"),
            ):
                elements.append(element)
                refused[len(elements)] = reason
    images = f'<images count="{len(elements)}" maxTimestamp="2026-04-01T00:00:00Z">\n' + "\n".join(elements)
    tail = f"\n</images>\n<paging><next>{escape('/v2/entries?from=1&to=2')}</next></paging>\n</queryResult>\n"
    removed = len(GONE) if later else 0
    data = (head + images + tail).encode()
    return Made("entries.xml", data, records, removed, refused, _kept(later, "md5", "sha1", "pdq"))


def stopncii(*, later: bool) -> Made:
    """What `FetchHashes` of StopNCII.org answers."""
    found: list[object] = []
    refused = {}
    records = 0
    for one in _all():
        status = ("Withdrawn", "Deleted")[one.place % 2] if _gone(one, later=later) else "Active"
        feedback = {"source": "Example", "feedbackValue": "Blocked", "tags": ["Nude", _version(one, later=later)]}
        found.append(
            {
                "lastModtimestamp": int(one.time.timestamp()),
                "hashValue": one.pdq,
                "hashStatus": status,
                "caseNumbers": {f"case-{one.place}-{number}": status for number in range(one.place % 3)} or [],
                "signalType": "ImagePDQ",
                "CSPFeedbacks": [feedback],
            }
        )
        records += 1
        if later and one.place % 100 == 50:
            good = found[-1]
            assert isinstance(good, dict)
            for broken, reason in (
                (good | {"signalType": "VideoMD5", "hashValue": one.md5}, "'VideoMD5' is no hash of a picture"),
                (good | {"hashValue": one.pdq[:-1]}, "63 characters"),
                (good | {"hashStatus": "Lost"}, "'Lost' is not known"),
                (good | {"hashValue": 7}, "hashValue is int"),
                ("no record", "no JSON object"),
            ):
                found.append(broken)
                refused[len(found)] = reason
    page = {"count": len(found), "nextPageToken": None, "nextSetTimestamp": 1, "hasMoreRecords": False}
    removed = len(GONE) if later else 0
    data = json.dumps({**page, "hashRecords": found}).encode()
    return Made("hashes.json", data, records, removed, refused, _kept(later, "pdq"))


def tat(*, later: bool) -> Made:
    """What Tech Against Terrorism's hash list answers: each hash is a record of its own."""
    found: list[object] = []
    refused = {}
    records = 0
    for one in _all():
        kind = ("PDQ", "MD5", "SHA256", "SHA1")[one.place % 4]
        found.append(
            {
                "hash_digest": getattr(one, kind.lower()),
                "algorithm": kind,
                "ideology": _version(one, later=later),
                "file_type": ("png", "jpg")[one.place % 2],
                "deleted": _gone(one, later=later),
                "updated_on": one.time.timestamp(),
                "created_on": one.time.isoformat(),
                "id": 2_800 + one.place,
            }
        )
        records += 1
        if later and one.place % 100 == 50:
            good = found[-1]
            assert isinstance(good, dict)
            for broken, reason in (
                (good | {"file_type": "mp4"}, "'mp4' is no picture"),
                (good | {"algorithm": "TMK"}, "no type of hash"),
                (good | {"deleted": "yes"}, "true or false"),
                (good | {"hash_digest": "123abc"}, "6 characters"),
            ):
                found.append(broken)
                refused[len(found)] = reason
    page = {"count": len(found), "next": None, "previous": None, "checkpoint": "1724856487.7,10594"}
    hashes = {
        f"{kind}:{getattr(one, kind)}"
        for one in _all()
        if not _gone(one, later=later)
        for kind in [("pdq", "md5", "sha256", "sha1")[one.place % 4]]
    }
    removed = len(GONE) if later else 0
    data = json.dumps({**page, "results": found}, indent=1).encode()
    return Made("hash-list.json", data, records, removed, refused, hashes)


def jsonl(*, later: bool) -> Made:
    """An export of ours, with lines that somebody changed by hand."""
    written = io.BytesIO()
    writer = Writer(written, bank="banks/other", kind="banned", revision="r1", exported=_START)
    for one in _all():
        name = EntryRecord(id=f"e{one.place}", external_id=f"case-{one.place}", source="elsewhere")
        if _gone(one, later=later):
            writer.write(replace(name, removed=True))
            continue
        hashes = (
            RecordHash(SignalType.SHA256, bytes.fromhex(one.sha256)),
            RecordHash(SignalType.PDQ, bytes.fromhex(one.pdq), 80 + one.place % 20),
        )
        labels = ("a", _version(one, later=later))
        held = Quarantine(QuarantineReason.FALSE_POSITIVES, "three of us", one.time) if one.place % 7 == 0 else None
        facts = replace(name, metadata={"by": "ä\n"}, create_time=one.time, note=f"of {one.place}", quarantine=held)
        writer.write(replace(facts, hashes=hashes, labels=labels))
    lines = written.getvalue().decode().splitlines()
    refused = {}
    if later:
        for broken, reason in (
            ('{"id": "x", "hashes": [{"type": "pdq", "hex": "00"}]}', "hashes: it has 2 characters"),
            ('{"id": "x", "colour": "red"}', "'colour'"),
            ('{"id": "x", "image": "%%%"}', "image is no base64"),
            ('{"id": "x", ', "no JSON"),
            ('{"id": "x", "expire_time": "2026-11-30"}', "no time zone"),
            ('{"id": "x", "vectors": [{"type": "pdq"}]}', "embedding or semantic"),
        ):
            lines.append(broken)
            refused[len(lines)] = reason
    lines.append(json.dumps({"count": len(lines) - 1}))
    removed = len(GONE) if later else 0
    data = "\n".join(lines).encode() + b"\n"
    return Made("export.jsonl", data, COUNT, removed, refused, _kept(later, "sha256", "pdq"))


MAKERS: dict[Format, Callable[..., Made]] = {
    Format.HASHES: plain,
    Format.TX_CSV: tx_csv,
    Format.THREATEXCHANGE: cache,
    Format.NCMEC: ncmec,
    Format.STOPNCII: stopncii,
    Format.TAT: tat,
    Format.JSONL: jsonl,
}


def _row(cells: Iterable[str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(cells)
    return out.getvalue()
