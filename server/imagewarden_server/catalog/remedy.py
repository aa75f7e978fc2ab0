"""What is to be done about a catalogue that cannot be used, as a command, and where its newest copy is."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

_LAST_COPY = "last-copy"


def remedy(path: Path) -> str:
    """How to have a catalogue back."""
    return f"restore its newest copy: `{_restore(_last_copy(path.parent), path.parent)}`"


def remedy_of_damage(path: Path) -> str:
    """How to have a catalogue back that is there and can perhaps be read."""
    as_it_is = _restore(str(path), path.parent)
    return f"{remedy(path)}. Where there is none, `{as_it_is}` goes on with what is there, with the damage in it"


def note_copy(state: Path, copy: Path) -> None:
    """Keep where the newest copy of a state's catalogue is."""
    unfinished = state / f".{_LAST_COPY}.new"
    unfinished.write_text(f"{copy.absolute()}\n")
    unfinished.rename(state / _LAST_COPY)


def _last_copy(state: Path) -> str:
    """The newest copy, if it is still there; else a word to be replaced."""
    try:
        noted = Path(os.fsdecode((state / _LAST_COPY).read_bytes()).strip())
        return str(noted) if noted.is_absolute() and noted.is_file() else "COPY"
    except (OSError, ValueError):
        return "COPY"


def _restore(copy: str, state: Path) -> str:
    return shlex.join(["imagewarden", "restore", copy, "--state-dir", str(state)])
