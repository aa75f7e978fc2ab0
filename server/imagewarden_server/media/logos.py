"""Logos: from SVG or raster files to drawings on grounds that they can be seen on."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

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
# Mean difference of colour under which two drawings of a logo are the same.
_SAME_COLOUR = 8.0
# A logo in one colour: its ink and its ground.
_FLAT = ((16, (255, 255, 255)), (255, (32, 32, 32)))
_THUMBNAIL_SIDE = 256

Box = tuple[float, float, float, float]


def render_logo(
    data: bytes, limits: Limits, raster: Callable[[bytes, Limits], Image.Image] = first_frame
) -> list[Rendering]:
    """Draw a logo as it may be met: in its colours, in grey, and in one colour; on light, dark and mid grounds.

    Each on the grounds that it can be seen on. A logo without transparency is drawn in its colours and in grey alone:
    its ground is part of it.

    Args:
        data: SVG, or a raster file.
        limits: what it may be.
        raster: what decodes a raster file.

    Raises:
        MediaError: EMPTY, UNRECOGNISED, UNDECODABLE or OVER_LIMITS.
    """
    image = draw_svg(data, limits) if sniff(data) is ImageFormat.SVG else raster(data, limits)
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
        return [Rendering(one, _border_colour(one)) for one in _distinct([logo, _grey(logo)])]
    colour, *grey = _distinct([logo, _grey(logo)])
    whole = [Rendering(colour, ground) for ground in _seen_on(colour)]
    whole += [Rendering(one, _seen_on(one)[0]) for one in grey]
    flat = [Rendering(_flat(logo, ink), ground) for ink, ground in _FLAT]
    return whole + flat


def _distinct(drawings: list[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """The drawings without those that look like an earlier one."""
    kept: list[NDArray[np.uint8]] = []
    for one in drawings:
        weight = one[..., 3].astype(np.float64)
        differences = [np.abs(one[..., :3].astype(np.float64) - other[..., :3]).max(-1) for other in kept]
        if all((difference * weight).sum() > _SAME_COLOUR * weight.sum() for difference in differences):
            kept.append(one)
    return kept


def _grey(logo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    luma = np.asarray(Image.fromarray(logo[..., :3]).convert("L"))
    return np.dstack([luma, luma, luma, logo[..., 3]])


def _flat(logo: NDArray[np.uint8], ink: int) -> NDArray[np.uint8]:
    return np.dstack([np.full_like(logo[..., :3], ink), logo[..., 3]])


def _seen_on(logo: NDArray[np.uint8]) -> list[tuple[int, int, int]]:
    contrasts = [(_contrast(logo, ground), ground) for ground in _GROUNDS]
    return [ground for contrast, ground in contrasts if contrast >= _MIN_CONTRAST] or [max(contrasts)[1]]


def place_logo(rendering: Rendering, boxes: Sequence[Box], squeeze: float = 1.0, side: int = 299) -> NDArray[np.uint8]:
    """Draw a logo into boxes of a plain picture, into each as large as fits, in the middle.

    Args:
        rendering: the logo and its ground.
        boxes: left, top, right, bottom as fractions of the picture.
        squeeze: what its width is multiplied by: a picture that is not square is squeezed when the model is given it.
        side: the picture's height and width in pixels.

    Returns:
        uint8 [side, side, 3].
    """
    canvas = Image.new("RGBA", (side, side), (*rendering.ground, 255))
    logo = Image.fromarray(rendering.logo)
    for box in boxes:
        left, top, right, bottom = (edge * side for edge in box)
        scale = min((right - left) / (logo.width * squeeze), (bottom - top) / logo.height)
        size = (max(1, round(logo.width * squeeze * scale)), max(1, round(logo.height * scale)))
        place = (max(0, round((left + right - size[0]) / 2)), max(0, round((top + bottom - size[1]) / 2)))
        canvas.alpha_composite(logo.resize(size, Image.Resampling.LANCZOS), place)
    return np.asarray(canvas.convert("RGB"))


def thumbnail(rendering: Rendering, side: int = _THUMBNAIL_SIDE) -> bytes:
    """A small PNG of a logo on its ground."""
    buffer = io.BytesIO()
    Image.fromarray(place_logo(rendering, [(0.05, 0.05, 0.95, 0.95)], side=side)).save(buffer, "PNG", optimize=True)
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
