"""HEIC files for tests, encoded in a process of their own.

x265, which encodes them, cannot be opened in a process in which usearch has searched: the two do not get along. The
server only decodes HEIC, which is another library's work.
"""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from typing import Any

from PIL import Image


def save_heic(image: Image.Image, **options: Any) -> bytes:
    """What `image.save(..., "HEIF", **options)` writes; `append_images` and bytes among the options are passed on."""
    frames = [image, *options.pop("append_images", [])]
    said = {
        "frames": [_text(_png(frame)) for frame in frames],
        "options": {name: value for name, value in options.items() if not isinstance(value, bytes)},
        "bytes": {name: _text(value) for name, value in options.items() if isinstance(value, bytes)},
    }
    done = subprocess.run(
        [sys.executable, __file__], input=json.dumps(said).encode(), capture_output=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _png(frame: Image.Image) -> bytes:
    buffer = io.BytesIO()
    frame.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _main() -> None:
    import pillow_heif

    pillow_heif.register_heif_opener()
    said = json.load(sys.stdin)
    frames = [Image.open(io.BytesIO(base64.b64decode(text))) for text in said["frames"]]
    options = {**said["options"], **{name: base64.b64decode(text) for name, text in said["bytes"].items()}}
    buffer = io.BytesIO()
    frames[0].save(buffer, "HEIF", append_images=frames[1:], **options)
    sys.stdout.buffer.write(buffer.getvalue())


if __name__ == "__main__":
    _main()
