"""Animations, pages, items: how many there are, which are looked at, and what each looks like."""

from __future__ import annotations

import pytest
from PIL import Image
from tests.unit.media.crafted import ENCODINGS, animated, encoded, gif, hamming, oriented

from imagewarden_server.media import ImageFormat, Limits, decode, inspect

LIMITS = Limits()
MOVING = [ImageFormat.GIF, ImageFormat.WEBP, ImageFormat.PNG, ImageFormat.AVIF]
PAGED = [ImageFormat.TIFF, ImageFormat.HEIC]


@pytest.fixture
def turning(chelsea: Image.Image) -> list[Image.Image]:
    """A photograph that turns: 20 frames of 150 x 100, each unlike the others."""
    small = chelsea.resize((150, 100))
    return [small.rotate(18 * number) for number in range(20)]


@pytest.mark.parametrize("format_", MOVING + PAGED)
def test_frames_are_counted_and_sampled_from_the_first_to_the_last(
    turning: list[Image.Image], format_: ImageFormat
) -> None:
    data = animated(turning, format_)
    picture = decode(data, LIMITS)
    assert picture.header == inspect(data, LIMITS)
    assert (picture.header.width, picture.header.height, picture.header.frames) == (150, 100, 20)
    assert [frame.index for frame in picture.frames] == [0, 3, 5, 8, 11, 14, 16, 19]
    for frame in picture.frames:
        alone = decode(encoded(turning[frame.index], ImageFormat.PNG), LIMITS).frames[0]
        assert hamming(frame.pdq.bits, alone.pdq.bits) <= 30, frame.index


@pytest.mark.parametrize("format_", MOVING + PAGED)
def test_few_frames_are_all_looked_at(turning: list[Image.Image], format_: ImageFormat) -> None:
    picture = decode(animated(turning[:3], format_), LIMITS)
    assert [frame.index for frame in picture.frames] == [0, 1, 2]


@pytest.mark.parametrize(("most", "expected"), [(1, [0]), (2, [0, 19]), (3, [0, 10, 19])])
def test_the_limit_of_frames_is_kept(turning: list[Image.Image], most: int, expected: list[int]) -> None:
    picture = decode(animated(turning, ImageFormat.GIF), Limits(max_frames=most))
    assert [frame.index for frame in picture.frames] == expected
    assert picture.header.frames == 20


def test_of_large_frames_fewer_are_looked_at(turning: list[Image.Image]) -> None:
    picture = decode(animated(turning, ImageFormat.TIFF), Limits(max_total_pixels=4 * 150 * 100))
    assert [frame.index for frame in picture.frames] == [0, 6, 13, 19]


@pytest.mark.parametrize("format_", MOVING)
def test_of_a_long_animation_the_beginning_is_looked_at(turning: list[Image.Image], format_: ImageFormat) -> None:
    picture = decode(animated(turning, format_), Limits(max_animation_pixels=10 * 150 * 100))
    assert [frame.index for frame in picture.frames] == [0, 1, 3, 4, 5, 6, 8, 9]
    assert picture.header.frames == 20, "so the caller knows that frames were left out"


def test_pages_are_reached_without_those_between(turning: list[Image.Image]) -> None:
    picture = decode(animated(turning, ImageFormat.TIFF), Limits(max_animation_pixels=1))
    assert picture.frames[-1].index == 19


def test_pages_have_sizes_and_orientations_of_their_own(chelsea: Image.Image, coffee: Image.Image) -> None:
    sideways = coffee.transpose(Image.Transpose.ROTATE_90)
    sideways.encoderinfo = {"tiffinfo": {0x0112: 6}}
    data = animated([chelsea, sideways], ImageFormat.TIFF)
    picture = decode(data, LIMITS)
    assert (picture.header.width, picture.header.height, picture.header.frames) == (451, 300, 2)
    for frame, image in zip(picture.frames, (chelsea, coffee), strict=True):
        assert hamming(frame.pdq.bits, decode(encoded(image, ImageFormat.PNG), LIMITS).frames[0].pdq.bits) <= 2


@pytest.mark.parametrize("frames", [1, 3])
def test_heic_names_the_picture_that_stands_for_the_whole(turning: list[Image.Image], frames: int) -> None:
    data = animated(turning, ImageFormat.HEIC, primary_index=7)
    picture = decode(data, Limits(max_frames=frames))
    assert 7 in [frame.index for frame in picture.frames]
    assert len(picture.frames) == frames


def test_heic_items_are_held_against_the_limits(turning: list[Image.Image], chelsea: Image.Image) -> None:
    from imagewarden_server.media import MediaError, MediaProblem

    data = animated([turning[0], chelsea, turning[1]], ImageFormat.HEIC)
    with pytest.raises(MediaError) as caught:
        inspect(data, Limits(max_pixels=150 * 100))
    assert caught.value.problem is MediaProblem.OVER_LIMITS


def test_a_jpeg_of_several_is_the_one_that_viewers_show(turning: list[Image.Image], chelsea: Image.Image) -> None:
    import io

    buffer = io.BytesIO()
    chelsea.save(buffer, "MPO", save_all=True, append_images=turning[:2], quality=92)
    picture = decode(buffer.getvalue(), LIMITS)
    assert (picture.header.format, picture.header.frames) == (ImageFormat.JPEG, 1)
    assert picture.frames[0].pdq == decode(encoded(chelsea, ImageFormat.JPEG), LIMITS).frames[0].pdq


def test_bytes_behind_a_jpeg_are_ignored(chelsea: Image.Image) -> None:
    # Phones append a film; in 20 MB of it the bytes of a scan's marker come by chance again and again.
    data = encoded(chelsea, ImageFormat.JPEG)
    assert decode(data + b"\xff\xda\0\x08" * 5_000, LIMITS).frames[0].pdq == decode(data, LIMITS).frames[0].pdq


@pytest.mark.parametrize("format_", [ImageFormat.WEBP, ImageFormat.PNG])
def test_an_animation_is_turned_as_a_whole(turning: list[Image.Image], format_: ImageFormat) -> None:
    stored = [frame.transpose(Image.Transpose.ROTATE_90) for frame in turning[:4]]
    picture = decode(animated(stored, format_, exif=oriented(6)), LIMITS)
    assert (picture.header.width, picture.header.height) == (150, 100)
    for frame in picture.frames:
        alone = decode(encoded(turning[frame.index], ImageFormat.PNG), LIMITS).frames[0]
        assert hamming(frame.pdq.bits, alone.pdq.bits) <= 24, frame.index


def test_a_gif_is_as_large_as_its_first_frame_makes_it() -> None:
    assert inspect(gif(10, 10, [(20, 30), (5, 5)]), LIMITS).frames == 2


def test_a_gif_without_its_trailer_is_read(turning: list[Image.Image]) -> None:
    data = animated(turning[:3], ImageFormat.GIF)
    assert data.endswith(b";")
    assert len(decode(data[:-1], LIMITS).frames) == 3


def test_a_still_picture_has_one_frame(chelsea: Image.Image) -> None:
    for format_ in ENCODINGS:
        assert inspect(encoded(chelsea, format_), LIMITS).frames == 1
