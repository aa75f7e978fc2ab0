"""A record as a table on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from imagewarden_eval import judging
from imagewarden_eval.report import rate_text, share, shipped_text


def show(record: Mapping[str, Any]) -> None:
    """Print a row a method, and what the shipped thresholds do."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    methods = record["methods"]
    rates = sorted({at["rate"] for one in methods for at in one["at"]}, reverse=True)
    table = Table(header_style="bold")
    for column in ("method", "micro-AP", "right one first", *(f"recall at {rate_text(rate)}" for rate in rates)):
        table.add_column(column)
    for one in methods:
        cells = [one["method"], f"{one['micro_ap']:.3f}", share(one["recall_first"], bounds=False)]
        for rate in rates:
            at = judging.recall_of(one, rate)
            cells.append(share(at["recall"] if at else None))
        table.add_row(*cells)
    console.print(table)
    console.print(shipped_text(record["shipped"]).strip(), highlight=False)
