"""Drawings of logos as a registration makes them: in colours and without, on plain grounds, into windows.

The moderation server draws what its prototypes are made of in this way; what the head learns on must look the same.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imagewarden_serving.architectures import SIDE
from imagewarden_serving.fitting.edits import Box

Colour = tuple[int, int, int]
"""Red, green, blue, 0 to 255."""

GROUNDS: tuple[Colour, ...] = ((255, 255, 255), (24, 24, 24), (128, 128, 128))
FLAT: tuple[tuple[int, Colour], ...] = (
    (16, (255, 255, 255)),
    (255, (32, 32, 32)),
    (255, (128, 128, 128)),
    (16, (128, 128, 128)),
)
"""A logo in one colour: how light its ink is, and its ground."""

SQUEEZES = (1.0, 1.0, 2 / 3, 2 / 3, 1.5)
"""What widths are multiplied by, one by chance: a picture that is not square is squeezed for the network."""

LARGE_SHARE = 0.35
"""How often a drawing is the one with the largest window; it has few windows, and the others have many."""

_MIN_CONTRAST = 24.0
_GAP = 0.03
_SAME_SIZE = 1.1


@dataclass(frozen=True, slots=True)
class Rendering:
    """A logo, RGBA, and the plain ground that it is to be seen on."""

    logo: Image.Image
    ground: Colour


def grey(logo: Image.Image) -> Image.Image:
    """An RGBA picture without its colours."""
    level = logo.convert("RGB").convert("L")
    return Image.merge("RGBA", (level, level, level, logo.getchannel("A")))


def flat(logo: Image.Image, colour: Colour) -> Image.Image:
    """The shape of an RGBA picture in one colour."""
    whole = Image.new("RGBA", logo.size, colour)
    whole.putalpha(logo.getchannel("A"))
    return whole


def contrast(logo: Image.Image, ground: Sequence[float] | NDArray[np.float64]) -> float:
    """The mean difference between an RGBA picture's visible pixels and a ground, 0 to 255; 0 where none is visible."""
    pixels = np.asarray(logo).astype(np.float64)
    alpha = pixels[..., 3] / 255
    if alpha.sum() < 1:
        return 0.0
    return float((np.abs(pixels[..., :3] - np.array(ground)).max(-1) * alpha).sum() / alpha.sum())


def renderings(logo: Image.Image) -> list[Rendering]:
    """The ways to draw a logo, RGBA; in its colours twice, since it is mostly met so."""
    own = [Rendering(logo, ground) for ground in _seen_on(logo)]
    without = grey(logo)
    return [
        *own,
        *own,
        *(Rendering(without, ground) for ground in _seen_on(without)),
        *(Rendering(flat(logo, (ink, ink, ink)), ground) for ink, ground in FLAT),
    ]


def _seen_on(logo: Image.Image) -> list[Colour]:
    contrasts = [(contrast(logo, ground), ground) for ground in GROUNDS]
    return [ground for seen, ground in contrasts if seen >= _MIN_CONTRAST] or [max(contrasts)[1]]


def place(rendering: Rendering, boxes: Sequence[Box], squeeze: float = 1.0, side: int = SIDE) -> NDArray[np.uint8]:
    """Draw a logo into boxes of a plain picture, into each as large as fits, in the middle.

    Args:
        rendering: the logo and its ground.
        boxes: fractions of the picture.
        squeeze: what the logo's width is multiplied by.
        side: the picture's height and width in pixels.

    Returns:
        uint8 [side, side, 3].
    """
    canvas = Image.new("RGBA", (side, side), (*rendering.ground, 255))
    for box in boxes:
        left, top, right, bottom = (edge * side for edge in box)
        width, height = rendering.logo.width * squeeze, rendering.logo.height
        scale = min((right - left) / width, (bottom - top) / height)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        corner = (max(0, round((left + right - size[0]) / 2)), max(0, round((top + bottom - size[1]) / 2)))
        canvas.alpha_composite(rendering.logo.resize(size, Image.Resampling.LANCZOS), corner)
    return np.asarray(canvas.convert("RGB"))


def layouts(windows: Sequence[Box], aspect: float) -> list[list[int]]:
    """Which windows a logo is drawn into, a list a drawing: of each size the shape that suits it, none overlapping.

    Args:
        windows: fractions of a picture.
        aspect: the logo's width divided by its height, as drawn.
    """
    by_shape: dict[tuple[float, float], list[int]] = {}
    for number, (left, top, right, bottom) in enumerate(windows):
        by_shape.setdefault((round(right - left, 3), round(bottom - top, 3)), []).append(number)
    sizes: list[list[tuple[float, float]]] = []
    for shape in sorted(by_shape, key=math.prod, reverse=True):
        # Shapes of one size differ a little in area where one is cut at the picture's edges.
        if not sizes or math.prod(shape) * _SAME_SIZE < math.prod(sizes[-1][-1]):
            sizes.append([])
        sizes[-1].append(shape)
    waiting = [by_shape[min(shapes, key=lambda shape: abs(math.log(shape[0] / shape[1] / aspect)))] for shapes in sizes]
    drawings: list[list[int]] = []
    while waiting:
        chosen: list[int] = []
        left_over = []
        for numbers in waiting:
            free = next((one for one in numbers if not any(_touch(windows[one], windows[two]) for two in chosen)), None)
            if free is None:
                left_over.append(numbers)
            else:
                chosen.append(free)
        drawings.append(chosen)
        waiting = left_over
    return drawings


def _touch(one: Box, two: Box) -> bool:
    return one[0] < two[2] + _GAP and two[0] < one[2] + _GAP and one[1] < two[3] + _GAP and two[1] < one[3] + _GAP


def draw(logo: Image.Image, windows: Sequence[Box], chance: random.Random) -> tuple[NDArray[np.uint8], list[int]]:
    """One drawing of a logo, by chance among all that a registration makes.

    Args:
        logo: RGBA.
        windows: those that logos are looked for in.
        chance: chooses.

    Returns:
        The picture, uint8 [299, 299, 3], and the numbers of the windows that the logo fills.
    """
    rendering, squeeze = chance.choice(renderings(logo)), chance.choice(SQUEEZES)
    first, *others = layouts(windows, logo.width * squeeze / logo.height)
    filled = first if not others or chance.random() < LARGE_SHARE else chance.choice(others)
    return place(rendering, [windows[number] for number in filled], squeeze), filled
