"""What the commands that measure share: how they run, and how they fail."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

LeftOutLogos = Annotated[
    list[Path] | None,
    typer.Option(
        "--leave-out-logos",
        help="A package or folder like --logos: no brand that it has, such as those a threshold was chosen in view of; "
        "may be given again.",
    ),
]


def fail(command: str, message: str) -> typer.Exit:
    """Say what went wrong; the exit to raise."""
    typer.echo(f"imagewarden {command}: {message}", err=True)
    return typer.Exit(1)


def run(command: str, work: Any, *, group: str = "eval") -> Any:
    """Run a command's work; what can go wrong outside of it is one line and exit code 1.

    Args:
        command: its name for people.
        work: what it does.
        group: the commands that it is one of, which is the name of the extra that it needs, too.
    """
    named = command if command == group else f"{group} {command}"
    try:
        from imagewarden import ImageWardenError  # noqa: PLC0415 -- the help needs none of these
        from imagewarden_eval.errors import EvaluationError  # noqa: PLC0415

        try:
            return work()
        except (EvaluationError, ImageWardenError, OSError) as error:
            raise fail(named, str(error)) from None
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("imagewarden"):
            raise  # a part of this package is missing: that is a bug, and no extra mends it
        extras = ",".join(dict.fromkeys(("server", "serving", "eval", group)))
        message = f"{error.name} is not installed; install it with: pip install 'imagewarden[{extras}]'"
        raise fail(named, message) from None
