"""What the signals need of a frame's pixels, by one resize path for adding and checking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imagewarden_server.media.pdq import pdq
from imagewarden_server.media.types import Header, PdqHash, Shown

MODEL_SIDE = 299
"""The model's input height and width."""

SMALL_SIDE = 576
"""The most pixels a side that local features and a thorough look are taken from."""

_LUMA_SIDE = 64
# A picture is first averaged over whole pixels to this many times the model's input at least, which is quick.
_REDUCING_GAP = 1.5


class Frame:
    """One frame of a picture, as the signals need it.

    Attributes:
        index: its number in the file, from 0.
        pdq: its perceptual hash.
        turned: the PDQ bits of its eight turns and flips, its own first.
        held: its pixels at full size, uint8 [height, width, 3], sRGB; or what it shows, once that is made of them.
    """

    def __init__(self, index: int, pdq: PdqHash, turned: tuple[bytes, ...], held: NDArray[np.uint8] | Shown) -> None:
        self.index = index
        self.pdq = pdq
        self.turned = turned
        self.held = held

    @property
    def shown(self) -> Shown:
        """What it shows: made when it is first asked for, in milliseconds, and never where PDQ has decided.

        The full-size pixels are held until then. To be asked for on a worker first, by one thread.
        """
        if not isinstance(self.held, Shown):
            self.held = _shown(self.held)
        return self.held

    @property
    def small(self) -> NDArray[np.uint8]:
        """See `Shown`."""
        return self.shown.small

    @property
    def model_input(self) -> NDArray[np.uint8]:
        """See `Shown`."""
        return self.shown.model_input

    @property
    def deviation(self) -> float:
        """See `Shown`."""
        return self.shown.deviation


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture: its header and its sampled frames, at least one."""

    header: Header
    frames: tuple[Frame, ...]


def frame_of(index: int, image: Image.Image) -> Frame:
    """All that the signals need of a frame.

    Args:
        index: its number in the file.
        image: mode RGB.
    """
    pixels = np.asarray(image)
    return Frame(index, *pdq(pixels), pixels)


def _shown(pixels: NDArray[np.uint8]) -> Shown:
    """What a frame shows."""
    small = _at_most(pixels, SMALL_SIDE)
    size = (MODEL_SIDE, MODEL_SIDE)
    image = Image.fromarray(pixels)
    model_input = np.asarray(image.resize(size, Image.Resampling.BILINEAR, reducing_gap=_REDUCING_GAP))
    luma = Image.fromarray(small).convert("L").resize((_LUMA_SIDE, _LUMA_SIDE), Image.Resampling.BOX)
    return Shown(small, model_input, float(np.asarray(luma).std()))


def close_look(frame: Frame, box: tuple[float, float, float, float]) -> NDArray[np.uint8]:
    """A part of a frame as the model takes it: uint8 [299, 299, 3].

    Args:
        frame: whose `small` it is cut from.
        box: left, top, right, bottom as fractions.
    """
    height, width = frame.small.shape[:2]
    left, top, right, bottom = box
    image = Image.fromarray(frame.small)
    size = (MODEL_SIDE, MODEL_SIDE)
    return np.asarray(
        image.resize(size, Image.Resampling.BILINEAR, (left * width, top * height, right * width, bottom * height))
    )


def _at_most(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Downsampled by area; halved first as often as that goes, which is a quarter of the work of any other factor."""
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    smaller: NDArray[Any] = pixels
    while width >= 2 * size[0] and height >= 2 * size[1]:
        width, height = width // 2, height // 2
        # Of an odd side the last pixel is left out: OpenCV is quick at whole factors alone.
        smaller = cv2.resize(smaller[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
    if (width, height) != size:
        smaller = cv2.resize(smaller, size, interpolation=cv2.INTER_AREA)
    return np.asarray(smaller, np.uint8)
