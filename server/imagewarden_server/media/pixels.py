"""From bytes to frames: header, limits, then one decoder, then sRGB pixels as a viewer shows them."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType

import pillow_heif
from PIL import Image, ImageFile
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from imagewarden_server.media.colour import to_srgb
from imagewarden_server.media.containers import (
    Extent,
    check_jpeg,
    exif_orientation,
    gif_extent,
    tiff_extent,
    webp_size,
)
from imagewarden_server.media.perceptual import Picture, frame_of
from imagewarden_server.media.sniff import sniff
from imagewarden_server.media.types import Header, ImageFormat, Limits, MediaError, MediaProblem

# Pillow warns or raises by a size of its own; ours is checked on every header, before a pixel is decoded.
Image.MAX_IMAGE_PIXELS = None
# A small picture beside the main one need not show what the main one shows.
pillow_heif.options.THUMBNAILS = False
# What is odd in a stranger's file is no news to the operator; what cannot be read is said by MediaError.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

# The decoders themselves: Image.open would also try what else is registered, and take a JPEG of several for an MPO.
_DECODERS: MappingProxyType[ImageFormat, Callable[[io.BytesIO], ImageFile.ImageFile]] = MappingProxyType(
    {
        ImageFormat.JPEG: JpegImageFile,
        ImageFormat.PNG: PngImageFile,
        ImageFormat.WEBP: WebPImageFile,
        ImageFormat.GIF: GifImageFile,
        ImageFormat.BMP: BmpImageFile,
        ImageFormat.TIFF: TiffImageFile,
        ImageFormat.HEIC: pillow_heif.HeifImageFile,
        ImageFormat.AVIF: AvifImageFile,
    }
)
_READ = ", ".join(one.value.upper() for one in _DECODERS)
# In these a frame is drawn over the one before it: whoever wants the last must decode them all.
_ANIMATIONS = frozenset({ImageFormat.GIF, ImageFormat.PNG, ImageFormat.WEBP, ImageFormat.AVIF})
_LEAST_SCALED = 1024
"""Pixels a side that a JPEG is never scaled under while it is decoded: PDQ has its bits of the full size then."""

_TURNS = MappingProxyType(
    {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
)
_SIDEWAYS = frozenset({5, 6, 7, 8})


@dataclass(slots=True)
class _Opened:
    """A file whose header is read and within limits; no pixel is decoded yet."""

    image: ImageFile.ImageFile
    format: ImageFormat
    extent: Extent
    first: int
    """The frame that stands for the whole: HEIC names one, and elsewhere it is the first."""
    turn: int
    """The EXIF orientation that is still to be undone."""

    def header(self) -> Header:
        width, height = self.image.size
        if self.turn in _SIDEWAYS:
            width, height = height, width
        return Header(self.format, width, height, self.extent.frames)

    def pixels(self, number: int, limits: Limits) -> Image.Image:
        """One frame, turned as it is displayed."""
        image = self.image
        if image.tell() != number:
            image.seek(number)
            _check_size(*image.size, limits)
        image.load()
        return image.transpose(_TURNS[self.turn]) if self.turn in _TURNS else image


def inspect(data: bytes, limits: Limits) -> Header:
    """Read what a file says of itself, and hold it against the limits, without decoding a pixel.

    Raises:
        MediaError: EMPTY, UNRECOGNISED, UNDECODABLE or OVER_LIMITS.
    """
    with _opened(data, limits) as opened:
        return opened.header()


def decode(data: bytes, limits: Limits) -> Picture:
    """Decode a picture: its header, and its frames, evenly sampled over the whole with the first and the last.

    What a frame shows is made when it is asked for: see `Frame.shown`.

    Raises:
        MediaError: EMPTY, UNRECOGNISED, UNDECODABLE or OVER_LIMITS.
    """
    with _opened(data, limits) as opened:
        header = opened.header()
        if opened.format is ImageFormat.JPEG:
            # The decoder itself scales by 2, 4 or 8 while it decodes.
            opened.image.draft(None, (_LEAST_SCALED, _LEAST_SCALED))
        frames = []
        for number in (numbers := _sample(opened, limits)):
            frame = frame_of(number, to_srgb(opened.pixels(number, limits)))
            if len(numbers) > 1:
                frame.shown  # noqa: B018 -- the full-size pixels of many frames are more than may be held
            frames.append(frame)
        return Picture(header, tuple(frames))


def first_frame(data: bytes, limits: Limits) -> Image.Image:
    """The first frame as a viewer shows it, alpha kept: mode RGBA.

    Raises:
        MediaError: as `decode`.
    """
    with _opened(data, limits) as opened:
        return to_srgb(opened.pixels(opened.first, limits), keep_alpha=True)


@contextmanager
def _opened(data: bytes, limits: Limits) -> Iterator[_Opened]:
    """The file opened by the one decoder of its format, header read and within limits."""
    format_ = _recognise(data, limits)
    counted = _check_container(data, format_, limits)
    try:
        with _DECODERS[format_](io.BytesIO(data)) as image:
            _check_size(*image.size, limits)
            extent = counted or _extent(data, image, format_)
            _check_size(extent.width, extent.height, limits)
            yield _Opened(image, format_, extent, image.tell(), _orientation(image))
    except MediaError:
        raise
    except MemoryError as error:
        raise MediaError(
            MediaProblem.OVER_LIMITS,
            f"the {format_.value.upper()} file takes more memory to decode than a picture may; send a smaller one",
        ) from error
    except Exception as error:  # the decoders raise whatever a broken file leads them to: there is no list of it
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


def _check_container(data: bytes, format_: ImageFormat, limits: Limits) -> Extent | None:
    """What must be known before a decoder sees the file, since it would already work or allot memory.

    Returns:
        The frames, where they were counted on the way.
    """
    match format_:
        case ImageFormat.JPEG:
            check_jpeg(data)
        case ImageFormat.WEBP:
            _check_size(*webp_size(data), limits)
        case ImageFormat.GIF | ImageFormat.TIFF:
            extent = gif_extent(data) if format_ is ImageFormat.GIF else tiff_extent(data)
            _check_size(extent.width, extent.height, limits)
            return extent
    return None


def _extent(data: bytes, image: ImageFile.ImageFile, format_: ImageFormat) -> Extent:
    if format_ is ImageFormat.HEIC:
        sizes = [one.size for one in pillow_heif.open_heif(data)]
        return Extent(len(sizes), max(size[0] for size in sizes), max(size[1] for size in sizes))
    return Extent(int(getattr(image, "n_frames", 1)), *image.size)


def _check_size(width: int, height: int, limits: Limits) -> None:
    if width < 1 or height < 1:
        raise MediaError(
            MediaProblem.UNDECODABLE, f"the picture says it is {width} x {height} pixels; send one that has pixels"
        )
    if width * height > limits.max_pixels or max(width, height) > limits.max_side:
        raise MediaError(
            MediaProblem.OVER_LIMITS,
            f"the picture is {width} x {height} pixels, and {limits.max_pixels:,} pixels with sides of at most "
            f"{limits.max_side:,} are the most; send a smaller one",
        )


def _orientation(image: ImageFile.ImageFile) -> int:
    # Of TIFF and HEIC the decoders turn the pixels themselves, and there is no such block.
    exif = image.info.get("exif")
    return exif_orientation(exif) if isinstance(exif, bytes) else 1


def _sample(opened: _Opened, limits: Limits) -> list[int]:
    """Which frames are looked at: all, or evenly from the first to the last, as many as the limits let through."""
    area = opened.extent.width * opened.extent.height
    reach = opened.extent.frames
    if opened.format in _ANIMATIONS:
        reach = min(reach, max(1, limits.max_animation_pixels // area))
    count = min(reach, limits.max_frames, max(1, limits.max_total_pixels // area))
    if count == 1:
        return [opened.first]
    numbers = {round(place * (reach - 1) / (count - 1)) for place in range(count)}
    if opened.first not in numbers:
        numbers.remove(min(numbers, key=lambda number: abs(number - opened.first)))
        numbers.add(opened.first)
    return sorted(numbers)
