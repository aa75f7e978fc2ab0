"""The views of a picture that are stored when it is banned, so that a check needs one pass of the model alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from imagewarden_server.media.perceptual import MODEL_SIDE

Box = tuple[float, float, float, float]


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
    """The views of a picture, the picture itself first."""
    width, height = image.size
    share = 0.6**0.5
    crops = [
        (left * width, top * height, (left + share) * width, (top + share) * height)
        for left, top in ((0, 0), (1 - share, 0), (0, 1 - share), (1 - share, 1 - share), ((1 - share) / 2,) * 2)
    ]
    turned = [
        image.transpose(turn)
        for turn in (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)
    ]
    whole = [image, ImageOps.mirror(image), *turned, *(image.crop(tuple(map(round, box))) for box in crops)]
    return [View(np.asarray(one.resize((MODEL_SIDE, MODEL_SIDE), Image.Resampling.BILINEAR)), None) for one in whole]
