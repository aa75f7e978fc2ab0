"""Makes the first seeds again: `python -m tests.fuzz.make_seeds`. What fuzzing found is beside them, and stays."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp
from PIL import Image
from tests.fuzz.seeds import FOLDER
from tests.fuzz.service import DIGEST, ENTRY, METHODS, REQUEST_ID, packed, picture
from tests.fuzz.texts import CATALOG
from tests.unit.media.crafted import (
    ENCODINGS,
    animated,
    bmp,
    encoded,
    gif,
    noise,
    oriented,
    png,
    red_for_blue,
    tiff,
    webp,
)

from imagewarden import EntryRecord, Quarantine, QuarantineReason, SignalType
from imagewarden._records import RecordFeatures, RecordHash, RecordVectors
from imagewarden.lists import Writer
from imagewarden.v1 import audit_service_pb2 as audit
from imagewarden.v1 import bank_service_pb2 as banks
from imagewarden.v1 import moderation_service_pb2 as pb
from imagewarden.v1 import types_pb2 as types
from imagewarden_server.api import paging
from imagewarden_server.catalog.features import encode_features
from imagewarden_server.matching.revisions import encode_revision
from imagewarden_server.matching.types import LocalFeatures
from imagewarden_server.media import (
    DRAWINGS,
    EXTRACTOR,
    GREYS,
    ImageFormat,
    Limits,
    decode,
    drawing,
    extract,
    grey,
    render_logo,
)

Files = Mapping[str, bytes]

_SIZE = (40, 30)
_MD5, _SHA1, _SHA256 = (hashlib.new(name, b"a file").hexdigest() for name in ("md5", "sha1", "sha256"))
_PDQ = "f8f8f0cee0f4a84f06370a22038f63f0b36e2ed596621e1d33e6b39c4e9c9b22"
_SIZED = (
    '<?xml version="1.0"?>\n<!-- a logo --><svg xmlns="http://www.w3.org/2000/svg" width="20mm" height="1cm">'
    '<rect width="9" height="9"/></svg>'
)
_SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 40 40">'
    '<defs><path id="a" d="M3 3h9v9z"/><linearGradient id="g"><stop stop-color="#c00"/></linearGradient></defs>'
    '<style>.b { fill: url(#g) }</style><use xlink:href="#a" class="b"/><circle cx="20" cy="20" r="9"/></svg>'
)


def pictures() -> dict[str, Files]:
    """Small files of each format: still, moving, turned, of other depths and colours; and such as no encoder writes."""
    still = noise(*_SIZE)
    moving = [still.rotate(30 * number) for number in range(3)]
    odd: dict[ImageFormat, dict[str, bytes]] = {
        ImageFormat.JPEG: {
            "progressive": encoded(still, ImageFormat.JPEG, progressive=True),
            "cmyk": encoded(still.convert("CMYK"), ImageFormat.JPEG),
            "profile": encoded(still, ImageFormat.JPEG, icc_profile=red_for_blue()),
        },
        ImageFormat.PNG: {
            "sixteen-bits": encoded(still.convert("L").convert("I;16"), ImageFormat.PNG),
            "palette": encoded(still.quantize(16), ImageFormat.PNG, transparency=3),
            "claims": png(500, 500),
        },
        ImageFormat.GIF: {"larger-frames": gif(4, 4, [(20, 20), (30, 10)])},
        ImageFormat.WEBP: {"lossless": encoded(still, ImageFormat.WEBP, lossless=True), "claims": webp(400, 400)},
        ImageFormat.BMP: {"palette": encoded(still.quantize(16), ImageFormat.BMP), "claims": bmp(300, 300)},
        ImageFormat.TIFF: {
            "deflate": encoded(still, ImageFormat.TIFF, compression="tiff_adobe_deflate"),
            "bits": encoded(still.convert("1"), ImageFormat.TIFF, compression="group4"),
            "fields": tiff([{256: 5, 257: 5}, {256: 9, 257: 9}]),
        },
    }
    made: dict[str, Files] = {}
    for format_ in ENCODINGS:
        files = {"still": encoded(still, format_), **odd.get(format_, {})}
        if format_ not in {ImageFormat.GIF, ImageFormat.BMP}:
            files["turned"] = encoded(still, format_, exif=oriented(6))
        if format_ not in {ImageFormat.JPEG, ImageFormat.BMP}:
            files["moving"] = animated(moving, format_)
        made[f"decode-{format_.value}"] = files
    made["headers"] = {
        f"{name.removeprefix('decode-')}-{seed}": data
        for name, files in made.items()
        for seed, data in files.items()
        if seed in {"still", "moving", "claims", "fields"}
    }
    masked = still.convert("RGBA")
    masked.putalpha(Image.radial_gradient("L").resize(masked.size))
    drawing = _SVG.encode()
    inner = base64.b64encode(encoded(still.resize((6, 4)), ImageFormat.PNG)).decode()
    image = f'<image width="9" height="9" href="data:image/png;base64,{inner}"/></svg>'
    svg = {"shapes": drawing, "picture": _SVG.replace("</svg>", image).encode(), "sizes": _SIZED.encode()}
    return made | {
        "svg": svg,
        "logo": {**svg, "masked": encoded(masked, ImageFormat.PNG), "opaque": encoded(still, ImageFormat.JPEG)},
    }


def protocol() -> dict[str, Files]:
    """Answers as decoder processes give them, and questions as they are asked."""
    frame = {"index": 0, "quality": 100, "turned": "00" * 256, "deviation": None}
    good = {"header": ["png", 4, 2, 1], "frames": [frame], "memory": 1, "shapes": [[2, 4, 3]], "dropped": []}
    shown = 3 * (299 * 299 + 4 * 2)
    held = good | {"frames": [frame | {"deviation": 20.0}], "shapes": [[2, 4, 3], [299, 299, 3]]}
    answers = {
        "full-size": b"\x00\x01\x00" + json.dumps(good).encode(),
        "more-memory": b"\x00\xff\x00" + json.dumps(held).encode(),
        "first": b"\x00\x02\x01" + json.dumps(good | {"shapes": [[2, 4, 4]]}).encode(),
        "problem": b"\x08\x00\x00"
        + json.dumps({"problem": "empty", "message": "x", "memory": 0, "shapes": [], "dropped": []}).encode(),
        "raw": b"\x01\x01\x00" + struct.pack("<I", 2) + b"{}",
        "too-much": b"\x00\x01\x00" + json.dumps(good | {"shapes": [[shown, 1, 3]]}).encode(),
    }
    questions = {
        "picture": b"\x00\x02\x00" + bytes(range(40)),
        "first": b"\x01\x00\x00",
        "cut": b"\x03\x01\x80" + bytes(30),
    }
    return {"decoder-answer": answers, "decoder-question": questions}


def texts() -> dict[str, Files]:
    """The small formats of our own."""
    chance = np.random.default_rng(1)
    points = chance.uniform(0, 1, (3, 4)).astype(np.float32)
    features = LocalFeatures(points, chance.integers(0, 256, (3, 128), dtype=np.uint8), 4 / 3)
    none = LocalFeatures(points[:0], features.descriptors[:0], 1.0)
    page = banks.ListBanksRequest(page_size=10)
    key = "iw_0123456789_" + "A" * 43
    return {
        "features": {"three": encode_features(features), "none": encode_features(none)},
        "revision-token": {
            "five": encode_revision(CATALOG, 5).encode(),
            "other": encode_revision("f" * 32, 5).encode(),
        },
        "page-token": {str(after): paging.next_token(page, after).encode() for after in (1, 1_000)},
        "key": {"key": key.encode(), "banks": b"abuse,acme-*,*"},
        "hash": {
            **{name: f"{name}:{digits}".encode() for name, digits in (("sha256", _SHA256), ("sha1", _SHA1))},
            "md5": f"MD5 {_MD5.upper()}".encode(),
            "pdq": f"pdq:{_PDQ}".encode(),
            "bare": _SHA1.encode(),
        },
    }


def lists() -> dict[str, Files]:
    """A short list of each format, with a broken line and a removal where it has them; and one that is gzip."""
    hashes = f"# a list\nsha256:{_SHA256}\nmd5 {_MD5}\n{_SHA1}\npdq:{_PDQ[:10]}\n\n".encode()
    table = (
        f"signal_type,signal_str,collab,category,tags\npdq,{_PDQ},us,A,x y\nmd5,{_MD5},us,NEGATIVE_CLASS,\npdq,zz,,,\n"
    )
    cache = f'{_PDQ},123,2026-01-01,"a b"\n{_PDQ},124,2026-01-02,false_positive\n{_MD5},1,,\n'
    ncmec = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<queryResult xmlns="http://hashsharing.ncmec.org/hashsharing/v2">'
        '<images count="2">'
        '<image><member id="42">A &amp; B</member><timestamp>2026-01-01T00:00:00Z</timestamp><id>image1</id>'
        f"<classification>A1</classification><fingerprints><md5>{_MD5}</md5><pdq>{_PDQ}</pdq>"
        "<pdna>AAAA</pdna></fingerprints></image>"
        '<deletedImage><member id="42">A</member><timestamp>2026-01-02T00:00:00Z</timestamp><id>image2</id>'
        "</deletedImage>"
        '</images><videos><video><member id="42">A</member><id>v1</id></video></videos></queryResult>'
    )
    feedback = {"source": "a", "feedbackValue": "Blocked", "tags": ["t"]}
    facts = {"lastModtimestamp": 1_700_000_000, "caseNumbers": {"1": "Active"}, "CSPFeedbacks": [feedback]}
    stopncii = {
        "hashRecords": [
            {"signalType": "ImagePDQ", "hashValue": _PDQ, "hashStatus": "Active", **facts},
            {"signalType": "ImagePDQ", "hashValue": _PDQ, "hashStatus": "Withdrawn"},
            {"signalType": "VideoMD5", "hashValue": _MD5, "hashStatus": "Active"},
        ]
    }
    tat = {
        "checkpoint": "1",
        "results": [
            {"hash_digest": _PDQ, "algorithm": "PDQ", "id": 7, "ideology": "x", "file_type": "jpg", "deleted": False},
            {"hash_digest": _MD5, "algorithm": "MD5", "id": "8", "file_type": "mp4"},
            {"hash_digest": _MD5, "algorithm": "MD5", "id": 9, "deleted": True},
        ],
    }
    xml, stop, tech = ncmec.encode(), json.dumps(stopncii).encode(), json.dumps(tat, indent=1).encode()
    return {
        "list-hashes": {"some": hashes, "packed": gzip.compress(hashes, mtime=0)},
        "list-tx-csv": {"some": table.encode()},
        "list-threatexchange": {"some": cache.encode()},
        "list-ncmec": {"some": xml},
        "list-stopncii": {"some": stop},
        "list-tat": {"some": tech},
        "list-jsonl": {"some": _own()},
        "list-any": {
            "hashes": hashes,
            "tx-csv": table.encode(),
            "cache": cache.encode(),
            "ncmec": xml,
            "stopncii": stop,
            "tat": tech,
            "jsonl": _own(),
        },
    }


def _own() -> bytes:
    out = io.BytesIO()
    time = datetime(2026, 1, 1, tzinfo=UTC)
    writer = Writer(out, bank="banks/abuse", kind="banned", revision="r1.x.5", exported=time)
    hashes = (RecordHash(SignalType.PDQ, bytes.fromhex(_PDQ), 90), RecordHash(SignalType.MD5, bytes.fromhex(_MD5)))
    vectors = (RecordVectors(SignalType.EMBEDDING, "model", 2, struct.pack("<2f", 1, 0), 0.25, 0.5),)
    held = Quarantine(QuarantineReason.BY_HAND, "under appeal", time)
    full = EntryRecord(hashes, "case-1", "us", ("a",), {"k": "v"}, id="e1", create_time=time, vectors=vectors)
    writer.write(replace(full, note="ask Kim", quarantine=held))
    writer.write(EntryRecord(external_id="case-2", source="us", removed=True))
    writer.write(EntryRecord(hashes[:1], brand="B", features=(RecordFeatures("x", b"\0\1"),), thumbnail=b"png"))
    writer.end()
    return out.getvalue()


def api() -> Files:
    """A request of each method that it takes, where the model is not asked."""
    bank = types.Bank(name="banks/new", kind=types.BANK_KIND_BANNED, display_name="New", labels={"a": "b"})
    bank.policy.thresholds.add(signal=types.SIGNAL_TYPE_PDQ, threshold=20)
    entry = types.Entry(external_id="case-7", labels=["a"], metadata={"k": "v"}, expire_time=Timestamp(seconds=2**32))
    named = types.Entry(name=f"banks/abuse/entries/{ENTRY}", state=types.ENTRY_STATE_DISABLED, source="us")
    image = encoded(noise(24, 18), ImageFormat.JPEG)
    check = pb.CheckImageRequest(image=image, banks=["banks/abuse"], max_matches=3, context={"upload": "1"})
    revision = encode_revision(CATALOG, 5)
    hashes = [
        banks.HashToAdd(type=types.SIGNAL_TYPE_PDQ, hex=_PDQ, quality=90, external_id="x", labels=["a"]),
        banks.HashToAdd(type=types.SIGNAL_TYPE_SHA256, hex=DIGEST.hex()),
    ]
    known = banks.RecordHash(type=types.SIGNAL_TYPE_PDQ, value=DIGEST)
    records = [
        banks.EntryRecord(number=1, external_id="x", source="us", hashes=[known]),
        banks.EntryRecord(number=2, external_id="y", source="us", removed=True),
    ]
    records[0].quarantine.CopyFrom(types.Quarantine(reason=types.QUARANTINE_REASON_FLOOD, time=Timestamp(seconds=9)))
    listing = banks.ListEntriesRequest(bank="banks/abuse", page_size=1)
    listing.page_token = paging.next_token(listing, 1)
    said: dict[str, Message] = {
        "CheckImage": check,
        "BatchCheckImages": pb.BatchCheckImagesRequest(
            requests=[check, pb.CheckImageRequest(image=b"x", at_least_revision=revision)]
        ),
        "StreamCheckImages": pb.StreamCheckImagesRequest(correlation_id="1", request=check),
        "SearchSimilarImages": pb.SearchSimilarImagesRequest(image=image, k=3, at_least_revision=revision),
        "CreateBank": banks.CreateBankRequest(bank=bank, request_id=REQUEST_ID),
        "GetBank": banks.GetBankRequest(name="banks/abuse"),
        "ListBanks": banks.ListBanksRequest(page_size=2),
        "UpdateBank": banks.UpdateBankRequest(
            bank=types.Bank(name="banks/abuse", policy=bank.policy),
            update_mask=FieldMask(paths=["policy.thresholds", "labels"]),
        ),
        "DeleteBank": banks.DeleteBankRequest(name="banks/abuse", force=True),
        "AddHashes": banks.AddHashesRequest(bank="banks/abuse", hashes=hashes, request_id=REQUEST_ID),
        "ImportEntries": banks.ImportEntriesRequest(bank="banks/abuse", records=records),
        "ExportEntries": banks.ExportEntriesRequest(bank="banks/abuse"),
        "AddImage": banks.AddImageRequest(bank="banks/abuse", image=image, entry=entry),
        "RegisterLogo": banks.RegisterLogoRequest(bank="banks/logos", brand="B", images=[_SVG.encode()], entry=entry),
        "ReportMatch": pb.ReportMatchRequest(
            entry=named.name, sha256=DIGEST.hex(), opinion=types.OPINION_FALSE_POSITIVE, note="x", request_id=REQUEST_ID
        ),
        "PreviewPolicy": banks.PreviewPolicyRequest(
            bank="banks/abuse", thresholds=bank.policy.thresholds, hash=hashes[0], max_nearest=3
        ),
        "GetEntry": banks.GetEntryRequest(name=named.name),
        "ListEntries": listing,
        "UpdateEntry": banks.UpdateEntryRequest(entry=named, update_mask=FieldMask(paths=["state", "source"])),
        "DeleteEntry": banks.DeleteEntryRequest(name=named.name),
        "ReadAuditEvent": audit.ReadAuditEventRequest(sequence=1),
    }
    # A method that is added later begins with an empty request.
    usual = {
        name: packed(name, [said.get(name, GetMessageClass(method.input_type)())]) for name, method in METHODS.items()
    }
    return {**usual, **_imports()}


def _imports() -> Files:
    """Streams of records with all that an export has: vectors of one model in two sizes, features, logos, removals."""
    chance = np.random.default_rng(1)
    points = chance.uniform(0, 1, (2, 4)).astype(np.float32)
    features = encode_features(LocalFeatures(points, chance.integers(0, 256, (2, 128), dtype=np.uint8), 1.5))

    def vector(*values: float, model: str = "0" * 64) -> banks.RecordVectors:
        data = np.array(values, "<f4").tobytes()
        return banks.RecordVectors(
            type=types.SIGNAL_TYPE_EMBEDDING, model_version=model, dimensions=len(values), data=data, deviation=1.0
        )

    def record(number: int, **fields: Any) -> banks.EntryRecord:
        return banks.EntryRecord(number=number, source="us", external_id=str(number), **fields)

    def stream(bank: str, *messages: Sequence[banks.EntryRecord]) -> bytes:
        requests = [banks.ImportEntriesRequest(records=records) for records in messages]
        requests[0].bank = bank
        return packed("ImportEntries", requests)

    local = [banks.RecordFeatures(extractor="another-1", data=features)]
    shown = decode(picture(), Limits()).frames[0].small
    drawn = render_logo(_SVG.encode(), Limits())[0]
    kept = [
        banks.RecordFeatures(extractor=name, data=encode_features(one))
        for name, one in ((EXTRACTOR, extract(shown, keypoints=30)), (GREYS, grey(shown)))
    ]
    logo = [banks.RecordFeatures(extractor=DRAWINGS, data=encode_features(drawing(drawn)))]
    return {
        "ImportEntries-vectors": stream(
            "banks/abuse",
            [record(1, vectors=[vector(1, 0, 0, 0)], features=local), record(2, vectors=[vector(0, 1, 0, 0)])],
            [record(3, vectors=[vector(0.6, 0.8)]), record(4, vectors=[vector(1.0, model="other")])],
        ),
        "ImportEntries-logos": stream(
            "banks/logos",
            [record(1, vectors=[vector(0, 1)], brand="B", thumbnail=b"png"), record(2, brand="B", features=local)],
        ),
        "ImportEntries-keypoints": stream("banks/abuse", [record(1, vectors=[vector(0, 1)], features=kept)]),
        "ImportEntries-drawing": stream(
            "banks/logos", [record(1, brand="B", vectors=[vector(0, 1)], features=[*kept, *logo])]
        ),
        "ImportEntries-removals": stream(
            "banks/abuse",
            [record(1, hashes=[banks.RecordHash(type=types.SIGNAL_TYPE_SHA256, value=DIGEST)])],
            [record(2, removed=True), record(3, removed=True, id=ENTRY), record(4, state=types.ENTRY_STATE_DISABLED)],
        ),
    }


def main() -> None:
    """Write them all."""
    parts: list[Callable[[], dict[str, Files]]] = [pictures, protocol, texts, lists, lambda: {"api": api()}]
    for make in parts:
        for target, files in make().items():
            folder = FOLDER / target
            folder.mkdir(parents=True, exist_ok=True)
            for name, data in files.items():
                (folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
