"""Bad input: each gets the typed error or the UNDECIDED reason, says what to do, and leaves the state as it was."""

from __future__ import annotations

import hashlib
import io
import struct
import uuid
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from PIL import Image
from tests.support.api import ALLOWED, BRAND, EMBEDDING, LOCAL, MATCH, NO_MATCH, PDQ, SHA256, UNDECIDED, Api, state_of
from tests.support.errors import fails
from tests.support.heic import save_heic
from tests.support.pictures import encoded, opened
from tests.support.processes import Server

from imagewarden.v1 import bank_service_pb2 as banks_pb
from imagewarden.v1 import moderation_service_pb2 as pb
from imagewarden.v1 import types_pb2 as types
from imagewarden_server import media

pytestmark = pytest.mark.model


@pytest.fixture
def api(server: Server) -> Iterator[Api]:
    with Api(server.address) as api:
        yield api


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1_000_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


BROKEN: list[tuple[str, Callable[[bytes], bytes], types.UndecidedCode.ValueType, str]] = [
    ("truncated", lambda data: data[: len(data) // 2], types.UNDECIDED_CODE_UNDECODABLE, "IMAGE_UNDECODABLE"),
    ("junk", lambda _: b"\x00\x01\x02 no picture", types.UNDECIDED_CODE_UNDECODABLE, "IMAGE_UNDECODABLE"),
    ("lying header", lambda _: png_header(4_000, 4_000), types.UNDECIDED_CODE_UNDECODABLE, "IMAGE_UNDECODABLE"),
    ("400 megapixels", lambda _: png_header(20_000, 20_000), types.UNDECIDED_CODE_OVER_LIMITS, "IMAGE_OVER_LIMITS"),
    (
        "all white",
        lambda _: encoded(Image.new("RGB", (300, 300), "white")),
        types.UNDECIDED_CODE_TOO_PLAIN,
        "IMAGE_TOO_PLAIN",
    ),
    (
        "one pixel",
        lambda _: encoded(Image.new("RGB", (1, 1), "red"), "PNG"),
        types.UNDECIDED_CODE_TOO_PLAIN,
        "IMAGE_TOO_PLAIN",
    ),
    (
        "SVG",
        lambda _: b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        types.UNDECIDED_CODE_UNDECODABLE,
        "IMAGE_UNDECODABLE",
    ),
]


@pytest.mark.parametrize(("broken", "code", "reason"), [one[1:] for one in BROKEN], ids=[one[0] for one in BROKEN])
def test_a_broken_picture_is_undecided_when_checked_and_refused_when_added(
    api: Api,
    photographs: dict[str, bytes],
    broken: Callable[[bytes], bytes],
    code: types.UndecidedCode.ValueType,
    reason: str,
) -> None:
    bank = api.create_bank("abuse")
    api.add_image(bank, photographs["acanthus-mollis"])
    before = state_of(api)
    data = broken(photographs["dust-bowl-home"])
    answer = api.check(data, on_undecided=types.ACTION_BLOCK)
    assert (answer.verdict, answer.action) == (UNDECIDED, types.ACTION_BLOCK)
    assert code in {one.code for one in answer.undecided_reasons}
    assert all(one.message and one.signals for one in answer.undecided_reasons)
    assert answer.image.sha256 == hashlib.sha256(data).hexdigest()
    assert api.check(data, on_undecided=types.ACTION_ALLOW).action == types.ACTION_ALLOW
    with fails() as failure:
        api.add_image(bank, data)
    assert (failure.code, failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert failure.metadata["sha256"] == hashlib.sha256(data).hexdigest()
    assert state_of(api) == before
    api.add_hash(bank, SHA256, hashlib.sha256(data).hexdigest())
    assert api.check(data).verdict == MATCH, "a digest needs no pixels"


def variants(photograph: bytes) -> dict[str, bytes]:
    """The same photograph in modes and depths that pictures come in."""
    rgb = opened(photograph).resize((640, 500))
    grey16 = Image.fromarray(np.asarray(rgb.convert("L")).astype(np.uint16) * 257)
    alpha = rgb.convert("RGBA")
    alpha.putalpha(255)
    return {
        "cmyk": encoded(rgb.convert("CMYK"), quality=90),
        "16-bit grey": encoded(grey16, "PNG"),
        "palette": encoded(rgb.quantize(256), "PNG"),
        "rgba": encoded(alpha, "PNG"),
        "grey": encoded(rgb.convert("L"), quality=90),
        "tiff": encoded(rgb, "TIFF", compression="tiff_lzw"),
        "bmp": encoded(rgb, "BMP"),
        "webp": encoded(rgb, "WEBP", quality=80),
        "avif": encoded(rgb, "AVIF", quality=70),
        "heic": save_heic(rgb, quality=70),
        "gif": encoded(rgb.convert("P"), "GIF"),
    }


def test_every_format_and_mode_of_a_banned_photograph_is_caught(api: Api, photographs: dict[str, bytes]) -> None:
    bank = api.create_bank("abuse")
    api.add_image(bank, photographs["airplane-from-above"])
    for name, data in variants(photographs["airplane-from-above"]).items():
        answer = api.check(data)
        assert answer.verdict == MATCH, name
        assert answer.matches[0].signal == PDQ, name
        assert (answer.image.width, answer.image.height) == (640, 500)


def test_orientation_is_undone(api: Api, photographs: dict[str, bytes]) -> None:
    bank = api.create_bank("abuse")
    api.add_image(bank, photographs["nagasaki-boats"])
    turned = opened(photographs["nagasaki-boats"]).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    answer = api.check(encoded(turned, quality=90, exif=exif))
    assert answer.verdict == MATCH
    assert answer.matches[0].signal == PDQ
    assert (answer.image.width, answer.image.height) == (1024, 819)


def test_an_empty_picture_is_the_callers_mistake(api: Api) -> None:
    with fails() as failure:
        api.check(b"")
    assert (failure.code, failure.reason, failure.metadata) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_FIELD",
        {"field": "image"},
    )


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"banks": ["abuse"]}, "banks[0]"),
        ({"max_matches": 101}, "max_matches"),
        ({"max_matches": -1}, "max_matches"),
        ({"on_undecided": types.ACTION_NOTE}, "on_undecided"),
        ({"at_least_revision": "7"}, "at_least_revision"),
        ({"context": {str(one): "" for one in range(17)}}, "context"),
    ],
)
def test_a_wrong_field_is_named(api: Api, photographs: dict[str, bytes], options: dict[str, Any], field: str) -> None:
    with fails() as failure:
        api.check(photographs["acanthus-mollis"], **options)
    assert (failure.reason, failure.metadata) == ("INVALID_FIELD", {"field": field})


def test_unknown_banks_and_entries(api: Api, photographs: dict[str, bytes]) -> None:
    with fails() as failure:
        api.check(photographs["acanthus-mollis"], banks=["banks/nobody"])
    assert (failure.code, failure.reason) == (grpc.StatusCode.NOT_FOUND, "BANK_NOT_FOUND")
    with fails() as failure:
        api.add_image("banks/nobody", photographs["acanthus-mollis"])
    assert failure.reason == "BANK_NOT_FOUND"
    bank = api.create_bank("abuse")
    with fails() as failure:
        api.banks.GetEntry(banks_pb.GetEntryRequest(name=f"{bank}/entries/0"))
    assert failure.reason == "ENTRY_NOT_FOUND"
    with fails() as failure:
        api.create_bank("abuse")
    assert (failure.code, failure.reason) == (grpc.StatusCode.ALREADY_EXISTS, "BANK_EXISTS")


def test_each_kind_of_bank_takes_its_own(api: Api, photographs: dict[str, bytes]) -> None:
    banned, brand, allowed = api.create_bank("abuse"), api.create_bank("brand", BRAND), api.create_bank("ok", ALLOWED)
    picture = photographs["acanthus-mollis"]
    for call in (
        lambda: api.add_image(brand, picture),
        lambda: api.add_hash(brand, SHA256, "00" * 32),
        lambda: api.register_logo(banned, "x", picture),
        lambda: api.add_hash(allowed, types.SIGNAL_TYPE_MD5, "00" * 16),
    ):
        with fails() as failure:
            call()
        assert (failure.code, failure.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "WRONG_BANK_KIND")
    with fails() as failure:
        api.create_bank("loud", ALLOWED, types.Policy(action=types.ACTION_BLOCK))
    assert failure.metadata == {"field": "bank.policy.action"}


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"type": SHA256, "hex": "00" * 20}, "hashes[1].hex"),
        ({"type": PDQ, "hex": "00" * 31}, "hashes[1].hex"),
        ({"type": PDQ, "hex": "xy" * 32}, "hashes[1].hex"),
        ({"type": PDQ, "hex": "00" * 32, "quality": 49}, "hashes[1].quality"),
        ({"type": SHA256, "hex": "00" * 32, "quality": 90}, "hashes[1].quality"),
        ({"type": types.SIGNAL_TYPE_EMBEDDING, "hex": "00" * 32}, "hashes[1].type"),
        ({"hex": "00" * 32}, "hashes[1].type"),
        ({"type": SHA256, "hex": "00" * 32, "labels": [""]}, "hashes[1].labels"),
        ({"type": SHA256, "hex": "00" * 32, "expire_time": Timestamp(seconds=2**60)}, "hashes[1].expire_time"),
    ],
)
def test_one_wrong_hash_refuses_the_whole_call(api: Api, said: dict[str, object], field: str) -> None:
    bank = api.create_bank("hashes")
    before = state_of(api)
    good = banks_pb.HashToAdd(type=SHA256, hex="11" * 32)
    with fails() as failure:
        api.banks.AddHashes(
            banks_pb.AddHashesRequest(bank=bank, hashes=[good, banks_pb.HashToAdd(**said)])  # type: ignore[arg-type]  # parameters
        )
    assert (failure.reason, failure.metadata) == ("INVALID_FIELD", {"field": field})
    assert state_of(api) == before


def test_too_many_hashes_and_none(api: Api) -> None:
    bank = api.create_bank("hashes")
    one = banks_pb.HashToAdd(type=SHA256, hex="11" * 32)
    for hashes in ([], [one] * 10_001):
        with fails() as failure:
            api.banks.AddHashes(banks_pb.AddHashesRequest(bank=bank, hashes=hashes))
        assert failure.metadata == {"field": "hashes"}


def test_a_duplicate_is_said(api: Api, photographs: dict[str, bytes]) -> None:
    bank = api.create_bank("abuse")
    first = api.add_image(bank, photographs["acanthus-mollis"])
    before = state_of(api)
    with fails() as failure:
        api.add_image(bank, photographs["acanthus-mollis"])
    assert (failure.code, failure.reason) == (grpc.StatusCode.ALREADY_EXISTS, "ENTRY_EXISTS")
    assert failure.metadata["entry"] == first.entry.name
    assert state_of(api) == before
    digest = hashlib.sha256(photographs["acanthus-mollis"]).hexdigest()
    again = api.add_hash(bank, SHA256, digest)
    assert (again.added, again.duplicates, again.results[0].entry) == (0, 1, first.entry.name)


def test_a_repeated_request_is_answered_as_the_first_was(api: Api, photographs: dict[str, bytes]) -> None:
    bank = api.create_bank("abuse")
    once = str(uuid.uuid4())
    request = banks_pb.AddImageRequest(bank=bank, image=photographs["acanthus-mollis"], request_id=once)
    first, second = api.banks.AddImage(request), api.banks.AddImage(request)
    assert (first.entry.name, first.revision) == (second.entry.name, second.revision)
    other = banks_pb.AddImageRequest(bank=bank, image=photographs["nagasaki-boats"], request_id=once)
    with fails() as failure:
        api.banks.AddImage(other)
    assert (failure.code, failure.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "REQUEST_ID_REUSED")


def test_validation_alone_changes_nothing(api: Api, photographs: dict[str, bytes]) -> None:
    bank, brand = api.create_bank("abuse"), api.create_bank("brand", BRAND)
    before = state_of(api)
    previewed = api.banks.AddImage(
        banks_pb.AddImageRequest(bank=bank, image=photographs["acanthus-mollis"], validate_only=True)
    )
    assert not previewed.revision
    described = {signal.type: signal for signal in previewed.entry.signals if signal.model_version != media.GREYS}
    assert len(described) == 7
    assert len(previewed.entry.signals) == 8, "the keypoints, and the grey picture beside them"
    assert described[EMBEDDING].views == 12
    assert described[LOCAL].keypoints > 100
    api.banks.RegisterLogo(
        banks_pb.RegisterLogoRequest(bank=brand, brand="x", images=[photographs["acanthus-mollis"]], validate_only=True)
    )
    one = banks_pb.HashToAdd(type=SHA256, hex="11" * 32)
    api.banks.AddHashes(banks_pb.AddHashesRequest(bank=bank, hashes=[one], validate_only=True))
    assert state_of(api) == before


@pytest.mark.parametrize(
    "svg",
    [
        b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><image href="/etc/passwd" width="9"/></svg>',
        b'<!DOCTYPE svg [<!ENTITY a "b">]><svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9">&a;</svg>',
        b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"></svg>',
        b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><path d="M0 0',
        b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="5" height="5"/></svg>',
    ],
    ids=["outside file", "entities", "empty", "broken", "no size"],
)
def test_an_svg_that_a_logo_does_not_need_is_refused(api: Api, svg: bytes) -> None:
    brand = api.create_bank("brand", BRAND)
    before = state_of(api)
    with fails() as failure:
        api.register_logo(brand, "x", svg)
    assert (failure.code, failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "IMAGE_UNDECODABLE")
    assert state_of(api) == before


def test_a_logo_needs_a_brand_and_pictures(api: Api) -> None:
    brand = api.create_bank("brand", BRAND)
    with fails() as failure:
        api.register_logo(brand, "", b"x")
    assert failure.metadata == {"field": "brand"}
    with fails() as failure:
        api.register_logo(brand, "x")
    assert failure.metadata == {"field": "images"}
    with fails() as failure:
        api.register_logo(brand, "x", b"")
    assert failure.metadata == {"field": "images[0]"}


def test_a_message_over_the_limit_is_refused_by_the_wire(api: Api) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        api.moderation.CheckImage(pb.CheckImageRequest(image=bytes(100 * 2**20)))
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    noise = io.BytesIO(bytes(21 * 2**20)).getvalue()
    answer = api.check(noise)
    assert answer.verdict == UNDECIDED
    assert answer.undecided_reasons[0].code == types.UNDECIDED_CODE_OVER_LIMITS


def test_nothing_in_scope_that_a_plain_picture_could_match_is_no_match(api: Api) -> None:
    api.create_bank("empty")
    assert api.check(encoded(Image.new("RGB", (300, 300), "white"))).verdict == NO_MATCH
