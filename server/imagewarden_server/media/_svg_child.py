"""Draws one SVG in a process of its own: python -I _svg_child.py WIDTH HEIGHT < svg > png; 0 leaves a side open.

It can open no file and no socket, and has little memory and time: what a hostile drawing does to the renderer, it does
to this process alone. It runs by its path, isolated, and imports nothing of the server.
"""

from __future__ import annotations

import resource
import sys

import resvg_py

_MEMORY_BYTES = 2**30
_SECONDS = 4


def _confine() -> None:
    for what, most in (
        # Descriptors 0 to 2 stay open; each new one is over the limit.
        (resource.RLIMIT_NOFILE, 0),
        (resource.RLIMIT_AS, _MEMORY_BYTES),
        (resource.RLIMIT_CPU, _SECONDS),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))


def _main() -> None:
    width, height = (int(argument) or None for argument in sys.argv[1:3])
    svg = sys.stdin.buffer.read().decode("utf-8")
    _confine()
    try:
        # Without fonts of the system: what a logo looks like must not depend on the machine. The renderer's own
        # default of 0 dots an inch makes nothing of millimetres; CSS has 96.
        png = resvg_py.svg_to_bytes(svg_string=svg, skip_system_fonts=True, dpi=96.0, width=width, height=height)
    except ValueError as error:
        sys.stderr.write(str(error))
        sys.exit(1)
    sys.stdout.buffer.write(bytes(png))


if __name__ == "__main__":
    _main()
