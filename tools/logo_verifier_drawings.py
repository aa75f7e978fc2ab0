"""The logos that the verifier is taught: read from icon packages, and the inks that they are met in."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import resvg_py
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from imagewarden_eval.logo_files import MAX_ASPECT, brand_of, is_measured, read_logos
from imagewarden_eval.logo_files import drawings as svg_files
from imagewarden_eval.logos_run import chosen
from imagewarden_server.media.drawings import drawing, undrawn
from imagewarden_server.media.types import Rendering

SPARED = 310
"""So many brands are left out though nothing is measured on them: the scores of logos are weighed on those."""

TESTED_SHARE = 8
"""One brand of so many is not learned from, but validated on."""

Chance = np.random.Generator
Pixels = NDArray[np.uint8]

_SIDE = 160
_LEAST_SIDE = 60
_VISIBLE = 16
_MIN_INK = 10.0
_OPAQUE = 128
# From this share of its convex hull on a drawing is one filled shape; and within this deviation of one colour.
_FILLED = 0.95
_ONE_COLOUR = 12.0
# Another drawing of a brand shows the same logo only if it is about as wide: ln of how many times as wide.
_SAME_ASPECT = 0.25
# Every third pixel says as much of that.
_COARSE = 3
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_OPEN_FROM = 0.15
_THUMBNAIL = 12
_COLOUR_WEIGHT = 0.7


@dataclass(frozen=True, slots=True)
class Logo:
    """A drawing of a brand's logo as it is registered.

    Attributes:
        brand: the brand's word.
        plain: whether its colour is not the brand's, but by chance.
        pixels: uint8 [h, w, 4], RGBA, trimmed, the longer side at most 160.
        drawn: uint8 [48, 48, 4], as the server keeps it: colours multiplied by alpha.
        redrawn: uint8 [h, w, 4]: the same logo by another hand, without a colour of its own; None: there is none.
        tested: whether its brand is validated on, and not learned from.
    """

    brand: str
    plain: bool
    pixels: Pixels
    drawn: Pixels
    redrawn: Pixels | None
    tested: bool


def read(folders: Sequence[Path], chance: Chance) -> list[Logo]:
    """All drawings of the brands to learn from, of each package in its order.

    Args:
        folders: unpacked packages: the first has logos in their colours, the others in one colour that means nothing.
        chance: gives these a colour.
    """
    spared = {logo.brand for logo in chosen(read_logos(*folders[:2], measured=False), 0)[:SPARED]}
    found: list[tuple[str, bool, Pixels]] = []
    for number, folder in enumerate(folders):
        for slug, svg in svg_files(folder).items():
            brand = brand_of(slug)
            pixels = None if is_measured(brand) or brand in spared else _rendered(svg)
            if pixels is not None:
                found.append((brand, number > 0, pixels))
    others: dict[str, Pixels] = {}
    for brand, plain, pixels in found:
        if plain:
            others.setdefault(brand, pixels)
    logos = []
    for brand, plain, pixels in found:
        registered = in_ink(pixels, _any_colour(chance)) if plain else pixels
        other = None if plain else others.get(brand)
        if other is not None and abs(math.log(_aspect(other) / _aspect(pixels))) > _SAME_ASPECT:
            other = None
        tested = hashlib.sha256(brand.encode()).digest()[1] % TESTED_SHARE == 0
        logos.append(Logo(brand, plain, registered, frame(registered), other, tested))
    return logos


def frame(pixels: Pixels) -> Pixels:
    """A drawing uint8 [h, w, 4] as the server keeps it: uint8 [48, 48, 4]."""
    return undrawn(drawing(Rendering(pixels, (255, 255, 255))))


def met(logo: Logo, chance: Chance) -> tuple[Pixels, bool]:
    """How a logo is met in a photograph, uint8 [h, w, 4]; and whether in an ink that whoever prints it has chosen."""
    draw = chance.random()
    if draw < 0.05 and logo.redrawn is not None:
        return in_ink(logo.redrawn, any_ink(chance)), True
    if draw < 0.50:
        return logo.pixels, False
    if draw < 0.65:
        grey = np.rint(logo.pixels[..., :3].astype(np.float32) @ _LUMA).astype(np.uint8)
        return np.dstack([grey, grey, grey, logo.pixels[..., 3]]), False
    if draw < 0.82:
        return in_ink(_opened(logo.pixels), any_ink(chance)), True
    return in_ink(logo.pixels, any_ink(chance)), True


def in_ink(pixels: Pixels, ink: Sequence[int] | NDArray[np.int64]) -> Pixels:
    """A drawing in one colour."""
    made = pixels.copy()
    made[..., :3] = ink
    return made


def any_ink(chance: Chance) -> NDArray[np.int64]:
    """White, black, dark, light or any colour."""
    kind = int(chance.integers(6))
    if kind < 2:
        return np.full(3, (255, 15)[kind])
    low, high = (0, 256) if kind == 5 else ((0, 60), (200, 256))[int(chance.integers(2))]
    return chance.integers(low, high, 3)


def is_blank(pixels: Pixels) -> bool:
    """Whether a drawing is nothing but one filled shape without a dent, as the silhouette of an app's tile is.

    No one can say of such a shape whose logo it is.
    """
    coarse = pixels[::_COARSE, ::_COARSE]
    inside = coarse[..., 3] >= _OPAQUE
    if not inside.any():
        return True
    if not is_flat(pixels):
        return False
    corners = cv2.convexHull(np.argwhere(inside)[:, ::-1].astype(np.int32))
    hull = cv2.fillConvexPoly(np.zeros(inside.shape, np.uint8), corners, 1)
    return bool(inside.sum() >= _FILLED * hull.sum())


def is_flat(pixels: Pixels) -> bool:
    """Whether a drawing is in one colour."""
    coarse = pixels[::_COARSE, ::_COARSE]
    inside = coarse[..., 3] >= _OPAQUE
    return not inside.any() or bool(coarse[inside, :3].std(0).max() <= _ONE_COLOUR)


def appearances(frames: Sequence[Pixels], mean: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """What drawings uint8 [48, 48, 4] look like from afar: float32 [n, 288], of unit norm but for a given mean.

    Args:
        frames: the drawings.
        mean: float32 [288]: subtracted before they are normed; None: neither is done.
    """
    size = (_THUMBNAIL, _THUMBNAIL)
    small = np.stack([cv2.resize(one, size, interpolation=cv2.INTER_AREA) for one in frames]).astype(np.float32)
    flat = (small[..., 3].reshape(len(small), -1), small[..., :3].mean(-1).reshape(len(small), -1) * _COLOUR_WEIGHT)
    found: NDArray[np.float32] = np.concatenate(flat, axis=1)
    if mean is not None:
        found -= mean
        found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-6)
    return found


def _rendered(svg: bytes) -> Pixels | None:
    """A trusted SVG as uint8 [h, w, 4]; None: it draws nothing, or too little, or is too long."""
    text = svg.decode(errors="replace")
    try:
        # Without fonts of the system: what a logo looks like must not depend on the machine.
        data = bytes(resvg_py.svg_to_bytes(svg_string=text, width=_SIDE, skip_system_fonts=True))
        with Image.open(io.BytesIO(data)) as image:
            if image.height > image.width:
                data = bytes(resvg_py.svg_to_bytes(svg_string=text, height=_SIDE, skip_system_fonts=True))
        with Image.open(io.BytesIO(data)) as image:
            pixels = np.asarray(image.convert("RGBA"))
    except (ValueError, OSError, UnidentifiedImageError):
        return None
    visible = pixels[..., 3] >= _VISIBLE
    if not visible.any():
        return None
    rows, columns = np.flatnonzero(visible.any(1)), np.flatnonzero(visible.any(0))
    trimmed = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    low, high = sorted(trimmed.shape[:2])
    if high > MAX_ASPECT * low or high < _LEAST_SIDE or trimmed[..., 3].mean() < _MIN_INK:
        return None
    return np.ascontiguousarray(trimmed)


def _aspect(pixels: Pixels) -> float:
    height, width = pixels.shape[:2]
    return float(width / height)


def _any_colour(chance: Chance) -> NDArray[np.int64]:
    return chance.integers(0, 256, 3) if chance.random() < 0.7 else np.full(3, 20)


def _opened(pixels: Pixels) -> Pixels:
    """A drawing whose light parts are left open, as printers of one ink do."""
    alpha = pixels[..., 3].astype(np.float32)
    luma = pixels[..., :3].astype(np.float32) @ _LUMA / 255
    seen = luma[alpha > _OPAQUE]
    if seen.size:
        low, high = np.percentile(seen, (5, 95))
        if high - low > _OPEN_FROM:
            alpha *= np.clip((high - luma) / (high - low), 0, 1)
    return np.dstack([pixels[..., :3], alpha.astype(np.uint8)])
