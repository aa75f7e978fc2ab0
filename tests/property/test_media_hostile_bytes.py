"""Real files with wounds: whatever is done to their bytes, they decode or raise MediaError, and nothing else."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path

import pytest
import skimage
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.unit.media.crafted import ENCODINGS, animated, encoded, oriented

from imagewarden_server.media import ImageFormat, Limits, MediaError, Picture, decode, inspect, render_logo
from imagewarden_server.media.containers import check_jpeg, exif_orientation, gif_extent, tiff_extent, webp_size
from imagewarden_server.media.sniff import sniff

# Small, so that a header that grew by chance costs no time.
LIMITS = Limits(max_pixels=1_000_000, max_side=5_000, max_animation_pixels=2_000_000)
MANY = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
SVG = (
    b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 40 40"><defs><path id="p" d="M3 3h9v9z"/></defs>'
    b'<use href="#p" fill="#c00"/><circle cx="20" cy="20" r="9" style="fill:#00c"/></svg>'
)


@functools.cache
def files(format_: ImageFormat) -> tuple[bytes, ...]:
    """A still picture and, where the format has them, an animation; with metadata where it keeps some."""
    with Image.open(Path(skimage.__file__).parent / "data" / "chelsea.png") as opened:
        small = opened.convert("RGB").resize((60, 40))
    moving = [small.rotate(30 * number) for number in range(4)]
    options = {} if format_ in {ImageFormat.GIF, ImageFormat.BMP} else {"exif": oriented(6)}
    made = [encoded(small, format_, **options)]
    if format_ not in {ImageFormat.JPEG, ImageFormat.BMP}:
        # An animated AVIF that states an orientation crashes the encoder of Pillow 13.0.
        made.append(animated(moving, format_, **({} if format_ is ImageFormat.AVIF else options)))
    if format_ is ImageFormat.JPEG:
        made += [encoded(small, format_, progressive=True), encoded(small.convert("CMYK"), format_)]
    if format_ in {ImageFormat.PNG, ImageFormat.TIFF}:
        made += [encoded(small.convert("I;16"), format_), encoded(small.quantize(16), format_)]
    return tuple(made)


@st.composite
def wounded(draw: st.DrawFn, format_: ImageFormat) -> bytes:
    """One of the files with bytes changed, left out, put in, doubled, or its end gone; most wounds near the head."""
    data = bytearray(draw(st.sampled_from(files(format_))))
    for _ in range(draw(st.integers(1, 6))):
        head = draw(st.booleans())
        place = draw(st.integers(0, max(0, (min(len(data), 200) if head else len(data)) - 1)))
        match draw(st.sampled_from(["flip", "number", "cut", "insert", "double", "end"])):
            case "flip":
                data[place : place + 1] = bytes([draw(st.integers(0, 255))])
            case "number":
                value = draw(st.sampled_from([0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF]))
                width, order = draw(st.sampled_from([2, 4])), draw(st.booleans())
                data[place : place + width] = (value % 256**width).to_bytes(width, "big" if order else "little")
            case "cut":
                del data[place : place + draw(st.integers(1, 40))]
            case "insert":
                data[place:place] = draw(st.binary(min_size=1, max_size=20))
            case "double":
                data[place:place] = data[place : place + draw(st.integers(1, 200))]
            case _:
                del data[place + 1 :]
    return bytes(data)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("format_", ENCODINGS)
@MANY
@given(draw=st.data())
def test_wounded_files_decode_or_raise_media_error(format_: ImageFormat, draw: st.DataObject) -> None:
    data = draw.draw(wounded(format_))
    try:
        picture = decode(data, LIMITS)
    except MediaError:
        return
    assert_whole(picture)
    assert inspect(data, LIMITS) == picture.header, "what decodes says the same of itself before"


def assert_whole(picture: Picture) -> None:
    header = picture.header
    assert 1 <= len(picture.frames) <= LIMITS.max_frames
    assert 1 <= header.width * header.height <= LIMITS.max_pixels
    assert all(0 <= frame.index < header.frames for frame in picture.frames)
    for frame in picture.frames:
        assert frame.model_input.shape == (299, 299, 3)
        assert 0 <= frame.pdq.quality <= 100
        assert 0 <= frame.deviation <= 127.5


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=25, deadline=None)
@given(data=st.sampled_from([ImageFormat.PNG, ImageFormat.WEBP]).flatmap(wounded))
def test_wounded_logos_draw_or_raise_media_error(data: bytes) -> None:
    try:
        renderings = render_logo(data, LIMITS)
    except MediaError:
        return
    assert renderings
    assert all(one.logo.ndim == 3 and one.logo.shape[2] == 4 for one in renderings)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, len(SVG)), st.integers(0, 30), st.binary(max_size=12))
def test_wounded_svg_draws_or_raises_media_error(place: int, length: int, put: bytes) -> None:
    data = SVG[:place] + put + SVG[place + length :]
    try:
        renderings = render_logo(data, LIMITS)
    except MediaError:
        return
    assert renderings


@settings(deadline=None)
@given(
    st.binary(max_size=400), st.sampled_from([b"", b"GIF89a", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b"\xff\xd8\xff"])
)
def test_walks_end_whatever_the_bytes_are(data: bytes, head: bytes) -> None:
    data = head + data
    sniff(data)
    assert 1 <= exif_orientation(data) <= 8
    for walk in (check_jpeg, gif_extent, tiff_extent, webp_size):
        with contextlib.suppress(MediaError):
            walk(data)
