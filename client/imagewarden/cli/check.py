"""`imagewarden check`: pictures in, verdicts out, and an exit code that scripts can use."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import track

from imagewarden import Action, CheckResult, Client, ConnectionFailed, ImageWardenError
from imagewarden.cli.files import pictures
from imagewarden.cli.output import plain, print_json, print_table
from imagewarden.cli.state import complete_bank, shared

EXIT_ALLOW, EXIT_BLOCK, EXIT_USE, EXIT_REVIEW, EXIT_UNREACHABLE = 0, 1, 2, 3, 4

Outcome = CheckResult | ImageWardenError | OSError


def check(
    context: typer.Context,
    files: Annotated[list[str], typer.Argument(help="Pictures, folders of them, or patterns.")],
    bank: Annotated[
        list[str] | None, typer.Option(help="Only this bank; may be given again.", autocompletion=complete_bank)
    ] = None,
    exhaustive: Annotated[
        bool, typer.Option("--exhaustive", help="Compare all signals even when one already blocks.")
    ] = False,
    on_undecided: Annotated[
        Action | None, typer.Option(help="The action for what cannot be decided.", case_sensitive=False)
    ] = None,
    at_least_revision: Annotated[str | None, typer.Option(help="A revision that the check must see.")] = None,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Pictures at once.")] = 4,
    json_output: Annotated[bool, typer.Option("--json", help="JSON, one object a picture.")] = False,
) -> None:
    """Check pictures.

    Exit codes: 0 all may be published, 1 something to block, 3 something to review, 2 wrong use or a file that cannot
    be read, 4 the service cannot be reached.
    """
    options = shared(context)
    found = pictures(files)
    as_json = options.json or json_output
    asked: dict[str, Any] = {
        "banks": bank or (),
        "exhaustive": exhaustive,
        "on_undecided": on_undecided,
        "at_least_revision": at_least_revision,
    }

    def one(client: Client, path: Path) -> Outcome:
        try:
            return client.check(path, **asked)
        except (ImageWardenError, OSError) as error:
            return error

    outcomes: list[tuple[Path, Outcome]] = []
    with options.client() as client, ThreadPoolExecutor(jobs) as pool:
        results = zip(found, pool.map(lambda path: one(client, path), found), strict=True)
        shown: Iterator[tuple[Path, Outcome]] = results
        if not as_json and len(found) > 1:
            shown = iter(track(results, "checking", total=len(found), transient=True))
        for path, outcome in shown:
            outcomes.append((path, outcome))
            if as_json:
                print_json(_json(path, outcome))
    if not as_json:
        print_table("", _COLUMNS, [_row(path, outcome) for path, outcome in outcomes])
        for path, outcome in outcomes:
            if isinstance(outcome, CheckResult):
                for reason in outcome.undecided_reasons:
                    typer.echo(f"{path}: {reason.code}: {reason.message}", err=True)
    raise typer.Exit(_exit_code([outcome for _, outcome in outcomes]))


_COLUMNS = ("file", "verdict", "action", "signal", "bank", "entry", "score", "threshold")


def _row(path: Path, outcome: Outcome) -> tuple[object, ...]:
    if not isinstance(outcome, CheckResult):
        return (path, "error", "", "", "", str(outcome), "", "")
    if not outcome.matches:
        return (path, outcome.verdict, outcome.action, "", "", "", "", "")
    first = outcome.matches[0]
    name = first.brand or first.external_id or first.entry.rpartition("/")[2]
    distance = f"{first.distance:g} bits" if first.signal == "pdq" else f"{first.score:.3f}"
    threshold = {"pdq": f"{first.threshold:g} bits", "embedding": f"{first.threshold:.3f}"}.get(first.signal, "equal")
    bank = first.bank.removeprefix("banks/")
    return (path, outcome.verdict, outcome.action, first.signal, bank, name, distance, threshold)


def _json(path: Path, outcome: Outcome) -> object:
    if isinstance(outcome, CheckResult):
        return {"file": str(path), **plain(outcome)}
    return {"file": str(path), "error": str(outcome), "reason": getattr(outcome, "reason", "")}


def _exit_code(outcomes: list[Outcome]) -> int:
    """The most urgent of all."""
    actions = {outcome.action for outcome in outcomes if isinstance(outcome, CheckResult)}
    if any(isinstance(outcome, ConnectionFailed) for outcome in outcomes):
        return EXIT_UNREACHABLE
    if Action.BLOCK in actions:
        return EXIT_BLOCK
    if not all(isinstance(outcome, CheckResult) for outcome in outcomes):
        return EXIT_USE
    return EXIT_REVIEW if Action.REVIEW in actions else EXIT_ALLOW
