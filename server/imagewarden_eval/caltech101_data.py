"""Caltech101 as its authors publish it: CATEGORY/image_NNNN.jpg, whole or in part, and how it is divided."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imagewarden_eval.datasets import DEFAULT_SHARE, is_fitting
from imagewarden_eval.errors import EvaluationError

BACKGROUND = "BACKGROUND_Google"
"""Pictures of anything: no category of things, so that classification leaves it out, as is usual."""

Indices = NDArray[np.int64]

_NAME = re.compile(r"image_\d{4}\.jpg")
_PICTURES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
_SHOWN = 3
_LAYOUT = "the layout of Caltech101 is DIR/CATEGORY/image_NNNN.jpg"


class LayoutError(EvaluationError):
    """The folder is not Caltech101's, or has too little of it; the message says what was found and what to do."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Pictures of things, by category.

    Attributes:
        root: the folder.
        paths: below it, CATEGORY/image_NNNN.jpg, sorted.
        categories: their names, sorted.
        labels: each picture's place in `categories`, int64 [n].
        fitted: which pictures something of the model may have been fitted on, bool [n]: they are never tested.
        left_out: what is in the folder and not here, a sentence each.
    """

    root: Path
    paths: tuple[str, ...]
    categories: tuple[str, ...]
    labels: Indices
    fitted: NDArray[np.bool_]
    left_out: tuple[str, ...]

    def __len__(self) -> int:
        """How many pictures."""
        return len(self.paths)

    def only(self, chosen: Sequence[int] | Indices) -> Dataset:
        """These pictures alone; categories that have none of them go."""
        indices = np.sort(np.asarray(chosen, np.int64))
        kept = np.unique(self.labels[indices])
        return Dataset(
            self.root,
            tuple(self.paths[place] for place in indices),
            tuple(self.categories[label] for label in kept),
            np.searchsorted(kept, self.labels[indices]).astype(np.int64),
            self.fitted[indices],
            self.left_out,
        )


@dataclass(frozen=True, slots=True)
class Split:
    """One division into training and test pictures, by their places in the dataset."""

    training: Indices
    test: Indices


def load(root: Path, fitting_share: int = DEFAULT_SHARE) -> Dataset:
    """Find the pictures; none is opened.

    Args:
        root: the folder.
        fitting_share: one picture in so many, by the SHA-256 of its path below the folder, is for fitting.

    Raises:
        LayoutError: another layout, or fewer than two categories of two pictures.
    """
    if not root.is_dir():
        raise LayoutError(f"{root} is no folder; {_LAYOUT}, and DIR is to be named")
    found: dict[str, list[str]] = {}
    left_out = []
    for entry in sorted(root.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            found[entry.name] = _pictures(entry)
        elif entry.suffix.lower() in _PICTURES:
            raise LayoutError(
                f"{entry} is a picture outside of a category; {_LAYOUT}: name the folder above {root.name!r}, "
                "or put the picture into its category"
            )
    if BACKGROUND in found:
        count = len(found.pop(BACKGROUND))
        left_out.append(f"{BACKGROUND} ({count} pictures): it is clutter, no category of things")
    small = [name for name, pictures in found.items() if len(pictures) < 2]
    left_out += [f"{name}: {len(found.pop(name))} pictures, and a category needs two" for name in small]
    if len(found) < 2:
        raise LayoutError(
            f"{root} has {len(found)} categories of at least two pictures, and two are needed; {_LAYOUT}; "
            f"left out: {'; '.join(left_out) or 'nothing'}"
        )
    categories = tuple(sorted(found))
    paths = [(f"{name}/{picture}", label) for label, name in enumerate(categories) for picture in found[name]]
    return Dataset(
        root,
        tuple(path for path, _ in paths),
        categories,
        np.asarray([label for _, label in paths], np.int64),
        np.asarray([is_fitting(path, fitting_share) for path, _ in paths], bool),
        tuple(left_out),
    )


def _pictures(category: Path) -> list[str]:
    names = []
    for entry in sorted(category.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            raise LayoutError(
                f"{entry} is a folder inside of {category.name!r}; {_LAYOUT}: perhaps DIR is to be {category}"
            )
        if _NAME.fullmatch(entry.name):
            names.append(entry.name)
        elif entry.suffix.lower() in _PICTURES:
            raise LayoutError(f"{entry} is not named as a picture of Caltech101 is; {_LAYOUT}, with four digits")
        # Anything else is none of ours: the original itself has a stray file `tmp`.
    return names


def halves(data: Dataset, seed: int = 0) -> Split:
    """Of each category half to be searched in (`training`), rounded down, and the rest to be asked for (`test`).

    The pictures for fitting are among the searched ones; where they are more than half, those over it are in neither.
    """
    rng = np.random.default_rng(seed)
    return _divide(data, rng, {label: int(count) // 2 for label, count in enumerate(np.bincount(data.labels))})


def splits(data: Dataset, per_category: int, count: int, seed: int = 0) -> tuple[list[Split], tuple[str, ...]]:
    """Random divisions with so many training pictures of each category, and all others to test.

    The pictures for fitting are among the training ones, and never tested.

    Returns:
        The divisions, and the names of the categories that are in none: they have no more than `per_category`. No
        divisions where fewer than two categories have more.
    """
    sizes = np.bincount(data.labels, minlength=len(data.categories))
    # Those to test: all but the training ones, and of these as many as can be are for fitting.
    spare = np.bincount(data.labels[data.fitted], minlength=len(data.categories)) - per_category
    chosen = {
        label: per_category for label, size in enumerate(sizes) if size - per_category - max(int(spare[label]), 0) > 0
    }
    small = tuple(name for label, name in enumerate(data.categories) if label not in chosen)
    if len(chosen) < 2:
        return [], small
    return [_divide(data, np.random.default_rng((seed, number)), chosen) for number in range(count)], small


def _divide(data: Dataset, rng: np.random.Generator, training: dict[int, int]) -> Split:
    first: list[Indices] = []
    rest: list[Indices] = []
    for label, count in training.items():
        shuffled = rng.permutation(np.flatnonzero(data.labels == label))
        # What was fitted on comes first; the others stay as chance has them.
        shuffled = shuffled[np.argsort(~data.fitted[shuffled], kind="stable")]
        first.append(shuffled[:count])
        rest.append(shuffled[count:][~data.fitted[shuffled[count:]]])
    return Split(np.sort(np.concatenate(first)), np.sort(np.concatenate(rest)))


def few(names: Sequence[str]) -> str:
    """The first of many names, and how many more."""
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
