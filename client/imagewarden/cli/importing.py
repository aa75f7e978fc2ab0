"""Passes over a list: it is only read, tried by the service, or brought in; and what came of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TextIO

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from imagewarden import Client, EntryChange, EntryRecord, ImportAnswer, RefusedRecord, SignalType
from imagewarden.cli.output import plain
from imagewarden.cli.pictures import add_each
from imagewarden.lists import Format, HashList, Refused, open_list

MOST_SHOWN = 20
_STEP = 5_000
_BY_LINE = frozenset({Format.HASHES, Format.TX_CSV, Format.THREATEXCHANGE, Format.JSONL})


@dataclass(frozen=True, slots=True)
class Problem:
    """One record that was refused, by this side or by the service."""

    number: int
    line: int
    field: str
    message: str
    excerpt: str


class Report:
    """A file of all that was refused, one JSON object a line, for its owner's eyes; without a path it is none."""

    def __init__(self, path: Path | None) -> None:
        self._file: TextIO | None = None
        if path is not None:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
            self._file = os.fdopen(descriptor, "w", encoding="utf-8")

    def begin(self) -> None:
        """Begin anew: another pass says all of it again."""
        if self._file is not None:
            self._file.seek(0)
            self._file.truncate()

    def write(self, problem: Problem) -> None:
        """Add one."""
        if self._file is not None:
            self._file.write(json.dumps(plain(problem), ensure_ascii=False) + "\n")

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


@dataclass(slots=True)
class Tally:
    """What came of a pass so far.

    Attributes:
        number: up to this one all is in force, or would be.
        read: how many records were read, refused ones too.
        first: the first of those that were refused.
    """

    report: Report
    on_problem: Callable[[Problem], None] = lambda _: None
    number: int = 0
    read: int = 0
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0
    absent: int = 0
    refused: int = 0
    revision: str = ""
    first: list[Problem] = field(default_factory=list)

    def take(self, answer: ImportAnswer) -> None:
        """Count an answer."""
        self.number = answer.number
        self.added += answer.added
        self.updated += answer.updated
        self.unchanged += answer.unchanged
        self.removed += answer.removed
        self.absent += answer.absent
        self.revision = answer.revision or self.revision
        for one in answer.refused:
            self.refuse(Problem(one.number, 0, one.field, one.message, ""))

    def refuse(self, problem: Problem) -> None:
        """Count a record that was refused."""
        self.refused += 1
        self.report.write(problem)
        self.on_problem(problem)
        if len(self.first) < MOST_SHOWN:
            self.first.append(problem)

    @property
    def changes(self) -> int:
        """How many entries are new, other or gone."""
        return self.added + self.updated + self.removed

    def counts(self) -> dict[str, int]:
        """The counts by their names."""
        names = ("added", "updated", "unchanged", "removed", "absent", "refused")
        return {name: getattr(self, name) for name in names}

    def sentence(self) -> str:
        """The counts for people."""
        words = ("new", "updated", "unchanged", "removed", "not there to remove", "refused")
        pairs = zip(self.counts().values(), words, strict=True)
        return ", ".join(f"{count:,} {word}" for count, word in pairs if count) or "nothing"


class Bar:
    """A progress bar with the rate while a person looks on, and nothing else."""

    def __init__(self, text: str, total: int | None, *, shown: bool) -> None:
        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[read]:,} records, {task.fields[rate]:,.0f}/s"),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=console, transient=True, disable=not (shown and console.is_terminal))
        self._task = self._bar.add_task(text, total=total, read=0, rate=0.0)

    def at(self, done: int, read: int) -> None:
        """So far: of the total, and records."""
        elapsed = self._bar.tasks[0].elapsed or 0.0
        self._bar.update(self._task, completed=done, read=read, rate=read / elapsed if elapsed else 0.0)

    def __enter__(self) -> Self:
        """Show it."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take it away."""
        self._bar.stop()


class Work(Protocol):
    """What is brought in."""

    def begin(self) -> dict[str, Any]:
        """What it is, for people and programs, without reading it to its end."""

    def read(self, bar: Bar) -> None:
        """Only read it, to know that it is whole."""

    def answers(self, client: Client, tally: Tally, bar: Bar, *, dry_run: bool) -> Iterator[ImportAnswer]:
        """Try it, or bring it in; what is refused here goes to the tally."""

    def total(self) -> int | None:
        """What a bar goes up to; None: nobody knows."""

    def place(self, number: int, line: int) -> str:
        """Where a record is, for people."""


@dataclass(slots=True)
class ListWork:
    """A list of one of the formats."""

    file: str
    bank: str
    open: Callable[[], HashList]
    start_at: int
    _by_line: bool = True

    def begin(self) -> dict[str, Any]:
        """Its format, and why, where it can be read twice."""
        if read_once(self.file):
            return {"list": self.file}
        with self._opened() as found:
            return {"list": self.file, "format": found.format, "why": found.why}

    def _opened(self) -> HashList:
        found = self.open()
        self._by_line = found.format in _BY_LINE
        return found

    def read(self, bar: Bar) -> None:
        """Read it to its end."""
        with self._opened() as found:
            for count, _ in enumerate(found, 1):
                if not count % _STEP:
                    bar.at(found.read_bytes, count)

    def answers(self, client: Client, tally: Tally, bar: Bar, *, dry_run: bool) -> Iterator[ImportAnswer]:
        """What the service answers."""
        with self._opened() as found:
            for answer in client.import_entries(self.bank, self._records(found, tally), validate_only=dry_run):
                bar.at(found.read_bytes, tally.read)
                yield answer

    def _records(self, found: HashList, tally: Tally) -> Iterator[tuple[int, EntryRecord]]:
        for item in found:
            number = item.number if isinstance(item, Refused) else item[0]
            if number < self.start_at:
                continue
            tally.read += 1
            if isinstance(item, Refused):
                tally.refuse(Problem(number, item.line, "", item.reason, item.excerpt))
            else:
                yield item

    def total(self) -> int | None:
        """The file's bytes."""
        return None if read_once(self.file) else Path(self.file).stat().st_size

    def place(self, number: int, line: int) -> str:
        """A line; in XML and JSON a record."""
        if self._by_line:
            return f"line {number}"
        return f"record {number}" + (f" (line {line})" if line else "")


@dataclass(frozen=True, slots=True)
class FolderWork:
    """A folder of pictures: their numbers are their places in the order of their names."""

    folder: str
    bank: str
    paths: Sequence[Path]
    labels: Sequence[str]
    source: str
    start_at: int

    def begin(self) -> dict[str, Any]:
        """How many pictures it has."""
        return {"list": self.folder, "format": "pictures", "why": f"it is a folder with {len(self.paths):,} of them"}

    def read(self, bar: Bar) -> None:
        """There is nothing to find out before the service looks at them."""

    def answers(self, client: Client, tally: Tally, bar: Bar, *, dry_run: bool) -> Iterator[ImportAnswer]:
        """What the service answers to each picture."""
        paths = self.paths[self.start_at - 1 :]
        outcomes = add_each(client, self.bank, paths, labels=self.labels, source=self.source, dry_run=dry_run)
        for number, (path, outcome) in enumerate(outcomes, self.start_at):
            tally.read += 1
            bar.at(number, tally.read)
            if isinstance(outcome, EntryChange):
                for warning in outcome.warnings:
                    typer.echo(f"{path}: {warning}", err=True)
                yield ImportAnswer(number, 1, 0, 0, 0, 0, (), outcome.revision)
            elif outcome is None:
                yield ImportAnswer(number, 0, 0, 1, 0, 0, (), "")
            else:
                refused = RefusedRecord(number, "", f"{path}: {outcome}")
                yield ImportAnswer(number, 0, 0, 0, 0, 0, (refused,), "")

    def total(self) -> int | None:
        """The number of pictures."""
        return len(self.paths)

    def place(self, number: int, line: int) -> str:
        """A picture."""
        del line
        return f"picture {number}"


def read_once(file: str) -> bool:
    """Whether a list is standard input or a pipe, which can be read once."""
    path = Path(file)
    return file == "-" or (path.exists() and not (path.is_file() or path.is_dir()))


def opener(
    file: str, *, format_: Format | None, type_: SignalType | None, source: str | None, labels: Sequence[str]
) -> Callable[[], HashList]:
    """What opens a list, each time anew; `-` is standard input, once."""
    return lambda: open_list(
        typer.get_binary_stream("stdin") if file == "-" else file,
        format=format_,
        type=type_,
        source=source,
        labels=labels,
    )
