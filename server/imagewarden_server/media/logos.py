"""Logos: from SVG or raster files to drawings on grounds that they can be seen on."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imagewarden_server.media.pixels import first_frame
from imagewarden_server.media.sniff import sniff
from imagewarden_server.media.svg_draw import RENDER_SIDE, draw_svg
from imagewarden_server.media.types import ImageFormat, Limits, MediaError, MediaProblem, Rendering

_GROUNDS = ((255, 255, 255), (24, 24, 24), (128, 128, 128))
# Mean difference of colour, 0 to 255, under which a logo vanishes into its ground.
_MIN_CONTRAST = 24.0
_VISIBLE = 16
_THUMBNAIL_SIDE = 256

Box = tuple[float, float, float, float]


def render_logo(data: bytes, limits: Limits) -> list[Rendering]:
    """Draw a logo on light, dark and mid grounds, without those it cannot be seen on; a logo without transparency once.

    Raises:
        MediaError: EMPTY, UNRECOGNISED, UNDECODABLE or OVER_LIMITS.
    """
    image = draw_svg(data, limits) if sniff(data) is ImageFormat.SVG else first_frame(data, limits)
    visible = np.asarray(image)[..., 3] >= _VISIBLE
    if not visible.any():
        raise MediaError(
            MediaProblem.UNDECODABLE,
            "the logo draws nothing; in SVG convert text to paths, and give every shape a fill or a stroke",
        )
    rows, columns = np.flatnonzero(visible.any(1)), np.flatnonzero(visible.any(0))
    trimmed = image.crop((int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))
    # It is drawn many times, and never larger than this.
    trimmed.thumbnail((RENDER_SIDE, RENDER_SIDE), Image.Resampling.BOX)
    logo = np.asarray(trimmed)
    if (logo[..., 3] == 255).all():
        return [Rendering(logo, _border_colour(logo))]
    contrasts = [(_contrast(logo, ground), ground) for ground in _GROUNDS]
    seen = [ground for contrast, ground in contrasts if contrast >= _MIN_CONTRAST]
    return [Rendering(logo, ground) for ground in seen or [max(contrasts)[1]]]


def place_logo(rendering: Rendering, box: Box, side: int = 299) -> NDArray[np.uint8]:
    """Draw a logo into a box of a plain picture, as large as fits, in the middle, its aspect ratio kept.

    Args:
        rendering: the logo and its ground.
        box: left, top, right, bottom as fractions of the picture.
        side: the picture's height and width in pixels.

    Returns:
        uint8 [side, side, 3].
    """
    left, top, right, bottom = (edge * side for edge in box)
    logo = Image.fromarray(rendering.logo)
    scale = min((right - left) / logo.width, (bottom - top) / logo.height)
    size = (max(1, round(logo.width * scale)), max(1, round(logo.height * scale)))
    drawn = logo.resize(size, Image.Resampling.LANCZOS)
    canvas = Image.new("RGBA", (side, side), (*rendering.ground, 255))
    place = (max(0, round((left + right - size[0]) / 2)), max(0, round((top + bottom - size[1]) / 2)))
    canvas.alpha_composite(drawn, place)
    return np.asarray(canvas.convert("RGB"))


def thumbnail(rendering: Rendering, side: int = _THUMBNAIL_SIDE) -> bytes:
    """A small PNG of a logo on its ground."""
    buffer = io.BytesIO()
    Image.fromarray(place_logo(rendering, (0.05, 0.05, 0.95, 0.95), side)).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _contrast(logo: NDArray[np.uint8], ground: tuple[int, int, int]) -> float:
    """The mean difference between the logo's visible pixels and a ground, 0 to 255."""
    alpha = logo[..., 3].astype(np.float64) / 255
    difference = np.abs(logo[..., :3].astype(np.float64) - np.array(ground)).max(axis=-1)
    return float((difference * alpha).sum() / alpha.sum())


def _border_colour(logo: NDArray[np.uint8]) -> tuple[int, int, int]:
    edge = np.concatenate([logo[0], logo[-1], logo[:, 0], logo[:, -1]])[:, :3]
    red, green, blue = (int(value) for value in np.median(edge, axis=0))
    return red, green, blue
