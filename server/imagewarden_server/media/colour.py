"""Any mode, depth and profile to 8-bit sRGB, as a viewer shows it."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms

_SRGB = ImageCms.createProfile("sRGB")
_WHITE = (255, 255, 255, 255)
_PROFILE_MODES = frozenset({"RGB", "L", "CMYK", "RGBA", "LAB"})


def to_srgb(image: Image.Image, *, keep_alpha: bool = False) -> Image.Image:
    """Convert to sRGB.

    Transparent pixels are laid on white, which is what a viewer's page shows most often; `keep_alpha` keeps them.

    Returns:
        Mode RGB, or RGBA with `keep_alpha`.
    """
    image = _eight_bits(image)
    if image.mode == "P" or "transparency" in image.info or image.mode in {"LA", "La", "PA", "RGBa"}:
        image = image.convert("RGBA")
    image = _apply_profile(image)
    if image.mode == "RGBA":
        return image if keep_alpha else _on_white(image)
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    return rgb.convert("RGBA") if keep_alpha else rgb


def _eight_bits(image: Image.Image) -> Image.Image:
    """Greys of more than 8 bits scaled to 8, where Pillow's own conversion would clip them."""
    if image.mode.startswith("I;16"):
        # Native order: numpy reads what the mode's name says.
        return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    if image.mode == "I":
        values = np.asarray(image).astype(np.int64)
        return Image.fromarray((np.clip(values, 0, 65_535) >> 8).astype(np.uint8))
    if image.mode == "F":
        reals = np.nan_to_num(np.asarray(image), nan=0.0, posinf=255.0, neginf=0.0)
        scale = 255.0 if reals.max(initial=0.0) <= 1.0 else 1.0
        return Image.fromarray(np.clip(reals * scale, 0, 255).astype(np.uint8))
    return image


def _apply_profile(image: Image.Image) -> Image.Image:
    """Through the embedded ICC profile to sRGB; a broken profile is as if there were none."""
    raw = image.info.get("icc_profile")
    if not raw or image.mode not in _PROFILE_MODES:
        return image
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


def _on_white(image: Image.Image) -> Image.Image:
    ground = Image.new("RGBA", image.size, _WHITE)
    ground.alpha_composite(image)
    return ground.convert("RGB")
