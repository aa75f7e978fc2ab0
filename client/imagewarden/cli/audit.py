"""`imagewarden audit`: what was done and refused, by whom, and whether that record is whole."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from imagewarden import AuditEvent, Client
from imagewarden.cli.output import EXIT_USE, fail, plain, print_json, print_table
from imagewarden.cli.state import complete_bank, shared

audit_app = typer.Typer(no_args_is_help=True, help="What was done and refused, and by whom.")

_BROKEN = 1
_MOST_SHOWN = 80

Bank = Annotated[str, typer.Option(help="Only of this bank and its entries.", autocompletion=complete_bank)]
Actor = Annotated[str, typer.Option(help="Only of actors whose name has this in it.")]
Method = Annotated[str, typer.Option(help="Only of this method, such as AddHashes.")]
Outcome = Annotated[str, typer.Option(help="Only with this outcome: OK, or a refusal such as PERMISSION_DENIED.")]
Since = Annotated[datetime | None, typer.Option(help="Not before, UTC.")]
Until = Annotated[datetime | None, typer.Option(help="Before, UTC.")]


@audit_app.command("list")
def list_(
    context: typer.Context,
    bank: Bank = "",
    actor: Actor = "",
    method: Method = "",
    outcome: Outcome = "",
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 50,
    json_output: Annotated[bool, typer.Option("--json", help="Answer JSON, one object a line.")] = False,
) -> None:
    """List events, the newest first."""
    options = shared(context)
    found = []
    with options.client() as client:
        for event in client.list_audit_events(
            bank=bank,
            actor=actor,
            method=method,
            outcome=outcome,
            since=_utc(since),
            until=_utc(until),
            newest_first=True,
            page_size=min(limit, 1_000),
        ):
            found.append(event)
            if len(found) == limit:
                break
    if options.json or json_output:
        for event in found:
            print_json(event)
        return
    rows = [
        (
            event.sequence,
            f"{event.time:%Y-%m-%d %H:%M:%S}",
            event.actor,
            event.method,
            event.resource,
            event.outcome if event.count == 1 else f"{event.outcome} x {event.count}",
            _changed(event),
        )
        for event in found
    ]
    print_table("", ("event", "UTC", "who", "did", "to", "outcome", "what changed"), rows)


@audit_app.command("export")
def export(
    context: typer.Context,
    out: Annotated[Path | None, typer.Argument(dir_okay=False, help="A file; unset: standard output.")] = None,
    bank: Bank = "",
    since: Since = None,
    until: Until = None,
) -> None:
    """Write events as JSON lines, in the order they were added."""
    options = shared(context)
    count = 0
    with options.client() as client:
        stream = sys.stdout if out is None else out.open("w", encoding="utf-8")
        try:
            found = client.list_audit_events(bank=bank, since=_utc(since), until=_utc(until), page_size=1_000)
            for event in _whole(client, found):
                stream.write(json.dumps(plain(event), ensure_ascii=False) + "\n")
                count += 1
        finally:
            if out is not None:
                stream.close()
    typer.echo(f"{count} events", err=True)


@audit_app.command("verify")
def verify(
    context: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(exists=True, dir_okay=False, help="What `export` wrote; unset: the service's own.")
    ] = None,
    expect: Annotated[
        str, typer.Option(help="NUMBER:HASH of an event that you have kept: the record must still have it.")
    ] = "",
    json_output: Annotated[bool, typer.Option("--json", help="Answer JSON.")] = False,
) -> None:
    """Tell whether the record is whole: each event follows from those before it.

    Who can write the server's files could begin another record: keep a number and a hash elsewhere, as this command
    and the log's line at each start say them, and have them compared by --expect. Exit code 1: it is not whole.
    """
    options = shared(context)
    kept = _kept(expect)
    if file is not None:
        last, problem = _follow(_read(file), kept)
    else:
        with options.client() as client:
            last, problem = _follow(_whole(client, client.list_audit_events(page_size=1_000)), kept)
    said: dict[str, Any] = {
        "whole": not problem,
        "events": last.sequence if last else 0,
        "hash": last.hash if last else "",
        "problem": problem,
    }
    if options.json or json_output:
        print_json(said)
    elif problem:
        typer.echo(f"the record is not whole: {problem}", err=True)
    else:
        typer.echo(f"whole: {said['events']} events; keep {said['events']}:{said['hash']}")
    if problem:
        raise typer.Exit(_BROKEN)


def _whole(client: Client, events: Iterable[AuditEvent]) -> Iterator[AuditEvent]:
    """Events with what their listing left out."""
    for event in events:
        yield event.filled(client.read_audit_event(event.sequence)) if event.left_out else event


def _follow(events: Iterable[AuditEvent], kept: tuple[int, str] | None) -> tuple[AuditEvent | None, str]:
    """The last event that is whole, and what is wrong with the next one; empty: nothing."""
    last: AuditEvent | None = None
    met = kept is None
    for event in events:
        if last is None and event.sequence != 1:
            return None, f"it begins with event {event.sequence}: see all banks to verify, and export without --since"
        if last is not None and event.sequence != last.sequence + 1:
            return last, f"after event {last.sequence} comes {event.sequence}"
        if last is not None and event.previous_hash != last.hash:
            return last, f"event {event.sequence} does not follow from the one before it"
        if not event.genuine:
            return last, f"event {event.sequence} was changed"
        if kept is not None and event.sequence == kept[0]:
            if event.hash != kept[1]:
                return last, f"event {event.sequence} is another one than was kept"
            met = True
        last = event
    return last, "" if met or kept is None else f"event {kept[0]} is missing: the record was cut"


def _read(file: Path) -> Iterator[AuditEvent]:
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                said = json.loads(line)
                yield AuditEvent(**said | {"time": datetime.fromisoformat(said["time"])})
            except (ValueError, TypeError, KeyError):
                raise fail(f"{file}, line {number}: is no event as `imagewarden audit export` writes it") from None


def _kept(expect: str) -> tuple[int, str] | None:
    if not expect:
        return None
    number, _, digits = expect.partition(":")
    if not number.isdigit() or not digits:
        raise fail(f"{expect!r} is no NUMBER:HASH; `audit verify` says one", EXIT_USE)
    return int(number), digits.lower()


def _changed(event: AuditEvent) -> str:
    """What of the resource changed, in short."""
    if event.left_out:
        return f"{event.left_out:,} bytes: `audit export` writes them"
    before = json.loads(event.before) if event.before else {}
    after = json.loads(event.after) if event.after else {}
    if before and not after:
        return "deleted"
    parts = [
        f"{name}: {_short(before[name])} -> {_short(value)}" if name in before else f"{name}: {_short(value)}"
        for name, value in after.items()
        if before.get(name) != value and (value or name in before)
    ]
    return _short("; ".join(parts), _MOST_SHOWN)


def _short(value: Any, most: int = 40) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _utc(time: datetime | None) -> datetime | None:
    return time if time is None or time.tzinfo else time.replace(tzinfo=UTC)
