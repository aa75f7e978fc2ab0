"""What the media layer speaks of: formats, limits, headers, digests, frames."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


class ImageFormat(enum.StrEnum):
    """The formats that are read."""

    JPEG = "jpeg"
    PNG = "png"
    WEBP = "webp"
    GIF = "gif"
    BMP = "bmp"
    TIFF = "tiff"
    HEIC = "heic"
    AVIF = "avif"
    SVG = "svg"


class MediaProblem(enum.Enum):
    """Why bytes give no pixels."""

    EMPTY = "empty"
    UNRECOGNISED = "unrecognised"
    UNDECODABLE = "undecodable"
    OVER_LIMITS = "over_limits"


class MediaError(Exception):
    """Bytes give no pixels.

    Attributes:
        problem: why, for programs.
        message: what happened, with which value, and what to do, for people.
        passing: whether it may be otherwise another time: the machine may have had a share in it.
    """

    def __init__(self, problem: MediaProblem, message: str, *, passing: bool = False) -> None:
        super().__init__(message)
        self.problem = problem
        self.message = message
        self.passing = passing


@dataclass(frozen=True, slots=True)
class Limits:
    """What a picture may be, checked on its header before anything is decoded.

    Attributes:
        max_bytes: of the file.
        max_pixels: of one frame.
        max_side: of one frame, in pixels.
        max_frames: how many frames of an animation are sampled.
        max_total_pixels: over the sampled frames: fewer are sampled where they are large.
        max_animation_pixels: over all frames that are decoded on the way to the last sampled one, in formats whose
            frames build on each other: of a longer animation the beginning is sampled.
        max_svg_bytes: of a logo in SVG.
    """

    max_bytes: int = 20 * 2**20
    max_pixels: int = 100_000_000
    max_side: int = 30_000
    max_frames: int = 8
    max_total_pixels: int = 200_000_000
    max_animation_pixels: int = 500_000_000
    max_svg_bytes: int = 2**20


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself: width and height as displayed, the number of frames or pages."""

    format: ImageFormat
    width: int
    height: int
    frames: int


@dataclass(frozen=True, slots=True)
class Digests:
    """Digests of a file's bytes: SHA-256 and SHA-1 (FIPS 180-4), MD5 (RFC 1321)."""

    sha256: bytes
    sha1: bytes
    md5: bytes


@dataclass(frozen=True, slots=True)
class PdqHash:
    """A PDQ hash: 256 bits, the most significant first, as its hexadecimal form is written; quality 0 to 100."""

    bits: bytes
    quality: int

    def hex(self) -> str:
        """64 lower-case hexadecimal digits."""
        return self.bits.hex()


@dataclass(frozen=True, slots=True)
class LocalFeatures:
    """Keypoints of one picture with their descriptors.

    Attributes:
        points: float32 [n, 4]: x, y, size as fractions of the picture's longer side (so that a turn stays a turn), and
            the orientation in radians, clockwise from the x axis.
        descriptors: uint8 [n, 128].
        aspect: the picture's width divided by its height.
    """

    points: NDArray[np.float32]
    descriptors: NDArray[np.uint8]
    aspect: float


@dataclass(frozen=True, slots=True)
class Shown:
    """What a frame shows, in the sizes that the content signals need.

    Attributes:
        small: uint8 [h, w, 3], sRGB, the aspect ratio kept and the longer side at most `perceptual.SMALL_SIDE`.
        model_input: uint8 [299, 299, 3], sRGB, the aspect ratio not kept.
        deviation: the standard deviation of its luma, averaged down to 64 x 64 pixels, 0 to 127.5: how plain it is.
    """

    small: NDArray[np.uint8]
    model_input: NDArray[np.uint8]
    deviation: float


@dataclass(frozen=True, slots=True)
class Rendering:
    """A logo on a ground it can be seen on.

    Attributes:
        logo: uint8 [h, w, 4], RGBA, trimmed to what is visible.
        ground: the colour behind it, RGB 0 to 255.
    """

    logo: NDArray[np.uint8]
    ground: tuple[int, int, int]
