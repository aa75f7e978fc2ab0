"""The command `imagewarden eval everyday`. What the run needs is imported when it runs: the help comes at once."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from imagewarden_eval.cli_common import LeftOutLogos, run


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(everyday)


def everyday(
    images: Annotated[list[Path], typer.Option(help="A folder of photographs; may be given again.")],
    logos: Annotated[
        list[Path],
        typer.Option(
            help="The unpacked npm package @iconify-json/logos, or a folder of .svg files; may be given again."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The folder of the report.")] = Path("eval-everyday"),
    left_out_logos: LeftOutLogos = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Leave out names like this, such as 'Faces_easy/*'; may be given again.")
    ] = None,
    fitting_share: Annotated[
        int, typer.Option(min=2, help="One picture in so many is for fitting, by the SHA-256 of its name: not used.")
    ] = 6,
    references: Annotated[int, typer.Option(min=1, help="How many pictures are banned.")] = 1_000,
    brands: Annotated[int, typer.Option(min=1, help="How many logos are registered.")] = 300,
    queries: Annotated[int, typer.Option(min=1, help="How many ordinary pictures are checked.")] = 3_000,
    timed: Annotated[int, typer.Option(min=1, help="How many pictures are timed.")] = 100,
    rounds: Annotated[int, typer.Option(min=1, help="How often each of them.")] = 3,
    model_base_path: Annotated[Path, typer.Option(help="The directory that has the model's versions.")] = Path(
        "var/model/inception"
    ),
    seed: Annotated[int, typer.Option(help="The same seed gives the same run.")] = 1,
    callers: Annotated[int, typer.Option(min=1, max=64, help="Checks at once, but for the timed ones.")] = 4,
    json_output: Annotated[bool, typer.Option("--json", help="Answer the report as JSON on standard output.")] = False,
) -> None:
    """False alarms of ordinary pictures at the shipped thresholds, and what a check costs beside the textbook's.

    Writes report.json and report.md to OUT.
    """

    def work() -> Any:
        from imagewarden_eval import everyday as running  # noqa: PLC0415 -- the help needs none of it

        return running.run(
            running.Options(
                images=tuple(images),
                logos=tuple(logos),
                left_out_logos=tuple(left_out_logos or ()),
                out=out,
                command=shlex.join(["imagewarden", *sys.argv[1:]]),
                exclude=tuple(exclude or ()),
                fitting_share=fitting_share,
                references=references,
                brands=brands,
                queries=queries,
                timed=timed,
                rounds=rounds,
                model_base_path=model_base_path,
                seed=seed,
                callers=callers,
                quiet=json_output,
            )
        )

    record = run("everyday", work)
    from imagewarden_eval.everyday import markdown  # noqa: PLC0415 -- as said

    typer.echo(json.dumps(record) if json_output else markdown(record))
