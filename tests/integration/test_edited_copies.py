"""Edited copies of photographs, over gRPC: by which signal each is found, where in the picture, and how it lies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
import skimage
from PIL import Image
from tests.support.api import (
    BANNED,
    COMBINED,
    CONTENT,
    EMBEDDING,
    LOCAL,
    MATCH,
    NO_MATCH,
    PDQ,
    UNDECIDED,
    Api,
    evidence_of,
    without,
)
from tests.support.http import metrics, value
from tests.support.pictures import Box, cropped, encoded, inset, overlap
from tests.support.processes import Host, Server, start_server

from imagewarden.v1 import types_pb2 as types
from imagewarden_server import media
from imagewarden_server.matching.geometry import verify
from imagewarden_server.matching.policy import default_policy
from imagewarden_server.matching.types import BankKind, SignalType

pytestmark = pytest.mark.model

NAMES = ["coffee.png", "chelsea.png", "astronaut.png", "rocket.jpg", "motorcycle_left.png"]
BANNED_ONE = "coffee.png"
WHOLE = (0.0, 0.0, 1.0, 1.0)


@pytest.fixture(scope="module")
def pictures() -> dict[str, Image.Image]:
    """Photographs that come with scikit-image, as RGB pixels."""
    data = Path(skimage.__file__).parent / "data"
    return {name: Image.open(data / name).convert("RGB") for name in NAMES}


@pytest.fixture(scope="module")
def server(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    scratch = tmp_path_factory.mktemp("server")
    with start_server(scratch / "state", host.address, scratch) as running:
        yield running


@pytest.fixture(scope="module")
def api(server: Server, pictures: dict[str, Image.Image]) -> Iterator[Api]:
    """A service that bans one photograph in banks of several policies."""
    policies = {
        "default": None,
        "embedding": without(LOCAL, COMBINED, PDQ),
        "local": without(EMBEDDING, COMBINED, PDQ),
        "pdq": without(EMBEDDING, COMBINED, LOCAL),
        "eager": without(LOCAL, COMBINED, PDQ, EMBEDDING=0.3),
    }
    with Api(server.address) as api:
        for name, policy in policies.items():
            api.add_image(api.create_bank(name, BANNED, policy), encoded(pictures[BANNED_ONE], "PNG"))
        yield api


@pytest.fixture(scope="module")
def banned(pictures: dict[str, Image.Image]) -> Image.Image:
    return pictures[BANNED_ONE]


def mirrored_quarter(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).transpose(Image.Transpose.ROTATE_90)


def collage(pictures: dict[str, Image.Image]) -> Image.Image:
    sheet = Image.new("RGB", (900, 600))
    for place, name in enumerate(["astronaut.png", BANNED_ONE, "chelsea.png", "rocket.jpg"]):
        sheet.paste(pictures[name].resize((450, 300), Image.Resampling.LANCZOS), (place % 2 * 450, place // 2 * 300))
    return sheet


HALF = (0.25, 0.25, 0.75, 0.75)
CASES: list[
    tuple[str, Callable[[dict[str, Image.Image]], Image.Image], set[types.SignalType.ValueType], Box | None]
] = [
    ("a mirrored quarter turn", lambda all_: mirrored_quarter(all_[BANNED_ONE]), {PDQ}, None),
    ("a crop to 40%", lambda all_: cropped(all_[BANNED_ONE], 0.4), CONTENT, None),
    (
        "a mirrored quarter turn, cropped to 60%",
        lambda all_: cropped(mirrored_quarter(all_[BANNED_ONE]), 0.6),
        CONTENT,
        None,
    ),
    ("an inset at half the width", lambda all_: inset(all_[BANNED_ONE], all_["rocket.jpg"], HALF), CONTENT, HALF),
    ("one of four in a collage", collage, CONTENT, (0.5, 0.0, 1.0, 0.5)),
]


@pytest.mark.parametrize(("make", "signals", "box"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_an_edited_copy_is_found_by_a_signal_that_can_and_where_it_is(
    api: Api,
    pictures: dict[str, Image.Image],
    make: Callable[[dict[str, Image.Image]], Image.Image],
    signals: set[types.SignalType.ValueType],
    box: Box | None,
) -> None:
    answer = api.check(encoded(make(pictures), quality=90), banks=["banks/default"])
    assert (answer.verdict, answer.action) == (MATCH, types.ACTION_BLOCK)
    (match,) = answer.matches
    assert match.signal in signals
    said = evidence_of(match)
    assert said[match.signal].reached
    assert match.score == pytest.approx(1 - said[PDQ].value / 256 if match.signal == PDQ else said[match.signal].value)
    if box is not None:
        assert overlap(match.region, box) > 0.5


def test_other_photographs_are_not_it(api: Api, pictures: dict[str, Image.Image]) -> None:
    for name, picture in pictures.items():
        if name != BANNED_ONE:
            answer = api.check(encoded(picture, quality=90), banks=["banks/default"], exhaustive=True)
            assert (answer.verdict, len(answer.matches)) == (NO_MATCH, 0), name


def moved(match: types.Match, x: float, y: float) -> tuple[float, float]:
    """Where a point of the banned picture is in the checked one."""
    a, b, c, d, e, f = match.transform.coefficients
    return a * x + b * y + c, d * x + e * y + f


def test_the_geometric_check_says_how_the_banned_picture_lies_in_it(
    api: Api, banned: Image.Image, pictures: dict[str, Image.Image]
) -> None:
    scene = inset(banned, pictures["rocket.jpg"], HALF)
    (match,) = api.check(encoded(scene, quality=90), banks=["banks/local"]).matches
    assert match.signal == LOCAL
    assert match.score >= match.threshold == default_policy(BankKind.BANNED).thresholds[SignalType.LOCAL].value
    assert overlap(match.region, HALF) > 0.8
    assert not match.transform.mirrored
    assert moved(match, 0, 0) == pytest.approx((0.25, 0.25), abs=0.03)
    assert moved(match, 1, 1) == pytest.approx((0.75, 0.75), abs=0.03)
    (match,) = api.check(encoded(mirrored_quarter(scene), quality=90), banks=["banks/local"]).matches
    assert match.transform.mirrored
    assert overlap(match.region, HALF) > 0.8
    # ROTATE_90 takes (x, y) to (y, 1 - x), after the mirror has made x of 1 - x.
    assert moved(match, 0, 0) == pytest.approx((0.25, 0.25), abs=0.03)
    assert moved(match, 1, 0) == pytest.approx((0.25, 0.75), abs=0.03)
    (match,) = api.check(encoded(cropped(banned, 0.4), quality=90), banks=["banks/local"]).matches
    assert overlap(match.region, WHOLE) > 0.95, "the banned picture is larger than what is seen of it"
    edge = (1 - 0.4**0.5) / 2
    assert moved(match, edge, edge) == pytest.approx((0, 0), abs=0.04)


def test_one_bank_by_several_signals_and_each_signal_by_itself(api: Api, banned: Image.Image) -> None:
    crop = encoded(cropped(banned, 0.6), quality=90)
    found = {match.bank: match for match in api.check(crop, exhaustive=True, max_matches=100).matches}
    assert set(evidence_of(found["banks/default"])) == {PDQ, EMBEDDING, LOCAL, COMBINED}
    assert set(evidence_of(found["banks/embedding"])) == {EMBEDDING}
    assert set(evidence_of(found["banks/local"])) == {LOCAL}
    assert "banks/pdq" not in found
    # Both are of the same features.
    assert found["banks/default"].transform == found["banks/local"].transform


def test_a_bank_that_does_not_compare_local_features_spends_nothing_on_them(api: Api, banned: Image.Image) -> None:
    crop = encoded(cropped(banned, 0.4), quality=89)  # a file that was not checked before
    with_local = api.check(crop, banks=["banks/local"])
    assert (with_local.verdict, with_local.matches[0].signal) == (MATCH, LOCAL)
    stages = {timing.stage for timing in with_local.timings}
    assert "local_extract" in stages
    assert "embed" not in stages
    assert not with_local.model_version, "the model was not asked"
    for bank in ("banks/pdq", "banks/embedding"):
        answer = api.check(crop, banks=[bank], exhaustive=True)
        assert "local_extract" not in {timing.stage for timing in answer.timings}
        assert all(LOCAL not in evidence_of(match) for match in answer.matches)


@pytest.mark.parametrize("format_", ["GIF", "TIFF", "WEBP"])
def test_a_frame_of_several_is_named(
    api: Api, banned: Image.Image, pictures: dict[str, Image.Image], format_: str
) -> None:
    shown = [pictures["astronaut.png"], pictures["chelsea.png"], cropped(banned, 0.5), pictures["rocket.jpg"]]
    frames = [one.resize((480, 320), Image.Resampling.LANCZOS) for one in shown]
    options: dict[str, object] = {"compression": "tiff_lzw"} if format_ == "TIFF" else {"duration": 100}
    data = encoded(frames[0], format_, save_all=True, append_images=frames[1:], **options)
    for bank, signal in (("banks/embedding", EMBEDDING), ("banks/local", LOCAL)):
        answer = api.check(data, banks=[bank])
        assert answer.image.frames == 4
        assert answer.verdict == MATCH
        assert (answer.matches[0].signal, answer.matches[0].frame) == (signal, 2)


def passes(server: Server) -> float:
    """How many pictures the model was given."""
    return value(metrics(server), "imagewarden_embedding_batch_size_sum")


def test_a_thorough_check_finds_what_is_small_and_takes_five_passes_more(
    api: Api, server: Server, banned: Image.Image, pictures: dict[str, Image.Image]
) -> None:
    small = (0.06, 0.06, 0.26, 0.26)
    scene = encoded(inset(banned, pictures["motorcycle_left.png"], small), quality=90)
    before = passes(server)
    assert api.check(scene, banks=["banks/eager"]).verdict == NO_MATCH
    plain = passes(server)
    assert plain - before == 1
    answer = api.check(scene, banks=["banks/eager"], thorough=True)
    thorough = passes(server)
    assert thorough - plain == 5, "the whole picture is known from the check before"
    assert answer.verdict == MATCH
    assert overlap(answer.matches[0].region, small) > 0.25, "by a window, which fits as well as windows do"
    other = encoded(pictures["motorcycle_left.png"], quality=90)
    assert api.check(other, banks=["banks/eager"], thorough=True).verdict == NO_MATCH


def test_a_deadline_that_leaves_no_room_for_local_features_says_so(api: Api, pictures: dict[str, Image.Image]) -> None:
    shown = [pictures[name].resize((512, 400), Image.Resampling.LANCZOS) for name in NAMES if name != BANNED_ONE]
    frames = [*shown, *(one.transpose(Image.Transpose.FLIP_TOP_BOTTOM) for one in shown)]
    data = encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:], compression="tiff_lzw")
    assert api.check(data, banks=["banks/local"]).verdict == NO_MATCH
    said = []
    # How long eight frames take depends on the machine: the deadline is widened until they can be decoded.
    for step in range(1, 60):
        try:
            # Another file each time: one that was seen is answered from memory.
            answer = api.check(data + bytes(step), banks=["banks/local"], timeout=0.04 * step)
        except grpc.RpcError:  # no time even for the way home
            continue
        for reason in answer.undecided_reasons:
            assert answer.verdict == UNDECIDED
            assert reason.code == types.UNDECIDED_CODE_DEADLINE
            assert LOCAL in reason.signals
            said.append(reason.message)
        if answer.verdict == NO_MATCH or "local features" in said[-1]:
            break
    assert "the deadline left no room for the local features" in said[-1]


def test_a_small_copy_on_a_page_counts_for_more_than_its_keypoints_since_its_pixels_agree(
    api: Api, pictures: dict[str, Image.Image], banned: Image.Image
) -> None:
    page = Image.new("RGB", (1000, 800), "white")
    page.paste(banned.resize((240, 160), Image.Resampling.LANCZOS), (380, 300))
    page.paste(pictures["chelsea.png"].resize((300, 200), Image.Resampling.LANCZOS), (20, 560))
    sent = encoded(page, "PNG")
    answer = api.check(sent, banks=["banks/local"])
    assert answer.verdict == MATCH
    found = evidence_of(answer.matches[0])[LOCAL].value
    frame = media.decode(sent, media.Limits()).frames[0]
    stored = media.extract(media.decode(encoded(banned, "PNG"), media.Limits()).frames[0].small)
    keypoints = verify(media.extract_checked(frame.small), stored)
    assert keypoints is not None
    assert 2 * keypoints.score < found < 3.01 * keypoints.score
