"""What the signals need of a frame's pixels, by one resize path for adding and checking."""

from __future__ import annotations

import numpy as np
import pdqhash
from numpy.typing import NDArray
from PIL import Image

from imagewarden_server.media.types import Frame, PdqHash

PDQ_SIDE = 1024
"""PDQ is computed on at most this many pixels a side, downsampled by area: see docs/media.md for what that costs.

Meta's C++ tool goes down to 512 x 512 by the nearest pixel, python-threatexchange hashes the full size.
"""

MODEL_SIDE = 299
"""The model's input height and width."""

SMALL_SIDE = 576
"""The most pixels a side that local features and a thorough look are taken from."""

_MIN_SIDE = 8
_LUMA_SIDE = 64


def frame_of(index: int, image: Image.Image) -> Frame:
    """All that the signals need of a frame.

    Args:
        index: its number in the file.
        image: mode RGB.
    """
    medium = _at_most(image, PDQ_SIDE)
    hash_, turned = pdq_of_turns(medium)
    model_input = np.asarray(medium.resize((MODEL_SIDE, MODEL_SIDE), Image.Resampling.BILINEAR))
    luma = np.asarray(medium.convert("L").resize((_LUMA_SIDE, _LUMA_SIDE), Image.Resampling.BOX))
    return Frame(index, hash_, turned, np.asarray(_at_most(medium, SMALL_SIDE)), model_input, float(luma.std()))


def pdq_of_turns(image: Image.Image) -> tuple[PdqHash, tuple[bytes, ...]]:
    """PDQ of a picture, and of its eight turns and flips from one transform of it, its own first.

    PDQ: Meta, 2019: The TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm.

    Args:
        image: mode RGB.
    """
    if min(image.size) < _MIN_SIDE:
        # The reference implementation filters windows of the picture: it needs some pixels, and gains nothing by these.
        image = image.resize((max(image.width, _MIN_SIDE), max(image.height, _MIN_SIDE)), Image.Resampling.NEAREST)
    vectors, quality = pdqhash.compute_dihedral(np.ascontiguousarray(np.asarray(image)))
    turned = tuple(np.packbits(vector.astype(np.uint8)).tobytes() for vector in vectors)
    return PdqHash(turned[0], int(quality)), turned


def close_look(frame: Frame, box: tuple[float, float, float, float]) -> NDArray[np.uint8]:
    """A part of a frame as the model takes it: uint8 [299, 299, 3].

    Args:
        frame: whose `small` it is cut from.
        box: left, top, right, bottom as fractions.
    """
    height, width = frame.small.shape[:2]
    left, top, right, bottom = box
    image = Image.fromarray(frame.small)
    size = (MODEL_SIDE, MODEL_SIDE)
    return np.asarray(
        image.resize(size, Image.Resampling.BILINEAR, (left * width, top * height, right * width, bottom * height))
    )


def _at_most(image: Image.Image, side: int) -> Image.Image:
    longest = max(image.size)
    if longest <= side:
        return image
    scale = side / longest
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BOX)
