"""Drawing an SVG logo, out of the server's own process."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from imagewarden_server.media.svg import check_svg
from imagewarden_server.media.types import Limits, MediaError, MediaProblem

RENDER_SIDE = 512
"""The longer side of a drawing, in pixels."""

_CHILD = Path(__file__).with_name("_svg_child.py")
_SECONDS = 10.0  # a busy machine may take longer than the child's own limit of processor time


def draw_svg(data: bytes, limits: Limits) -> Image.Image:
    """Draw an SVG logo.

    Returns:
        Mode RGBA, its longer side of RENDER_SIDE pixels.

    Raises:
        MediaError: UNDECODABLE or OVER_LIMITS.
    """
    width, height = check_svg(data, limits)
    return _draw(data, RENDER_SIDE if width >= height else 0, 0 if width >= height else RENDER_SIDE)


def _draw(data: bytes, width: int, height: int) -> Image.Image:
    command = [sys.executable, "-I", str(_CHILD), str(width), str(height)]
    try:
        # Its environment is empty: nothing of the server's settings is a drawing's business.
        drawn = subprocess.run(command, input=data, capture_output=True, check=False, timeout=_SECONDS, env={})  # noqa: S603 -- no part of the command is a caller's
    except subprocess.TimeoutExpired as error:
        raise _too_costly() from error
    if drawn.returncode < 0:
        raise _too_costly()
    if drawn.returncode:
        # The last line alone: a panic of the renderer's says where it happened, and that is long.
        lines = drawn.stderr.decode("utf-8", "replace").strip().splitlines() or ["it says nothing"]
        raise MediaError(
            MediaProblem.UNDECODABLE, f"the SVG cannot be drawn ({lines[-1][:160]}); save it again as plain SVG"
        )
    with PngImageFile(io.BytesIO(drawn.stdout)) as image:
        return image.convert("RGBA")


def _too_costly() -> MediaError:
    return MediaError(
        MediaProblem.OVER_LIMITS, "the SVG takes too much time or memory to draw; simplify its filters and patterns"
    )
