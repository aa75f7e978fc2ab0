"""`imagewarden check`: pictures in, verdicts out, and an exit code that scripts can use."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import typer

from imagewarden import Action, CheckResult, Client, ImageWardenError, Unavailable
from imagewarden._moderation import Asked
from imagewarden.cli.files import pictures
from imagewarden.cli.output import EXIT_UNREACHABLE, EXIT_USE, exit_code, plain, print_json, print_table, progress
from imagewarden.cli.state import complete_bank, shared
from imagewarden.cli.words import OnUndecided

EXIT_ALLOW, EXIT_BLOCK, EXIT_REVIEW = 0, 1, 3

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
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Look six times, for what is small in the picture; it takes longer.")
    ] = False,
    on_undecided: Annotated[
        OnUndecided | None, typer.Option(help="The action for what cannot be decided.", case_sensitive=False)
    ] = None,
    at_least_revision: Annotated[str | None, typer.Option(help="A revision that the check must see.")] = None,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Pictures at once.")] = 4,
    json_output: Annotated[bool, typer.Option("--json", help="JSON, one object a picture.")] = False,
) -> None:
    """Check pictures.

    Exit codes, the first that applies: 1 something to block, 4 the service cannot be reached or did not answer, 2 wrong
    use or a file that cannot be read, 3 something to review, 0 all may be published.
    """
    options = shared(context)
    found = pictures(files)
    as_json = options.json or json_output
    asked = Asked(
        banks=bank or (),
        exhaustive=exhaustive,
        thorough=thorough,
        on_undecided=on_undecided,
        at_least_revision=at_least_revision,
    )
    gone: list[Unavailable] = []

    def one(client: Client, path: Path) -> Outcome:
        if gone:  # nobody waits for the time-out of each of ten thousand files
            return gone[0]
        try:
            return client.check(path, **asked)
        except Unavailable as error:
            gone.append(error)
            return error
        except (ImageWardenError, OSError) as error:
            return error

    outcomes: list[tuple[Path, Outcome]] = []
    with options.client() as client, ThreadPoolExecutor(jobs) as pool:
        results = zip(found, pool.map(lambda path: one(client, path), found), strict=True)
        for path, outcome in progress(results, "checking", len(found), shown=not as_json):
            outcomes.append((path, outcome))
            if as_json:
                print_json(_json(path, outcome))
    if not as_json:
        _print(outcomes)
    raise typer.Exit(_exit_code([outcome for _, outcome in outcomes]))


_COLUMNS = ("file", "verdict", "action", "signal", "bank", "entry", "score", "threshold")


def _print(outcomes: list[tuple[Path, Outcome]]) -> None:
    """What was found as a table, and beside it, for people, why something was not."""
    answered = [(path, outcome) for path, outcome in outcomes if not isinstance(outcome, Unavailable)]
    if answered:
        print_table("", _COLUMNS, [_row(path, outcome) for path, outcome in answered])
    for path, outcome in answered:
        if not isinstance(outcome, CheckResult):
            typer.echo(f"{path}: {outcome}", err=True)
            continue
        for reason in outcome.undecided_reasons:
            typer.echo(f"{path}: {reason.code}: {reason.message}", err=True)
    gone = [outcome for _, outcome in outcomes if isinstance(outcome, Unavailable)]
    if gone:
        typer.echo(f"imagewarden: {gone[0]}\n{len(gone)} of {len(outcomes)} pictures were not checked", err=True)


def _row(path: Path, outcome: Outcome) -> tuple[object, ...]:
    if not isinstance(outcome, CheckResult):
        return (path, "error", "", "", "", "", "", "")
    if not outcome.matches:
        return (path, outcome.verdict, outcome.action, "", "", "", "", "")
    first = outcome.matches[0]
    name = first.brand or first.external_id or first.entry.rpartition("/")[2]
    if first.quarantined is not None:
        name = f"{name} (quarantined)"
    score, threshold = f"{first.score:.3f}", f"{first.threshold:g}"
    if first.signal == "pdq":
        score, threshold = f"{first.distance:g} bits", f"{first.threshold:g} bits"
    elif first.signal == "local":
        score, threshold = f"{round(first.score, 1):g} inliers", f"{first.threshold:g} inliers"
    elif first.signal in {"sha256", "sha1", "md5"}:
        threshold = "equal"
    bank = first.bank.removeprefix("banks/")
    return (path, outcome.verdict, outcome.action, first.signal, bank, name, score, threshold)


def _json(path: Path, outcome: Outcome) -> object:
    if isinstance(outcome, CheckResult):
        return {"file": str(path), **plain(outcome)}
    return {
        "file": str(path),
        "error": str(outcome),
        "kind": type(outcome).__name__,
        "reason": getattr(outcome, "reason", ""),
    }


def _exit_code(outcomes: list[Outcome]) -> int:
    """A picture to block is never hidden by what failed beside it; what failed is never hidden by the rest."""
    actions = {outcome.action for outcome in outcomes if isinstance(outcome, CheckResult)}
    failed = {exit_code(outcome) for outcome in outcomes if not isinstance(outcome, CheckResult)}
    if Action.BLOCK in actions:
        return EXIT_BLOCK
    for code in (EXIT_UNREACHABLE, EXIT_USE):
        if code in failed:
            return code
    return EXIT_REVIEW if Action.REVIEW in actions else EXIT_ALLOW
