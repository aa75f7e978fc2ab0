"""Logos registered from SVG and met in photographs, over gRPC: found, with a box, by scores in standard deviations."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from PIL import Image
from tests.support.api import BRAND, CONTENT, EMBEDDING, LOCAL, MATCH, NO_MATCH, Api, evidence_of, without
from tests.support.errors import fails
from tests.support.pictures import Box, encoded, exported, opened, overlap, pasted
from tests.support.processes import Host, Server, start_server

from imagewarden.v1 import bank_service_pb2 as banks_pb
from imagewarden.v1 import types_pb2 as types

pytestmark = pytest.mark.model

SLUGS = ("firefox", "spotify-icon")
SCENE = "french-alpine-landscape"
PLACE = (0.6, 0.5)


@pytest.fixture(scope="module")
def server(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    scratch = tmp_path_factory.mktemp("server")
    with start_server(scratch / "state", host.address, scratch) as running:
        yield running


@pytest.fixture(scope="module")
def registered(
    server: Server, colour_logo: Callable[[str], bytes]
) -> Iterator[tuple[Api, dict[str, banks_pb.RegisterLogoResponse]]]:
    """Two logos in a bank with the default policy, and in one that answers whatever score there is."""
    with Api(server.address) as api:
        bank = api.create_bank("brands", BRAND)
        answers = {slug: api.register_logo(bank, slug, colour_logo(slug)) for slug in SLUGS}
        every = api.create_bank("scores", BRAND, without(LOCAL, types.SIGNAL_TYPE_COMBINED, EMBEDDING=-100))
        for slug in SLUGS:
            api.register_logo(every, slug, colour_logo(slug))
        yield api, answers


@pytest.fixture(scope="module")
def api(registered: tuple[Api, dict[str, banks_pb.RegisterLogoResponse]]) -> Api:
    return registered[0]


@pytest.fixture(scope="module")
def scene(photographs: dict[str, bytes]) -> Image.Image:
    return opened(photographs[SCENE]).resize((800, 600))


@pytest.fixture(scope="module")
def drawn(colour_logo: Callable[[str], bytes]) -> Callable[[str], Image.Image]:
    return lambda slug: exported(colour_logo(slug))


def in_white(logo: Image.Image) -> Image.Image:
    """Its shape alone, as it is printed on cups and shirts."""
    pixels = np.array(logo)
    pixels[..., :3] = 255
    return Image.fromarray(pixels)


def box_of(logo: Image.Image, scene: Image.Image, share: float) -> Box:
    height = share * scene.width * logo.height / logo.width / scene.height
    return PLACE[0] - share / 2, PLACE[1] - height / 2, PLACE[0] + share / 2, PLACE[1] + height / 2


def test_a_registered_logo_says_what_it_is_recognised_by(
    registered: tuple[Api, dict[str, banks_pb.RegisterLogoResponse]],
) -> None:
    api, answers = registered
    for slug, answer in answers.items():
        signals = {signal.type: signal for signal in answer.entry.signals}
        assert signals[EMBEDDING].views == 8
        assert signals[LOCAL].keypoints > 20
        assert signals[types.SIGNAL_TYPE_SEMANTIC].views == 1
        shown = api.banks.GetEntry(banks_pb.GetEntryRequest(name=answer.entry.name)).entry
        assert shown.brand == slug
        assert Image.open(io.BytesIO(shown.thumbnail)).size == (256, 256)


@pytest.mark.parametrize("variant", ["in its colours", "in white"])
def test_a_logo_is_found_inside_a_photograph_with_its_box(
    api: Api, scene: Image.Image, drawn: Callable[[str], Image.Image], variant: str
) -> None:
    logo = drawn("spotify-icon")
    if variant == "in white":
        logo = in_white(logo)
    answer = api.check(encoded(pasted(scene, logo, 0.15, PLACE), quality=90), banks=["banks/brands"])
    assert (answer.verdict, answer.action) == (MATCH, types.ACTION_REVIEW)
    match = answer.matches[0]
    assert (match.brand, match.bank_kind) == ("spotify-icon", BRAND)
    assert match.signal in CONTENT
    assert evidence_of(match)[match.signal].reached
    assert match.score >= match.threshold
    assert overlap(match.region, box_of(logo, scene, 0.15)) > 0.3


def test_photographs_without_a_logo_do_not_match(api: Api, scene: Image.Image, photographs: dict[str, bytes]) -> None:
    for data in (encoded(scene, quality=90), *photographs.values()):
        answer = api.check(data, banks=["banks/brands"], exhaustive=True)
        assert (answer.verdict, len(answer.matches)) == (NO_MATCH, 0)


def scores(api: Api, data: bytes) -> dict[str, types.Match]:
    answer = api.check(data, banks=["banks/scores"], exhaustive=True)
    return {match.brand: match for match in answer.matches}


@pytest.mark.parametrize("share", [0.4, 0.25, 0.15])
@pytest.mark.parametrize("slug", SLUGS)
def test_a_score_counts_standard_deviations_over_pictures_without_the_logo(
    api: Api, scene: Image.Image, drawn: Callable[[str], Image.Image], slug: str, share: float
) -> None:
    logo = drawn(slug)
    bare = scores(api, encoded(scene, quality=90))
    assert set(bare) == set(SLUGS)
    assert all(-5 < match.score < 5 for match in bare.values()), "as other photographs without them"
    found = scores(api, encoded(pasted(scene, logo, share, PLACE), quality=90))
    assert found[slug].score > bare[slug].score + 2
    assert found[slug].score == max(match.score for match in found.values()), "and it is the logo that is there"
    assert overlap(found[slug].region, box_of(logo, scene, share)) > 0.3
    (said,) = found[slug].evidence
    assert said.signal == EMBEDDING
    assert said.reached
    assert said.value == pytest.approx(found[slug].score)
    assert -1 <= 1 - found[slug].distance <= 1, "the distance stays one of cosines"


def test_a_brand_bank_takes_thresholds_in_standard_deviations_and_others_do_not(api: Api) -> None:
    threshold = types.SignalThreshold(signal=EMBEDDING, threshold=7.5)
    bank = api.create_bank("strict", BRAND, types.Policy(thresholds=[threshold]))
    said = api.banks.GetBank(banks_pb.GetBankRequest(name=bank)).bank.policy.thresholds
    assert {one.signal: one.threshold for one in said}[EMBEDDING] == 7.5
    with fails() as failure:
        api.create_bank("abuse", policy=types.Policy(thresholds=[threshold]))
    assert failure.metadata == {"field": "bank.policy.thresholds[0].threshold"}
