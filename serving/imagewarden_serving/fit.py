"""Fit a projection of pooled features from photographs: a learned whitening.

Mikolajczyk and Matas (Improving Descriptors for Fast Tree Matching by Optimal Linear Projection, ICCV 2007), as
Radenovic et al. (2018) use it: whiten the covariance of the differences between a picture and its edited self, so that
what edits change counts little, then rotate to the principal axes of what is left and keep the first ones.
"""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps

from imagewarden_serving.architectures import SIDE

Array = NDArray[np.float32]
Progress = Callable[[int, int], None]

DIMENSIONS = 512
RIDGE = 0.1
"""Added to the within-pair covariance, as a share of its mean eigenvalue: the data never span all directions."""

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
_MIN_PICTURES = 50


class FitError(Exception):
    """There is too little to fit on; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """What was fitted: mean float32 [C], matrix float32 [C, D], and on how many pictures and edits each."""

    mean: Array
    matrix: Array
    pictures: int
    edits: int


def halves(directory: Path) -> tuple[list[Path], list[Path]]:
    """The pictures below a directory in two halves: to fit on, and to measure on; never the same twice.

    A picture's half is decided by the SHA-256 of its path below the directory, so that it is the same on every machine.
    """
    found = sorted(path for path in directory.rglob("*") if path.suffix.lower() in _SUFFIXES)
    fitting: list[Path] = []
    measuring: list[Path] = []
    for path in found:
        name = path.relative_to(directory).as_posix().encode()
        (fitting if hashlib.sha256(name).digest()[0] % 2 == 0 else measuring).append(path)
    return fitting, measuring


def edited(picture: Image.Image, chance: random.Random) -> list[Image.Image]:
    """A picture and copies of it as they come back to a platform: recompressed, cropped, scaled, turned, framed."""
    return [
        picture,
        _jpeg(picture, chance.randint(15, 40)),
        _crop(picture, 0.75, chance),
        _jpeg(_crop(picture, 0.5, chance), 60),
        _shrink(picture, 4).filter(ImageFilter.GaussianBlur(0.5)),
        _caption(picture.rotate(chance.uniform(-10, 10), Image.Resampling.BILINEAR)),
        ImageOps.expand(picture, border=max(2, picture.width // 8), fill=chance.choice(["white", "black", "grey"])),
    ]


def fit(
    pictures: Sequence[Path],
    embed: Callable[[NDArray[np.uint8]], Array],
    *,
    dimensions: int = DIMENSIONS,
    seed: int = 1,
    progress: Progress = lambda *_: None,
) -> Fitted:
    """Learn a projection.

    Args:
        pictures: photographs, at least 50.
        embed: from uint8 [n, 299, 299, 3] to unit pooled features float32 [n, C], without a projection.
        dimensions: D of the result, at most C.
        seed: of the edits' chance.
        progress: told how many pictures of how many are done.

    Raises:
        FitError: too few pictures.
    """
    if len(pictures) < _MIN_PICTURES:
        raise FitError(f"{len(pictures)} pictures are too few to fit on; at least {_MIN_PICTURES} are needed")
    groups = np.stack(list(_features(pictures, embed, random.Random(seed), progress)))  # noqa: S311 -- no secret
    count, edits, channels = groups.shape
    mean = groups.mean(axis=(0, 1))
    centred = groups - mean
    within = (centred - centred.mean(axis=1, keepdims=True)).reshape(-1, channels)
    covariance = (within.T @ within).astype(np.float64) / len(within)
    covariance += np.eye(channels) * RIDGE * np.trace(covariance) / channels
    values, axes = np.linalg.eigh(covariance)
    whitening = axes @ np.diag(values**-0.5) @ axes.T
    spread = centred.reshape(-1, channels) @ whitening
    _, principal = np.linalg.eigh(np.cov(spread.T))
    matrix = whitening @ principal[:, ::-1][:, :dimensions]
    return Fitted(mean.astype(np.float32), matrix.astype(np.float32), count, edits)


def save(fitted: Fitted, path: Path) -> None:
    """Write a projection's .npz: the matrix as float16, which moves no cosine by more than its rounding."""
    with path.open("wb") as file:
        np.savez_compressed(file, mean=fitted.mean, matrix=fitted.matrix.astype(np.float16))


def _features(
    pictures: Sequence[Path],
    embed: Callable[[NDArray[np.uint8]], Array],
    chance: random.Random,
    progress: Progress,
) -> Iterator[Array]:
    for done, path in enumerate(pictures, 1):
        with Image.open(path) as opened:
            variants = edited(opened.convert("RGB"), chance)
        inputs = np.stack([np.asarray(one.resize((SIDE, SIDE), Image.Resampling.BILINEAR)) for one in variants])
        yield embed(inputs)
        progress(done, len(pictures))


def _jpeg(picture: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


def _crop(picture: Image.Image, share: float, chance: random.Random) -> Image.Image:
    width, height = (max(8, round(side * share**0.5)) for side in picture.size)
    left, top = chance.randint(0, max(0, picture.width - width)), chance.randint(0, max(0, picture.height - height))
    return picture.crop((left, top, left + width, top + height))


def _shrink(picture: Image.Image, factor: int) -> Image.Image:
    return picture.resize(
        (max(8, picture.width // factor), max(8, picture.height // factor)), Image.Resampling.BILINEAR
    )


def _caption(picture: Image.Image) -> Image.Image:
    bar = max(8, picture.height // 5)
    framed = Image.new("RGB", (picture.width, picture.height + bar), "white")
    framed.paste(picture, (0, bar))
    return framed
