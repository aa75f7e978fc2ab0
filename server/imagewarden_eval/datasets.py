"""Which pictures are measured on: found on disk, split from those fitted on, sorted into references and others."""

from __future__ import annotations

import fnmatch
import hashlib
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from imagewarden_eval.errors import EvaluationError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
DEFAULT_SHARE = 6
SAME_PICTURES = "caltech101-same-pictures.txt"


class DatasetError(EvaluationError):
    """The pictures cannot be used as asked; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Photograph:
    """A picture: `name` is its path relative to the folder it was found under, with '/', and is unique in a run."""

    name: str
    path: Path


@dataclass(frozen=True, slots=True)
class Split:
    """What a run registers, and what stays out of the bank; no picture shows in both, by the list of same pictures."""

    references: tuple[Photograph, ...]
    others: tuple[Photograph, ...]


def find_photographs(folders: Sequence[Path], exclude: Sequence[str] = ()) -> list[Photograph]:
    """All pictures under some folders, by name.

    Args:
        folders: where to look, at any depth.
        exclude: patterns of `fnmatch` over the name; `X/*` leaves out the folder X.

    Raises:
        DatasetError: a folder is none, has no pictures, or two pictures have one name.
    """
    found: dict[str, Photograph] = {}
    for folder in folders:
        if not folder.is_dir():
            raise DatasetError(f"{folder} is no folder; name one that has photographs")
        count = 0
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.suffix.lower() not in SUFFIXES or not path.is_file():
                continue
            count += 1
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in exclude):
                continue
            if name in found:
                raise DatasetError(f"{found[name].path} and {path} have one name, {name}; name a folder above both")
            found[name] = Photograph(name, path)
        if not count:
            raise DatasetError(f"{folder} has no pictures ({', '.join(sorted(SUFFIXES))})")
    return [found[name] for name in sorted(found)]


def is_fitting(name: str, share: int = DEFAULT_SHARE) -> bool:
    """Whether a picture belongs to the part that models are fitted on: one in `share`, by the SHA-256 of its name."""
    return hashlib.sha256(name.encode()).digest()[0] % share == 0


def part(photographs: Iterable[Photograph], *, fitting: bool, share: int = DEFAULT_SHARE) -> list[Photograph]:
    """The part of the pictures to measure on, or the part to fit scores and thresholds on.

    The latter is without the pictures that a model fitted on them brings along as its background (`imagewarden model
    fit` takes those whose SHA-256 has an even second byte): against these no score is what it is for other pictures.
    """
    found = [one for one in photographs if is_fitting(one.name, share) is fitting]
    return [one for one in found if not _brought_along(one.name)] if fitting else found


def _brought_along(name: str) -> bool:
    return hashlib.sha256(name.encode()).digest()[1] % 2 == 0


def read_same_pictures(path: Path | None) -> list[tuple[str, str]]:
    """Pairs of names that show the same picture, a pair a line, separated by a tab; `#` begins a comment.

    Args:
        path: None: the list that comes with the package.

    Raises:
        DatasetError: the file is not there, or a line is no pair.
    """
    if path is None:
        text = (resources.files("imagewarden_eval") / "data" / SAME_PICTURES).read_text(encoding="utf-8")
    else:
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise DatasetError(f"the list of same pictures cannot be read: {error}") from error
    pairs = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        names = line.split("\t")
        if len(names) != 2:
            raise DatasetError(f"{path or SAME_PICTURES}, line {number}: {line[:80]!r} is no pair separated by a tab")
        pairs.append((names[0].strip(), names[1].strip()))
    return pairs


def groups(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """For each name of the pairs the name that stands for all that show the same picture."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    for one, other in pairs:
        first, second = sorted((root(one), root(other)))
        parent[second] = first
    return {name: root(name) for name in parent}


def split(
    photographs: Sequence[Photograph], references: int, same: Iterable[tuple[str, str]] = (), seed: int = 1
) -> Split:
    """Draw references by chance; a picture that shows the same as a reference is left out of both.

    Raises:
        DatasetError: there are too few pictures.
    """
    stands_for = groups(same)
    drawn = sorted(photographs, key=lambda one: one.name)
    random.Random(seed).shuffle(drawn)  # noqa: S311 -- repeatable, not secret
    chosen: list[Photograph] = []
    taken: set[str] = set()
    rest: list[Photograph] = []
    for one in drawn:
        group = stands_for.get(one.name, one.name)
        if len(chosen) < references and group not in taken:
            chosen.append(one)
            taken.add(group)
        else:
            rest.append(one)
    others = tuple(one for one in rest if stands_for.get(one.name, one.name) not in taken)
    if len(chosen) < references or not others:
        raise DatasetError(
            f"{len(photographs)} pictures are too few for {references} references and queries that show none of them; "
            "name more folders, or ask for fewer --references"
        )
    return Split(tuple(chosen), others)
