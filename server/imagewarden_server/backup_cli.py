"""`imagewarden backup` and `imagewarden restore`: copies of the catalogue, where the server's state is."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from imagewarden_server.catalog import CatalogError
from imagewarden_server.catalog.copies import Copy, back_up, copies, newest, restore
from imagewarden_server.matching import actor
from imagewarden_server.settings import SettingsError, load_settings
from imagewarden_server.state import StateInUse, alone

StateDir = Annotated[
    Path | None, typer.Option(help="The server's state; unset: as IMAGEWARDEN_STATE_DIR or the settings file says.")
]
Json = Annotated[bool, typer.Option("--json", help="Answer JSON.")]

backup_app = typer.Typer(add_completion=False)
restore_app = typer.Typer(add_completion=False)


@backup_app.command()
def backup(
    into: Annotated[Path, typer.Argument(file_okay=False, help="A folder, on another disk than the state's.")],
    keep: Annotated[
        int | None, typer.Option(min=1, help="Keep so many copies in the folder, and delete older ones; unset: all.")
    ] = None,
    state_dir: StateDir = None,
    json_output: Json = False,
) -> None:
    """Copy the catalogue while the server runs, or not: all that was acknowledged before, checked, in one file."""
    console = Console(stderr=True)
    try:
        state = load_settings(state_dir=state_dir).state_dir
        with console.status("copying") if console.is_terminal and not json_output else contextlib.nullcontext():
            made = back_up(state, into)
    except (SettingsError, CatalogError, OSError) as error:
        raise _fail("backup", error) from None
    deleted = copies(into, made.catalog_id)[keep:] if keep else []
    for old in deleted:
        old.unlink()
    if json_output:
        typer.echo(json.dumps(_said(made) | {"deleted": [str(old) for old in deleted]}))
    else:
        typer.echo(f"{made.path}: {made.nbytes:,} bytes, all changes to {made.revision}")


@restore_app.command()
def restore_(
    copy: Annotated[Path, typer.Argument(exists=True, help="A copy, or a folder of copies: its newest.")],
    state_dir: StateDir = None,
    json_output: Json = False,
) -> None:
    """Put a copy in the place of the catalogue, while no server runs; what is there is moved aside.

    Changes that were made after the copy are not in it: `imagewarden audit list` says what the last ones were.
    """
    try:
        state = load_settings(state_dir=state_dir).state_dir
        copy = newest(copy)
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        actor.acting(actor.Actor("command line"))
        with alone(state):
            restored, aside = restore(copy, state)
    except (SettingsError, CatalogError, StateInUse, OSError) as error:
        raise _fail("restore", error) from None
    if json_output:
        typer.echo(json.dumps(_said(restored) | {"aside": None if aside is None else str(aside)}))
        return
    typer.echo(f"restored {copy}: all changes to {restored.revision}")
    if not restored.verified:
        typer.echo("its name has no digest of its bytes: only its structure was checked", err=True)
    if aside is not None:
        typer.echo(f"what was there is in {aside}", err=True)


def _said(copy: Copy) -> dict[str, Any]:
    return {
        "path": str(copy.path),
        "catalog": copy.catalog_id,
        "revision": copy.revision,
        "bytes": copy.nbytes,
        "verified": copy.verified,
    }


def _fail(name: str, error: Exception) -> typer.Exit:
    typer.echo(f"imagewarden {name}: {error}", err=True)
    return typer.Exit(2)
