"""The command `imagewarden`, over the client. Commands of other layers are found by name when they are run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import typer

from imagewarden._errors import ImageWardenError
from imagewarden._version import version
from imagewarden.cli import audit, banks, check, entries, lists, report, search
from imagewarden.cli.output import EXIT_USE, exit_code, fail
from imagewarden.cli.state import Global, key_of

app = typer.Typer(
    no_args_is_help=True,
    help="Check pictures against banned images, banned hashes and brand logos; keep the banks.",
    epilog="Exit codes: 0 done, 2 wrong use, a file that cannot be read or a request that was refused, 4 the service "
    "cannot be reached or did not answer; of check also 1 something to block and 3 something to review.",
)
app.command("check")(check.check)
app.command("search")(search.search)
app.command("report")(report.report)
app.add_typer(banks.bank_app, name="bank")
app.add_typer(banks.hash_app, name="hash")
app.add_typer(entries.entry_app, name="entry")
app.add_typer(entries.logo_app, name="logo")
app.command("import")(lists.import_list)
app.command("export")(lists.export)
app.add_typer(audit.audit_app, name="audit")

_DELEGATED = {
    "serve": ("Run the moderation server.", "server"),
    "key": ("Make, list and revoke keys, on the server's machine.", "server"),
    "sync": ("Keep banks as hash exchanges have them.", "sync"),
    "backup": ("Copy the catalogue while the server runs.", "server"),
    "restore": ("Put a copy in the place of the catalogue.", "server"),
    "model": ("Export the model, and host it.", "serving"),
    "eval": ("Measure recognition over the product's own path.", "eval"),
    "bench": ("Measure how fast the service is on this machine, beside its limits and its peers.", "bench"),
}
_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def _delegate(name: str, extra: str, context: typer.Context) -> None:
    """Run a command of another layer, with the options before it: this one never imports it."""
    found = next(iter(entry_points(group="imagewarden.commands", name=name)), None)
    if found is None:
        raise fail(f"{name} is not installed: pip install 'imagewarden[{extra}]'")
    try:
        command = found.load()
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("imagewarden"):
            raise  # a part of this package is missing: that is a bug, and no extra mends it
        raise fail(f"{name} needs {error.name}: pip install 'imagewarden[{extra}]'") from None
    command(args=context.args, prog_name=f"imagewarden {name}", obj=context.obj)


def _register(name: str, text: str, extra: str) -> None:
    @app.command(name, help=text, context_settings=_PASS_ON)
    def run_other(context: typer.Context) -> None:
        _delegate(name, extra, context)


for _name, (_text, _extra) in _DELEGATED.items():
    _register(_name, _text, _extra)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"imagewarden {version()}")
        raise typer.Exit


@app.callback()
def main(
    context: typer.Context,
    server: Annotated[
        str, typer.Option(envvar="IMAGEWARDEN_SERVER", help="The service's address, host:port.")
    ] = "127.0.0.1:50051",
    timeout: Annotated[float, typer.Option(help="Seconds a call may take.")] = 30.0,
    tls: Annotated[bool, typer.Option("--tls", help="Use TLS with the machine's own roots.")] = False,
    tls_ca: Annotated[
        str | None, typer.Option(envvar="IMAGEWARDEN_TLS_CA", help="PEM roots of the server's certificate.")
    ] = None,
    tls_certificate: Annotated[
        str | None, typer.Option(envvar="IMAGEWARDEN_CLIENT_CERTIFICATE", help="PEM certificate of this client.")
    ] = None,
    tls_key: Annotated[
        str | None, typer.Option(envvar="IMAGEWARDEN_CLIENT_KEY", help="PEM key of this client.")
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option(envvar="IMAGEWARDEN_KEY_FILE", help="A file with the key to show; else IMAGEWARDEN_KEY has it."),
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Answer JSON, one object a line.")] = False,
    shown_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of all commands; `--json` may stand behind the command too."""
    del shown_version
    context.obj = Global(server, timeout, tls, tls_ca, tls_certificate, tls_key, json_output, key_of(key_file))


def run(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; errors of the service are one line and an exit code.

    Args:
        arguments: what follows the command's name; None: those of this process.
    """
    try:
        app(args=arguments, prog_name="imagewarden")
    except ImageWardenError as error:
        reason = f" [{error.reason}]" if error.reason else ""
        typer.echo(f"imagewarden: {error.message}{reason}", err=True)
        sys.exit(exit_code(error))
    except (OSError, ValueError) as error:
        typer.echo(f"imagewarden: {error}", err=True)
        sys.exit(EXIT_USE)
