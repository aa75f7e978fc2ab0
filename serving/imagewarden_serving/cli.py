"""`imagewarden model`: export a SavedModel, and serve it.

TensorFlow is imported by the commands, not by this module: the help comes at once.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imagewarden_serving import cli_semantic
from imagewarden_serving.cli_common import INSTALL as _INSTALL
from imagewarden_serving.cli_common import fail as _fail
from imagewarden_serving.cli_common import load_tensorflow_quietly as _load_tensorflow_quietly
from imagewarden_serving.cli_common import missing as _missing
from imagewarden_serving.host.precision import Precision

if TYPE_CHECKING:
    from rich.progress import TaskID

    from imagewarden_serving.host.server import Options

app = typer.Typer(help="Make the model, and serve it.", no_args_is_help=True, add_completion=False)
app.command()(cli_semantic.fit_semantic)

_MAX_PORT = 65_535


@app.command()
def export(
    out: Annotated[Path, typer.Option(help="The directory of models; OUT/NAME is what a host is given.")],
    weights: Annotated[
        str, typer.Option(help="nsfwjs (from npm, pinned), imagenet (from keras.applications), or a .keras file.")
    ] = "nsfwjs",
    architecture: Annotated[str, typer.Option(help="inception_v3, resnet50 or googlenet.")] = "inception_v3",
    name: Annotated[str, typer.Option(help="The model's name.")] = "inception",
    version: Annotated[int | None, typer.Option(min=1, help="Its version; the next free one unless told.")] = None,
    layer: Annotated[str | None, typer.Option(help="The layer that the copy descriptor pools.")] = None,
    projection: Annotated[
        str,
        typer.Option(help="`bundled` (where it fits weights and layer), `none`, or a fitted projection's .npz file."),
    ] = "bundled",
    logo_head: Annotated[
        str, typer.Option(help="`bundled` (where it fits the weights), `none`, or a fitted logo head's .npz file.")
    ] = "bundled",
    semantic_head: Annotated[
        str, typer.Option(help="`bundled` (where it fits the weights), `none`, or a fitted semantic head's .npz file.")
    ] = "bundled",
    normalisation: Annotated[
        str | None, typer.Option(help="What a .keras file takes: zero_to_one, minus_one_to_one or caffe.")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Answer the model card as JSON.")] = False,
) -> None:
    """Make a SavedModel version from weights: OUT/NAME/VERSION, which TensorFlow Serving loads.

    Exit codes: 0 made, 1 the weights cannot be had or do not fit.
    """
    _load_tensorflow_quietly()
    try:
        from imagewarden_serving import export as exporting  # noqa: PLC0415 - TensorFlow takes seconds
    except ModuleNotFoundError as error:
        raise _missing("export", error) from None
    fits = weights == "nsfwjs" and architecture == "inception_v3" and layer in {None, "mixed3"}
    chosen = {"bundled": exporting.BUNDLED_PROJECTION if fits else None, "none": None}
    # This head stands on the weights alone, whatever layer the copy descriptor pools.
    known = weights == "nsfwjs" and architecture == "inception_v3"
    meanings = {"bundled": exporting.BUNDLED_SEMANTIC_HEAD if known else None, "none": None}
    heads = {"bundled": exporting.BUNDLED_LOGO_HEAD if fits else None, "none": None}
    try:
        made = exporting.export(
            out,
            name,
            version,
            architecture,
            weights,
            chosen[projection] if projection in chosen else Path(projection),
            layer,
            heads[logo_head] if logo_head in heads else Path(logo_head),
            meanings[semantic_head] if semantic_head in meanings else Path(semantic_head),
            normalisation=normalisation,
            progress=lambda line: typer.echo(line, err=True),
        )
    except ModuleNotFoundError as error:
        raise _missing("export", error) from None
    except exporting.ExportError as error:
        raise _fail("export", str(error), 1) from None
    if json_output:
        typer.echo(json.dumps(made.card))
        return
    typer.echo(f"wrote {made.directory}")
    layer_name, dimension = made.card["embedding"]["layer"], made.card["embedding"]["dimension"]
    typer.echo(f"embedding: {layer_name}, {dimension} dimensions; fingerprint {made.card['fingerprint'][:12]}")
    typer.echo(f"serve it with: imagewarden model serve --model-name {name} --model-base-path {out / name}")


@app.command()
def fit(
    images: Annotated[
        list[Path], typer.Option(help="A directory of photographs, with those below it; may be said several times.")
    ],
    out: Annotated[Path, typer.Option(help="The .npz file to write.")],
    weights: Annotated[
        str, typer.Option(help="nsfwjs (from npm, pinned), imagenet (from keras.applications), or a .keras file.")
    ] = "nsfwjs",
    architecture: Annotated[str, typer.Option(help="inception_v3, resnet50 or googlenet.")] = "inception_v3",
    layer: Annotated[str | None, typer.Option(help="The layer that the copy descriptor pools.")] = None,
    dimensions: Annotated[int, typer.Option(min=1, help="Of the descriptor.")] = 512,
    edits: Annotated[int, typer.Option(min=1, max=30, help="Edits of each picture.")] = 20,
    parts: Annotated[
        int, typer.Option(min=1, max=256, help="Fit on one of so many parts of the pictures; measure on the others.")
    ] = 1,
    part: Annotated[int, typer.Option(min=0, help="Which part; a picture's is told by the hash of its path.")] = 0,
    seed: Annotated[int, typer.Option(help="Of the chance in the edits.")] = 1,
    json_output: Annotated[bool, typer.Option("--json", help="Answer the record as JSON.")] = False,
) -> None:
    """Learn the projection of the copy descriptor from photographs and edits of them: for `export --projection`.

    Exit codes: 0 written, 1 the pictures or the weights cannot be had or do not do.
    """
    if part >= parts:
        raise _fail("fit", f"--part {part} is none of --parts {parts}; the first is 0", 2)
    _load_tensorflow_quietly()
    from rich.console import Console  # noqa: PLC0415 - as said
    from rich.progress import Progress  # noqa: PLC0415 - as said

    from imagewarden_serving import fitting  # noqa: PLC0415 - the help comes without numpy

    recipe = fitting.Recipe(
        architecture=architecture,
        weights=weights,
        layer=layer,
        dimensions=dimensions,
        edits_each=edits,
        seed=seed,
        share=fitting.Share(part, parts),
    )
    console = Console(stderr=True)
    try:
        with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
            bar = bars.add_task("editing", total=None)
            record = fitting.fit(
                images,
                out,
                recipe,
                say=lambda line: typer.echo(line, err=True),
                progress=lambda done, total: bars.update(bar, completed=done, total=total),
            )
    except ModuleNotFoundError as error:
        raise _missing("fit", error) from None
    except fitting.FitError as error:
        raise _fail("fit", str(error), 1) from None
    if json_output:
        typer.echo(json.dumps(record))
        return
    typer.echo(f"wrote {out}")
    typer.echo(f"{record['pictures']['count']} pictures, {record['vectors']:,} vectors, {dimensions} dimensions")
    typer.echo(f"export with it by: imagewarden model export --out DIRECTORY --projection {out}")


@app.command()
def serve(
    port: Annotated[int, typer.Option(help="gRPC port; 0 takes a free one, or none beside a socket.")] = 8500,
    rest_port: Annotated[int, typer.Option(help="REST and metrics port; 0 for none, -1 takes a free one.")] = 0,
    host: Annotated[str, typer.Option(help="Address to listen on; loopback unless told.")] = "127.0.0.1",
    grpc_socket_path: Annotated[Path | None, typer.Option(help="A Unix socket for gRPC.")] = None,
    model_name: Annotated[str, typer.Option(help="The name that clients ask for.")] = "inception",
    model_base_path: Annotated[
        Path | None, typer.Option(help="The directory that has the versions: 1/, 2/, ...")
    ] = None,
    model_config_file: Annotated[
        Path | None, typer.Option(help="A ModelServerConfig text file, instead of a name and a base path.")
    ] = None,
    enable_batching: Annotated[
        bool, typer.Option("--enable-batching/--no-enable-batching", help="Join requests that wait into one run.")
    ] = True,
    batching_parameters_file: Annotated[Path | None, typer.Option(help="A BatchingParameters text file.")] = None,
    monitoring_config_file: Annotated[Path | None, typer.Option(help="A MonitoringConfig text file.")] = None,
    file_system_poll_wait_seconds: Annotated[
        float, typer.Option(min=0, help="Seconds between two looks for new versions; 0 looks at the start only.")
    ] = 1.0,
    tensorflow_session_parallelism: Annotated[
        int, typer.Option(min=0, help="Both kinds of threads of a session; 0 lets TensorFlow choose.")
    ] = 0,
    tensorflow_intra_op_parallelism: Annotated[int, typer.Option(min=0, help="Threads within one operation.")] = 0,
    tensorflow_inter_op_parallelism: Annotated[int, typer.Option(min=0, help="Threads between operations.")] = 0,
    mixed_precision: Annotated[
        Precision, typer.Option(help="bfloat16 for products; auto: where the processor has instructions for it.")
    ] = Precision.NONE,
    ready_file: Annotated[Path | None, typer.Option(help="Write the ports here as JSON once the host serves.")] = None,
    exit_with_parent: Annotated[
        bool, typer.Option("--exit-with-parent", help="Stop when the process that started this one is gone.")
    ] = False,
) -> None:
    """Serve models with TensorFlow Serving's API until SIGTERM, then drain.

    The options are tensorflow_model_server's own. Exit codes: 0 drained, 1 a model or a port cannot be had, 2 a wrong
    option or file.
    """
    if not 0 <= port <= _MAX_PORT or not -1 <= rest_port <= _MAX_PORT:
        raise _fail("serve", f"--port {port} or --rest-port {rest_port} is no port", 2)
    if (model_base_path is None) == (model_config_file is None):
        raise _fail(
            "serve",
            "say what to serve, by --model-base-path DIRECTORY or by --model-config-file FILE; "
            "`imagewarden model export --out DIRECTORY` makes a model",
            2,
        )
    _load_tensorflow_quietly()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    try:
        from imagewarden_serving.host import config, errors, servable, server  # noqa: PLC0415 - TensorFlow takes seconds
    except ModuleNotFoundError as error:
        raise _missing("serve", error) from None
    try:
        if model_config_file is not None:
            models = tuple(config.read_model_config(model_config_file))
        else:
            models = (config.ModelConfig(model_name, (model_base_path or Path()).resolve()),)
        batching = None
        if enable_batching:
            batching = (
                config.read_batching_parameters(batching_parameters_file)
                if batching_parameters_file is not None
                else config.DEFAULT_BATCHING
            )
        options: Options = server.Options(
            models=models,
            host=host,
            port=port,
            rest_port={0: None, -1: 0}.get(rest_port, rest_port),
            grpc_socket_path=grpc_socket_path,
            batching=batching,
            monitoring=(
                config.read_monitoring_config(monitoring_config_file)
                if monitoring_config_file is not None
                else config.MonitoringConfig()
            ),
            sessions=servable.SessionOptions(
                tensorflow_intra_op_parallelism or tensorflow_session_parallelism,
                tensorflow_inter_op_parallelism or tensorflow_session_parallelism,
                mixed_precision.uses_bfloat16(),
            ),
            poll_seconds=file_system_poll_wait_seconds,
            ready_file=ready_file,
            exit_with_parent=exit_with_parent,
        )
    except errors.ConfigError as error:
        raise _fail("serve", str(error), 2) from None
    try:
        asyncio.run(server.serve(options, lambda running: typer.echo(server.describe(running))))
    except (errors.HostError, errors.ConfigError) as error:
        raise _fail("serve", str(error), 1) from None


@app.command()
def fit_logos(
    logos: Annotated[
        list[Path],
        typer.Option(
            help="An unpacked npm icon package: icons.json of Iconify's form, or .svg files. May be said several times."
        ),
    ],
    images: Annotated[
        list[Path],
        typer.Option(help="A directory of photographs without logos, with those below it; may be said several times."),
    ],
    out: Annotated[Path, typer.Option(help="The .npz file to write.")],
    fitting_share: Annotated[
        int,
        typer.Option(min=1, max=256, help="Fit on one of so many photographs, told by the hash of its path; 1: all."),
    ] = 6,
    weights: Annotated[
        str, typer.Option(help="nsfwjs (from npm, pinned), imagenet (from keras.applications), or a .keras file.")
    ] = "nsfwjs",
    scenes: Annotated[int | None, typer.Option(min=1, help="Photographs with logos to make; 10,000 or so.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Of the training; 2,500 or so.")] = None,
    held_out: Annotated[
        int | None, typer.Option(min=0, help="Test on so many logos, and train on the others; 0: train on all.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of all that is left to chance.")] = 1,
    json_output: Annotated[bool, typer.Option("--json", help="Answer the record as JSON.")] = False,
) -> None:
    """Learn to find logos from icon packages and photographs: for `export --logo-head`.

    One brand of four is never fitted on, told by the hash of its name: what is measured on these holds for unknown
    logos. The SVGs of the packages are trusted.

    Exit codes: 0 written, 1 logos, pictures or weights cannot be had or do not do.
    """
    if importlib.util.find_spec("resvg_py") is None:
        raise _fail("fit-logos", f"resvg_py is not installed; install it with: {_INSTALL} resvg-py", 1)
    _load_tensorflow_quietly()
    from rich.console import Console  # noqa: PLC0415 - the help comes without it
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn  # noqa: PLC0415 - the same

    try:
        from imagewarden_serving.fitting import logos as fitting_logos  # noqa: PLC0415 - the help comes without numpy
    except ModuleNotFoundError as error:
        raise _missing("fit-logos", error) from None
    usual = fitting_logos.Settings()
    recipe = fitting_logos.Recipe(
        weights=weights,
        scenes=fitting_logos.SCENES if scenes is None else scenes,
        share=fitting_logos.Share(0, fitting_share),
        seed=seed,
        training=fitting_logos.Settings(
            steps=usual.steps if steps is None else steps,
            seed=seed,
            held_out=usual.held_out if held_out is None else held_out,
        ),
    )
    console = Console(stderr=True)
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
            running: dict[str, TaskID] = {}

            def progress(what: str, done: int, total: int) -> None:
                if what not in running:
                    running[what] = bars.add_task(what, total=total)
                bars.update(running[what], completed=done)

            record = fitting_logos.fit_logos(
                logos, images, out, recipe, say=lambda line: typer.echo(line, err=True), progress=progress
            )
    except ModuleNotFoundError as error:
        raise _missing("fit-logos", error) from None
    except fitting_logos.FitError as error:
        raise _fail("fit-logos", str(error), 1) from None
    if json_output:
        typer.echo(json.dumps(record))
        return
    typer.echo(f"wrote {out}")
    brands, identities, pictures = record["logos"]["brands"], record["logos"]["identities"], record["pictures"]["count"]
    typer.echo(f"{brands} logos, {identities} with their turns; {pictures} pictures, {recipe.scenes} scenes")
    typer.echo(f"loss {record['loss']['first']:.3f} at first, {record['loss']['last']:.3f} at last")
    for row in record["test"]:
        typer.echo(
            f"of logos held out, up to {row['up_to']:.2f} of the picture: {row['found']:.0%} found "
            f"at one false alarm in 1,000 windows, {row['first']:.0%} taken for no other ({row['windows']} windows)"
        )
    typer.echo(f"export with it by: imagewarden model export --out DIRECTORY --logo-head {out}")
