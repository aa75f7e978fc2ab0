"""`imagewarden serve`: the server, and with --embedded the model host beside it."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from imagewarden_server import logs
from imagewarden_server.app import App
from imagewarden_server.catalog import CatalogError
from imagewarden_server.listening import CertificateError
from imagewarden_server.settings import Settings, SettingsError, load_settings
from imagewarden_server.state import StateInUse

app = typer.Typer(help="Run the moderation server.", invoke_without_command=True, add_completion=False)

_MODEL_START_SECONDS = 180.0


@app.callback()
def serve(
    config: Annotated[Path | None, typer.Option(help="A TOML settings file.")] = None,
    listen: Annotated[str | None, typer.Option(help="gRPC address, host:port or unix:PATH.")] = None,
    metrics_listen: Annotated[str | None, typer.Option(help="HTTP address of /metrics and health.")] = None,
    state_dir: Annotated[Path | None, typer.Option(help="Where the catalogue and the index are kept.")] = None,
    model_address: Annotated[str | None, typer.Option(help="The TensorFlow Serving host.")] = None,
    model_name: Annotated[str | None, typer.Option(help="The model's name there.")] = None,
    embedded: Annotated[
        bool, typer.Option("--embedded", help="Also start the embedded model host, on a Unix socket of its own.")
    ] = False,
    model_base_path: Annotated[
        Path | None, typer.Option(help="With --embedded: the directory that has the model's versions.")
    ] = None,
    ready_file: Annotated[
        Path | None, typer.Option(help="Write the addresses here as JSON once the server serves.")
    ] = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain and close; SIGHUP reads again what can change of the settings."""
    load = functools.partial(
        load_settings,
        config,
        listen=listen,
        metrics_listen=metrics_listen,
        state_dir=state_dir,
        model_address=model_address,
        model_name=model_name,
    )
    try:
        settings = load()
    except SettingsError as error:
        typer.echo(f"imagewarden serve: {error}", err=True)
        raise typer.Exit(2) from None
    if embedded and model_base_path is None:
        typer.echo(
            "imagewarden serve: --embedded needs --model-base-path; make a model with `imagewarden model export`",
            err=True,
        )
        raise typer.Exit(2)
    logs.configure(settings.log_format, settings.log_level)
    try:
        # A quarter less of a small call than asyncio's own loop (docs/performance.md).
        uvloop.run(_run(settings, load, model_base_path if embedded else None, ready_file))
    except (CatalogError, CertificateError, StateInUse, OSError, RuntimeError) as error:
        typer.echo(f"imagewarden serve: {error}", err=True)
        raise typer.Exit(1) from None


async def _run(
    settings: Settings, load: Callable[[], Settings], model_base_path: Path | None, ready_file: Path | None
) -> None:
    stop, reread = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reread.set)
    if model_base_path is None:
        await _serve(settings, load, ready_file, stop, reread)
        return
    with tempfile.TemporaryDirectory(prefix="imagewarden-") as scratch:
        socket = Path(scratch) / "model.sock"
        host = await _start_model_host(settings.model_name, model_base_path, socket, Path(scratch) / "ready.json")
        watcher = asyncio.create_task(_watch(host, stop))
        try:

            def embedded(made: Settings) -> Settings:
                return made.model_copy(update={"model_address": f"unix:{socket}"})

            await _serve(embedded(settings), lambda: embedded(load()), ready_file, stop, reread)
        finally:
            watcher.cancel()
            if host.returncode is None:
                host.terminate()
                await host.wait()


async def _serve(
    settings: Settings,
    load: Callable[[], Settings],
    ready_file: Path | None,
    stop: asyncio.Event,
    reread: asyncio.Event,
) -> None:
    async with App(settings) as running:
        if ready_file is not None:
            temporary = ready_file.with_suffix(".tmp")
            temporary.write_text(json.dumps({"grpc": running.addresses.grpc, "http": running.addresses.http}))
            temporary.replace(ready_file)
        rereader = asyncio.create_task(_reread(running, load, reread))
        await stop.wait()
        rereader.cancel()
        logs.logger().info("stopping", grace_seconds=settings.drain_seconds)


async def _reread(running: App, load: Callable[[], Settings], told: asyncio.Event) -> None:
    """Have the server take settings again each time that it is told to."""
    while True:
        await told.wait()
        told.clear()
        running.reread(load)


async def _start_model_host(name: str, base_path: Path, socket: Path, ready: Path) -> asyncio.subprocess.Process:
    """Start the model host as a process of its own: this one never loads TensorFlow."""
    arguments = ["model", "serve", "--model-name", name, "--model-base-path", str(base_path), "--port", "0"]
    arguments += ["--grpc-socket-path", str(socket), "--ready-file", str(ready), "--exit-with-parent"]
    host = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "imagewarden", *arguments, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    )
    deadline = asyncio.get_running_loop().time() + _MODEL_START_SECONDS
    while not await asyncio.to_thread(ready.exists):
        if host.returncode is not None:
            raise RuntimeError(f"the embedded model host ended with exit code {host.returncode}; its message is above")
        if asyncio.get_running_loop().time() > deadline:
            host.kill()
            raise RuntimeError(f"the embedded model host was not ready in {_MODEL_START_SECONDS:.0f} seconds")
        await asyncio.sleep(0.1)
    return host


async def _watch(host: asyncio.subprocess.Process, stop: asyncio.Event) -> None:
    """A model host that dies is said; checks go on by digest and hash, and answer UNDECIDED where they must."""
    code = await host.wait()
    if not stop.is_set():
        logs.logger().error("the embedded model host ended", exit_code=code, hint="restart the server to have it again")
