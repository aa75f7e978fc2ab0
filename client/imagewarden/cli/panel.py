"""A query and its neighbours as one picture: a sheet of labelled tiles."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from imagewarden import Client, Entry

_TILE = 224
_LABEL = 36
_GAP = 8
_COLUMNS = 4
_FONT_SIZE = 13


@dataclass(frozen=True, slots=True)
class Tile:
    """A picture, or None where there is none to show, and the two lines under it."""

    picture: Image.Image | None
    lines: tuple[str, str]


def picture_of(client: Client, entry: Entry, gallery: Path | None) -> Image.Image | None:
    """An entry's picture: from the gallery by its external id, or the thumbnail that the service keeps of a logo.

    An external id is the catalogue's word, not this machine's: what leads out of the gallery is not opened.
    """
    if gallery is not None and entry.external_id and "\0" not in entry.external_id:
        path = (gallery / entry.external_id).resolve()
        if path.is_relative_to(gallery.resolve()) and path.is_file():
            return open_picture(path)
    thumbnail = client.get_entry(entry.name).thumbnail
    return open_picture(io.BytesIO(thumbnail)) if thumbnail else None


def open_picture(source: Path | io.BytesIO) -> Image.Image | None:
    """A small copy on white, as a person would see it; None: it is no picture that can be drawn here."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(source) as image:
                image.draft("RGB", (_TILE, _TILE))
                small = ImageOps.exif_transpose(image).convert("RGBA")
    except Exception:  # noqa: BLE001 -- decoders raise anything over a broken file, and a panel shows an empty tile
        return None
    small.thumbnail((_TILE, _TILE))
    white = Image.new("RGBA", small.size, "white")
    return Image.alpha_composite(white, small).convert("RGB")


def draw_panel(tiles: Sequence[Tile]) -> Image.Image:
    """The sheet: the query first, in a frame, then its neighbours in their order, at most four a row."""
    columns = min(_COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    width, height = _TILE + _GAP, _TILE + _LABEL + _GAP
    sheet = Image.new("RGB", (columns * width + _GAP, rows * height + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(_FONT_SIZE)
    for place, tile in enumerate(tiles):
        left, top = _GAP + place % columns * width, _GAP + place // columns * height
        if tile.picture is None:
            draw.rectangle((left, top, left + _TILE - 1, top + _TILE - 1), fill="#dddddd")
            draw.text((left + 8, top + _TILE // 2), "no picture to show", fill="#444444", font=font)
        else:
            inside = (left + (_TILE - tile.picture.width) // 2, top + (_TILE - tile.picture.height) // 2)
            sheet.paste(tile.picture, inside)
        if not place:
            draw.rectangle((left - 3, top - 3, left + _TILE + 2, top + _TILE + 2), outline="#cc2222", width=3)
        for number, line in enumerate(tile.lines):
            draw.text((left, top + _TILE + 4 + 16 * number), line[:34], fill="black", font=font)
    return sheet
