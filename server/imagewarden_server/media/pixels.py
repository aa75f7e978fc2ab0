"""From bytes to frames: header, limits, then one decoder, then sRGB pixels as a viewer shows them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

import pillow_heif
from PIL import Image, ImageOps

from imagewarden_server.media.colour import to_srgb
from imagewarden_server.media.perceptual import PDQ_SIDE, frame_signals
from imagewarden_server.media.sniff import sniff, webp_size
from imagewarden_server.media.types import Frame, Header, ImageFormat, Limits, MediaError, MediaProblem, Picture

pillow_heif.register_heif_opener(thumbnails=False)

# Pillow warns or raises by a size of its own; ours is checked on every header, before a pixel is decoded.
Image.MAX_IMAGE_PIXELS = None

_PILLOW = {
    ImageFormat.JPEG: "JPEG",
    ImageFormat.PNG: "PNG",
    ImageFormat.WEBP: "WEBP",
    ImageFormat.GIF: "GIF",
    ImageFormat.BMP: "BMP",
    ImageFormat.TIFF: "TIFF",
    ImageFormat.HEIC: "HEIF",
    ImageFormat.AVIF: "AVIF",
}
_READ = ", ".join(one.value.upper() for one in _PILLOW)
_ORIENTATION = 0x0112
_SIDEWAYS = frozenset({5, 6, 7, 8})


def inspect(data: bytes, limits: Limits) -> Header:
    """Read what a file says of itself, and hold it against the limits, without decoding a pixel.

    Raises:
        MediaError: EMPTY, UNRECOGNISED, UNDECODABLE or OVER_LIMITS.
    """
    with _opened(data, limits) as (image, format_):
        return _header(image, format_)


def decode(data: bytes, limits: Limits) -> Picture:
    """Decode a picture: its header, and its frames, evenly sampled over the whole with the first and the last.

    Raises:
        MediaError: EMPTY, UNRECOGNISED, UNDECODABLE or OVER_LIMITS.
    """
    with _opened(data, limits) as (image, format_):
        header = _header(image, format_)
        frames = []
        for number in _sample(header, limits):
            if header.frames > 1:
                image.seek(number)
                # Pages of a TIFF and items of a HEIC have sizes of their own.
                _check_size(*image.size, limits)
            frames.append(_frame(image, number))
        return Picture(header, tuple(frames))


def first_frame(data: bytes, limits: Limits) -> Image.Image:
    """The first frame as a viewer shows it, alpha kept: mode RGBA.

    Raises:
        MediaError: as `decode`.
    """
    with _opened(data, limits) as (image, _):
        return to_srgb(ImageOps.exif_transpose(image), keep_alpha=True)


@contextmanager
def _opened(data: bytes, limits: Limits) -> Iterator[tuple[Image.Image, ImageFormat]]:
    """The file opened by the one decoder of its format, header read and within limits."""
    format_ = _recognise(data, limits)
    if format_ is ImageFormat.WEBP:
        size = webp_size(data)
        if size is None:
            raise MediaError(MediaProblem.UNDECODABLE, "the WebP file ends before its size; send the whole file")
        _check_size(*size, limits)
    try:
        with Image.open(io.BytesIO(data), formats=[_PILLOW[format_]]) as image:
            _check_size(*image.size, limits)
            yield image, format_
    except MediaError:
        raise
    except Exception as error:
        raise MediaError(
            MediaProblem.UNDECODABLE,
            f"the {format_.value.upper()} file is broken or cut short ({type(error).__name__}: {str(error)[:160]}); "
            "send the whole file as it was saved",
        ) from error


def _recognise(data: bytes, limits: Limits) -> ImageFormat:
    if not data:
        raise MediaError(MediaProblem.EMPTY, "the picture is empty; send the file's bytes")
    if len(data) > limits.max_bytes:
        raise MediaError(
            MediaProblem.OVER_LIMITS,
            f"the picture has {len(data):,} bytes, and {limits.max_bytes:,} are the most; send a smaller one",
        )
    format_ = sniff(data)
    if format_ is ImageFormat.SVG:
        raise MediaError(
            MediaProblem.UNRECOGNISED, "SVG is accepted for logos only; send the picture in a raster format"
        )
    if format_ is None:
        raise MediaError(MediaProblem.UNRECOGNISED, f"the bytes are no picture that is read here; send {_READ}")
    return format_


def _check_size(width: int, height: int, limits: Limits) -> None:
    if width < 1 or height < 1:
        raise MediaError(MediaProblem.UNDECODABLE, f"the picture says it is {width} x {height} pixels")
    if width * height > limits.max_pixels or max(width, height) > limits.max_side:
        raise MediaError(
            MediaProblem.OVER_LIMITS,
            f"the picture is {width} x {height} pixels, and {limits.max_pixels:,} pixels with sides of at most "
            f"{limits.max_side:,} are the most; send a smaller one",
        )


def _header(image: Image.Image, format_: ImageFormat) -> Header:
    width, height = image.size
    # PNG's exif may stand behind its pixels: to look for it would decode them.
    orientation = 1 if format_ is ImageFormat.PNG and "exif" not in image.info else image.getexif().get(_ORIENTATION, 1)
    if orientation in _SIDEWAYS:
        width, height = height, width
    return Header(format_, width, height, int(getattr(image, "n_frames", 1)))


def _sample(header: Header, limits: Limits) -> list[int]:
    """Which frames are looked at: all, or evenly from the first to the last, as many as the limits let through."""
    fit = max(1, limits.max_total_pixels // (header.width * header.height))
    count = min(header.frames, limits.max_frames, fit)
    if count == 1:
        return [0]
    return sorted({round(place * (header.frames - 1) / (count - 1)) for place in range(count)})


def _frame(image: Image.Image, number: int) -> Frame:
    if image.format == "JPEG":
        # The decoder itself scales by 2, 4 or 8 while it decodes, and never under the size that PDQ is computed at.
        image.draft(None, (PDQ_SIDE, PDQ_SIDE))
    pdq, model_input, deviation = frame_signals(to_srgb(ImageOps.exif_transpose(image)))
    return Frame(number, pdq, model_input, deviation)
