"""From bytes to pixels, digests and perceptual hashes. Inputs are hostile: a header's limits stand before each decoder.

Every function may run on any thread. What cannot be read raises MediaError and nothing else.
"""

from imagewarden_server.media.digests import digest, sha256
from imagewarden_server.media.drawings import DRAWINGS, Pieces, Pose, drawing, undrawn
from imagewarden_server.media.grey import GREYS, grey, luma, unpacked
from imagewarden_server.media.local import EXTRACTOR, KEYPOINTS, extract, extract_checked
from imagewarden_server.media.logos import place_logo, render_logo, thumbnail
from imagewarden_server.media.perceptual import Frame, Picture, close_look
from imagewarden_server.media.pixels import decode, inspect
from imagewarden_server.media.shapes import SHAPES, Outline, Shapes, outlines
from imagewarden_server.media.shapes import Level as ShapeLevel
from imagewarden_server.media.types import (
    Digests,
    Header,
    ImageFormat,
    Limits,
    LocalFeatures,
    MediaError,
    MediaProblem,
    PdqHash,
    Rendering,
)
from imagewarden_server.media.views import View, copy_views

__all__ = [
    "DRAWINGS",
    "EXTRACTOR",
    "GREYS",
    "KEYPOINTS",
    "SHAPES",
    "Digests",
    "Frame",
    "Header",
    "ImageFormat",
    "Limits",
    "LocalFeatures",
    "MediaError",
    "MediaProblem",
    "Outline",
    "PdqHash",
    "Picture",
    "Pieces",
    "Pose",
    "Rendering",
    "ShapeLevel",
    "Shapes",
    "View",
    "close_look",
    "copy_views",
    "decode",
    "digest",
    "drawing",
    "extract",
    "extract_checked",
    "grey",
    "inspect",
    "luma",
    "outlines",
    "place_logo",
    "render_logo",
    "sha256",
    "thumbnail",
    "undrawn",
    "unpacked",
]
