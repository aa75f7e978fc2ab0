"""How far a run is: a bar while a person looks on, a line a task elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich import progress as bars
from rich.console import Console


class Progress:
    """Says on standard error how far a run is; quiet: says nothing."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(stderr=True, quiet=quiet)

    def say(self, text: str) -> None:
        """One line."""
        self._console.print(text, highlight=False)

    @contextmanager
    def task(self, text: str, total: int) -> Iterator[Callable[[int], None]]:
        """One task; what is yielded is told how many more are done."""
        begin = time.monotonic()
        if self._console.is_terminal and not self._console.quiet:
            columns = (*bars.Progress.get_default_columns(), bars.MofNCompleteColumn(), bars.TimeElapsedColumn())
            with bars.Progress(*columns, console=self._console, transient=True) as shown:
                task = shown.add_task(text, total=total)
                yield lambda count: shown.advance(task, count)
        else:
            yield lambda _: None
        self.say(f"{text}: {total} in {time.monotonic() - begin:.0f} s")
