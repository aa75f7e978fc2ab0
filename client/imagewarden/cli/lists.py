"""`imagewarden import` and `imagewarden export`: lists in and out."""

from __future__ import annotations

import gzip
import os
import secrets
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from imagewarden import Client, ImageWardenError, SignalType
from imagewarden.cli.files import pictures
from imagewarden.cli.importing import Bar, FolderWork, ListWork, Problem, Report, Tally, Work, opener, read_once
from imagewarden.cli.output import EXIT_USE, fail, print_json, progress
from imagewarden.cli.state import complete_bank, shared
from imagewarden.cli.words import HashType
from imagewarden.lists import Format, ListError, Writer

_UNREADABLE = (ListError, OSError)
Bank = Annotated[str, typer.Option("--bank", help="The bank.", autocompletion=complete_bank)]


def import_list(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="LIST", help="A list, a folder of pictures, or - for standard input.")],
    bank: Bank,
    format_: Annotated[
        Format | None, typer.Option("--format", help="What it is; else its beginning says.", case_sensitive=False)
    ] = None,
    type_: Annotated[
        HashType | None, typer.Option("--type", help="The type of hashes that do not say it.", case_sensitive=False)
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Where all of it comes from; else what the list says, or the exchange's name.")
    ] = None,
    label: Annotated[list[str] | None, typer.Option("--label", help="A label of them all; may be given again.")] = None,
    start_at: Annotated[int, typer.Option(min=1, help="Leave out all before this number: go on with an import.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not try first and do not ask.")] = False,
    report: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write all that is refused, as JSON lines.")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Answer JSON, one object a line.")] = False,
) -> None:
    """Bring a list into a bank: first it is tried and you are told what would happen, then you are asked.

    What the bank has already is left as it is, and so a list may come again. Records that are refused leave the others
    alone; the exit code is 2 then.
    """
    options = shared(context)
    as_json = options.json or json_output
    work = _work(file, bank, format_, type_, source, tuple(label or ()), start_at)
    _check(file, dry_run=dry_run, yes=yes, report=report)
    again = _again(context, "import", file, "--bank", bank, "--format", format_, "--type", type_, "--source", source)
    for one in label or ():
        again += ["--label", one]
    with options.client() as client, Report(report) as all_refused:
        said = _begin(work, file, as_json=as_json)
        if not yes:
            tally = Tally(all_refused, print_json if as_json and dry_run else _silent)
            _try(client, work, tally, file, shown=not as_json)
            _tell(work, tally, {**said, "bank": bank, "dry_run": True}, as_json=as_json, problems=True)
            if not (dry_run or tally.changes):
                typer.echo("there is nothing to change", err=as_json)
            if dry_run or not tally.changes:
                raise typer.Exit(EXIT_USE if tally.refused else 0)
            typer.confirm(f"Bring them into {bank}?", abort=True, err=as_json)
        elif not read_once(file):
            _read(work, file, shown=not as_json)
        tally = Tally(all_refused, print_json if as_json else _silent, number=start_at - 1)
        _bring_in(client, work, tally, again, shown=not as_json)
        _tell(work, tally, {**said, "bank": bank, "dry_run": False}, as_json=as_json, problems=yes)
    if tally.refused:
        raise typer.Exit(EXIT_USE)


def _silent(_: Problem) -> None:
    """The first of the refused are told at the end."""


def _work(
    file: str,
    bank: str,
    format_: Format | None,
    type_: HashType | None,
    source: str | None,
    labels: tuple[str, ...],
    start_at: int,
) -> Work:
    if file != "-" and Path(file).is_dir():
        if format_ is not None or type_ is not None:
            raise fail(f"{file} is a folder: its pictures are brought in, which have neither --format nor --type")
        return FolderWork(file, bank, pictures([file]), labels, source or "", start_at)
    kind = None if type_ is None else SignalType(type_)
    opens = opener(file, format_=format_, type_=kind, source=source, labels=labels)
    return ListWork(file, bank, opens, start_at)


def _check(file: str, *, dry_run: bool, yes: bool, report: Path | None) -> None:
    if yes and dry_run:
        raise fail("--yes and --dry-run contradict each other")
    if not (yes or dry_run) and not sys.stdin.isatty():
        raise fail("there is nobody to ask: give --dry-run to see what would happen, and then --yes")
    if not (yes or dry_run) and read_once(file):
        raise fail(f"{file} can be read once only, and so it is not tried first: give --dry-run or --yes")
    if report is not None and not read_once(file) and report.exists() and report.samefile(file):
        raise fail("--report would overwrite the list")


def _again(context: typer.Context, *words: Any) -> list[str]:
    """The command that was given, without options that were not."""
    root = context.find_root()
    given = root.get_parameter_source("server")
    server = ["--server", str(root.params["server"])] if given is not None and given.name == "COMMANDLINE" else []
    command, file, *pairs = words
    options = [
        str(word) for name, value in zip(pairs[::2], pairs[1::2], strict=True) if value for word in (name, value)
    ]
    return ["imagewarden", *server, command, file, *options]


def _begin(work: Work, file: str, *, as_json: bool) -> dict[str, Any]:
    try:
        said = work.begin()
    except _UNREADABLE as error:
        raise fail(f"{file}: {_why(error)}") from None
    if not as_json and "format" in said:
        typer.echo(f"{said['list']}: {said['format']} ({said['why']})")
    return said


def _why(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def _read(work: Work, file: str, *, shown: bool) -> None:
    """Read a list to its end: one that is damaged or was cut off is not brought in by half."""
    try:
        with Bar("reading", work.total(), shown=shown) as bar:
            work.read(bar)
    except _UNREADABLE as error:
        raise fail(f"{file}: {_why(error)}; nothing was changed") from None


def _try(client: Client, work: Work, tally: Tally, file: str, *, shown: bool) -> None:
    """A dry run."""
    tally.report.begin()
    try:
        with Bar("trying", work.total(), shown=shown) as bar:
            for answer in work.answers(client, tally, bar, dry_run=True):
                tally.take(answer)
    except _UNREADABLE as error:
        raise fail(f"{file}: {_why(error)}; nothing was changed") from None


def _bring_in(client: Client, work: Work, tally: Tally, again: list[str], *, shown: bool) -> None:
    tally.report.begin()
    begun = tally.number
    try:
        with Bar("bringing in", work.total(), shown=shown) as bar:
            for answer in work.answers(client, tally, bar, dry_run=False):
                tally.take(answer)
    except (KeyboardInterrupt, ImageWardenError, *_UNREADABLE):
        typer.echo(_stopped(work, tally, again, begun), err=True)
        raise


def _stopped(work: Work, tally: Tally, again: list[str], begun: int) -> str:
    """Up to where an import that was stopped is in force, and how it goes on."""
    known = "stopped: nothing is known to be in force"
    if tally.number > begun:
        revision = f", as of revision {tally.revision}" if tally.revision else ""
        known = f"stopped: all up to {work.place(tally.number, 0)} is in force{revision}: {tally.sentence()}"
    number = ["--start-at", str(tally.number + 1)] if tally.number else []
    if read_once(again[again.index("import") + 1]):
        return f"{known}\nsend the list again with {shlex.join([*number, '--yes'])}"
    return f"{known}\ngo on with: {shlex.join([*again, *number])}"


def _tell(work: Work, tally: Tally, said: dict[str, Any], *, as_json: bool, problems: bool) -> None:
    if as_json:
        print_json({**said, **tally.counts(), "number": tally.number, "revision": tally.revision})
        return
    if said["dry_run"]:
        typer.echo(f"would be: {tally.sentence()}")
    else:
        typer.echo(f"brought in: {tally.sentence()}; revision {tally.revision}")
    if not problems:
        return
    for one in tally.first:
        at = f"{one.field}: " if one.field else ""
        excerpt = f" | {one.excerpt}" if one.excerpt else ""
        typer.echo(f"  {work.place(one.number, one.line)}: {at}{one.message}{excerpt}", err=True)
    if tally.refused > len(tally.first):
        typer.echo(f"  and {tally.refused - len(tally.first):,} more: --report FILE has them all", err=True)


def export(
    context: typer.Context,
    bank: Bank,
    out: Annotated[
        Path | None, typer.Argument(dir_okay=False, help="A file, gzip where it ends in .gz; unset: standard output.")
    ] = None,
) -> None:
    """Write all entries of a bank with all that they are recognised by, as JSON lines that `import` reads."""
    options = shared(context)
    with options.client() as client:
        found = client.get_bank(bank)
        entries = client.export_entries(bank)
        first = next(entries, None)
        with _written(out) as stream:
            writer = Writer(
                stream, bank=found.name, kind=found.kind, revision=entries.revision, exported=datetime.now(UTC)
            )
            if first is not None:
                writer.write(first)
            for record in progress(entries, "writing", entries.entry_count, shown=out is not None):
                writer.write(record)
            writer.end()
    typer.echo(f"{writer.count:,} entries of {found.name}, revision {entries.revision}", err=True)


@contextmanager
def _written(out: Path | None) -> Iterator[BinaryIO]:
    """Where to write: a file is there whole or not at all, and for its owner only."""
    if out is None:
        stream = typer.get_binary_stream("stdout")
        yield stream
        stream.flush()
        return
    if out.exists() and not out.is_file():
        raise fail(f"{out} is no file")
    part = out.with_name(f".{out.name}.{secrets.token_hex(4)}.part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            if out.suffix == ".gz":
                with gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as packed:
                    yield packed  # type: ignore[misc]  # a file to write bytes to, whatever typeshed says
            else:
                yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(out)
    except BaseException:  # Control-C too leaves no half of an export; raised again
        part.unlink(missing_ok=True)
        raise
