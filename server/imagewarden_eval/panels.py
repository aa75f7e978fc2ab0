"""Panels to look at: queries beside what they matched, boxes drawn as the server answered them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from imagewarden_eval.metrics import Box

_SIDE = 220
_TEXT = 30
_GAP = 8
_BOX = (230, 0, 90)
_TRUE_BOX = (0, 150, 80)


@dataclass(frozen=True)
class Tile:
    """One picture of a panel, with what is said under it and the boxes in it, as fractions of the picture."""

    image: Image.Image | bytes | Path
    text: str
    box: Box | None = None
    true_box: Box | None = None


def _pixels(image: Image.Image | bytes | Path) -> Image.Image:
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image) as opened:
        return opened.convert("RGB")


def _outline(drawn: Image.Image, box: Box, colour: tuple[int, int, int], width: int) -> None:
    left, right = sorted((box[0] * drawn.width, box[2] * drawn.width))
    top, bottom = sorted((box[1] * drawn.height, box[3] * drawn.height))
    edges = (max(0.0, left), max(0.0, top), min(drawn.width - 1.0, right), min(drawn.height - 1.0, bottom))
    if edges[2] > edges[0] and edges[3] > edges[1]:
        ImageDraw.Draw(drawn).rectangle(edges, outline=colour, width=width)


def draw_tile(tile: Tile, side: int = _SIDE) -> Image.Image:
    """A tile's picture, at most `side` pixels high and wide, on white, with its boxes."""
    drawn = _pixels(tile.image)
    scale = min(side / drawn.width, side / drawn.height)
    drawn = drawn.resize((max(1, round(drawn.width * scale)), max(1, round(drawn.height * scale))))
    if tile.true_box is not None:
        _outline(drawn, tile.true_box, _TRUE_BOX, 2)
    if tile.box is not None:
        _outline(drawn, tile.box, _BOX, 3)
    canvas = Image.new("RGB", (side, side + _TEXT), (255, 255, 255))
    canvas.paste(drawn, ((side - drawn.width) // 2, (side - drawn.height) // 2))
    font = ImageFont.load_default(11)
    for number, line in enumerate(tile.text.split("\n")[:2]):
        ImageDraw.Draw(canvas).text((2, side + 2 + 13 * number), line[:40], (0, 0, 0), font)
    return canvas


def save(rows: Sequence[Sequence[Tile]], path: Path, side: int = _SIDE) -> None:
    """Write rows of tiles as one picture; nothing where there are none."""
    if not rows:
        return
    columns = max(len(row) for row in rows)
    width = columns * (side + _GAP) + _GAP
    height = len(rows) * (side + _TEXT + _GAP) + _GAP
    canvas = Image.new("RGB", (width, height), (255, 255, 255))
    for down, row in enumerate(rows):
        for across, tile in enumerate(row):
            place = (_GAP + across * (side + _GAP), _GAP + down * (side + _TEXT + _GAP))
            canvas.paste(draw_tile(tile, side), place)
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.save(path, quality=88)
