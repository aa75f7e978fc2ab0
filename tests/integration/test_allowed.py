"""What an ALLOWED bank clears, with the real model: its pictures at their near-exact signals, and never another one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter
from tests.support.api import ALLOWED, EMBEDDING, LOCAL, MATCH, NO_MATCH, PDQ, SHA256, Api
from tests.support.pictures import cropped, encoded, inset, opened
from tests.support.processes import Host, Server, start_server

from imagewarden.v1 import bank_service_pb2 as banks_pb
from imagewarden.v1 import types_pb2 as types

pytestmark = [pytest.mark.model, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def shared(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    scratch = tmp_path_factory.mktemp("allowed")
    with start_server(scratch / "state", host.address, scratch) as server:
        yield server


@pytest.fixture
def api(shared: Server) -> Iterator[Api]:
    with Api(shared.address) as api:
        for bank in api.banks.ListBanks(banks_pb.ListBanksRequest()).banks:
            api.banks.DeleteBank(banks_pb.DeleteBankRequest(name=bank.name, force=True))
        yield api


def animated(*frames: Image.Image) -> bytes:
    size = frames[0].size
    first, *rest = [frame.resize(size) for frame in frames]
    return encoded(first, "WEBP", save_all=True, append_images=rest, duration=100, quality=85)


def same_again(picture: Image.Image) -> dict[str, bytes]:
    """Files of one picture, as services and programs write it anew."""
    return {
        "its size": encoded(picture, quality=60),
        "png": encoded(picture, "PNG"),
        "webp": encoded(picture, "WEBP", quality=70),
        "brighter": encoded(ImageEnhance.Brightness(picture).enhance(1.05), quality=90),
    }


def test_a_cleared_picture_stays_cleared_in_other_files_of_it(api: Api, photographs: dict[str, bytes]) -> None:
    """The harshest false alarm: the very picture is banned by likeness, and a person has cleared it."""
    banned, allowed = api.create_bank("abuse"), api.create_bank("cleared", ALLOWED)
    for name in ("dust-bowl-home", "nagasaki-boats"):
        picture = opened(photographs[name])
        api.add_image(banned, encoded(picture, quality=95))
        cleared = api.add_image(allowed, encoded(picture, quality=90)).entry.name
        for how, file in same_again(picture).items():
            answer = api.check(file, exhaustive=True)
            stand = [one for one in answer.matches if one.bank == banned]
            assert stand, f"{name}, {how}: nothing was to be cleared"
            assert answer.verdict == NO_MATCH, f"{name}, {how}: {[(one.signal, one.distance) for one in stand]}"
            assert {one.cleared_by for one in stand} == {cleared}
            (by,) = [one for one in answer.matches if one.bank == allowed]
            assert by.signal == PDQ
            assert by.distance <= 8


def test_it_never_clears_a_different_picture(api: Api, photographs: dict[str, bytes]) -> None:
    """What is made of a cleared picture is another one: cut, drawn upon, in another one, another one in it."""
    banned, allowed = api.create_bank("abuse"), api.create_bank("cleared", ALLOWED)
    cleared, other = (opened(photographs[name]) for name in ("dust-bowl-home", "nagasaki-boats"))
    api.add_image(allowed, encoded(cleared, quality=95))
    api.add_image(banned, encoded(other, quality=95))
    made = {
        "the other": other,
        "in the other's corner": inset(cleared, other, (0.7, 0.7, 1.0, 1.0)),
        "with the other in it": inset(other, cleared, (0.25, 0.2, 0.85, 0.9)),
        "beside the other": inset(
            other, inset(cleared, Image.new("RGB", cleared.size), (0, 0, 0.5, 1)), (0.5, 0, 1, 1)
        ),
    }
    for how, picture in made.items():
        answer = api.check(encoded(picture, quality=90))
        assert (answer.verdict, answer.action) == (MATCH, types.ACTION_BLOCK), how
        assert not any(one.cleared_by for one in answer.matches), how


def test_a_banned_picture_in_the_coarse_shape_of_an_allowed_one_is_not_cleared(
    api: Api, more_photographs: list[bytes]
) -> None:
    """What an attacker would draw: the allowed picture blurred, for PDQ, and the details of the banned one upon it.

    Where it is near enough to the allowed picture to be cleared, nothing of the banned one is to be seen.
    """
    banned, allowed = api.create_bank("abuse"), api.create_bank("cleared", ALLOWED)
    fine, bad = (opened(more_photographs[place]).resize((512, 512)) for place in (0, 2))
    api.add_image(allowed, encoded(fine, quality=95))
    api.add_image(banned, encoded(bad, quality=95))
    verdicts = []
    for radius in (2, 4, 6, 8, 12, 16):
        blur = ImageFilter.GaussianBlur(radius)
        coarse, details = (
            np.asarray(fine.filter(blur), float),
            np.asarray(bad, float) - np.asarray(bad.filter(blur), float),
        )
        drawn = Image.fromarray(np.clip(coarse + 1.5 * details, 0, 255).astype(np.uint8))
        answer = api.check(encoded(drawn, quality=92), exhaustive=True)
        assert not any(one.cleared_by for one in answer.matches), radius
        verdicts.append(answer.verdict)
    assert verdicts[-1] == MATCH, "with enough of its details the banned picture is found"


def test_what_was_cut_or_drawn_upon_is_banned_as_ever(api: Api, photographs: dict[str, bytes]) -> None:
    banned, allowed = api.create_bank("abuse"), api.create_bank("cleared", ALLOWED)
    picture = opened(photographs["dust-bowl-home"])
    api.add_image(banned, encoded(picture, quality=95))
    api.add_image(allowed, encoded(picture, quality=90))
    drawn = picture.copy()
    ImageDraw.Draw(drawn).rectangle((0, 0, drawn.width // 2, drawn.height // 3), fill="white")
    for how, edited in {"cut": cropped(picture, 0.6), "drawn upon": drawn}.items():
        answer = api.check(encoded(edited, quality=90))
        assert (answer.verdict, answer.action) == (MATCH, types.ACTION_BLOCK), how
        assert not any(one.cleared_by for one in answer.matches), how


def test_an_allowed_frame_clears_no_other_frame(api: Api, photographs: dict[str, bytes]) -> None:
    """An animation that begins with an allowed picture and goes on with a banned one, or the other way round."""
    banned, allowed = api.create_bank("abuse"), api.create_bank("cleared", ALLOWED)
    fine, bad, plain = (opened(photographs[name]) for name in ("dust-bowl-home", "nagasaki-boats", "acanthus-mollis"))
    api.add_image(allowed, encoded(fine, quality=95))
    api.add_image(banned, encoded(bad, quality=95))
    for frames in ((fine, bad), (bad, fine), (fine, plain, bad), (fine, fine, bad, fine)):
        for exhaustive in (False, True):
            answer = api.check(animated(*frames), exhaustive=exhaustive)
            assert (answer.verdict, answer.action) == (MATCH, types.ACTION_BLOCK)
            assert not any(one.cleared_by for one in answer.matches)
    assert api.check(animated(fine, plain)).verdict == NO_MATCH


def test_an_animation_of_allowed_pictures_alone_stays_cleared(api: Api, photographs: dict[str, bytes]) -> None:
    banned, allowed = api.create_bank("abuse"), api.create_bank("cleared", ALLOWED)
    fine, also = (opened(photographs[name]) for name in ("dust-bowl-home", "nagasaki-boats"))
    api.add_image(banned, encoded(fine, quality=95))
    for picture in (fine, also):
        api.add_image(allowed, encoded(picture, quality=95))
    answer = api.check(animated(fine, also), exhaustive=True)
    assert [one for one in answer.matches if one.bank == banned]
    assert answer.verdict == NO_MATCH


def test_an_owner_who_lets_keypoints_clear_still_clears_that_part_alone(
    api: Api, photographs: dict[str, bytes]
) -> None:
    lenient = types.Policy(
        thresholds=[
            types.SignalThreshold(signal=LOCAL, threshold=12),
            types.SignalThreshold(signal=EMBEDDING, threshold=0.3),
        ]
    )
    banned, allowed = api.create_bank("abuse"), api.create_bank("cleared", ALLOWED, lenient)
    fine, bad = (opened(photographs[name]) for name in ("dust-bowl-home", "nagasaki-boats"))
    api.add_image(allowed, encoded(fine, quality=95))
    entry = api.add_image(banned, encoded(bad, quality=95)).entry.name
    both = inset(fine, bad, (0.6, 0.6, 1.0, 1.0))
    answer = api.check(encoded(both, quality=90), exhaustive=True, max_matches=100)
    assert {one.bank for one in answer.matches} == {banned, allowed}, "both are seen"
    assert (answer.verdict, answer.action) == (MATCH, types.ACTION_BLOCK)
    assert [one.cleared_by for one in answer.matches if one.entry == entry] == [""]


def test_banned_bytes_are_cleared_by_their_digest_alone(api: Api, photographs: dict[str, bytes]) -> None:
    banned, allowed = api.create_bank("abuse"), api.create_bank("cleared", ALLOWED)
    file = encoded(opened(photographs["dust-bowl-home"]), quality=80)
    digest = api.check(file).image.sha256
    api.add_hash(banned, SHA256, digest)
    api.add_image(allowed, encoded(opened(photographs["dust-bowl-home"]), quality=90))
    assert api.check(file).verdict == MATCH
    api.add_hash(allowed, SHA256, digest)
    assert api.check(file).verdict == NO_MATCH
