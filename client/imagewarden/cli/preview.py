"""`imagewarden bank preview`: what a threshold or a new entry would match among pictures that were checked lately."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imagewarden import HistogramBar, PolicyPreview, SignalPreview, SignalType
from imagewarden.cli.output import print_json, print_table
from imagewarden.cli.state import complete_bank, shared
from imagewarden.cli.thresholds import Thresholds, thresholds

_WIDTH = 40


def preview(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The bank's name.", autocompletion=complete_bank)],
    threshold: Thresholds = None,
    entry: Annotated[str | None, typer.Option(help="One entry of the bank alone: banks/.../entries/...")] = None,
    hash_: Annotated[
        str | None, typer.Option("--hash", help="A hash that is not there yet, alone: type:hex, such as pdq:0123...")
    ] = None,
    image: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="A picture that is not there yet, alone.")
    ] = None,
    nearest: Annotated[int, typer.Option(min=1, max=100, help="How many of the nearest pictures to show.")] = 10,
    json_output: Annotated[bool, typer.Option("--json", help="Answer JSON.")] = False,
) -> None:
    """Say what a threshold, or an entry that is not there yet, would match; nothing is changed.

    It is held against what the server has kept of the pictures that were checked lately.
    """
    options = shared(context)
    with options.client() as client:
        found = client.preview_policy(
            name, thresholds(threshold or []), entry=entry, hash=hash_, image=image, max_nearest=nearest
        )
    if options.json or json_output:
        print_json(found)
        return
    _print_counts(found)
    for one in found.signals:
        _print_histogram(one)
        if one.nearest:
            rows = [
                (near.sha256[:16], f"{near.value:g}", near.entry, near.time.isoformat(timespec="seconds"))
                for near in one.nearest
            ]
            print_table(f"nearest by {one.signal}", ("picture", "value", "entry", "checked"), rows)


def _print_counts(found: PolicyPreview) -> None:
    span = ""
    if found.oldest_time is not None and found.newest_time is not None:
        span = f", checked from {found.oldest_time:%Y-%m-%d %H:%M} to {found.newest_time:%Y-%m-%d %H:%M} UTC"
    typer.echo(f"compared with {found.compared} of {found.pictures} pictures{span}")
    typer.echo(f"{found.matching} would match, {found.matching_in_force} match now")
    if found.without_digests:
        typer.echo(
            f"{found.without_digests} were not compared by sha1 and md5: no bank had such hashes when they were checked"
        )
    rows = [
        (
            one.signal,
            f"{one.threshold:g}",
            one.matching,
            f"{one.threshold_in_force:g}",
            one.matching_in_force,
            one.compared,
        )
        for one in found.signals
    ]
    if rows:
        print_table("", ("signal", "tried", "would match", "in force", "match now", "compared"), rows)


def _print_histogram(one: SignalPreview) -> None:
    """The bars from the nearest on; those that match at the threshold that was tried are marked."""
    bars = one.histogram if one.signal == SignalType.PDQ else one.histogram[::-1]
    most = max((bar.pictures for bar in bars), default=0)
    for bar in bars:
        length = -(-bar.pictures * _WIDTH // most) if most else 0
        mark = "|" if _matches(one, bar) else " "
        typer.echo(f"{one.signal:>9} {bar.begin:>9g} to {bar.end:<9g} {mark} {bar.pictures:>7} {'#' * length}".rstrip())


def _matches(one: SignalPreview, bar: HistogramBar) -> bool:
    return bar.begin <= one.threshold if one.signal == SignalType.PDQ else bar.end > one.threshold
