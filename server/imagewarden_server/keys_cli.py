"""`imagewarden key`: who may use the service; on the machine that has its state, whether or not the server runs."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from imagewarden_server.access import Key, NewKey, Role, new_key
from imagewarden_server.access.keys import new_id
from imagewarden_server.catalog import CatalogError, SqlCatalog
from imagewarden_server.catalog.errors import KeyNotFound
from imagewarden_server.matching import actor
from imagewarden_server.matching.visible import Banks
from imagewarden_server.settings import SettingsError, load_settings

app = typer.Typer(no_args_is_help=True, help="Keys: who may use the service, and for what.")

_SPAN = re.compile(r"(\d+)([dhw])")
_HOURS = {"h": 1, "d": 24, "w": 168}

StateDir = Annotated[
    Path | None, typer.Option(help="The server's state; unset: as IMAGEWARDEN_STATE_DIR or the settings file says.")
]
Json = Annotated[bool, typer.Option("--json", help="Answer JSON, one object a line.")]


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Whose it is, for people: `upload hook of the forum`.")],
    role: Annotated[Role, typer.Option(help="What it may do.", case_sensitive=False)],
    bank: Annotated[
        list[str] | None,
        typer.Option(
            help="Good for this bank, or with * behind it for all that begin so; may be given again. Unset: all."
        ),
    ] = None,
    expires: Annotated[
        str,
        typer.Option(help="After 12h, 90d or 4w, or on a date: 2027-01-31; or `never`."),
    ] = "365d",
    calls_per_second: Annotated[
        float | None, typer.Option(min=0.001, help="How many calls it may make in the long run; unset: any number.")
    ] = None,
    concurrent_calls: Annotated[
        int | None, typer.Option(min=1, help="How many calls may run at once; unset: any number.")
    ] = None,
    certificate: Annotated[
        str | None,
        typer.Option(help="No secret: whoever shows a client certificate of this name (DNS, URI or common name)."),
    ] = None,
    state_dir: StateDir = None,
    json_output: Json = False,
) -> None:
    """Make a key, and show it: this once. A running server knows it within a second."""
    if role is Role.BRAND and not bank:
        raise _fail("a brand's key is good for its own banks: name them by --bank")
    try:
        new = NewKey(
            name=_text(name),
            role=role,
            banks=Banks(tuple(bank) if bank else ("*",)),
            certificate=certificate,
            calls_per_second=calls_per_second,
            concurrent_calls=concurrent_calls,
            expire_time=_expiry(expires),
        )
    except ValueError as error:
        raise _fail(str(error)) from None
    with _catalog(state_dir) as catalog:
        if certificate is not None:
            text = ""
            try:
                key = catalog.keys.add_key(new_id(), new, b"")
            except CatalogError as error:
                raise _fail(str(error)) from None
        else:
            id_, text, digest = new_key()
            key = catalog.keys.add_key(id_, new, digest)
    if json_output:
        typer.echo(json.dumps(_said(key) | ({"key": text} if text else {}), ensure_ascii=False))
        return
    if text:
        typer.echo(text)
    good = "never expires" if new.expire_time is None else f"good until {new.expire_time:%Y-%m-%d %H:%M} UTC"
    note = f"made {key.id}: {role.value} of {', '.join(new.banks.patterns)}, {good}"
    typer.echo(f"{note}; it is shown this once, keep it as a secret" if text else note, err=True)


@app.command("list")
def list_(state_dir: StateDir = None, json_output: Json = False) -> None:
    """List the keys: never the secrets, of which only digests are kept."""
    with _catalog(state_dir) as catalog:
        keys = catalog.keys.all_keys()
    if json_output:
        for key in keys:
            typer.echo(json.dumps(_said(key), ensure_ascii=False))
        return
    console = Console() if sys.stdout.isatty() else Console(width=200)
    table = Table(header_style="bold")
    for column in ("key", "name", "role", "banks", "state", "expires", "calls a second", "at once"):
        table.add_column(column, overflow="fold")
    for key in keys:
        said = _said(key)
        cells = ("id", "name", "role", "banks", "state", "expire_time", "calls_per_second", "concurrent_calls")
        table.add_row(*(", ".join(one) if isinstance(one := said[cell], list) else str(one or "") for cell in cells))
    console.print(table)


@app.command("revoke")
def revoke(
    key: Annotated[str, typer.Argument(help="Its id, as `key list` and the log show it.")],
    state_dir: StateDir = None,
    json_output: Json = False,
) -> None:
    """Revoke a key for good: a running server refuses it within a second."""
    with _catalog(state_dir) as catalog:
        try:
            revoked = catalog.keys.revoke_key(key)
        except KeyNotFound as error:
            raise _fail(str(error)) from None
    if json_output:
        typer.echo(json.dumps(_said(revoked), ensure_ascii=False))
    else:
        typer.echo(f"revoked {revoked.label}")


@contextmanager
def _catalog(state_dir: Path | None) -> Iterator[SqlCatalog]:
    """The catalogue of the server's state, with whoever runs the command as the actor."""
    try:
        settings = load_settings(state_dir=state_dir)
        catalog = SqlCatalog.open(settings.state_dir / "catalog.sqlite3")
    except (SettingsError, CatalogError, OSError) as error:
        raise _fail(str(error)) from None
    actor.acting(actor.Actor("command line"))
    try:
        yield catalog
    finally:
        catalog.close()


def _said(key: Key) -> dict[str, Any]:
    now = datetime.now(UTC)
    new = key.new
    state = "revoked" if key.revoke_time else "good" if key.good(now) else "expired"
    return {
        "id": key.id,
        "name": new.name,
        "role": new.role.value,
        "banks": list(new.banks.patterns),
        "certificate": new.certificate,
        "state": state,
        "create_time": key.create_time.isoformat(),
        "expire_time": None if new.expire_time is None else new.expire_time.isoformat(),
        "revoke_time": None if key.revoke_time is None else key.revoke_time.isoformat(),
        "calls_per_second": new.calls_per_second,
        "concurrent_calls": new.concurrent_calls,
    }


def _text(name: str) -> str:
    if not 1 <= len(name) <= 100 or not name.isprintable():
        raise ValueError(f"{name[:100]!r} is no name; write 1 to 100 printable characters that say whose key it is")
    return name


def _expiry(said: str) -> datetime | None:
    """Raises ValueError."""
    now = datetime.now(UTC)
    if said == "never":
        return None
    if span := _SPAN.fullmatch(said):
        when = now + timedelta(hours=int(span[1]) * _HOURS[span[2]])
    else:
        try:
            when = datetime.fromisoformat(said)
        except ValueError:
            raise ValueError(f"{said!r} is no time; write 12h, 90d, 4w, a date such as 2027-01-31, or never") from None
        when = when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
    if when <= now:
        raise ValueError(f"{said!r} is in the past; the key would be good for nothing")
    return when


def _fail(message: str) -> typer.Exit:
    typer.echo(f"imagewarden key: {message}", err=True)
    return typer.Exit(2)
