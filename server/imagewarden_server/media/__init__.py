"""From bytes to pixels, digests and perceptual hashes. Inputs are hostile: a header's limits stand before each decoder.

Every function may run on any thread. What cannot be read raises MediaError and nothing else.
"""

from imagewarden_server.media.digests import digest
from imagewarden_server.media.logos import place_logo, render_logo, thumbnail
from imagewarden_server.media.pixels import decode, inspect
from imagewarden_server.media.types import (
    Digests,
    Frame,
    Header,
    ImageFormat,
    Limits,
    MediaError,
    MediaProblem,
    PdqHash,
    Picture,
    Rendering,
)

__all__ = [
    "Digests",
    "Frame",
    "Header",
    "ImageFormat",
    "Limits",
    "MediaError",
    "MediaProblem",
    "PdqHash",
    "Picture",
    "Rendering",
    "decode",
    "digest",
    "inspect",
    "place_logo",
    "render_logo",
    "thumbnail",
]
