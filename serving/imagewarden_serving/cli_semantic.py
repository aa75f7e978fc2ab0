"""The command `imagewarden model fit-semantic`. What the fit needs is imported when it runs: the help comes at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from imagewarden_serving.cli_common import fail, load_tensorflow_quietly, missing


def fit_semantic(
    images: Annotated[
        list[Path], typer.Option(help="A directory of photographs, with those below it; may be said several times.")
    ],
    out: Annotated[Path, typer.Option(help="The .npz file to write.")],
    weights: Annotated[
        str, typer.Option(help="nsfwjs (from npm, pinned), imagenet (from keras.applications), or a .keras file.")
    ] = "nsfwjs",
    dimensions: Annotated[int, typer.Option(min=1, help="Of each of the nine windows of a picture.")] = 448,
    parts: Annotated[
        int, typer.Option(min=1, max=256, help="Fit on one of so many parts of the pictures; measure on the others.")
    ] = 1,
    part: Annotated[int, typer.Option(min=0, help="Which part; a picture's is told by the hash of its path.")] = 0,
    json_output: Annotated[bool, typer.Option("--json", help="Answer the record as JSON.")] = False,
) -> None:
    """Learn the axes of the semantic vector of inception_v3 from photographs: for `export --semantic-head`.

    Exit codes: 0 written, 1 the pictures or the weights cannot be had or do not do.
    """
    if part >= parts:
        raise fail("fit-semantic", f"--part {part} is none of --parts {parts}; the first is 0", 2)
    load_tensorflow_quietly()
    from rich.console import Console  # noqa: PLC0415 - as said
    from rich.progress import Progress  # noqa: PLC0415 - as said

    try:
        from imagewarden_serving.fitting import semantic  # noqa: PLC0415 - the help comes without numpy
    except ModuleNotFoundError as error:
        raise missing("fit-semantic", error) from None
    recipe = semantic.Recipe(weights=weights, dimensions=dimensions, share=semantic.Share(part, parts))
    console = Console(stderr=True)
    try:
        with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
            bar = bars.add_task("reading", total=None)
            record = semantic.fit_semantic(
                images,
                out,
                recipe,
                say=lambda line: typer.echo(line, err=True),
                progress=lambda done, total: bars.update(bar, completed=done, total=total),
            )
    except ModuleNotFoundError as error:
        raise missing("fit-semantic", error) from None
    except semantic.FitError as error:
        raise fail("fit-semantic", str(error), 1) from None
    if json_output:
        typer.echo(json.dumps(record))
        return
    typer.echo(f"wrote {out}")
    typer.echo(f"{record['pictures']['count']} pictures, {record['variance_kept']:.0%} of the variance kept")
    typer.echo(f"export with it by: imagewarden model export --out DIRECTORY --semantic-head {out}")
