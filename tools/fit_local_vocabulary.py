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

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imagewarden_server.index.vocabulary import BITS, VOCABULARY, Vocabulary
from imagewarden_server.media.local import EXTRACTOR, extract

SEED = 20080
ROUNDS = 20


def pictures(folder: Path, sixth: int | None) -> list[Path]:
    """The JPEG files under a folder, in order."""
    found = sorted(folder.rglob("*.jpg"), key=lambda path: path.relative_to(folder).as_posix())
    if sixth is None:
        return found
    names = [path.relative_to(folder).as_posix().encode() for path in found]
    return [path for path, name in zip(found, names, strict=True) if hashlib.sha256(name).digest()[0] % 6 == sixth]


def descriptors(paths: list[Path]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """All descriptors of pictures, and which picture each is of."""
    rows, owners = [], []
    for number, path in enumerate(paths):
        with Image.open(path) as image:
            features = extract(np.asarray(image.convert("RGB")))
        rows.append(features.descriptors)
        owners.append(np.full(len(features.descriptors), number))
    return np.concatenate(rows), np.concatenate(owners)


def fit(rows: NDArray[np.uint8], owners: NDArray[np.int64], words: int) -> Vocabulary:
    """Projection by principal components and a random turn, words by k-means, medians and idf."""
    random = np.random.default_rng(SEED)
    mean = rows.mean(0, dtype=np.float64)
    covariance = np.cov(rows.T.astype(np.float64))
    _, components = np.linalg.eigh(covariance)
    # The turn spreads the variance over all bits, so that each says as much as another.
    turn, _ = np.linalg.qr(random.standard_normal((BITS, BITS)))
    projection = (components[:, ::-1][:, :BITS] @ turn).astype(np.float16).astype(np.float32)
    mean = mean.astype(np.float16).astype(np.float32)
    projected = (rows.astype(np.float32) - mean) @ projection
    centroids = projected[np.sort(random.choice(len(projected), words, replace=False))]
    empty = np.zeros((words, BITS), np.float32)
    for turn_number in range(ROUNDS):
        found = Vocabulary(mean, projection, centroids, empty, empty[:, 0], "").nearest(projected)[:, 0]
        order = np.argsort(found, kind="stable")
        counts = np.bincount(found, minlength=words)
        begins = np.concatenate([[0], np.cumsum(counts)[:-1]])
        sums = np.add.reduceat(projected[order], np.minimum(begins, len(order) - 1), axis=0, dtype=np.float64)
        lonely = counts == 0
        centroids = (sums / np.maximum(counts, 1)[:, None]).astype(np.float32)
        centroids[lonely] = projected[random.choice(len(projected), int(lonely.sum()), replace=False)]
        print(f"round {turn_number + 1}: {lonely.sum()} words without a descriptor", file=sys.stderr)
    centroids = centroids.astype(np.float16).astype(np.float32)
    found = Vocabulary(mean, projection, centroids, empty, empty[:, 0], "").nearest(projected)[:, 0]
    medians = np.stack(
        [
            np.median(projected[found == word], axis=0) if (found == word).any() else centroids[word]
            for word in range(words)
        ]
    )
    pairs = np.unique(found * (owners.max() + 1) + owners) // (owners.max() + 1)
    having = np.bincount(pairs, minlength=words)
    idf = np.log((owners.max() + 1) / np.maximum(having, 1))
    return Vocabulary(
        mean, projection, centroids, medians.astype(np.float32), (idf / idf.mean()).astype(np.float32), ""
    )


def main() -> None:
    """Fit and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sixth", type=int, default=None)
    parser.add_argument("--words", type=int, default=2048)
    parser.add_argument("--out", type=Path, default=VOCABULARY)
    given = parser.parse_args()
    paths = pictures(given.folder, given.sixth)
    rows, owners = descriptors(paths)
    made = fit(rows, owners, given.words)
    np.savez(
        given.out,
        mean=made.mean.astype(np.float16),
        projection=made.projection.astype(np.float16),
        centroids=made.centroids.astype(np.float16),
        medians=made.medians.astype(np.float16),
        idf=made.idf.astype(np.float16),
    )
    print(f"{EXTRACTOR}: {given.words} words of {len(rows)} descriptors of {len(paths)} pictures: {given.out}")


if __name__ == "__main__":
    main()
