"""Scenes: a photograph with one logo pasted in, and the box where it is. The same for the same seed."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from imagewarden_eval.attacks import Chance, chance_of, homography
from imagewarden_eval.datasets import Photograph
from imagewarden_eval.errors import EvaluationError
from imagewarden_eval.logo_files import LogoFile
from imagewarden_eval.metrics import Box

SCENE_SIDE = 640
"""The longer side in pixels that each photograph is scaled to, with a logo and without."""

WIDTHS = (0.10, 0.15, 0.25, 0.40, 0.60)
"""The logo's width as a share of the photograph's, before it is turned."""

VARIANTS = ("colour", "grey", "one-colour", "redrawn")
"""As registered; in grey; in one colour, light parts left open; in one colour as simple-icons draws the logo."""

_SHARES = (0.5, 0.2, 0.15, 0.15)
_MAX_TURN = 15.0
_MAX_LEAN = 0.08
_MAX_COVER = 0.2
_MAX_HEIGHT = 0.9
_RENDER_SIDE = 768
_MIN_CONTRAST = 24.0
_TRIES = 24


@dataclass(frozen=True, slots=True)
class Scene:
    """One query: the photograph, and the logo in it; `logo` None: none, `width` 0."""

    photograph: Photograph
    logo: LogoFile | None
    width: float
    number: int


@dataclass(frozen=True, slots=True)
class Drawn:
    """A scene's file, which variant was drawn, and the box of the logo as fractions; None where there is none."""

    data: bytes
    variant: str
    box: Box | None


@lru_cache(maxsize=64)
def draw(svg: bytes) -> Image.Image:
    """An SVG file as RGBA pixels, its longer side 768, its empty borders cut.

    Raises:
        EvaluationError: it draws nothing.
    """
    import resvg_py  # noqa: PLC0415 -- compiled, and of the logos alone

    try:
        png = resvg_py.svg_to_bytes(svg_string=svg.decode(), width=_RENDER_SIDE)
        image = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
    except (ValueError, OSError) as error:
        raise EvaluationError(f"a logo cannot be drawn: {error}") from error
    box = image.getchannel("A").point(lambda alpha: 255 if alpha >= 16 else 0).getbbox()
    if box is None:
        raise EvaluationError("a logo draws nothing")
    trimmed = image.crop(box)
    scale = _RENDER_SIDE / max(trimmed.size)
    return trimmed.resize((max(1, round(trimmed.width * scale)), max(1, round(trimmed.height * scale))))


def _one_colour(image: Image.Image, ink: tuple[int, int, int], *, open_light: bool) -> Image.Image:
    """The logo in one ink; where it has light and dark parts the light ones are left open, as printers do."""
    pixels = np.asarray(image, np.float32)
    alpha = pixels[..., 3] / 255
    if open_light:
        luma = pixels[..., :3] @ np.array([0.299, 0.587, 0.114], np.float32) / 255
        seen = luma[alpha > 0.5]
        if seen.size:
            low, high = np.percentile(seen, (5, 95))
            if high - low > 0.15:
                alpha = alpha * np.clip((high - luma) / (high - low), 0, 1)
    made = np.empty(pixels.shape, np.uint8)
    made[..., :3] = ink
    made[..., 3] = np.round(alpha * 255)
    return Image.fromarray(made)


def _variant(logo: LogoFile, chance: Chance) -> tuple[str, Image.Image]:
    """Which variant, and its pixels; a brand without another drawing is in colour instead."""
    name = str(chance.choice(VARIANTS, p=_SHARES))
    low, high = (0, 60) if chance.integers(2) else (200, 256)
    red, green, blue = (int(value) for value in chance.integers(low, high, 3))
    if name == "redrawn" and logo.redrawn is not None:
        return name, _one_colour(draw(logo.redrawn), (red, green, blue), open_light=False)
    image = draw(logo.svg)
    if name == "one-colour":
        return name, _one_colour(image, (red, green, blue), open_light=True)
    if name == "grey":
        return name, Image.merge("LA", (image.convert("L"), image.getchannel("A"))).convert("RGBA")
    return "colour", image


def _laid(logo: Image.Image, size: tuple[int, int], chance: Chance) -> tuple[Image.Image, NDArray[np.float64]]:
    """The logo scaled, seen a little from the side, turned, and covered in part; with its corners [4, 2] in pixels."""
    width, height = size
    small = logo.resize(size, Image.Resampling.LANCZOS)
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
    corners += chance.uniform(0, _MAX_LEAN, (4, 2)) * size * np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    angle = math.radians(float(chance.uniform(-_MAX_TURN, _MAX_TURN)))
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    corners = (corners - corners.mean(axis=0)) @ turn
    corners -= corners.min(axis=0)
    canvas = tuple(math.ceil(value) + 1 for value in corners.max(axis=0))
    laid = small.transform(
        (canvas[0], canvas[1]), Image.Transform.PERSPECTIVE, homography(corners, size), Image.Resampling.BICUBIC
    )
    return laid, corners


def photograph(path: Photograph) -> Image.Image:
    """A photograph as scenes have it: its longer side 640 pixels."""
    with Image.open(path.path) as opened:
        image = opened.convert("RGB")
    scale = SCENE_SIDE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BICUBIC)


def _encoded(image: Image.Image, chance: Chance) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=int(chance.integers(40, 91)))
    return buffer.getvalue()


def make(scene: Scene, seed: int) -> Drawn:
    """A scene's file.

    The logo is `width` of the photograph wide, less where it would be more than 90% of it high; anywhere that it can be
    seen: the mean difference to what is under it is at least 24 of 255, or the best of 24 places.
    """
    chance = chance_of(seed, scene.number, scene.photograph.name, scene.logo.brand if scene.logo else "")
    image = photograph(scene.photograph)
    if scene.logo is None:
        return Drawn(_encoded(image, chance), "none", None)
    variant, logo = _variant(scene.logo, chance)
    width = scene.width * image.width
    height = width * logo.height / logo.width
    shrink = min(1.0, _MAX_HEIGHT * image.height / height)
    size = (max(4, round(width * shrink)), max(4, round(height * shrink)))
    laid, corners = _laid(logo, size, chance)
    shrink = min(1.0, image.width / laid.width, image.height / laid.height)
    if shrink < 1:  # turned, it no longer fits
        laid = laid.resize((int(laid.width * shrink), int(laid.height * shrink)), Image.Resampling.LANCZOS)
        corners *= shrink
    left, top, contrast = _place(image, laid, chance)
    if contrast < _MIN_CONTRAST and variant in {"one-colour", "redrawn"}:
        # Who prints in one colour takes one that can be seen there.
        red, green, blue, alpha = laid.split()
        laid = Image.merge("RGBA", (*(ImageOps.invert(channel) for channel in (red, green, blue)), alpha))
        left, top, contrast = _place(image, laid, chance)
    image.paste(laid, (left, top), laid)
    _cover(image, (left, top), laid.size, chance)
    corners += np.array([left, top])
    low, high = corners.min(axis=0), corners.max(axis=0)
    box = (low[0] / image.width, low[1] / image.height, high[0] / image.width, high[1] / image.height)
    edges = tuple(min(1.0, max(0.0, float(value))) for value in box)
    return Drawn(_encoded(image, chance), variant, (edges[0], edges[1], edges[2], edges[3]))


def _place(image: Image.Image, laid: Image.Image, chance: Chance) -> tuple[int, int, float]:
    """Where to paste, somewhere that the logo can be seen; and its contrast to what is there."""
    pixels = np.asarray(laid, np.float32)
    alpha = pixels[..., 3] / 255
    scene = np.asarray(image, np.float32)
    best, place = -1.0, (0, 0)
    for _ in range(_TRIES):
        left = int(chance.integers(0, image.width - laid.width + 1))
        top = int(chance.integers(0, image.height - laid.height + 1))
        under = scene[top : top + laid.height, left : left + laid.width]
        difference = np.abs(pixels[..., :3] - under).max(axis=-1)
        contrast = float((difference * alpha).sum() / max(float(alpha.sum()), 1.0))
        if contrast > best:
            best, place = contrast, (left, top)
        if contrast >= _MIN_CONTRAST:
            break
    return *place, best


def _cover(image: Image.Image, place: tuple[int, int], size: tuple[int, int], chance: Chance) -> None:
    """Half of the logos are covered from one side by a piece of the photograph: up to a fifth of their box."""
    share = float(chance.uniform(0, _MAX_COVER))
    side, covered = int(chance.integers(4)), bool(chance.integers(2))
    if not covered:
        return
    width, height = size
    piece = (round(width * share), height) if side < 2 else (width, round(height * share))
    if min(piece) < 1:
        return
    left = place[0] + (width - piece[0] if side == 1 else 0)
    top = place[1] + (height - piece[1] if side == 3 else 0)
    from_left = int(chance.integers(0, image.width - piece[0] + 1))
    from_top = int(chance.integers(0, image.height - piece[1] + 1))
    image.paste(image.crop((from_left, from_top, from_left + piece[0], from_top + piece[1])), (left, top))


def plan(
    logos: Sequence[LogoFile],
    photographs: Sequence[Photograph],
    negatives: int,
    seed: int,
    widths: Sequence[float] = WIDTHS,
) -> list[Scene]:
    """Each brand once at each width, in photographs drawn by chance; then photographs without a logo."""
    chance = chance_of(seed, "scenes")
    with_logo = [
        Scene(photographs[int(chance.integers(len(photographs)))], logo, width, number)
        for number, (logo, width) in enumerate((logo, width) for logo in logos for width in widths)
    ]
    order = [int(value) for value in chance.permutation(len(photographs))]
    return with_logo + [
        Scene(photographs[order[number % len(order)]], None, 0.0, len(with_logo) + number)
        for number in range(negatives)
    ]
