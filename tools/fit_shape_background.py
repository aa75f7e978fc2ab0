"""What pictures without logos have, for the second look at logos: deterministic for the same files.

    python tools/fit_shape_background.py FOLDER --sixth 0

`--sixth N` takes the files whose path, relative to the folder, has a SHA-256 whose first byte is N modulo 6: so what
is fitted on is never measured on. Every other one of them is used.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imagewarden_server.matching.shapes import BACKGROUND
from imagewarden_server.media.shapes import CELL, DIRECTIONS, PADDING, SIDE, Shapes, directions

SEED = 2012
PATCHES = 200
PATCH = 20
PLAIN = 22
LEVELS = range(2, 10)
PICTURE_SIDE = 512
PLAIN_SCALES = (0.8, 0.95, 1.12)
INK, GROUND = 220, 30
CANVAS = 192
WORDS = ("Hamburg", "minimum", "type", "SALE", "New York", "oxide")
LOGO = 128
"""How large a shape is on its canvas."""


def patches(paths: list[Path]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The mean of the cells of pictures, and pieces of them: float32 [8], [n, 20, 20, 8]."""
    random = np.random.default_rng(SEED)
    found, sums, count = [], np.zeros(DIRECTIONS), 0
    for path in paths:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        scale = PICTURE_SIDE / max(image.size)
        size = (round(image.width * scale), round(image.height * scale))
        shapes = Shapes(np.asarray(image.resize(size, Image.Resampling.BICUBIC)))
        for number in random.permutation(LEVELS)[:2]:
            cells = shapes.level(int(number)).cells[PADDING:-PADDING, PADDING:-PADDING]
            sums += cells.sum((0, 1))
            count += cells.shape[0] * cells.shape[1]
            if min(cells.shape[:2]) >= PATCH:
                row, column = (int(random.integers(0, side - PATCH + 1)) for side in cells.shape[:2])
                found.append(cells[row : row + PATCH, column : column + PATCH])
    order = random.permutation(len(found))[:PATCHES]
    return (sums / count).astype(np.float32), np.stack([found[place] for place in order])


def plain_pictures() -> list[NDArray[np.uint8]]:
    """Shapes that no brand has for itself: discs, rings, squares, polygons, bars."""
    middle = CANVAS // 2
    pictures: list[NDArray[np.uint8]] = []

    def canvas() -> NDArray[np.uint8]:
        pictures.append(np.full((CANVAS, CANVAS), GROUND, np.uint8))
        return pictures[-1]

    for wide, high in ((64, 64), (64, 44), (44, 64)):
        cv2.ellipse(canvas(), (middle, middle), (wide, high), 0, 0, 360, INK, -1, cv2.LINE_AA)
        low, far = (middle - wide, middle - high), (middle + wide, middle + high)
        cv2.rectangle(canvas(), low, far, INK, -1)
        radius = min(wide, high) // 3
        rounded = canvas()
        cv2.rectangle(rounded, (low[0] + radius, low[1]), (far[0] - radius, far[1]), INK, -1)
        cv2.rectangle(rounded, (low[0], low[1] + radius), (far[0], far[1] - radius), INK, -1)
        for x in (low[0] + radius, far[0] - radius):
            for y in (low[1] + radius, far[1] - radius):
                cv2.circle(rounded, (x, y), radius, INK, -1, cv2.LINE_AA)
    for width in (8, 16, 30):
        cv2.circle(canvas(), (middle, middle), 64 - width // 2, INK, width, cv2.LINE_AA)
    cv2.rectangle(canvas(), (middle - 60, middle - 60), (middle + 60, middle + 60), INK, 10)
    for corners, first in ((3, -90.0), (3, 90.0), (4, 0.0), (5, -90.0), (6, 0.0), (6, 30.0), (8, 22.5)):
        angles = np.radians(first + 360 * np.arange(corners) / corners)
        outline = np.stack([middle + 66 * np.cos(angles), middle + 66 * np.sin(angles)], axis=1).astype(np.int32)
        cv2.fillPoly(canvas(), [outline], INK, cv2.LINE_AA)
    for bars in ((-50, -8, 34), (-9,)):
        lying, standing = canvas(), canvas()
        for bar in bars:
            cv2.rectangle(lying, (middle - 66, middle + bar), (middle + 66, middle + bar + 18), INK, -1)
            cv2.rectangle(standing, (middle + bar, middle - 66), (middle + bar + 18, middle + 66), INK, -1)
    return pictures


def busy_pictures() -> list[NDArray[np.uint8]]:
    """Words and stripes: any word is as like a word as another is, and stripes are like all that has several bars."""
    middle = CANVAS // 2
    pictures = []
    for word in WORDS:
        for font in (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_COMPLEX):
            (width, height), _ = cv2.getTextSize(word, font, 1.0, 2)
            scale = LOGO / width
            place = (middle - LOGO // 2, middle + round(height * scale / 2))
            picture = np.full((CANVAS, CANVAS), GROUND, np.uint8)
            cv2.putText(picture, word, place, font, scale, INK, max(2, round(3 * scale)), cv2.LINE_AA)
            pictures.append(picture)
    y, x = np.mgrid[:CANVAS, :CANVAS]
    for period in (16, 24, 36):
        for across, down in ((1.0, 0.0), (0.0, 1.0), (0.707, 0.707), (0.707, -0.707)):
            wave = np.sin((x * across + y * down) * 2 * np.pi / period)
            pictures.append(np.where(wave > 0, INK, GROUND).astype(np.uint8))
    return pictures


def plain() -> NDArray[np.float32]:
    """The cells of plain shapes about as large as a logo is drawn: float32 [n, 22, 22, 8]."""
    made = []
    for picture in plain_pictures() + busy_pictures():
        for scale in PLAIN_SCALES:
            count = round(CANVAS * SIDE * scale / LOGO / CELL)
            maps = directions(cv2.resize(picture, (count * CELL, count * CELL), interpolation=cv2.INTER_AREA))
            cells = maps.reshape(count, CELL, count, CELL, DIRECTIONS).mean((1, 3))
            room = max(0, PLAIN - count)
            made.append(np.pad(cells, ((room // 2, room - room // 2),) * 2 + ((0, 0),))[:PLAIN, :PLAIN])
    return np.stack(made).astype(np.float32)


def main() -> None:
    """Fit and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sixth", type=int, required=True)
    parser.add_argument("--out", type=Path, default=BACKGROUND)
    options = parser.parse_args()
    names = sorted(path.relative_to(options.folder).as_posix() for path in options.folder.rglob("*.jpg"))
    chosen = [name for name in names if hashlib.sha256(name.encode()).digest()[0] % 6 == options.sixth]
    mean, pieces = patches([options.folder / name for name in chosen[::2]])
    np.savez_compressed(
        options.out,
        mean=mean,
        patches=np.rint(pieces * 255).astype(np.uint8),
        plain=np.rint(plain() * 255).astype(np.uint8),
    )
    print(f"{len(pieces)} pieces of {len(chosen[::2])} pictures: {options.out}, {options.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
