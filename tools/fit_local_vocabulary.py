"""Fit the visual vocabulary of local features on a folder of photographs: deterministic for the same files.

    python tools/fit_local_vocabulary.py FOLDER --sixth 0

`--sixth N` takes the files whose path, relative to the folder, has a SHA-256 whose first byte is N modulo 6: so what
is fitted on is never measured on.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imagewarden_server.index.vocabulary import BITS, VOCABULARY, Points, project
from imagewarden_server.media.local import EXTRACTOR, SIDE, extract

Floats = NDArray[np.float32]
Arrays = dict[str, NDArray[Any]]

SEED = 20080
ROUNDS = 8
WORDS = 8_192
CELLS = 64
MANY = 900
"""Keypoints of a picture that words are learned of, beside the 300 that are stored: there are few pictures for so many
words."""
ASKED = 3
"""A word is of a cell where it is among so many nearest of anything in it, since in so many it is looked for."""
FEW = 8
"""A word of fewer descriptors has its centroid for medians."""


def pictures(folder: Path, sixth: int | None) -> list[Path]:
    """The JPEG files under a folder, in order."""
    found = sorted(folder.rglob("*.jpg"), key=lambda path: path.relative_to(folder).as_posix())
    if sixth is None:
        return found
    names = [path.relative_to(folder).as_posix().encode() for path in found]
    return [path for path, name in zip(found, names, strict=True) if hashlib.sha256(name).digest()[0] % 6 == sixth]


def descriptors(paths: list[Path]) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint8]]:
    """The descriptors that would be stored of pictures, which picture each is of, and those of many more keypoints."""
    rows, owners, more = [], [], []
    for number, path in enumerate(paths):
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        features = extract(pixels)
        rows.append(features.descriptors)
        owners.append(np.full(len(features.descriptors), number))
        more.append(extract(pixels, keypoints=MANY, side=max(SIDE, *pixels.shape[:2])).descriptors)
    return np.concatenate(rows), np.concatenate(owners), np.concatenate(more)


def principal(rows: NDArray[np.uint8]) -> tuple[Floats, Floats]:
    """The mean, and a projection on as many principal components as there are bits, at a random turn."""
    random = np.random.default_rng(SEED)
    mean = rows.mean(0, dtype=np.float64)
    _, components = np.linalg.eigh(np.cov(rows.T.astype(np.float64)))
    # The turn spreads the variance over all bits, so that each says as much as another.
    turn, _ = np.linalg.qr(random.standard_normal((BITS, BITS)))
    projection = components[:, ::-1][:, :BITS] @ turn
    return _half(mean), _half(projection)


def means(rows: Floats, count: int) -> Floats:
    """So many centroids of rows, by k-means."""
    random = np.random.default_rng(SEED)
    centroids = rows[np.sort(random.choice(len(rows), count, replace=False))]
    for number in range(ROUNDS):
        found = Points(centroids).nearest(rows)[:, 0]
        order = np.argsort(found, kind="stable")
        counts = np.bincount(found, minlength=count)
        begins = np.concatenate([[0], np.cumsum(counts)[:-1]])
        sums = np.add.reduceat(rows[order], np.minimum(begins, len(order) - 1), axis=0, dtype=np.float64)
        centroids = (sums / np.maximum(counts, 1)[:, None]).astype(np.float32)
        lonely = counts == 0
        centroids[lonely] = rows[random.choice(len(rows), int(lonely.sum()), replace=False)]
        print(f"{count} means, round {number + 1}: {lonely.sum()} without a descriptor", file=sys.stderr)
    return _half(centroids)


def fit(rows: NDArray[np.uint8], owners: NDArray[np.int64], more: NDArray[np.uint8], words: int) -> Arrays:
    """Words and cells by k-means of all descriptors, medians of all, and idf of those that would be stored."""
    mean, projection = principal(rows)
    projected = np.concatenate([project(one, mean, projection) for one in (rows, more)])
    centroids, middles = means(projected, words), means(projected, CELLS)
    nearest, homes = Points(centroids).nearest(projected, ASKED), Points(middles).nearest(projected)[:, 0]
    members = [np.unique(nearest[homes == home]) for home in range(CELLS)]
    if min(map(len, members)) < ASKED:
        raise SystemExit(f"a cell has fewer than {ASKED} words: there are too few pictures for so many words")
    found = nearest[:, 0]
    medians = centroids.copy()
    for word in np.flatnonzero(np.bincount(found, minlength=words) >= FEW).tolist():
        medians[word] = np.median(projected[found == word], axis=0)
    pairs = np.unique(found[: len(rows)] * (owners.max() + 1) + owners) // (owners.max() + 1)
    idf = np.log((owners.max() + 1) / np.maximum(np.bincount(pairs, minlength=words), 1))
    return {
        "mean": mean.astype(np.float16),
        "projection": projection.astype(np.float16),
        "centroids": centroids.astype(np.float16),
        "middles": middles.astype(np.float16),
        "members": np.concatenate(members).astype(np.uint16),
        "member_ends": np.cumsum([len(one) for one in members]),
        "medians": medians.astype(np.float16),
        "idf": (idf / idf.mean()).astype(np.float16),
    }


def _half(values: NDArray[np.floating[Any]]) -> Floats:
    """As they are when they were written and read."""
    return values.astype(np.float16).astype(np.float32)


def main() -> None:
    """Fit and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sixth", type=int, default=None)
    parser.add_argument("--words", type=int, default=WORDS)
    parser.add_argument("--out", type=Path, default=VOCABULARY)
    given = parser.parse_args()
    if not CELLS < given.words <= np.iinfo(np.uint16).max:
        parser.error(f"--words {given.words}: more than {CELLS}, and at most {np.iinfo(np.uint16).max}, are possible")
    paths = pictures(given.folder, given.sixth)
    rows, owners, more = descriptors(paths)
    np.savez_compressed(given.out, **fit(rows, owners, more, given.words))
    print(
        f"{EXTRACTOR}: {given.words} words of {len(rows) + len(more)} descriptors of {len(paths)} pictures: {given.out}"
    )


if __name__ == "__main__":
    main()
