"""What the commands of `imagewarden model` share: how they fail, and how they load TensorFlow."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys

import typer

INSTALL = "pip install 'imagewarden[serving]'"


def fail(command: str, message: str, code: int) -> typer.Exit:
    """Say what went wrong; the exit to raise."""
    typer.echo(f"imagewarden model {command}: {message}", err=True)
    return typer.Exit(code)


def missing(command: str, error: ModuleNotFoundError) -> typer.Exit:
    """Say what is not installed; the exit to raise."""
    return fail(command, f"{error.name} is not installed; install it with: {INSTALL}", 1)


def load_tensorflow_quietly() -> None:
    """Load TensorFlow without the notes that its libraries write about themselves.

    Some are written before any setting of theirs is read, so standard error is closed to them meanwhile; what goes
    wrong is an exception all the same. A missing TensorFlow is left to those who need it to say.
    """
    # Its later notes drown the one line that matters; who wants them sets the variable.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if importlib.util.find_spec("tensorflow") is None:
        return
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        importlib.import_module("tensorflow")
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
