"""The command `imagewarden eval caltech101`. What the run needs is imported when it runs: the help comes at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from imagewarden_eval.cli_common import run

_DEFAULT_MODEL = Path("var/model/inception")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(caltech101)


def caltech101(
    images: Annotated[Path, typer.Option(help="Caltech101, whole or in part: DIR/CATEGORY/image_NNNN.jpg.")],
    out: Annotated[Path, typer.Option(help="The folder of the report.")] = Path("eval-caltech101"),
    model_base_path: Annotated[
        list[Path] | None,
        typer.Option(
            help="A directory that has a model's versions; may be given again: the first one's server searches."
        ),
    ] = None,
    model_address: Annotated[
        str | None, typer.Option(help="A model host that runs, instead of one started here.")
    ] = None,
    training: Annotated[
        list[int] | None, typer.Option(min=1, help="Training pictures a category; may be given again.")
    ] = None,
    splits: Annotated[int, typer.Option(min=1, max=50, help="Random divisions for each number of them.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same run.")] = 0,
    fitting_share: Annotated[
        int,
        typer.Option(min=2, help="One picture in so many is for fitting, by the SHA-256 of its name: never tested."),
    ] = 6,
    cache: Annotated[Path | None, typer.Option(help="Where vectors are kept between runs; unset: OUT/cache.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Twelve categories and one division: some minutes.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Answer the report as JSON on standard output.")] = False,
) -> None:
    """Similarity search and classification on Caltech101, the learned features beside hand-crafted ones.

    Writes report.json, report.md, panels and a map to OUT.
    """
    base_paths = tuple(model_base_path or (() if model_address else (_DEFAULT_MODEL,)))

    def work() -> Any:
        from imagewarden_eval import caltech101 as running  # noqa: PLC0415 -- the help needs none of it

        return running.run(
            running.Options(
                images=images,
                out=out,
                model_base_paths=base_paths,
                model_address=model_address,
                training=tuple(training or (15, 20, 30)),
                splits=splits,
                seed=seed,
                fitting_share=fitting_share,
                cache=cache,
                quick=quick,
                quiet=json_output,
            )
        )

    result = run("caltech101", work)
    from imagewarden_eval.caltech101_report import to_json, to_markdown  # noqa: PLC0415 -- as said

    if json_output:
        typer.echo(json.dumps(to_json(result)))
        return
    typer.echo(to_markdown(result))
    typer.echo(f"wrote {out}/report.md, report.json, panels and a map")


if __name__ == "__main__":
    typer.run(caltech101)
