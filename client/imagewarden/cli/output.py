"""How answers are printed: tables for people, JSON lines for programs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from imagewarden import ResourceExhausted, ServerError, TimeoutExceeded, Unavailable

T = TypeVar("T")

EXIT_USE, EXIT_UNREACHABLE = 2, 4

_COLOURS = {"block": "bold red", "review": "yellow", "allow": "green", "match": "bold red", "undecided": "yellow"}


def exit_code(error: BaseException) -> int:
    """4: the service gave no answer, and another time it may; 2: it, or the file system, refused."""
    busy = isinstance(error, ResourceExhausted) and error.retry_after is not None
    if busy or isinstance(error, Unavailable | TimeoutExceeded | ServerError):
        return EXIT_UNREACHABLE
    return EXIT_USE


def progress(items: Iterable[T], text: str, total: int, *, shown: bool = True) -> Iterable[T]:
    """The same items, with a progress bar while a person looks on: never in what a program reads."""
    console = Console(stderr=True)
    if not (shown and console.is_terminal and total > 1):
        return items
    return track(items, text, total=total, transient=True, console=console)


def fail(message: str, code: int = EXIT_USE) -> typer.Exit:
    """Say what is wrong, and give the exit to raise."""
    typer.echo(f"imagewarden: {message}", err=True)
    return typer.Exit(code)


def plain(value: Any) -> Any:
    """A result as JSON has it: dataclasses as objects, times as ISO 8601, durations as seconds, bytes left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {name: plain(one) for name, one in fields.items() if not isinstance(one, bytes)}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value


def print_json(value: Any) -> None:
    """One JSON object on one line."""
    typer.echo(json.dumps(plain(value), ensure_ascii=False))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table; on something that is no terminal as wide as it needs to be."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    table = Table(title=title or None, header_style="bold", title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell), style=_COLOURS.get(str(cell), "")) for cell in row))
    console.print(table)
