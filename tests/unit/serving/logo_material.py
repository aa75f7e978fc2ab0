"""Logos and photographs to fit on, and a stand-in for the network that is enough to tell them apart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import skimage
from numpy.typing import NDArray
from PIL import Image

from imagewarden_serving.fitting.edits import Box
from imagewarden_serving.fitting.logos_brands import MEASURED
from imagewarden_serving.fitting.logos_features import pool

DATA = Path(skimage.__file__).parent / "data"
PHOTOGRAPHS = [
    DATA / name
    for name in (
        "astronaut.png",
        "chelsea.png",
        "coffee.png",
        "rocket.jpg",
        "hubble_deep_field.jpg",
        "motorcycle_left.png",
        "motorcycle_right.png",
        "retina.jpg",
        "ihc.png",
        "color.png",
    )
]
# Of four quarters each, so that a turned or mirrored one is another.
BODIES = [
    f'<g fill="{first}">{one}</g><g fill="{second}">{two}</g>'
    for first, second in (("#d01020", "#1030c0"), ("#109040", "#f0b000"), ("#7020a0", "#20b0c0"))
    for one, two in (
        ('<rect x="5" y="5" width="55" height="40"/>', '<circle cx="70" cy="70" r="28"/>'),
        ('<path d="M5 95 L50 5 L60 95 Z"/>', '<rect x="65" y="30" width="30" height="12"/>'),
        ('<path d="M5 5 H95 V25 H25 V95 H5 Z"/>', '<circle cx="65" cy="65" r="22"/>'),
        (
            '<path d="M10 50 A40 40 0 0 1 90 50 L60 50 A10 10 0 0 0 40 50 Z"/>',
            '<rect x="10" y="60" width="25" height="35"/>',
        ),
    )
]


def fitting_names(count: int) -> list[str]:
    """Names of brands that are for fitting."""
    return [name for name in (f"brand{number}" for number in range(10 * count)) if not MEASURED.holds(name)][:count]


def svg(body: str, view: str = "0 0 100 100") -> str:
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{view}">{body}</svg>'


def iconify(folder: Path, bodies: Sequence[str] = BODIES) -> Path:
    """An unpacked package of Iconify's form."""
    folder.mkdir(parents=True, exist_ok=True)
    icons = {name: {"body": body} for name, body in zip(fitting_names(len(bodies)), bodies, strict=True)}
    (folder / "icons.json").write_text(json.dumps({"prefix": "made", "width": 100, "height": 100, "icons": icons}))
    return folder


def photographs(folder: Path) -> Path:
    """A directory of real photographs, small, so that they are opened quickly."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in PHOTOGRAPHS:
        with Image.open(path) as image:
            small = image.convert("RGB")
            small.thumbnail((300, 300))
            small.save(folder / f"{path.stem}.jpg", quality=90)
    return folder


def coarse_pooling(images: NDArray[np.uint8], windows: Sequence[Sequence[Box]]) -> list[NDArray[np.float32]]:
    """In the place of Inception's maps, what colours and what edges a cell has; the cells lie as Inception's do."""
    values = images.astype(np.float32) / 255
    grey = values.mean(-1, keepdims=True)
    down, across = np.zeros_like(grey), np.zeros_like(grey)
    down[:, 1:], across[:, :, 1:] = 4 * np.abs(grey[:, 1:] - grey[:, :-1]), 4 * np.abs(grey[:, :, 1:] - grey[:, :, :-1])
    channels = np.concatenate([values, down, across], axis=-1)
    fine, coarse = _cells(channels[:, 9:289, 9:289], 8), _cells(channels[:, 13:285, 13:285], 16)
    return [pool(fine[number], coarse[number], boxes) for number, boxes in enumerate(windows)]


CHANNELS = 5 * 8
"""How many features `coarse_pooling` gives a window."""


def _cells(channels: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """The means of squares of so many pixels: colours, their opposites, and edges: [n, cells, cells, 8]."""
    count, height, width, _ = channels.shape
    means = channels.reshape(count, height // side, side, width // side, side, -1).mean(axis=(2, 4))
    return np.concatenate([means, 1 - means[..., :3]], axis=-1)
