"""`imagewarden report`: what a person found of a match."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

import typer

from imagewarden import Bank, Entry
from imagewarden.cli.output import fail, print_json
from imagewarden.cli.state import shared
from imagewarden.cli.words import Opinion


def report(
    context: typer.Context,
    entry: Annotated[str, typer.Argument(help="The entry that matched: banks/.../entries/...")],
    opinion: Annotated[Opinion, typer.Option(help="What was found.", case_sensitive=False)],
    sha256: Annotated[str, typer.Option(help="SHA-256 of the checked picture, as `check --json` says it.")] = "",
    image: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="The checked picture itself, in place of --sha256.")
    ] = None,
    note: Annotated[str, typer.Option(help="Why, for people: at most 1,000 characters.")] = "",
    json_output: Annotated[bool, typer.Option("--json", help="Answer JSON.")] = False,
) -> None:
    """Say what you found of a match: it is confirmed, a false positive, or disputed.

    One report is kept for an entry, a picture and a reporter: a later one takes the place of the earlier.
    """
    options = shared(context)
    if bool(sha256) == (image is not None):
        raise fail("say which picture: --sha256 as a check answered it, or --image with the file")
    digest = sha256 if image is None else hashlib.sha256(image.read_bytes()).hexdigest()
    with options.client() as client:
        change = client.report_match(entry, digest, opinion.value.replace("-", "_"), note)
    if options.json or json_output:
        print_json(change)
    else:
        typer.echo(f"{change.entry.name}: {counted(change.entry)}")


def counted(reported: Bank | Entry) -> str:
    """How many reports a bank or an entry has, in words."""
    said = reported.feedback
    return f"{said.confirmed} confirmed, {said.false_positives} false positives, {said.disputed} disputed"
