"""Photographs with logos in them, as they are met: pasted by chance, with where each of them is."""

from __future__ import annotations

import io
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from imagewarden_serving.fitting.edits import Box
from imagewarden_serving.fitting.features import model_input
from imagewarden_serving.fitting.logos_drawing import contrast, flat, grey

PHOTOGRAPH_SIDE = 448
"""The longer side of a photograph that logos are pasted into, in pixels."""

LOGOS = (1, 1, 2, 3)
"""How many are pasted, one of these by chance."""

WIDTHS = (0.1, 0.85)
"""How wide a logo is that is alone, a fraction of the photograph, evenly in its logarithm."""

WIDTHS_AMONG_OTHERS = (0.1, 0.45)

COLOURS = ("own",) * 6 + ("white",) * 2 + ("black",) * 2
"""What a logo is printed in, one of these by chance."""

GREY_SHARE = 0.1
"""How often a logo in its own colours loses them."""

JPEG = (40, 90)
"""The qualities that scenes are compressed with."""

_INK = {"white": (255, 255, 255), "black": (15, 15, 15)}
_TRIES = 5
_MIN_CONTRAST = 30.0
_MAX_TILT = 15.0
_MAX_SLANT = 0.08
_MIN_SIDE = 8
_MAX_HEIGHT = 0.95
_COVERED_SHARE = 0.25
_COVERED = (0.05, 0.2)

_SHOWS = 0.35
"""Intersection over union from which on a window shows a logo."""
_CLEAR = 0.05
"""Under which it shows none; between it and `_PARTLY` it shows a piece of one, which must not be taken for it."""
_PARTLY = 0.2
_NEAREST = 8
_WINDOWS_EACH = 4
_CLEAR_EACH = 5
_PARTLY_EACH = 2


@dataclass(frozen=True, slots=True)
class Scene:
    """A photograph with logos.

    Attributes:
        picture: uint8 [299, 299, 3].
        boxes: where they are, fractions of the picture; they do not overlap.
        logos: their numbers, one a box. Empty where no logo could be seen on what the photograph shows.
    """

    picture: NDArray[np.uint8]
    boxes: tuple[Box, ...]
    logos: tuple[int, ...]


def compose(photograph: Image.Image, logo: Callable[[int], Image.Image], logos: int, chance: random.Random) -> Scene:
    """Paste logos into a photograph.

    Args:
        photograph: RGB, of any size.
        logo: gives the drawing of a number, RGBA.
        logos: how many there are to choose from.
        chance: decides all; the same gives the same scene.
    """
    scene = _varied(photograph, chance)
    boxes: list[Box] = []
    numbers: list[int] = []
    count = chance.choice(LOGOS)
    low, high = WIDTHS if count == 1 else WIDTHS_AMONG_OTHERS
    for _ in range(count):
        for _try in range(_TRIES):
            number = chance.randrange(logos)
            width = math.exp(chance.uniform(math.log(low), math.log(high)))
            inked = _inked(logo(number), chance)
            pasted, box = paste(scene, inked, width, chance)
            if overlap([box], boxes).max(initial=0.0) > 0:
                continue
            if contrast(inked.resize((32, 32)), _mean_colour(scene, box)) < _MIN_CONTRAST:
                continue
            scene = pasted
            boxes.append(box)
            numbers.append(number)
            break
    return Scene(model_input(compressed(scene, chance)), tuple(boxes), tuple(numbers))


def sized(photograph: Image.Image) -> Image.Image:
    """A photograph with its longer side of `PHOTOGRAPH_SIDE` pixels."""
    scale = PHOTOGRAPH_SIDE / max(photograph.size)
    width, height = (max(_MIN_SIDE, round(side * scale)) for side in photograph.size)
    return photograph.resize((width, height), Image.Resampling.LANCZOS)


def compressed(picture: Image.Image, chance: random.Random) -> Image.Image:
    """A picture after JPEG of a quality by chance."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=chance.randint(*JPEG))
    with Image.open(buffer) as image:
        return image.convert("RGB")


def _varied(photograph: Image.Image, chance: random.Random) -> Image.Image:
    """Mirrored, turned, cropped: few photographs become many."""
    made = sized(photograph)
    if chance.random() < 0.5:
        made = ImageOps.mirror(made)
    if chance.random() < 0.3:
        made = made.transpose(Image.Transpose.ROTATE_90)
    if chance.random() < 0.5:
        width, height = made.size
        share = chance.uniform(0.5, 1)
        left, top = chance.uniform(0, 1 - share) * width, chance.uniform(0, 1 - share) * height
        made = made.resize((width, height), box=(left, top, left + share * width, top + share * height))
    return made


def _inked(logo: Image.Image, chance: random.Random) -> Image.Image:
    printed = chance.choice(COLOURS)
    if printed in _INK:
        return flat(logo, _INK[printed])
    return grey(logo) if chance.random() < GREY_SHARE else logo


def _mean_colour(picture: Image.Image, box: Box) -> NDArray[np.float64]:
    width, height = picture.size
    left, top = int(box[0] * width), int(box[1] * height)
    right, bottom = max(left + 1, int(box[2] * width)), max(top + 1, int(box[3] * height))
    inside = np.asarray(picture.crop((left, top, right, bottom)), np.float64)
    return np.asarray(inside.mean((0, 1)))


def paste(picture: Image.Image, logo: Image.Image, width: float, chance: random.Random) -> tuple[Image.Image, Box]:
    """Paste a logo, tilted, at times slanted, at times covered by what is around it.

    Args:
        picture: RGB; it is not changed.
        logo: RGBA.
        width: of the logo before it is tilted, a fraction of the picture's.
        chance: decides the place and the rest.

    Returns:
        The new picture, and the logo's box in it.
    """
    across, down = picture.size
    scale = min(width * across / logo.width, _MAX_HEIGHT * down / logo.height)
    size = (max(_MIN_SIDE, round(logo.width * scale)), max(_MIN_SIDE, round(logo.height * scale)))
    pasted = logo.resize(size, Image.Resampling.LANCZOS)
    if chance.random() < 0.5:
        pasted = _slanted(pasted, chance)
    pasted = pasted.rotate(chance.uniform(-_MAX_TILT, _MAX_TILT), Image.Resampling.BICUBIC, expand=True)
    pasted = pasted.crop(pasted.getchannel("A").getbbox())
    if pasted.width > across or pasted.height > down:
        pasted.thumbnail((across, down))
    left, top = chance.randint(0, across - pasted.width), chance.randint(0, down - pasted.height)
    right, bottom = left + pasted.width, top + pasted.height
    made = picture.copy()
    made.paste(pasted, (left, top), pasted)
    if chance.random() < _COVERED_SHARE:
        covered = max(1, round(pasted.width * chance.uniform(*_COVERED)))
        starts = (left, right - covered)
        taken = chance.choice(starts)
        made.paste(picture.crop((taken, top, taken + covered, bottom)), (chance.choice(starts), top))
    return made, (left / across, top / down, right / across, bottom / down)


def _slanted(logo: Image.Image, chance: random.Random) -> Image.Image:
    """Seen from aside: each corner moved by up to `_MAX_SLANT` of the sides."""
    width, height = logo.size
    corners = ((0, 0), (width, 0), (width, height), (0, height))
    moved = [
        (x + chance.uniform(-_MAX_SLANT, _MAX_SLANT) * width, y + chance.uniform(-_MAX_SLANT, _MAX_SLANT) * height)
        for x, y in corners
    ]
    left, top = min(x for x, _ in moved), min(y for _, y in moved)
    moved = [(x - left, y - top) for x, y in moved]
    size = (int(max(x for x, _ in moved)) + 1, int(max(y for _, y in moved)) + 1)
    # Pillow takes what leads back, from the new picture to the old: eight coefficients of eight equations.
    equations = []
    for (x, y), (u, v) in zip(moved, corners, strict=True):
        equations += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
    back = np.linalg.solve(np.array(equations), np.array(corners, np.float64).ravel())
    return logo.transform(size, Image.Transform.PERSPECTIVE, back.tolist(), Image.Resampling.BICUBIC)


def overlap(one: Sequence[Box], two: Sequence[Box]) -> NDArray[np.float64]:
    """Intersection over union of each box with each other: [len(one), len(two)]."""
    first = np.asarray(one, np.float64).reshape(-1, 1, 4)
    second = np.asarray(two, np.float64).reshape(1, -1, 4)
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    shared = np.clip(sides, 0, None).prod(-1)
    areas = (first[..., 2:] - first[..., :2]).prod(-1) + (second[..., 2:] - second[..., :2]).prod(-1)
    return np.asarray(shared / np.maximum(areas - shared, 1e-9), np.float64)


def shown(scene: Scene, windows: Sequence[Box], chance: random.Random) -> list[tuple[int, int]]:
    """Which windows of a scene to learn from, and what each shows.

    Returns:
        Pairs of a window's number and a logo's, -1 for none or a piece of one.
    """
    if not scene.boxes:
        return []
    alike = overlap(windows, scene.boxes)
    rows: list[tuple[int, int]] = []
    for column, logo in zip(alike.T, scene.logos, strict=True):
        near = [int(window) for window in np.argsort(-column, kind="stable")[:_NEAREST] if column[window] > _SHOWS]
        if near:
            rest = chance.sample(near[1:], min(_WINDOWS_EACH - 1, len(near) - 1))
            rows += [(window, logo) for window in (near[0], *rest)]
    best = alike.max(1)
    for which, most in ((best < _CLEAR, _CLEAR_EACH), ((best > _CLEAR) & (best < _PARTLY), _PARTLY_EACH)):
        numbers = [int(window) for window in np.flatnonzero(which)]
        rows += [(window, -1) for window in chance.sample(numbers, min(most, len(numbers)))]
    return rows
