"""`imagewarden model`: export a SavedModel, and serve it.

TensorFlow is imported by the commands, not by this module: the help comes at once.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from imagewarden_serving.host.server import Options

app = typer.Typer(help="Make the model, and serve it.", no_args_is_help=True, add_completion=False)

_INSTALL = "pip install 'imagewarden[serving]'"
_MAX_PORT = 65_535


def _fail(command: str, message: str, code: int) -> typer.Exit:
    typer.echo(f"imagewarden model {command}: {message}", err=True)
    return typer.Exit(code)


def _missing(command: str, error: ModuleNotFoundError) -> typer.Exit:
    return _fail(command, f"{error.name} is not installed; install it with: {_INSTALL}", 1)


def _load_tensorflow_quietly() -> None:
    """Load TensorFlow without the notes that its libraries write about themselves.

    Some are written before any setting of theirs is read, so standard error is closed to them meanwhile; what goes
    wrong is an exception all the same. A missing TensorFlow is left to those who need it to say.
    """
    # Its later notes drown the one line that matters; who wants them sets the variable.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if importlib.util.find_spec("tensorflow") is None:
        return
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        importlib.import_module("tensorflow")
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


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
            threads=servable.SessionThreads(
                tensorflow_intra_op_parallelism or tensorflow_session_parallelism,
                tensorflow_inter_op_parallelism or tensorflow_session_parallelism,
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
