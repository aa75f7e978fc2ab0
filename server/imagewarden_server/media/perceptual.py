"""What the signals need of a frame's pixels, by one resize path for adding and checking."""

from __future__ import annotations

import numpy as np
import pdqhash
from numpy.typing import NDArray
from PIL import Image

from imagewarden_server.media.types import PdqHash

PDQ_SIDE = 1024
"""PDQ is computed on at most this many pixels a side, downsampled by area: see docs/media.md for what that costs.

Meta's C++ tool goes down to 512 x 512 by the nearest pixel, python-threatexchange hashes the full size.
"""

MODEL_SIDE = 299
"""The model's input height and width."""

_MIN_SIDE = 8
_LUMA_SIDE = 64


def frame_signals(image: Image.Image) -> tuple[PdqHash, NDArray[np.uint8], float]:
    """A frame's PDQ hash, its model input uint8 [299, 299, 3], and the standard deviation of its luma.

    Args:
        image: mode RGB.
    """
    small = _at_most(image, PDQ_SIDE)
    model_input = np.asarray(small.resize((MODEL_SIDE, MODEL_SIDE), Image.Resampling.BILINEAR))
    luma = np.asarray(small.convert("L").resize((_LUMA_SIDE, _LUMA_SIDE), Image.Resampling.BOX))
    return pdq(small), model_input, float(luma.std())


def pdq(image: Image.Image) -> PdqHash:
    """PDQ (Meta, 2019: The TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm) of mode RGB pixels."""
    if min(image.size) < _MIN_SIDE:
        # The reference implementation filters windows of the picture: it needs some pixels, and gains nothing by these.
        image = image.resize((max(image.width, _MIN_SIDE), max(image.height, _MIN_SIDE)), Image.Resampling.NEAREST)
    vector, quality = pdqhash.compute(np.ascontiguousarray(np.asarray(image)))
    return PdqHash(np.packbits(vector.astype(np.uint8)).tobytes(), int(quality))


def _at_most(image: Image.Image, side: int) -> Image.Image:
    longest = max(image.size)
    if longest <= side:
        return image
    scale = side / longest
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BOX)
