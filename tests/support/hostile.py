"""Bad input for a server: broken pictures, bombs, records with odd values; and calls of any method by bytes."""

from __future__ import annotations

import base64
import random
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp

from imagewarden.v1 import bank_service_pb2 as banks_pb
from imagewarden.v1 import error_reason_pb2 as reasons
from imagewarden.v1 import types_pb2 as types
from imagewarden_server.catalog.features import encode_features
from imagewarden_server.matching.types import LocalFeatures
from tests.fuzz import wounds
from tests.fuzz.seeds import FOLDER, seeds
from tests.fuzz.service import METHODS
from tests.fuzz.targets import TARGETS
from tests.support.api import EMBEDDING, PDQ, SHA256
from tests.support.errors import Failure, failure_of
from tests.support.records import MODEL, features, vectors
from tests.unit.media.crafted import bmp, gif, png, png_chunk, tiff, webp

SECONDS = 60.0
_SVG = b'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 50 50">'
_PICTURES = ("headers", "svg", "logo")
_FAULTS = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
_REASONS = frozenset(name.removeprefix("ERROR_REASON_") for name in reasons.ErrorReason.keys()) - {  # noqa: SIM118 -- an enum's names
    "UNSPECIFIED",
    "INTERNAL",
}


# ------------------------------------------------------------------------------------------------------------ pictures


def picture_seeds() -> dict[str, bytes]:
    """Every seed of the fuzzer that is a picture, by its target and name; each file once."""
    targets = sorted(path.name for path in FOLDER.iterdir() if path.name.startswith("decode-"))
    found = {data: f"{target}/{name}" for target in (*_PICTURES, *targets) for name, data in seeds(target).items()}
    return {name: data for data, name in found.items()}


def broken_pictures(count: int, chance: random.Random) -> Iterator[tuple[str, bytes]]:
    """Seeds cut short, with bits flipped, and changed as the fuzzer does it, so that checksums are right again."""
    names = picture_seeds()
    for number in range(count):
        name = chance.choice(list(names))
        data = names[name]
        match number % 3:
            case 0:
                yield f"{name}, cut short", data[: chance.randrange(1, len(data))]
            case 1:
                yield f"{name}, with bits flipped", _flipped(data, chance.choice((1, 1, 2, 8)), chance)
            case _:
                change = TARGETS[name.partition("/")[0]].mutate or wounds.blind
                yield f"{name}, changed", change(data, chance, wounds.plain(chance)) or b"\0"


def _flipped(data: bytes, count: int, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(count):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def bombs() -> dict[str, bytes]:
    """Small files that would be large: no check may tell more of one than that it cannot be looked at."""
    head, end = b"\x89PNG\r\n\x1a\n", png_chunk(b"IEND", b"")
    size = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 300, 300, 8, 2, 0, 0, 0))
    packed = zlib.compress(bytes(10**8), 9)
    return {
        "a PNG of 65,535 x 65,535": png(65_535, 65_535),
        "a PNG of 2^31 - 1 x 2^31 - 1": png(2**31 - 1, 2**31 - 1),
        "a PNG of a hundred megapixels and more that is whole": _large_png(),
        "a PNG with a hundred million letters": head + size + png_chunk(b"zTXt", b"a\0\0" + packed) + end,
        "a PNG with an endless profile": head + size + png_chunk(b"iCCP", b"a\0\0" + packed) + end,
        "a GIF of 5,000 frames": gif(500, 500, [(500, 500)] * 5_000),
        "a GIF of 65,535 x 65,535": gif(65_535, 65_535, [(65_535, 65_535)] * 3),
        "a TIFF of 5,000 pages": tiff([{256: 5_000, 257: 5_000}] * 5_000),
        "a TIFF whose last page leads to the first": tiff([{256: 500, 257: 500}] * 3, next_of_last=8),
        "a BMP of 30,000 x 30,000": bmp(30_000, 30_000),
        "a WebP of 16,000 x 16,000": webp(16_000, 16_000),
    }


def _large_png() -> bytes:
    return png(10_001, 10_001, bytes(10_002 * 10_001), kind=0)


def drawing_bombs() -> dict[str, bytes]:
    """SVG that would be large, or would read what is not its own."""
    entities = b"".join(b'<!ENTITY e%d "%s">' % (one, b"&e%d;" % (one - 1) * 10) for one in range(1, 10))
    inner = base64.b64encode(_large_png())
    uses = b"".join(b'<g id="g%d">%s</g>' % (one, b'<use xlink:href="#g%d"/>' % (one - 1) * 10) for one in range(1, 10))
    return {
        "entities of entities": b'<!DOCTYPE svg [<!ENTITY e0 "ha">' + entities + b"]>" + _SVG + b"&e9;</svg>",
        "an entity of a file": b'<!DOCTYPE svg [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + _SVG + b"&e;</svg>",
        "a picture of a file": _SVG + b'<image width="50" height="50" href="file:///etc/passwd"/></svg>',
        "a bomb in it": _SVG + b'<image width="50" height="50" href="data:image/png;base64,' + inner + b'"/></svg>',
        "uses of uses": _SVG + b'<g id="g0"><path d="M0 0h9v9z"/></g>' + uses + b'<use xlink:href="#g9"/></svg>',
        "20,000 groups deep": _SVG + b"<g>" * 20_000 + b"</g>" * 20_000 + b"</svg>",
        "a width of 10^30": _SVG.replace(b"viewBox=", b'width="1e30" height="1e30" viewBox=') + b"</svg>",
    }


# ------------------------------------------------------------------------------------------------------------- records


def odd_records() -> list[tuple[str, banks_pb.EntryRecord]]:
    """Records that no BANNED bank may take, each with the field for which it is refused."""
    chance = np.random.default_rng(1)
    good = banks_pb.RecordHash(type=SHA256, value=bytes(32))
    kept = features(20, chance).data
    none = LocalFeatures(np.empty((0, 4), np.float32), np.empty((0, 128), np.uint8), 1.0)
    odd: list[tuple[str, dict[str, Any]]] = [
        ("hashes", {}),
        *(("hashes", {"hashes": [one]}) for one in _odd_hashes()),
        ("hashes", {"hashes": [good] * 65}),
        *(("vectors", {"vectors": [one]}) for one in _odd_vectors(chance)),
        ("vectors", {"vectors": [vectors(EMBEDDING, 1, 8, chance), vectors(EMBEDDING, 1, 9, chance)]}),
        *(
            ("features", {"hashes": [good], "features": [banks_pb.RecordFeatures(extractor=name, data=data)]})
            for name, data in (
                ("rootsift-1", b""),
                ("rootsift-1", b"IWLF"),
                ("rootsift-1", kept[:-1]),
                ("rootsift-1", kept[:-1] + bytes([kept[-1] ^ 1])),
                ("rootsift-1", encode_features(none)),
                ("grey-1", kept),
                ("", kept),
                ("a\nb", kept),
            )
        ),
        ("features", {"hashes": [good], "features": [features(1, chance)] * 257}),
        ("thumbnail", {"hashes": [good], "thumbnail": b"no picture"}),
        ("thumbnail", {"hashes": [good], "thumbnail": b"\x89PNG\r\n\x1a\n" + bytes(2**18)}),
        ("state", {"hashes": [good], "state": types.ENTRY_STATE_EXPIRED}),
        ("state", {"hashes": [good], "state": 99}),
        *(("id", {"hashes": [good], "id": one}) for one in ("a/b", "x" * 65, "\x00", "ä", "../..")),
        ("removed", {"removed": True}),
        ("labels", {"hashes": [good], "labels": [""]}),
        ("labels", {"hashes": [good], "labels": [str(one) for one in range(65)]}),
        ("metadata", {"hashes": [good], "metadata": {str(one): "x" for one in range(1_001)}}),
        ("external_id", {"hashes": [good], "external_id": "x" * 257}),
        ("source", {"hashes": [good], "source": "x" * 257}),
        ("note", {"hashes": [good], "note": "x" * 1_001}),
        *(
            (name, {"hashes": [good], name: Timestamp(**said)})
            for name in ("expire_time", "create_time")
            for said in ({"seconds": 2**62}, {"seconds": -(2**62)}, {"nanos": -1}, {"nanos": 2**31 - 1})
        ),
    ]
    return [(field, banks_pb.EntryRecord(**said)) for field, said in odd]


def _odd_hashes() -> list[banks_pb.RecordHash]:
    sizes = [(SHA256, 0), (SHA256, 31), (SHA256, 4_096), (types.SIGNAL_TYPE_MD5, 32), (types.SIGNAL_TYPE_SHA1, 16)]
    kinds = [types.SIGNAL_TYPE_UNSPECIFIED, EMBEDDING, types.SIGNAL_TYPE_COMBINED, 99, -1]
    return [
        *(banks_pb.RecordHash(type=type_, value=bytes(size)) for type_, size in sizes),
        *(banks_pb.RecordHash(type=kind, value=bytes(32)) for kind in kinds),  # type: ignore[arg-type]  # no enum's value
        *(banks_pb.RecordHash(type=PDQ, value=bytes(32), quality=one) for one in (-1, 49, 101, 2**31 - 1)),
        banks_pb.RecordHash(type=SHA256, value=bytes(32), quality=90),
    ]


def _odd_vectors(chance: np.random.Generator) -> list[banks_pb.RecordVectors]:
    rows = ([float("nan")] * 4, [float("inf"), 0, 0, 0], [0.0] * 4, [2.0, 0, 0, 0], [3e38] * 4, [1e-40] * 4)
    made = [_changed(chance, data=np.array(row, "<f4").tobytes()) for row in rows]
    made += [_changed(chance, dimensions=one) for one in (0, -1, 3, 5, 2**31 - 1)]
    made += [_changed(chance, data=one) for one in (b"", b"\0", bytes(15))]
    made += [_changed(chance, type=one) for one in (PDQ, types.SIGNAL_TYPE_UNSPECIFIED, 99)]
    made += [_changed(chance, model_version=one) for one in ("", "a b", "\n", "x" * 65, "ä")]
    made += [_changed(chance, deviation=one) for one in (0.0, -1.0, float("nan"), float("inf"), 1e-300, 3e39)]
    made += [_changed(chance, mean=one) for one in (float("nan"), float("-inf"), 1e300)]
    return [*made, vectors(EMBEDDING, 1_025, 2, chance), vectors(EMBEDDING, 1, 8_193, chance)]


def _changed(chance: np.random.Generator, **said: Any) -> banks_pb.RecordVectors:
    made = vectors(EMBEDDING, 1, 4, chance)
    assert made.model_version == MODEL
    for name, value in said.items():
        setattr(made, name, value)
    return made


# --------------------------------------------------------------------------------------------------------------- calls


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a call.

    Attributes:
        failure: as a client reads it; its code is OK where the call ended well.
        answers: those that came, as they are.
    """

    failure: Failure
    answers: list[Any]

    @property
    def crashed(self) -> bool:
        """Whether something failed that nobody thought of: the call, or the answer for one item of it."""
        items = [one for answer in self.answers for one in getattr(answer, "results", [answer])]
        codes = [one.error.code for one in items if "error" in one.DESCRIPTOR.fields_by_name and one.HasField("error")]
        return self.failure.code in _FAULTS or any(code in {fault.value[0] for fault in _FAULTS} for code in codes)

    @property
    def documented(self) -> bool:
        """Whether it is an answer, or an error with one of the API's reasons and with words."""
        good = self.failure.code is grpc.StatusCode.OK
        return good or (self.failure.reason in _REASONS and bool(self.failure.message))


def call(channel: grpc.Channel, method: str, requests: Sequence[Message | bytes]) -> Outcome:
    """Call a method of the API with messages, or with bytes in their place."""
    what = METHODS[method]
    stub = _stub(channel, what)
    sent = [one if isinstance(one, bytes) else one.SerializeToString() for one in requests]
    answers: list[Any] = []
    try:
        answer = stub(iter(sent) if what.client_streaming else sent[0], timeout=SECONDS)
        if what.server_streaming:
            answers += answer
        else:
            answers.append(answer)
    except grpc.RpcError as error:
        return Outcome(failure_of(error), answers)
    return Outcome(Failure(), answers)


def _stub(channel: grpc.Channel, method: MethodDescriptor) -> Any:
    assert method.containing_service is not None
    kind = f"{_many(method.client_streaming)}_{_many(method.server_streaming)}"
    path = f"/{method.containing_service.full_name}/{method.name}"
    answer: Any = GetMessageClass(method.output_type)
    return getattr(channel, kind)(path, response_deserializer=answer.FromString)


def _many(streaming: bool) -> str:
    return "stream" if streaming else "unary"
