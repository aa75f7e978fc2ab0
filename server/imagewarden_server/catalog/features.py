"""Local features as bytes: 136 a keypoint and 20 more, little-endian, with a checksum.

| bytes | what |
|---|---|
| 4 | the letters IWLF |
| u8 | the version of this format: 1 |
| u8 | bytes a descriptor: 128 |
| u16 | 0 |
| u32 | n, the number of keypoints |
| f32 | aspect: the picture's width divided by its height |
| n x u16 | x, of 65,535 for the picture's longer side |
| n x u16 | y, the same |
| n x f16 | size, as a fraction of the longer side |
| n x u16 | orientation, of 65,536 for a whole turn |
| n x 128 x u8 | descriptors |
| u32 | CRC-32 of all before it |

A step of x and y is a hundredth of a pixel of a picture of 640, one of the orientation 0.006 degrees; a size is right
to one part in 2,048. Geometric checks are many times coarser.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

from imagewarden_server.catalog.errors import DamagedFeatures
from imagewarden_server.matching.types import LocalFeatures

DESCRIPTOR_BYTES = 128
MOST_KEYPOINTS = 65_536
"""More are refused: far beyond what a picture gives, and what a damaged count could ask memory for."""

_MAGIC = b"IWLF"
_VERSION = 1
_HEADER = struct.Struct("<4sBBHIf")
_CHECKSUM = struct.Struct("<I")
_POINT_BYTES = 8
_UNIT = 65_535
_TURN = 65_536
_LARGEST = 4
_BEYOND = 0.01
"""How far outside of the picture a keypoint's place may be, by rounding: it is moved to the edge."""


def encode_features(features: LocalFeatures) -> bytes:
    """Local features as bytes.

    Raises:
        ValueError: these are no local features: a shape, a type, or a value that is not finite or out of its range.
    """
    points, descriptors = np.asarray(features.points), np.asarray(features.descriptors)
    count = len(points)
    if points.shape != (count, 4) or descriptors.shape != (count, DESCRIPTOR_BYTES) or descriptors.dtype != np.uint8:
        raise ValueError(
            f"points {points.shape} and descriptors {descriptors.dtype} {descriptors.shape} came, and (n, 4) and uint8 "
            f"(n, {DESCRIPTOR_BYTES}) were expected"
        )
    if count > MOST_KEYPOINTS:
        raise ValueError(f"{count:,} keypoints came, and at most {MOST_KEYPOINTS:,} are stored")
    _check(points, features.aspect, ValueError)
    places = np.rint(np.clip(points[:, :2], 0.0, 1.0) * _UNIT).astype("<u2")
    turns = np.rint(points[:, 3].astype(np.float64) * (_TURN / (2 * np.pi))).astype(np.int64) % _TURN
    body = b"".join(
        (
            _HEADER.pack(_MAGIC, _VERSION, DESCRIPTOR_BYTES, 0, count, features.aspect),
            places[:, 0].tobytes(),
            places[:, 1].tobytes(),
            points[:, 2].astype("<f2").tobytes(),
            turns.astype("<u2").tobytes(),
            descriptors.tobytes(),
        )
    )
    return body + _CHECKSUM.pack(zlib.crc32(body))


def decode_features(data: bytes) -> LocalFeatures:
    """The local features that were encoded, as near as the format keeps them.

    Raises:
        DamagedFeatures: the bytes are not what `encode_features` gave.
    """
    if len(data) < _HEADER.size + _CHECKSUM.size:
        raise DamagedFeatures(f"local features of {len(data)} bytes are too short")
    magic, version, length, zero, count, aspect = _HEADER.unpack_from(data)
    if (magic, version, length, zero) != (_MAGIC, _VERSION, DESCRIPTOR_BYTES, 0):
        raise DamagedFeatures(
            f"local features begin with {data[:8].hex()}, and version {_VERSION} with {DESCRIPTOR_BYTES} bytes a "
            "descriptor was expected"
        )
    expected = _HEADER.size + count * (_POINT_BYTES + DESCRIPTOR_BYTES) + _CHECKSUM.size
    if count > MOST_KEYPOINTS or len(data) != expected:
        raise DamagedFeatures(f"local features of {count:,} keypoints have {len(data):,} bytes, not {expected:,}")
    if _CHECKSUM.unpack_from(data, len(data) - _CHECKSUM.size) != (zlib.crc32(data[: -_CHECKSUM.size]),):
        raise DamagedFeatures(f"local features of {count:,} keypoints are damaged: their checksum is not right")
    columns = np.frombuffer(data, "<u2", 4 * count, _HEADER.size).reshape(4, count)
    points = np.empty((count, 4), np.float32)
    points[:, 0] = columns[0] / _UNIT
    points[:, 1] = columns[1] / _UNIT
    points[:, 2] = columns[2].view("<f2")
    points[:, 3] = columns[3] * (2 * np.pi / _TURN)
    _check(points, aspect, DamagedFeatures)
    descriptors = np.frombuffer(data, np.uint8, count * DESCRIPTOR_BYTES, _HEADER.size + _POINT_BYTES * count)
    return LocalFeatures(points, descriptors.reshape(count, DESCRIPTOR_BYTES).copy(), float(aspect))


def _check(points: np.ndarray, aspect: float, error: type[Exception]) -> None:
    if not (np.isfinite(aspect) and aspect > 0):
        raise error(f"an aspect of {aspect} came, and a positive number was expected")
    if not np.isfinite(points).all():
        raise error("a keypoint has a value that is not finite")
    places, sizes = points[:, :2], points[:, 2]
    if ((places < -_BEYOND) | (places > 1 + _BEYOND)).any():
        raise error(
            f"a keypoint is outside of the picture: places go from {places.min()} to {places.max()}, not 0 to 1"
        )
    if ((sizes < 0) | (sizes > _LARGEST)).any():
        raise error(f"keypoints have sizes from {sizes.min()} to {sizes.max()}, and 0 to {_LARGEST} was expected")
