"""The seeds: small files that each target reads well, and those by which something was found."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).with_name("seeds")


def seeds(target: str) -> dict[str, bytes]:
    """A target's seeds, by the names of their files, in order."""
    return {path.name: path.read_bytes() for path in sorted((FOLDER / target).iterdir())}
