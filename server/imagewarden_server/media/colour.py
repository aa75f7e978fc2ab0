"""Any mode, depth and profile to 8-bit sRGB, as a viewer shows it."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

_SRGB = ImageCms.createProfile("sRGB")
_WHITE = (255, 255, 255)
_PROFILE_MODES = frozenset({"RGB", "L", "CMYK", "RGBA", "LAB"})
_WITH_ALPHA = frozenset({"LA", "La", "PA", "RGBa"})
# The whites that numbers of more than 8 bits are scaled by: the least that holds the brightest pixel.
_WHITES = (255.0, 65_535.0, 4_294_967_295.0)


def to_srgb(image: Image.Image, *, keep_alpha: bool = False) -> Image.Image:
    """Convert to sRGB.

    Transparent pixels are laid on white, which is what a viewer's page shows most often; `keep_alpha` keeps them.

    Returns:
        Mode RGB, or RGBA with `keep_alpha`.
    """
    profile = image.info.get("icc_profile")
    image = _eight_bits(image)
    if image.mode == "P" or "transparency" in image.info or image.mode in _WITH_ALPHA:
        image = image.convert("RGBA")
    if profile and image.mode in _PROFILE_MODES:
        image = _through_profile(image, profile)
    if keep_alpha:
        return image.convert("RGBA")
    if image.mode == "RGBA":
        ground = Image.new("RGB", image.size, _WHITE)
        ground.paste(image, mask=image)
        return ground
    return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Greys of more than 8 bits scaled to 8, where Pillow's own conversion would clip them."""
    if image.mode.startswith("I;16"):
        # Native order: numpy reads what the mode's name says.
        return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    if image.mode == "I":
        whole = np.asarray(image).astype(np.int64)
        # Pillow reads unsigned numbers of 32 bits as signed ones; numbers of 16 bits may be negative by themselves.
        return _scaled(whole % 2**32 if (np.abs(whole) > _WHITES[1]).any() else whole)
    if image.mode == "F":
        reals = np.nan_to_num(np.asarray(image).astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
        return _scaled(reals * 255 if reals.max(initial=0.0) <= 1.0 else reals)
    return image


def _scaled(values: NDArray[np.float64] | NDArray[np.int64]) -> Image.Image:
    peak = values.max(initial=0)
    white = next((white for white in _WHITES if peak <= white), float(peak))
    return Image.fromarray((np.clip(values, 0, None) * (255 / white)).astype(np.uint8))


def _through_profile(image: Image.Image, raw: bytes) -> Image.Image:
    """Through the embedded ICC profile to sRGB; a broken profile is as if there were none."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(raw))
        if "sRGB" in ImageCms.getProfileDescription(profile):
            return image
        alpha = image.getchannel("A") if image.mode == "RGBA" else None
        colours = image.convert("RGB") if alpha is not None else image
        converted = ImageCms.profileToProfile(colours, profile, _SRGB, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image
    if converted is None:
        return image
    if alpha is not None:
        converted.putalpha(alpha)
    return converted
