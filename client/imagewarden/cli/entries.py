"""`imagewarden entry` and `imagewarden logo`: banned and allowed pictures, registered logos."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from imagewarden import Client, Entry, EntryChange, EntryState, ResourceExhausted, Unavailable
from imagewarden.cli.files import pictures
from imagewarden.cli.output import fail, print_json, print_table, progress
from imagewarden.cli.pictures import add_each
from imagewarden.cli.report import counted
from imagewarden.cli.state import complete_bank, shared
from imagewarden.cli.words import State

entry_app = typer.Typer(help="Add, list, change and delete entries.", no_args_is_help=True)
logo_app = typer.Typer(help="Register the logos of a brand.", no_args_is_help=True)

Bank = Annotated[str, typer.Option("--bank", help="The bank.", autocompletion=complete_bank)]
Json = Annotated[bool, typer.Option("--json", help="Answer JSON.")]
Labels = Annotated[list[str] | None, typer.Option("--label", help="A label; may be given again.")]
Source = Annotated[str, typer.Option(help="Where it comes from: a case, a team.")]
ExternalId = Annotated[str, typer.Option(help="Your own identifier.")]
Expires = Annotated[
    datetime | None, typer.Option("--expires", help="From when on it is no longer compared, in this machine's time.")
]
Note = Annotated[str, typer.Option(help="What its keepers say of it to each other.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, and change nothing.")]


@entry_app.command("add")
def add(
    context: typer.Context,
    files: Annotated[list[str], typer.Argument(help="Pictures, folders of them, or patterns.")],
    bank: Bank,
    external_id: ExternalId = "",
    label: Labels = None,
    source: Source = "",
    expires: Expires = None,
    note: Note = "",
    dry_run: DryRun = False,
    json_output: Json = False,
) -> None:
    """Ban or allow pictures; each file's path is its external id unless one is given. What is there is skipped."""
    options = shared(context)
    found = pictures(files)
    if external_id and len(found) > 1:
        raise fail(f"--external-id names one entry, and there are {len(found)} pictures")
    as_json = options.json or json_output
    added = skipped = 0
    problems: list[str] = []
    with options.client() as client:
        outcomes = add_each(
            client,
            bank,
            progress(found, "adding", len(found), shown=not as_json),
            external_id=external_id,
            labels=label or (),
            source=source,
            expires=expires,
            note=note,
            dry_run=dry_run,
        )
        try:
            for path, outcome in outcomes:
                if isinstance(outcome, EntryChange):
                    added += 1
                    _print_added(path, outcome, as_json=as_json)
                elif outcome is None:
                    skipped += 1
                else:
                    problems.append(f"{path}: {outcome}")
        except (Unavailable, ResourceExhausted):
            stopped = found[added + skipped + len(problems)]
            typer.echo(f"stopped at {stopped}: added {added} before it, had {skipped} already", err=True)
            raise
    for problem in problems:
        typer.echo(problem, err=True)
    if not as_json:
        typer.echo(f"{'would add' if dry_run else 'added'} {added}, had {skipped} already, refused {len(problems)}")
    if problems:
        raise typer.Exit(2)


def _print_added(path: Path, change: EntryChange, *, as_json: bool) -> None:
    if as_json:
        print_json(change)
    for warning in change.warnings:
        typer.echo(f"{path}: {warning}", err=True)


@logo_app.command("register")
def register(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="Pictures of one logo.")],
    bank: Bank,
    brand: Annotated[str, typer.Option(help="The brand's name.")],
    external_id: ExternalId = "",
    label: Labels = None,
    source: Source = "",
    expires: Expires = None,
    note: Note = "",
    dry_run: DryRun = False,
    json_output: Json = False,
) -> None:
    """Register one logo of a brand from its SVG, or PNG, JPEG or WebP pictures that it fills."""
    options = shared(context)
    with options.client() as client:
        change = client.register_logo(
            bank,
            brand,
            list(files),
            external_id=external_id,
            labels=label or (),
            source=source,
            expire_time=expires,
            note=note,
            validate_only=dry_run,
        )
    if options.json or json_output:
        print_json(change)
    elif dry_run:
        typer.echo("the logo can be registered; nothing was changed")
    else:
        typer.echo(f"registered {change.entry.name}; revision {change.revision}")


def _quarantine(entry: Entry) -> str:
    why = entry.quarantine
    return "no" if why is None else f"{why.reason}, since {why.time.isoformat(timespec='seconds')}: {why.message}"


@entry_app.command("list")
def list_(
    context: typer.Context,
    bank: Bank,
    external_id: ExternalId = "",
    label: Annotated[str, typer.Option(help="Only entries with this label.")] = "",
    state: Annotated[State | None, typer.Option(help="Only entries in this state.", case_sensitive=False)] = None,
    quarantined: Annotated[bool, typer.Option("--quarantined", help="Only quarantined entries.")] = False,
    note: Annotated[str, typer.Option(help="Only entries whose note has this in it.")] = "",
    source: Annotated[str, typer.Option(help="Only entries of this source.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 1_000,
    json_output: Json = False,
) -> None:
    """List the entries of a bank."""
    options = shared(context)
    entries: list[Entry] = []
    with options.client() as client:
        for entry in client.list_entries(
            bank,
            external_id=external_id,
            label=label,
            state=state,
            quarantined=quarantined,
            note=note,
            source=source,
        ):
            entries.append(entry)
            if options.json or json_output:
                print_json(entry)
            if len(entries) == limit:
                break
    if not (options.json or json_output):
        rows = [
            (
                entry.name,
                entry.state if entry.quarantine is None else f"{entry.state}, quarantined",
                entry.brand or entry.external_id,
                " ".join(dict.fromkeys(signal.type for signal in entry.signals)),
                " ".join(entry.labels),
            )
            for entry in entries
        ]
        print_table("", ("entry", "state", "brand or external id", "signals", "labels"), rows)


@entry_app.command("show")
def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="banks/.../entries/...")],
    json_output: Json = False,
) -> None:
    """Show one entry with its signals."""
    options = shared(context)
    with options.client() as client:
        entry = client.get_entry(name)
    if options.json or json_output:
        print_json(entry)
        return
    rows: list[tuple[str, object]] = [
        ("name", entry.name),
        ("state", entry.state),
        ("external id", entry.external_id),
        ("brand", entry.brand),
        ("labels", " ".join(entry.labels)),
        ("source", entry.source),
        ("note", entry.note),
        ("expires", entry.expire_time.isoformat() if entry.expire_time else "never"),
        ("reports", counted(entry)),
        ("quarantine", _quarantine(entry)),
    ]
    for signal in entry.signals:
        vectors = f"{signal.views} views of {signal.dimensions} dimensions, model {signal.model_version[:12]}"
        rows.append((f"signal {signal.type}", signal.hex or vectors))
    rows += [
        (f"report of {one.time:%Y-%m-%d}", f"{one.opinion} by {one.reporter}, {one.sha256[:12]}: {one.note}")
        for one in entry.reports
    ]
    print_table("", ("field", "value"), rows)


@entry_app.command("update")
def update(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="banks/.../entries/...")] = "",
    bank: Annotated[
        str,
        typer.Option(help="With --source and --enable or --disable: all such entries.", autocompletion=complete_bank),
    ] = "",
    enable: Annotated[bool | None, typer.Option("--enable/--disable", help="Compare with it, or not.")] = None,
    external_id: Annotated[str | None, typer.Option(help="Your own identifier.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="A label; replaces all; may be given again.")] = None,
    source: Annotated[str | None, typer.Option(help="Where it comes from; with --bank: whose entries.")] = None,
    brand: Annotated[str | None, typer.Option(help="The brand's name.")] = None,
    note: Annotated[str | None, typer.Option(help="What its keepers say of it to each other.")] = None,
    expires: Expires = None,
    never_expires: Annotated[bool, typer.Option("--never-expires", help="Take its expiry away.")] = False,
    quarantine: Annotated[
        str | None, typer.Option(help="Put it under quarantine, and say why: it blocks nothing from then on.")
    ] = None,
    release: Annotated[
        bool, typer.Option("--release", help="Lift its quarantine; what was reported until now is forgiven.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="With --bank: do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --bank: say which, and change nothing.")] = False,
    json_output: Json = False,
) -> None:
    """Change an entry, what is not given stays as it is; or enable or disable all entries of a source."""
    options = shared(context)
    if bool(name) == bool(bank):
        raise fail("name an entry, or say --bank with --source and --enable or --disable")
    if bank:
        rest = (external_id, label, brand, note, expires, quarantine)
        if not source or enable is None or never_expires or release or any(one is not None for one in rest):
            raise fail(
                "--bank takes --source, and --enable or --disable; all else is changed of one entry, by its name"
            )
        with options.client() as client:
            _switch(client, bank, source, enable=enable, yes=yes, dry_run=dry_run, as_json=options.json or json_output)
        return
    if yes or dry_run:
        raise fail("--yes and --dry-run are for --bank with --source; an entry that is named is changed at once")
    if quarantine is not None and release:
        raise fail("--quarantine and --release are each other's contrary; give one of them")
    state = None if enable is None else (EntryState.ACTIVE if enable else EntryState.DISABLED)
    with options.client() as client:
        change = client.update_entry(
            name,
            external_id=external_id,
            labels=label,
            source=source,
            brand=brand,
            note=note,
            state=state,
            expire_time=expires,
            never_expires=never_expires,
            quarantine=quarantine,
            release=release,
        )
    _print_changed(change, as_json=options.json or json_output)


def _print_changed(change: EntryChange, *, as_json: bool) -> None:
    if as_json:
        print_json(change)
    else:
        held = "" if change.entry.quarantine is None else " and quarantined"
        typer.echo(f"{change.entry.name} is {change.entry.state}{held}; revision {change.revision}")


def _switch(client: Client, bank: str, source: str, *, enable: bool, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Enable or disable the entries of a source that are not so already; what is expired is not enabled."""
    word, state = ("enable", EntryState.ACTIVE) if enable else ("disable", EntryState.DISABLED)
    found = client.list_entries(bank, source=source, state=EntryState.DISABLED if enable else None)
    entries = [entry for entry in found if entry.state is not state]
    if dry_run:
        for entry in entries:
            typer.echo(f"would {word} {entry.name} {entry.external_id}".rstrip())
        return
    if not entries:
        typer.echo(f"there is no entry of this source to {word}", err=as_json)
        return
    if not yes:
        typer.confirm(f"{word.capitalize()} {len(entries)} entries?", abort=True)
    for entry in progress(entries, f"{word[:-1]}ing", len(entries), shown=not as_json):
        _print_changed(client.update_entry(entry.name, state=state), as_json=as_json)


@entry_app.command("delete")
def delete(
    context: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(help="banks/.../entries/...")] = None,
    bank: Annotated[
        str,
        typer.Option(help="With --label, --external-id or --source: all such entries.", autocompletion=complete_bank),
    ] = "",
    label: Annotated[str, typer.Option(help="With --bank: all entries with this label.")] = "",
    external_id: Annotated[str, typer.Option(help="With --bank: all entries of this external id.")] = "",
    source: Annotated[str, typer.Option(help="With --bank: all entries of this source.")] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: DryRun = False,
) -> None:
    """Delete entries, by name or all that fit: from then on no check finds them."""
    options = shared(context)
    with options.client() as client:
        entries = _chosen(client, names or [], bank, label, external_id, source)
        if dry_run:
            for entry in entries:
                typer.echo(f"would delete {entry.name} {entry.external_id}".rstrip())
            return
        if not entries:
            typer.echo("there is no such entry")
            return
        if not yes:
            typer.confirm(f"Delete {len(entries)} entries?", abort=True)
        for entry in progress(entries, "deleting", len(entries)):
            gone = client.delete_entry(entry.name)
            typer.echo(f"deleted {entry.name}; revision {gone.revision}")


def _chosen(client: Client, names: list[str], bank: str, label: str, external_id: str, source: str) -> list[Entry]:
    if bool(names) == bool(bank) or bool(bank) != bool(label or external_id or source):
        raise fail(
            "name entries, or say --bank with --label, --external-id or --source; a whole bank goes by "
            "`bank delete --force`"
        )
    if bank:
        return list(client.list_entries(bank, label=label, external_id=external_id, source=source))
    return [client.get_entry(name) for name in names]
