"""`imagewarden search`: the entries most like a picture, as a table or as one picture of them all."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imagewarden import Metric
from imagewarden.cli.output import print_json, print_table
from imagewarden.cli.panel import Tile, draw_panel, open_picture, picture_of
from imagewarden.cli.state import complete_bank, shared


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
            tiles = [Tile(open_picture(file), ("query", file.name))]
            for one in result.results:
                name = one.entry.external_id or one.entry.brand or one.entry.name.rpartition("/")[2]
                place = f"{one.rank}. {one.bank.removeprefix('banks/')}  {one.distance:.3f}"
                tiles.append(Tile(picture_of(client, one.entry, gallery), (place, name)))
            draw_panel(tiles).save(panel, "PNG")
            typer.echo(f"wrote {panel}", err=True)
