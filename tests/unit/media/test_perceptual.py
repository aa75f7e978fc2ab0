"""PDQ against Meta's own code and an oracle written from its paper; one resize path for the other signals."""

from __future__ import annotations

import numpy as np
import pdqhash
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.unit.media.crafted import encoded, hamming, noise

from imagewarden_server.media import ImageFormat, Limits, decode
from imagewarden_server.media.pdq import pdq
from imagewarden_server.media.perceptual import MODEL_SIDE, SMALL_SIDE, close_look, frame_of

THRESHOLD = 31
"""PDQ's usual threshold, of 256 bits."""


def pdq_of_the_paper(image: Image.Image) -> str:
    """The last step of PDQ for a picture of 64 x 64 pixels, whose filter is of one pixel: DCT, median, bits as text.

    Meta, 2019: The TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm, "PDQ: DCT" and "hash format":
    bit 16 i + j is set where coefficient (i, j) is over the median, and the highest bit is written first.
    """
    pixels = np.asarray(image).astype(np.float32)
    luma = pixels @ np.array([0.299, 0.587, 0.114], np.float32)
    rows, columns = np.arange(1, 17)[:, None], np.arange(64)[None, :]
    transform = np.sqrt(2 / 64) * np.cos(np.pi / 128 * rows * (2 * columns + 1))
    coefficients = (transform @ luma @ transform.T).ravel()
    # The reference takes the lower of the two middle values.
    median = np.sort(coefficients)[127]
    value = sum(1 << place for place, coefficient in enumerate(coefficients) if coefficient > median)
    return f"{value:064x}"


@pytest.mark.parametrize("seed", range(5))
def test_the_hash_is_the_papers_in_its_order_of_bits(seed: int) -> None:
    image = noise(64, 64, seed)
    own = pdq(np.asarray(image))[0].bits
    assert hamming(bytes.fromhex(pdq_of_the_paper(image)), own) <= 2, "all but the last place of a float"


def test_photographs_have_the_papers_hash(astronaut: Image.Image, coffee: Image.Image) -> None:
    for photograph in (astronaut, coffee):
        small = photograph.resize((64, 64), Image.Resampling.BOX)
        assert hamming(bytes.fromhex(pdq_of_the_paper(small)), pdq(np.asarray(small))[0].bits) <= 2


def reference(pixels: NDArray[np.uint8]) -> tuple[list[bytes], int]:
    """All eight hashes as Meta's own code makes them, as its Python tool writes them, and the quality."""
    vectors, quality = pdqhash.compute_dihedral(np.ascontiguousarray(pixels))
    texts = [f"{int(''.join(str(bit) for bit in vector), 2):064x}" for vector in vectors]
    return [bytes.fromhex(text) for text in texts], int(quality)


@pytest.mark.parametrize("name", ["astronaut", "coffee", "rocket"])
@pytest.mark.parametrize("size", [None, (64, 64), (65, 130), (301, 199), (2_400, 1_601)])
def test_photographs_have_the_references_hashes_of_their_full_size(
    request: pytest.FixtureRequest, name: str, size: tuple[int, int] | None
) -> None:
    photograph: Image.Image = request.getfixturevalue(name)
    pixels = np.asarray(photograph if size is None else photograph.resize(size, Image.Resampling.LANCZOS))
    hash_, turned = pdq(pixels)
    hashes, quality = reference(pixels)
    assert [hamming(one, other) for one, other in zip(turned, hashes, strict=True)] == [0] * 8
    assert (hash_.bits, hash_.quality) == (turned[0], quality)


@pytest.mark.parametrize("size", [(5, 5), (5, 900), (900, 6), (7, 31)])
def test_strips_and_specks_have_the_references_hash(size: tuple[int, int]) -> None:
    pixels = np.asarray(noise(*size, 3))
    # Of a few pixels many frequencies lie at the median, and the last place of a float decides.
    assert hamming(pdq(pixels)[0].bits, reference(pixels)[0][0]) <= 16


@pytest.mark.parametrize("size", [(1, 1), (4, 300), (300, 4)])
def test_what_has_too_few_pixels_has_no_hash(size: tuple[int, int]) -> None:
    hash_, turned = pdq(np.asarray(noise(*size, 3)))
    assert (hash_.quality, hash_.bits, turned) == (0, bytes(32), (bytes(32),) * 8)


@pytest.mark.parametrize("contrast", [0, 1, 4, 20])
def test_a_faint_picture_has_the_references_quality(coffee: Image.Image, contrast: int) -> None:
    pixels = (100 + np.asarray(coffee).astype(int) * contrast // 255).astype(np.uint8)
    assert pdq(pixels)[0].quality == reference(pixels)[1]


def test_half_of_the_bits_are_set(astronaut: Image.Image) -> None:
    assert int.from_bytes(pdq(np.asarray(astronaut))[0].bits).bit_count() == pytest.approx(128, abs=2)


def test_a_large_jpeg_and_a_large_png_have_the_same_hash_but_for_few_bits(coffee: Image.Image) -> None:
    large = coffee.resize((4_200, 2_800), Image.Resampling.LANCZOS)
    one, other = (
        decode(encoded(large, format_), Limits(max_bytes=10**8)).frames[0]
        for format_ in (ImageFormat.JPEG, ImageFormat.PNG)
    )
    assert hamming(one.pdq.bits, other.pdq.bits) <= 10
    assert np.abs(one.model_input.astype(int) - other.model_input.astype(int)).mean() < 2


@pytest.mark.parametrize("scale", [0.25, 0.5, 2.0, 4.0])
def test_a_resized_copy_is_within_the_threshold(astronaut: Image.Image, scale: float) -> None:
    side = round(512 * scale)
    copy = astronaut.resize((side, side), Image.Resampling.BICUBIC)
    assert hamming(frame_of(0, copy).pdq.bits, frame_of(0, astronaut).pdq.bits) <= THRESHOLD


def test_a_recompressed_copy_is_within_the_threshold(astronaut: Image.Image) -> None:
    copy = decode(encoded(astronaut, ImageFormat.JPEG, quality=20), Limits()).frames[0]
    assert hamming(copy.pdq.bits, pdq(np.asarray(astronaut))[0].bits) <= THRESHOLD


def test_the_models_input_is_the_whole_picture_squeezed_into_a_square(coffee: Image.Image) -> None:
    pixels = frame_of(0, coffee).model_input
    assert pixels.shape == (MODEL_SIDE, MODEL_SIDE, 3)
    assert pixels.dtype == np.uint8
    whole = np.asarray(coffee.resize((MODEL_SIDE, MODEL_SIDE), Image.Resampling.BILINEAR))
    assert np.abs(pixels.astype(int) - whole.astype(int)).max() <= 1


def test_the_models_input_of_a_large_picture_is_antialiased(coffee: Image.Image) -> None:
    large = coffee.resize((3_072, 2_048), Image.Resampling.LANCZOS)
    pixels = frame_of(0, large).model_input
    plain = frame_of(0, coffee).model_input
    assert np.abs(pixels.astype(int) - plain.astype(int)).mean() < 3


def test_deviation_grows_with_what_is_to_be_seen(astronaut: Image.Image) -> None:
    faint = Image.blend(Image.new("RGB", astronaut.size, "grey"), astronaut, 0.05)
    plain, little, much = (frame_of(0, image).deviation for image in (Image.new("RGB", (64, 64)), faint, astronaut))
    assert plain == 0
    assert 0 < little < 6
    assert much > 40
    checks = Image.fromarray(np.kron(np.indices((8, 8)).sum(0) % 2, np.ones((16, 16))).astype(np.uint8) * 255)
    assert frame_of(0, checks.convert("RGB")).deviation == pytest.approx(127.5)


@pytest.mark.parametrize(
    "turn",
    [
        Image.Transpose.ROTATE_90,
        Image.Transpose.ROTATE_180,
        Image.Transpose.ROTATE_270,
        Image.Transpose.FLIP_LEFT_RIGHT,
        Image.Transpose.FLIP_TOP_BOTTOM,
        Image.Transpose.TRANSPOSE,
        Image.Transpose.TRANSVERSE,
    ],
)
def test_a_turned_or_mirrored_photograph_has_a_hash_among_the_eight(
    astronaut: Image.Image, turn: Image.Transpose
) -> None:
    own = pdq(np.asarray(astronaut))[0].bits
    turned = pdq(np.asarray(astronaut.transpose(turn)))[1]
    assert len(turned) == 8
    # PDQ makes them of one transform: close to the hash of the turned pixels, and not the same.
    assert min(hamming(bits, own) for bits in turned) <= 24
    assert hamming(turned[0], own) > THRESHOLD, "the hash itself does not know the turned picture"


def test_a_frame_has_its_own_hash_first_and_all_turns(astronaut: Image.Image) -> None:
    frame = frame_of(3, astronaut)
    assert frame.index == 3
    assert (frame.turned[0], len(set(frame.turned))) == (frame.pdq.bits, 8)
    assert {len(bits) for bits in frame.turned} == {32}


@pytest.mark.parametrize(
    ("size", "small"),
    [((600, 400), (384, 576)), ((400, 600), (576, 384)), ((100, 50), (50, 100)), ((5_000, 3), (1, 576))],
)
def test_the_small_picture_keeps_its_shape_and_is_never_enlarged(
    coffee: Image.Image, size: tuple[int, int], small: tuple[int, int]
) -> None:
    pixels = frame_of(0, coffee.resize(size)).small
    assert pixels.shape == (*small, 3)
    assert pixels.dtype == np.uint8
    assert max(pixels.shape) <= SMALL_SIDE


def test_a_close_look_is_the_part_of_the_picture_as_the_model_takes_it(coffee: Image.Image) -> None:
    frame = frame_of(0, coffee)
    part = close_look(frame, (0.5, 0.25, 1.0, 0.75))
    assert part.shape == (MODEL_SIDE, MODEL_SIDE, 3)
    assert part.dtype == np.uint8
    cut = coffee.crop((300, 100, 600, 300)).resize((MODEL_SIDE, MODEL_SIDE), Image.Resampling.BILINEAR)
    assert np.abs(part.astype(int) - np.asarray(cut).astype(int)).mean() < 5
    other = close_look(frame, (0.0, 0.25, 0.5, 0.75))
    assert np.abs(other.astype(int) - np.asarray(cut).astype(int)).mean() > 20, "and no other part"
    whole = close_look(frame, (0.0, 0.0, 1.0, 1.0))
    assert np.abs(whole.astype(int) - frame.model_input.astype(int)).mean() < 3
