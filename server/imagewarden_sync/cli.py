"""`imagewarden sync`: keep banks as hash exchanges have them.

What a run needs is imported by the command, not by this module: the help and the status come at once.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
import time
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from imagewarden.cli.output import EXIT_UNREACHABLE, EXIT_USE, fail, print_json, print_table
from imagewarden.cli.state import shared
from imagewarden_sync import config, log, status
from imagewarden_sync.config import KINDS, ExchangeConfig
from imagewarden_sync.errors import ConfigError, SyncError

app = typer.Typer(add_completion=False)

_FAILING = 1


def default_state_dir() -> Path:
    """Where the XDG Base Directory Specification puts a user's state."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "imagewarden" / "sync"


StateDir = Annotated[
    Path | None,
    typer.Option(help="What is kept between runs; unset: ~/.local/state/imagewarden/sync.", file_okay=False),
]
Json = Annotated[bool, typer.Option("--json", help="Answer JSON, one object an exchange.")]


def _complete_kind(incomplete: str) -> list[str]:
    return [kind for kind in KINDS if kind.startswith(incomplete)]


@app.callback(invoke_without_command=True)
def sync(
    context: typer.Context,
    config_file: Annotated[
        Path | None, typer.Option("--config", help="A TOML file that names exchanges; docs/sync.md shows one.")
    ] = None,
    kind: Annotated[
        str,
        typer.Option(help=f"One exchange, without a file: {', '.join(KINDS)}.", autocompletion=_complete_kind),
    ] = "",
    name: Annotated[str, typer.Option(help="Of that exchange, and the source of its entries; unset: its kind.")] = "",
    bank: Annotated[str, typer.Option(help="The bank it goes into.")] = "",
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE: one of its settings; may be given again.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Of the file's exchanges this one; may be given again.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Pull each exchange once, and end.")] = False,
    every: Annotated[
        str, typer.Option(help="Pull all of them so often, whatever the file says: 90s, 15m, 2h, 1d.")
    ] = "",
    full: Annotated[
        bool, typer.Option("--full", help="First fetch all anew, as after a copy of the catalogue was restored.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="First take out what is gone, even if it is more than half.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Fetch, have the service check all, and change nothing; once.")
    ] = False,
    state_dir: StateDir = None,
    json_output: Json = False,
) -> None:
    """Pull hash exchanges into banks: what is new is added, what was taken back is removed.

    Runs until SIGTERM or Ctrl-C, which end it between two deltas; a kill at any moment loses nothing. Credentials are
    read from the environment or from files that nobody else may read, never from --config or arguments. Exit codes:
    0 done, 2 somebody has to do something, 4 an exchange or the service did not answer.
    """
    if context.invoked_subcommand is not None:
        return
    options = shared(context)
    log.configure()
    try:
        exchanges = _chosen(config_file, kind, name, bank, setting or [], only or [], every)
    except SyncError as error:
        raise fail(f"sync: {error.message}") from None
    # The package writes times of this machine's zone as if they were UTC: east of Greenwich it would ask NCMEC for the
    # future, and never again for what changes until then.
    os.environ["TZ"] = "UTC"
    time.tzset()

    from imagewarden_sync import service  # noqa: PLC0415 -- the package of exchanges takes seconds to import
    from imagewarden_sync.pull import How  # noqa: PLC0415 -- the same

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    how = How(options.server, whole=full, force=force, dry_run=dry_run)
    with options.client() as client:
        state = state_dir or default_state_dir()
        runners = [service.Runner(one, state, client, how, stop) for one in exchanges]
        ended = service.run(runners, stop, once=once or dry_run)
    if not ended:
        log.warning("left", why="a fetch did not end in time; what it brought in until now is kept")
    if once or dry_run:
        _report([one.status for one in runners], as_json=options.json or json_output)
        _exit([one.error for one in runners])


def _chosen(
    file: Path | None, kind: str, name: str, bank: str, settings: list[str], only: list[str], every: str
) -> list[ExchangeConfig]:
    """The exchanges that the options name."""
    if (file is None) == (not kind):
        raise ConfigError("give either --config or --kind")
    if file is not None:
        if name or bank or settings:
            raise ConfigError("--name, --bank and --set go with --kind; with --config the file says them")
        found = list(config.load(file))
    else:
        if not bank:
            raise ConfigError("--kind needs --bank, the bank that it goes into")
        said = {"name": name or kind, "kind": kind, "bank": bank, **dict(map(_setting, settings))}
        found = [config.exchange(said, "options")]
    unknown = sorted(set(only) - {one.name for one in found})
    if unknown:
        raise ConfigError(f"--only {unknown[0]}: there is no such exchange")
    if every:
        found = [dataclasses.replace(one, every=config.seconds(every, "--every")) for one in found]
    return [one for one in found if not only or one.name in only]


def _setting(text: str) -> tuple[str, Any]:
    """KEY=VALUE, the value as TOML has it; what is none is a text."""
    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier():
        raise ConfigError(f"--set {text!r} is no KEY=VALUE")
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value


def _exit(errors: list[SyncError | None]) -> None:
    found = [error for error in errors if error is not None]
    if any(not error.passing for error in found):
        raise typer.Exit(EXIT_USE)
    if found:
        raise typer.Exit(EXIT_UNREACHABLE)


@app.command("status")
def show_status(context: typer.Context, state_dir: StateDir = None, json_output: Json = False) -> None:
    """Show what became of each exchange's last run. Exit code 1: one is failing, or none was ever pulled."""
    found = status.read_all(state_dir or default_state_dir())
    as_json = shared(context).json or json_output
    if not found and not as_json:
        typer.echo(f"nothing was pulled yet by what is kept in {state_dir or default_state_dir()}", err=True)
    _report(found, as_json=as_json)
    if not found or any(one.state == "failing" for one in found):
        raise typer.Exit(_FAILING)


def _report(found: list[status.Status], *, as_json: bool) -> None:
    if as_json:
        for one in found:
            print_json(one.said())
        return
    if not found:
        return
    columns = (
        "exchange",
        "bank",
        "state",
        "last success (UTC)",
        "fetched",
        "added",
        "updated",
        "removed",
        "refused",
        "why",
    )
    rows = [
        (
            one.name,
            one.bank,
            one.state,
            status.moment(one.last_success).removesuffix("+00:00").replace("T", " ") or "never",
            one.counts.fetched,
            one.counts.added,
            one.counts.updated,
            one.counts.removed,
            one.counts.refused,
            one.error,
        )
        for one in found
    ]
    print_table("", columns, rows)
