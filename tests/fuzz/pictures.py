"""Targets: each container by its decoder, what is read before a decoder sees a file, and logos."""

from __future__ import annotations

import contextlib
import functools
import json
import math

import numpy as np
from PIL import Image
from tests.fuzz import wounds
from tests.fuzz.target import Mutate, Target, said

from imagewarden_server.decoding.messages import read_picture, say_picture
from imagewarden_server.media import ImageFormat, Limits, MediaError, Picture, decode, inspect, render_logo
from imagewarden_server.media.containers import check_jpeg, exif_orientation, gif_extent, tiff_extent, webp_size
from imagewarden_server.media.perceptual import SMALL_SIDE
from imagewarden_server.media.pixels import first_frame
from imagewarden_server.media.sniff import sniff
from imagewarden_server.media.svg import check_svg

LIMITS = Limits(
    max_bytes=2**16,
    max_pixels=250_000,
    max_side=2_000,
    max_frames=4,
    max_total_pixels=500_000,
    max_animation_pixels=1_000_000,
    max_svg_bytes=2**14,
)
"""Small, so that a header that grew by chance takes neither time nor memory."""

_MUTATE: dict[ImageFormat, Mutate] = {
    ImageFormat.PNG: wounds.png,
    ImageFormat.WEBP: wounds.riff,
    ImageFormat.HEIC: wounds.boxes,
    ImageFormat.AVIF: wounds.boxes,
}
_SVG_WORDS = (
    *(
        b"<use ",
        b"<image ",
        b"<style>",
        b"<filter ",
        b"<pattern ",
        b"<mask ",
        b"<![CDATA[",
        b"<!DOCTYPE ",
        b"<!ENTITY ",
    ),
    *(b'href="', b'xlink:href="', b"data:image/png;base64,", b"file:///", b"url(#", b"@import ", b'id="', b'"#a"'),
    *(b'viewBox="', b'width="', b'height="', b"1e9", b"NaN", b"%", b"mm", b"&#0;", b"&lt;", b"\xef\xbb\xbf"),
)


def run_decoder(data: bytes) -> None:
    """A picture's road: decoded whole, shown to the server, and its first frame as a logo's."""
    with contextlib.suppress(MediaError):
        first = first_frame(data, LIMITS)
        assert first.mode == "RGBA"
        assert first.width * first.height <= LIMITS.max_pixels
    try:
        picture = decode(data, LIMITS)
    except MediaError as error:
        said(error.message)
        return
    assert inspect(data, LIMITS) == picture.header, "what decodes says the same of itself before"
    assert_whole(picture)
    told, arrays = say_picture(picture)
    again = read_picture(json.loads(json.dumps(told)), arrays)
    assert again.header == picture.header, "what a decoder process says is what the server reads"
    assert [one.turned for one in again.frames] == [one.turned for one in picture.frames]


def assert_whole(picture: Picture) -> None:
    """What every decoded picture is, as the types of the media layer document it."""
    header = picture.header
    assert 1 <= len(picture.frames) <= LIMITS.max_frames
    assert 1 <= header.width * header.height <= LIMITS.max_pixels
    assert max(header.width, header.height) <= LIMITS.max_side
    assert all(0 <= frame.index < header.frames for frame in picture.frames)
    for frame in picture.frames:
        assert 0 <= frame.pdq.quality <= 100
        assert len(frame.turned) == 8
        assert all(len(bits) == 32 for bits in frame.turned)
        assert frame.turned[0] == frame.pdq.bits
        for pixels in (frame.model_input, frame.small):
            assert pixels.dtype == np.uint8
            assert pixels.ndim == 3
        assert frame.model_input.shape == (299, 299, 3)
        assert 1 <= max(frame.small.shape[:2]) <= SMALL_SIDE
        assert math.isfinite(frame.deviation)
        assert 0 <= frame.deviation <= 127.5


def run_headers(data: bytes) -> None:
    """What is read of a file before a decoder works on it: the walks over containers, and `inspect`."""
    format_ = sniff(data)
    assert 1 <= exif_orientation(data) <= 8
    for walk in (check_jpeg, gif_extent, tiff_extent, webp_size):
        try:
            walk(data)
        except MediaError as error:
            said(error.message)
    try:
        header = inspect(data, LIMITS)
    except MediaError as error:
        said(error.message)
        return
    assert header.format is format_
    assert header.frames >= 1
    assert 1 <= header.width * header.height <= LIMITS.max_pixels


def run_svg(data: bytes) -> None:
    """What stands before the renderer of SVG."""
    try:
        width, height = check_svg(data, LIMITS)
    except MediaError as error:
        said(error.message)
        return
    assert 0 < width < math.inf
    assert 0 < height < math.inf
    assert 1 / 50 <= width / height <= 50
    assert b"<!DOCTYPE" not in data.upper()
    assert b"<!ENTITY" not in data.upper()


def run_logo(data: bytes) -> None:
    """A logo drawn as it may be met; SVG by the process that draws it."""
    try:
        renderings = render_logo(data, LIMITS)
    except MediaError as error:
        said(error.message)
        return
    assert 1 <= len(renderings) <= 6
    for one in renderings:
        assert one.logo.dtype == np.uint8
        assert one.logo.ndim == 3
        assert one.logo.shape[2] == 4
        assert 1 <= max(one.logo.shape[:2]) <= 512
        assert all(0 <= value <= 255 for value in one.ground)
        Image.fromarray(one.logo)


def targets() -> list[Target]:
    """One for each container, and those of headers and logos."""
    make = functools.partial(Target, most_bytes=16_384)
    decoders = [
        make(f"decode-{one.value}", run_decoder, wounds.several(_MUTATE.get(one, wounds.blind)))
        for one in ImageFormat
        if one is not ImageFormat.SVG
    ]
    return [
        *decoders,
        make("headers", run_headers),
        make("svg", run_svg, words=_SVG_WORDS),
        # Each drawing is a process of its own, which may take ten seconds until it is given up.
        make("logo", run_logo, words=_SVG_WORDS, seconds=15),
    ]
