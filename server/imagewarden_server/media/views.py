"""The views of a picture that are stored when it is banned, so that a check needs one pass of the model alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps

from imagewarden_server.media.perceptual import MODEL_SIDE

Box = tuple[float, float, float, float]

_CELLS = 17
"""Side of the map that the copy descriptor pools: the boxes below are whole cells of it, so a window fits each."""

_GROUND = (128, 128, 128)
_CROP = 0.6
_TILT = -15.0
_TILTED = 0.8
_BLUR = 0.012

# As a picture is seen inside another one: drawn into a box, and what window of it is described. A window a little
# smaller than the drawing is touched less by the ground.
_INSETS = (
    ((4, 4, 13, 13), (4, 4, 13, 13)),
    ((5, 5, 12, 12), (6, 6, 12, 12)),
    ((6, 6, 12, 12), (6, 6, 12, 12)),
)


@dataclass(frozen=True, slots=True)
class View:
    """A picture as the model takes it.

    Attributes:
        pixels: uint8 [299, 299, 3].
        window: the part of it that is described, as left, top, right, bottom fractions; None: all of it.
    """

    pixels: NDArray[np.uint8]
    window: Box | None


def copy_views(image: Image.Image) -> list[View]:
    """The views of a picture, the picture itself first.

    Chosen one by one by how many edited copies each finds more (docs/descriptor.md): five of the eight turns and flips,
    since the descriptor often takes a mirrored picture for the picture itself; two opposite crops; one tilted; one
    blurred, since a blur takes away what the descriptor reads; three drawn small, for the windows of a check.

    Args:
        image: RGB, of any size.

    Returns:
        Twelve views.
    """
    turned = [
        image,
        ImageOps.mirror(image),
        ImageOps.flip(image),
        image.transpose(Image.Transpose.ROTATE_90),
        image.transpose(Image.Transpose.TRANSVERSE),
    ]
    share = _CROP**0.5
    parts = [_part(image, (0.0, 0.0, share, share)), _part(image, (1 - share, 1 - share, 1.0, 1.0))]
    low = (1 - _TILTED) / 2
    tilted = image.rotate(_TILT, Image.Resampling.BILINEAR, fillcolor=_GROUND)
    parts.append(_part(tilted, (low, low, 1 - low, 1 - low)))
    blurred = image.filter(ImageFilter.GaussianBlur(min(image.size) * _BLUR))
    whole = [View(_input(one), None) for one in (*turned, *parts, blurred)]
    return whole + [_inset(image, drawn, window) for drawn, window in _INSETS]


def _part(image: Image.Image, box: Box) -> Image.Image:
    left, top, right, bottom = box
    width, height = image.size
    edges = (round(left * width), round(top * height), round(right * width), round(bottom * height))
    # A strip one pixel high has no corner of its own.
    return image.crop((edges[0], edges[1], max(edges[2], edges[0] + 1), max(edges[3], edges[1] + 1)))


def _inset(image: Image.Image, drawn: tuple[int, int, int, int], window: tuple[int, int, int, int]) -> View:
    left, top, right, bottom = (round(cell * MODEL_SIDE / _CELLS) for cell in drawn)
    canvas = Image.new("RGB", (MODEL_SIDE, MODEL_SIDE), _GROUND)
    canvas.paste(image.resize((right - left, bottom - top), Image.Resampling.BILINEAR), (left, top))
    first, second, third, fourth = (cell / _CELLS for cell in window)
    return View(np.asarray(canvas), (first, second, third, fourth))


def _input(image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(image.resize((MODEL_SIDE, MODEL_SIDE), Image.Resampling.BILINEAR))
