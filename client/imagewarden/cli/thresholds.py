"""Thresholds as options write them."""

from __future__ import annotations

from typing import Annotated

import typer

from imagewarden import SignalType, Threshold
from imagewarden.cli.output import fail

Thresholds = Annotated[
    list[str] | None,
    typer.Option("--threshold", help="signal=value or signal=off, such as pdq=24; may be given again."),
]


def thresholds(texts: list[str]) -> tuple[Threshold, ...]:
    """The thresholds that options name."""
    found = []
    for text in texts:
        signal, _, value = text.partition("=")
        try:
            kind = SignalType(signal.lower())
            found.append(Threshold(kind, disabled=True) if value == "off" else Threshold(kind, float(value)))
        except ValueError:
            raise fail(f"--threshold {text!r}: write signal=value or signal=off, such as pdq=24") from None
    return tuple(found)
