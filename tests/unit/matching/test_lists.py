"""Which records a bank takes: nothing that could poison an index or end a check comes in."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from imagewarden_server import media
from imagewarden_server.matching import shapes, verifier
from imagewarden_server.matching.errors import InvalidField
from imagewarden_server.matching.lists import ListRecord, check_record
from imagewarden_server.matching.policy import default_policy
from imagewarden_server.matching.types import (
    Bank,
    BankKind,
    EntryState,
    HashSignal,
    LocalFeatures,
    LocalSignal,
    NewEntry,
    SignalType,
    VectorSignal,
    VectorSpace,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def bank(kind: BankKind) -> Bank:
    return Bank(
        1,
        "b",
        kind,
        "",
        default_policy(kind),
        enabled=True,
        labels={},
        keep_images=False,
        create_time=NOW,
        update_time=NOW,
    )


BANNED, BRAND, ALLOWED = map(bank, BankKind)
SHA256 = HashSignal(SignalType.SHA256, bytes(32))


def vector(space: VectorSpace = VectorSpace.COPY, *, scale: float = 1.0, **said: Any) -> VectorSignal:
    rows = np.eye(8, dtype=np.float32)[:2] * np.float32(scale)
    return dataclasses.replace(VectorSignal(SignalType.EMBEDDING, space, "model", rows), **said)


def refused(of: Bank, **said: Any) -> str:
    """The field that is refused."""
    record = {name: said.pop(name) for name in ("id", "removed", "state") if name in said}
    with pytest.raises(InvalidField) as raised:
        check_record(of, ListRecord(1, NewEntry(**said), **record))
    return raised.value.field


def test_good_records_are_taken() -> None:
    check_record(BANNED, ListRecord(1, NewEntry(hashes=(SHA256, HashSignal(SignalType.PDQ, bytes(32), 50)))))
    check_record(BANNED, ListRecord(1, NewEntry(vectors=(vector(), vector(mean=0.5, deviation=0.1)))))
    check_record(ALLOWED, ListRecord(1, NewEntry(hashes=(SHA256,))))
    check_record(BRAND, ListRecord(1, NewEntry(vectors=(vector(VectorSpace.LOGO),), brand="Acme")))
    for named in ({"id": "x"}, {"external_id": "x"}, {"hashes": (SHA256,)}):
        said = {name: value for name, value in named.items() if name != "id"}
        check_record(BANNED, ListRecord(1, NewEntry(**said), id=named.get("id", ""), removed=True))  # type: ignore[arg-type]  # short cut


def test_what_says_too_little_is_refused() -> None:
    assert refused(BANNED) == "hashes"
    assert refused(BANNED, removed=True) == "removed"
    assert refused(BRAND, hashes=(SHA256,), brand="Acme") == "vectors"
    assert refused(BRAND, vectors=(vector(VectorSpace.LOGO),)) == "brand"
    assert refused(BANNED, hashes=(HashSignal(SignalType.PDQ, bytes(32), 49),)) == "hashes.quality"


def test_a_set_of_more_keypoints_than_a_check_can_compare_is_refused() -> None:
    def keypoints(count: int) -> LocalSignal:
        points, descriptors = np.zeros((count, 4), np.float32), np.zeros((count, 128), np.uint8)
        return LocalSignal(media.EXTRACTOR, LocalFeatures(points, descriptors, 1.0))

    most = 4 * media.KEYPOINTS
    check_record(BANNED, ListRecord(1, NewEntry(hashes=(SHA256,), local=(keypoints(most),))))
    with pytest.raises(InvalidField, match=r"there are 1,201 keypoints: 300 are stored .* 1 to 1,200 are taken"):
        check_record(BANNED, ListRecord(1, NewEntry(hashes=(SHA256,), local=(keypoints(most + 1),))))


@pytest.mark.parametrize("id_", ["a/b", "a b", "x" * 65, "ä", "../x"])
def test_an_id_is_a_name(id_: str) -> None:
    assert refused(BANNED, hashes=(SHA256,), id=id_) == "id"


def test_hashes_are_as_long_as_they_are_and_clear_only_where_they_cannot_be_made() -> None:
    for signal in (HashSignal(SignalType.SHA256, bytes(31)), HashSignal(SignalType.EMBEDDING, bytes(32))):
        assert refused(BANNED, hashes=(signal,)).startswith("hashes")
    assert refused(ALLOWED, hashes=(HashSignal(SignalType.MD5, bytes(16)),)) == "hashes"
    assert refused(BANNED, hashes=(HashSignal(SignalType.MD5, bytes(16), 90),)) == "hashes.quality"
    assert refused(BANNED, hashes=(SHA256,) * 65) == "hashes"


def test_an_expired_state_is_what_time_makes() -> None:
    assert refused(BANNED, hashes=(SHA256,), state=EntryState.EXPIRED) == "state"


@pytest.mark.parametrize(
    "wrong",
    [
        vector(scale=2),
        vector(scale=0),
        vector(vectors=np.full((1, 8), np.nan, np.float32)),
        vector(vectors=np.full((1, 8), np.inf, np.float32)),
        vector(VectorSpace.LOGO),
        vector(model=""),
        vector(model="a b"),
        vector(model="m" * 65),
        vector(mean=float("nan")),
        vector(deviation=0.0),
        vector(deviation=float("inf")),
        vector(deviation=1e39),
        vector(deviation=1e-60),
        vector(mean=-1e39),
        vector(scale=1.0099),
        vector(vectors=np.eye(8_193, dtype=np.float32)[:1]),
        vector(vectors=np.repeat(np.eye(2, dtype=np.float32), 600, axis=0)),
    ],
)
def test_vectors_that_would_poison_an_index_are_refused(wrong: VectorSignal) -> None:
    assert refused(BANNED, vectors=(wrong,)) == "vectors"
    assert refused(BANNED, vectors=(vector(), wrong), hashes=(SHA256,)) == "vectors"


def test_vectors_of_one_model_have_one_number_of_dimensions() -> None:
    other = vector(vectors=np.eye(9, dtype=np.float32)[:1])
    assert refused(BANNED, vectors=(vector(), other)) == "vectors"


KNOWN = (media.EXTRACTOR, media.DRAWINGS, media.GREYS, media.SHAPES)


@given(
    extractor=st.sampled_from(KNOWN),
    points=arrays.arrays(np.float32, st.tuples(st.integers(0, 80), st.just(4)), elements=st.floats(0, 1, width=32)),
    aspect=st.floats(1e-9, 1e9),
)
def test_features_are_refused_or_can_be_read(extractor: str, points: Any, aspect: float) -> None:
    """Whatever is stored, a check that meets it goes on."""
    features = LocalFeatures(points, np.zeros((len(points), 128), np.uint8), aspect)
    record = ListRecord(1, NewEntry(hashes=(SHA256,), local=(LocalSignal(extractor, features),)))
    try:
        check_record(BANNED, record)
    except InvalidField:
        return
    read = {
        media.GREYS: media.unpacked,
        media.DRAWINGS: lambda one: verifier.prepare(media.undrawn(one)),
        media.SHAPES: shapes.unpack,
    }
    if extractor in read:
        read[extractor](features)
    else:
        assert len(points)


def test_what_real_pictures_and_logos_have_is_taken() -> None:
    pixels = np.asarray(np.random.default_rng(1).integers(0, 256, (120, 90, 3)), np.uint8)
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 6"><path d="M1 1h7v2H1z" fill="#c00"/></svg>'
    rendering = media.render_logo(svg, media.Limits())[0]
    local = (
        LocalSignal(media.EXTRACTOR, media.extract(pixels)),
        LocalSignal(media.GREYS, media.grey(pixels)),
        LocalSignal(media.DRAWINGS, media.drawing(rendering)),
        *shapes.describe(rendering),
    )
    check_record(BRAND, ListRecord(1, NewEntry(brand="Acme", local=local)))


def test_a_thumbnail_is_a_small_png() -> None:
    png = b"\x89PNG\r\n\x1a\n"
    logo = {"vectors": (vector(VectorSpace.LOGO),), "brand": "Acme"}
    check_record(BRAND, ListRecord(1, NewEntry(**logo, thumbnail=png + bytes(100))))  # type: ignore[arg-type]  # short cut
    assert refused(BRAND, **logo, thumbnail=b"<svg/>") == "thumbnail"
    assert refused(BRAND, **logo, thumbnail=png + bytes(2**18)) == "thumbnail"
