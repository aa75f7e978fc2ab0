"""The photographs to fit on: found below directories, and divided the same way on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from imagewarden_serving.fitting.edits import opened

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})


class FitError(Exception):
    """There is nothing to fit on; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Share:
    """Which pictures are for fitting: those whose hash of the path, modulo `parts`, is `part`.

    The hash is the first byte of the SHA-256 of the path below the directory given, so that a picture is on the same
    side on every machine; what is measured on must come from the others.
    """

    part: int = 0
    parts: int = 1

    def holds(self, relative: str) -> bool:
        """Whether the picture of this path, with forward slashes, is for fitting."""
        return hashlib.sha256(relative.encode()).digest()[0] % self.parts == self.part


def find(directories: Sequence[Path], share: Share) -> list[Path]:
    """The pictures below directories that are for fitting, by name, sorted within each directory.

    Raises:
        FitError: a directory does not exist or has no pictures for fitting.
    """
    found: list[Path] = []
    for directory in directories:
        if not directory.is_dir():
            raise FitError(f"{directory} is no directory; say where photographs are")
        pictures = [path for path in directory.rglob("*") if path.suffix.lower() in _SUFFIXES]
        chosen = sorted(path for path in pictures if share.holds(path.relative_to(directory).as_posix()))
        if not chosen:
            raise FitError(f"{directory} has {len(pictures)} pictures, and none of them is for fitting")
        found += chosen
    return found


def brought(paths: Sequence[Path], directories: Sequence[Path]) -> list[int]:
    """The places of those pictures that the model brings along as its background: about every second.

    What registered pictures are held against cannot also say from what score on two pictures are alike: the others are
    spared for that. By the second byte of the SHA-256 of the path, even: see `Share`.
    """

    def relative(path: Path) -> str:
        return next(path.relative_to(one).as_posix() for one in directories if path.is_relative_to(one))

    return [place for place, path in enumerate(paths) if hashlib.sha256(relative(path).encode()).digest()[1] % 2 == 0]


def read(path: Path) -> Image.Image:
    """A picture as the edits take it.

    Raises:
        FitError: it cannot be read.
    """
    try:
        with Image.open(path) as image:
            return opened(image)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError) as error:
        raise FitError(f"{path} cannot be read: {error}; remove it or mend it") from error


def digest(paths: Iterable[Path]) -> str:
    """SHA-256, hexadecimal, over the files' own digests in order: says of a fit what it was fitted on."""
    whole = hashlib.sha256()
    for path in paths:
        whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()
