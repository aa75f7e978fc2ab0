"""`imagewarden search`: the entries most like a picture, as a table or as one picture of them all."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image, ImageDraw, UnidentifiedImageError

from imagewarden import Client, Metric, SimilarImage
from imagewarden.cli.output import print_json, print_table
from imagewarden.cli.state import complete_bank, shared

_TILE = 224
_LABEL = 36
_GAP = 8
_COLUMNS = 4


def search(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The picture.")],
    k: Annotated[int, typer.Option("-k", min=1, max=100, help="How many to answer.")] = 10,
    metric: Annotated[Metric, typer.Option(help="How to compare.", case_sensitive=False)] = Metric.COSINE,
    bank: Annotated[
        list[str] | None, typer.Option(help="Only this bank; may be given again.", autocompletion=complete_bank)
    ] = None,
    panel: Annotated[
        Path | None, typer.Option(help="Write the query and its ranked neighbours as one PNG.", dir_okay=False)
    ] = None,
    gallery: Annotated[
        Path | None,
        typer.Option(help="Where pictures of entries lie, by their external id.", exists=True, file_okay=False),
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="JSON, one object a neighbour.")] = False,
) -> None:
    """Find the entries whose pictures are most like this one in meaning. It decides nothing."""
    options = shared(context)
    with options.client() as client:
        result = client.search(file, k=k, metric=metric, banks=bank or ())
        if options.json or json_output:
            for one in result.results:
                print_json(one)
        else:
            rows = [
                (one.rank, one.entry.name, one.entry.external_id or one.entry.brand, f"{one.distance:.4f}")
                for one in result.results
            ]
            print_table("", ("rank", "entry", "external id", f"{metric} distance"), rows)
        if panel is not None:
            _panel(file, [(one, _picture(client, one, gallery)) for one in result.results]).save(panel, "PNG")
            typer.echo(f"wrote {panel}", err=True)


def _picture(client: Client, similar: SimilarImage, gallery: Path | None) -> Image.Image | None:
    """An entry's picture: from the gallery by its external id, or the thumbnail that the service keeps of a logo."""
    if gallery is not None and similar.entry.external_id:
        path = (gallery / similar.entry.external_id).resolve()
        if path.is_relative_to(gallery.resolve()) and path.is_file():
            return _open(path.read_bytes())
    thumbnail = client.get_entry(similar.entry.name).thumbnail
    return _open(thumbnail) if thumbnail else None


def _open(data: bytes) -> Image.Image | None:
    try:
        return Image.open(io.BytesIO(data)).convert("RGB")
    except (UnidentifiedImageError, OSError):
        return None


def _panel(query: Path, neighbours: list[tuple[SimilarImage, Image.Image | None]]) -> Image.Image:
    """The query first, then its neighbours in their order, each with its rank and distance."""
    tiles = [(_open(query.read_bytes()), ["query", query.name])]
    for one, picture in neighbours:
        name = one.entry.external_id or one.entry.brand or one.entry.name.rpartition("/")[2]
        tiles.append((picture, [f"{one.rank}. {one.bank.removeprefix('banks/')}  {one.distance:.3f}", name]))
    columns = min(_COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    width, height = _TILE + _GAP, _TILE + _LABEL + _GAP
    sheet = Image.new("RGB", (columns * width + _GAP, rows * height + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (picture, lines) in enumerate(tiles):
        left, top = _GAP + place % columns * width, _GAP + place // columns * height
        if picture is None:
            draw.rectangle((left, top, left + _TILE, top + _TILE), fill="#dddddd")
            draw.text((left + 8, top + _TILE // 2), "no picture is kept", fill="#444444")
        else:
            picture.thumbnail((_TILE, _TILE))
            sheet.paste(picture, (left + (_TILE - picture.width) // 2, top + (_TILE - picture.height) // 2))
        if not place:
            draw.rectangle((left - 3, top - 3, left + _TILE + 2, top + _TILE + 2), outline="#cc2222", width=3)
        for number, line in enumerate(lines):
            draw.text((left, top + _TILE + 2 + 16 * number), line[:34], fill="black")
    return sheet
