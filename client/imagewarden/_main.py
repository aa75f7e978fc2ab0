"""The script entry point, which works without the extra and then says how to install it."""

from __future__ import annotations

import importlib.util
import sys

_NEEDED = ("typer", "rich", "PIL")


def main() -> None:
    """Run the command line, or say what is missing."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        sys.stderr.write(
            f"imagewarden: the command line needs {', '.join(missing)}; install it with: "
            "pip install 'imagewarden[cli]'\n"
        )
        raise SystemExit(2)
    from imagewarden.cli import run  # noqa: PLC0415 -- only here is it known that what it imports is installed

    run()
