"""Which files a command line means: files, folders, and patterns that no shell expanded."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from pathlib import Path

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif"}
)


def pictures(arguments: Sequence[str]) -> list[Path]:
    """The pictures that arguments name, each once, in order: a folder means all pictures below it.

    Raises:
        FileNotFoundError: an argument names nothing.
    """
    found: dict[Path, None] = {}
    for argument in arguments:
        here = list(_named(argument))
        if not here:
            raise FileNotFoundError(f"{argument}: no such file, no folder with pictures, and no pattern that finds any")
        found |= dict.fromkeys(here)
    return list(found)


def _named(argument: str) -> Iterable[Path]:
    path = Path(argument)
    if path.is_file():
        return [path]
    if path.is_dir():
        return sorted(one for one in path.rglob("*") if one.suffix.lower() in SUFFIXES and one.is_file())
    if glob.has_magic(argument):
        return sorted(Path(one) for one in glob.glob(argument, recursive=True) if Path(one).is_file())  # noqa: PTH207 -- patterns may be absolute
    return []
